"""Vocabulary files: one entry a line, or a gzipped TFRecord of entries; an entry's place is its id.

Owns reading them by TensorFlow's rules and refusing what makes ids ambiguous. Knows nothing of columns.
"""

from __future__ import annotations

import functools
import gzip
import tempfile
from collections.abc import Iterator
from pathlib import Path

from estimator_serving.training.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from estimator_serving.wire.records import read_records

TFRECORD_GZIP = "tfrecord_gzip"
TFRECORD_SUFFIX = "tfrecord.gz"


def count_entries(path: str, file_format: str | None) -> int:
    """How many entries the file has. Raises FileNotFoundError and RecordError."""
    if file_format == TFRECORD_GZIP:
        return len(_records(path))
    return len(_lines(Path(path).read_bytes()))


def read_vocabulary(
    path: str, size: int | None, file_format: str | None, is_string: bool
) -> tuple[str, ...] | tuple[int, ...]:
    """The file's first `size` entries, all of them with None.

    A carriage return at the end of a line is dropped, spaces are kept (integers may stand between some). The file is
    read again when it has changed.

    Raises:
        NotFoundError: no such file.
        InvalidArgumentError: fewer entries than `size`, an empty line, one that is no integer where integers are asked
            for (TF 2.15's texts), or one that is not UTF-8.
        FailedPreconditionError: an entry twice (TF 2.15's text).
    """
    try:
        stat = Path(path).stat()
    except FileNotFoundError:
        raise NotFoundError(
            f"{path}; No such file or directory. It is named as a vocabulary file: put it there, or give its path."
        ) from None
    return _read(path, size, file_format, is_string, (stat.st_mtime_ns, stat.st_size))


@functools.lru_cache(maxsize=64)
def _read(
    path: str,
    size: int | None,
    file_format: str | None,
    is_string: bool,
    changed: tuple[int, int],  # noqa: ARG001  another state of the file is another entry of the cache
) -> tuple[str, ...] | tuple[int, ...]:
    entries = _records(path)[:size] if file_format == TFRECORD_GZIP else _checked_lines(path, size)
    if size is not None and len(entries) < size:
        raise InvalidArgumentError(
            f"Invalid vocab_size in {path}: expected {size} but got {len(entries)}. Give the file that belongs to "
            "that size, or the size that belongs to the file."
        )
    _check_distinct(path, entries)
    if is_string:
        return tuple(_text(path, place, entry) for place, entry in enumerate(entries))
    return tuple(_integer(path, place, entry) for place, entry in enumerate(entries))


def _lines(content: bytes) -> list[bytes]:
    lines = content.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _checked_lines(path: str, size: int | None) -> list[bytes]:
    content = Path(path).read_bytes()
    lines = [line.removesuffix(b"\r") for line in _lines(content)[:size]]
    if b"" in lines:
        ends = [place for place, byte in enumerate(content) if byte == 0x0A]
        raise InvalidArgumentError(
            f"Invalid content in {path}: empty line found at position {ends[lines.index(b'')] + 1}. "
            f"Line {lines.index(b'') + 1} has no entry; remove it, and every id behind it moves up by one."
        )
    return lines


def _records(path: str) -> list[bytes]:
    return list(_unzipped_records(path))


def _unzipped_records(path: str) -> Iterator[bytes]:
    # read_records wants a file it can measure, which a stream that is being unzipped is not.
    with gzip.open(path) as zipped, tempfile.NamedTemporaryFile() as plain:
        plain.write(zipped.read())
        plain.flush()
        yield from read_records(plain.name)


def _check_distinct(path: str, entries: list[bytes]) -> None:
    places: dict[bytes, int] = {}
    for place, entry in enumerate(entries):
        first = places.setdefault(entry, place)
        if first != place:
            raise FailedPreconditionError(
                f"HashTable has different value for same key. Key {entry.decode(errors='replace')} has {first} and "
                f"trying to add value {place}: {path} holds it in lines {first + 1} and {place + 1}; remove the second."
            )


def _text(path: str, place: int, entry: bytes) -> str:
    try:
        return entry.decode()
    except UnicodeDecodeError:
        raise InvalidArgumentError(
            f"{path} is not UTF-8 in line {place + 1} ({entry[:32]!r}); save the file as UTF-8."
        ) from None


def _integer(path: str, place: int, entry: bytes) -> int:
    try:
        return int(entry)
    except ValueError:
        raise InvalidArgumentError(
            f"Field {entry.decode(errors='replace')} in line {place} is not a valid int64. {path} is read with an "
            "integer dtype; write one integer a line, or give the column dtype string."
        ) from None
