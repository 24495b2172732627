"""Compressed request bodies: which codings are taken, and inflating under limits. Knows no URL and no JSON."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from estimator_serving.serving.dialects.base import HttpError
from estimator_serving.serving.errors import InvalidArgumentError

ACCEPTED = b"gzip, deflate"
# JSON compresses well, but hardly better than this; what does was made to fill the memory.
RATIO_MAX = 200
# Below this size no ratio does harm.
SMALL_BYTES = 1 << 20
# Programs that compress by blocks make a member of each, of 64 KiB or more.
MEMBERS_MAX = 10_000
_PIECE_BYTES = 1 << 16
_TAKEN = frozenset({"gzip", "x-gzip", "deflate"})
_WINDOW = 47  # zlib's number for "with the header and checksum of gzip or of zlib, which is HTTP's deflate"


def too_large(bytes_max: int) -> HttpError:
    """The refusal of a request body over the cap, as it came or inflated."""
    return HttpError(
        413,
        f"The request body is larger than {bytes_max} bytes, or grows out of proportion when it is inflated; "
        "send fewer rows at once.",
    )


def is_compressed(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether these headers announce a compressed body.

    Raises HttpError (415) for another coding, InvalidArgumentError for several one after the other.
    """
    values = [value.decode("latin-1") for name, value in headers if name == b"content-encoding"]
    codings = [coding.strip().lower() for value in values for coding in value.split(",")]
    applied = [coding for coding in codings if coding not in ("", "identity")]
    for coding in applied:
        if coding not in _TAKEN:
            text = f"The Content-Encoding {coding} is not taken; send the body as it is, or as gzip or deflate."
            raise HttpError(415, text, ((b"accept-encoding", ACCEPTED),))
    if len(applied) > 1:
        raise InvalidArgumentError(f"The body is compressed {len(applied)} times; compress it once.")
    return bool(applied)


def inflate(body: bytes, bytes_max: int) -> bytes:
    """A compressed body's content, which may come in several members.

    Raises HttpError (413) before more than the cap or the greatest plausible ratio is inflated, InvalidArgumentError
    for what is not compressed, ends early, or has more members than MEMBERS_MAX.
    """
    limit = min(bytes_max, max(SMALL_BYTES, RATIO_MAX * len(body)))
    content, view, position, members = bytearray(), memoryview(body), 0, 0
    while position < len(body):
        members += 1
        if members > MEMBERS_MAX:
            raise InvalidArgumentError(f"The body has more than {MEMBERS_MAX} gzip members; compress it as a whole.")
        stream = zlib.decompressobj(_WINDOW)
        while not stream.eof:
            # By pieces, because a member's end costs a copy of what was given and lies behind it.
            piece = view[position : position + _PIECE_BYTES]
            try:
                content += stream.decompress(piece, limit + 1 - len(content))
            except zlib.error:
                piece = view[:0]
            if not piece:
                raise InvalidArgumentError(
                    "JSON Parse error: The document is empty. Its compressed stream is broken or cut short."
                )
            if len(content) > limit:
                raise too_large(bytes_max)
            position += len(piece) - len(stream.unused_data)
    return bytes(content)
