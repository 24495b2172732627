"""Compressed request bodies: which codings are taken, and inflating under limits. Knows no URL and no JSON."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from estimator_serving.serving.errors import InvalidArgumentError

ACCEPTED = b"gzip"
# JSON compresses well, but hardly better than this; what does was made to fill the memory.
RATIO_MAX = 200
# Below this size no ratio does harm.
SMALL_BYTES = 1 << 20
# Programs that compress by blocks make a member of each, of 64 KiB or more.
MEMBERS_MAX = 10_000
_PIECE_BYTES = 1 << 16
_GZIP = frozenset({"gzip", "x-gzip"})
_GZIP_WINDOW = 31  # zlib's number for "with gzip's header and checksum"


class BodyTooLargeError(Exception):
    """A request body over the cap, as it came or inflated."""


class UnknownCodingError(Exception):
    """A Content-Encoding that is not taken; the text names it."""


def is_compressed(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether these headers announce a gzip body.

    Raises UnknownCodingError for another coding, InvalidArgumentError for several one after the other.
    """
    values = [value.decode("latin-1") for name, value in headers if name == b"content-encoding"]
    codings = [coding.strip().lower() for value in values for coding in value.split(",")]
    applied = [coding for coding in codings if coding not in ("", "identity")]
    for coding in applied:
        if coding not in _GZIP:
            raise UnknownCodingError(coding)
    if len(applied) > 1:
        raise InvalidArgumentError(f"The body is compressed {len(applied)} times; compress it once.")
    return bool(applied)


def inflate(body: bytes, bytes_max: int) -> bytes:
    """A gzip body's content, which may come in several members.

    Raises BodyTooLargeError before more than the cap or the greatest plausible ratio is inflated, InvalidArgumentError
    for what is no gzip, ends early, or has more members than MEMBERS_MAX.
    """
    limit = min(bytes_max, max(SMALL_BYTES, RATIO_MAX * len(body)))
    content, view, position = bytearray(), memoryview(body), 0
    for _ in range(MEMBERS_MAX + 1):
        if position == len(body):
            return bytes(content)
        position = _inflate_member(view, position, content, limit)
    raise InvalidArgumentError(f"The body has more than {MEMBERS_MAX} gzip members; compress it as a whole.")


def _inflate_member(body: memoryview, position: int, content: bytearray, limit: int) -> int:
    """Add the member that begins at a position to the content; returns where it ends."""
    stream = zlib.decompressobj(_GZIP_WINDOW)
    while not stream.eof:
        # By pieces, because a member's end costs a copy of what was given and lies behind it.
        piece = body[position : position + _PIECE_BYTES]
        if not piece:
            raise _broken()
        try:
            content += stream.decompress(piece, limit + 1 - len(content))
        except zlib.error:
            raise _broken() from None
        if len(content) > limit:
            raise BodyTooLargeError
        position += len(piece) - len(stream.unused_data)
    return position


def _broken() -> InvalidArgumentError:
    return InvalidArgumentError("JSON Parse error: The document is empty. Its gzip stream is broken or cut short.")
