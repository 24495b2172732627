"""Writes the seed corpus of the fuzz target: `python ops/fuzz/seeds.py DIRECTORY`.

Each seed is what decode_example.cc expects: a byte with the number of splits, the splits, the values. The Examples are
put together field by field, because most of what is worth fuzzing no protobuf library would write.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

VARINT, FIXED64, BYTES, START_GROUP, END_GROUP, FIXED32 = range(6)


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def tag(field: int, wire_type: int) -> bytes:
    return varint(field << 3 | wire_type)


def message(field: int, *parts: bytes) -> bytes:
    payload = b"".join(parts)
    return tag(field, BYTES) + varint(len(payload)) + payload


def entry(key: bytes, *feature: bytes) -> bytes:
    return message(1, message(1, key), message(2, *feature))


def floats(*values: float) -> bytes:
    return message(2, message(1, struct.pack(f"<{len(values)}f", *values)))


def ints(*values: int) -> bytes:
    return message(3, message(1, *map(varint, values)))


def strings(*values: bytes) -> bytes:
    return message(1, *(message(1, value) for value in values))


FLOAT, INT, STRING = entry(b"f", floats(1.5)), entry(b"i", ints(-7)), entry(b"s", strings(b"a", b"\xff"))

EXAMPLES = {
    "empty": b"",
    "fixed": message(1, FLOAT, INT, STRING),
    "longer": message(
        1, entry(b"f", floats(1, 2, 3, 4)), entry(b"i", ints(1, 2, 1 << 40)), entry(b"s", strings(b"only"))
    ),
    "present_and_empty": message(1, entry(b"f", floats()), entry(b"i", ints()), entry(b"s", strings())),
    "kind_unset": message(1, entry(b"f"), entry(b"i"), message(1, message(1, b"s"))),
    "other_dtypes": message(1, entry(b"i", floats(1)), entry(b"s", ints(1)), entry(b"f", strings(b"1"))),
    "unpacked": message(
        1,
        entry(b"f", message(2, tag(1, FIXED32) + b"\0\0\x80?", message(1, b"\0\0\0@"))),
        entry(b"i", message(3, tag(1, VARINT) + varint(5), message(1, varint(6)))),
    ),
    "split": message(1, entry(b"f", floats(1), floats(2, 3), floats(4))) + message(1, INT),
    "twice": message(1, FLOAT, entry(b"f", floats(9)), entry(b"i", floats(1), ints(2), ints(3))),
    "value_before_key": message(1, message(1, message(2, floats(1)), message(1, b"x"), message(1, b"f"))),
    "unknown": message(9, b"?")
    + message(1, FLOAT, tag(7, FIXED64) + b"12345678")
    + tag(5, START_GROUP)
    + tag(2, VARINT)
    + b"\x01"
    + tag(6, START_GROUP)
    + tag(6, END_GROUP)
    + tag(5, END_GROUP),
    "unknown_key": message(1, entry(b"other", strings(b"value")), entry(b"", ints(1))),
}


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, example in EXAMPLES.items():
        (directory / name).write_bytes(b"\0" + example)
        batch = bytes([2, len(example), len(example)]) + 2 * example
        (directory / f"{name}_batch").write_bytes(batch)
        (directory / f"{name}_cut").write_bytes(b"\0" + example[:-1])
    (directory / "nonsense_splits").write_bytes(b"\x83\x00\x05\x02" + EXAMPLES["fixed"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
