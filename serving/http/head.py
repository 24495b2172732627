"""The head of a request while it comes: how much of it there is, and what is refused about it.

Owns the rules that any head has to keep. Knows no connection and no URL: the protocol says what came.
"""

from __future__ import annotations

from collections.abc import Collection

from estimator_serving.serving.dialects.base import HttpError

# What comes at once has at most so many bytes.
SEGMENT_BYTES_MAX = 1 << 18
_VERSIONS = frozenset({"1.0", "1.1"})


def _other_version(version: str) -> HttpError:
    return HttpError(400, f"The request's first line says HTTP {version}; versions 1.1 and 1.0 are spoken here.")


class Head:
    """The head that comes on a connection; the same object for one request after the other.

    bytes_max: how long it may be.

    Attributes:
        came_bytes: what came since it began, the whole segment in which it began included; 0 between requests.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.came_bytes = 0
        self._segment_bytes = 0
        # The segment in which it began, if the request before is in it, too: how much of it is this head, nobody says.
        self._shared_bytes = 0
        # What came of chunk headers and trailers since the last of the body.
        self._around_bytes = 0

    def take(self, segment_bytes: int) -> None:
        """So much has come, of this request and maybe of others behind it."""
        self._segment_bytes = segment_bytes
        self.came_bytes += segment_bytes
        self._around_bytes += segment_bytes

    def begin(self) -> None:
        """The parser has read the first byte."""
        if not self.came_bytes:
            self.came_bytes = self._shared_bytes = self._segment_bytes

    def begin_again(self, size: int) -> None:
        """It is read once more, in another form and with what follows it."""
        self.came_bytes = size

    def end(self) -> None:
        """The request is whole."""
        self.came_bytes = self._shared_bytes = 0

    def note_body(self) -> None:
        """A part of the body has come."""
        self._around_bytes = 0

    def fault_around_body(self) -> HttpError | None:
        """What is wrong with the chunk headers or trailers of a body so far."""
        # The segment with the end of the head counts, too, and no segment is as long as this.
        if self._around_bytes <= self._bytes_max + SEGMENT_BYTES_MAX:
            return None
        return HttpError(
            431, f"The request's chunk headers or trailers have more than {self._bytes_max} bytes; send fewer."
        )

    def fault_so_far(self, url: bytes, segment: bytes) -> HttpError | None:
        """What can be refused before the head is whole. segment: what came last."""
        if self.came_bytes - self._shared_bytes > self._bytes_max:
            return self._too_long(url)
        if self.came_bytes == len(segment) and not self._shared_bytes:
            line, found, _ = segment.lstrip(b"\r\n").partition(b"\n")
            if found and b" HTTP/" not in line:
                # The parser would wait for headers, which such a client does not send.
                return _other_version("0.9")
        return None

    def fault(self, url: bytes, headers: Collection[tuple[bytes, bytes]], version: str) -> HttpError | None:
        """What is wrong with a whole head. headers: names in lower case."""
        if self.came_bytes > self._bytes_max:
            # More came than a head may have. How much of it is this head, only its parts say.
            size = len(url) + sum(len(name) + len(value) + 4 for name, value in headers)
            if size > self._bytes_max:
                return self._too_long(url)
        if version not in _VERSIONS:
            return _other_version(version)
        hosts = len([name for name, _ in headers if name == b"host"])
        if hosts != 1 and (version == "1.1" or hosts):
            return HttpError(400, f"The request has {hosts} Host headers; send exactly one.")
        return None

    def _too_long(self, url: bytes) -> HttpError:
        most = self._bytes_max
        if len(url) > most // 2:
            return HttpError(414, f"The URL has more than {most // 2} bytes; shorten it.")
        return HttpError(431, f"The request's headers have more than {most} bytes; send fewer.")
