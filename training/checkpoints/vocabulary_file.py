"""Vocabulary files: one entry a line, or a gzipped TFRecord of entries. The position of an entry is its id.

Owns reading them by TensorFlow's rules and refusing what makes ids ambiguous. Does not know columns.
"""

from __future__ import annotations

import functools
import gzip
import tempfile
from pathlib import Path

from estimator_serving.training.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from estimator_serving.wire.records import read_records

TFRECORD_GZIP = "tfrecord_gzip"
TFRECORD_SUFFIX = "tfrecord.gz"


def count_entries(path: str, file_format: str | None) -> int:
    """How many entries the file has. Raises FileNotFoundError and RecordError."""
    if file_format == TFRECORD_GZIP:
        return len(_records(path))
    return len(lines_of(Path(path).read_bytes()))


def read_vocabulary(
    path: str, size: int | None, file_format: str | None, is_string: bool
) -> tuple[str, ...] | tuple[int, ...]:
    """The file's first `size` entries, all of them with None.

    A carriage return at the end of a line is dropped. Spaces are kept in words and allowed around integers. The file
    is read again when it has changed.

    Raises:
        NotFoundError: there is no such file.
        InvalidArgumentError: the file has fewer entries than `size`, an empty line, an entry that is not an integer
            although `is_string` is False (TF 2.15's texts), or an entry that is not UTF-8.
        FailedPreconditionError: an entry appears twice (TF 2.15's text).
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
    if file_format == TFRECORD_GZIP:
        entries = _records(path)[:size]
    else:
        content = Path(path).read_bytes()
        entries = [line.removesuffix(b"\r") for line in lines_of(content)[:size]]
        if b"" in entries:
            number = entries.index(b"") + 1
            end = len(b"\n".join(content.split(b"\n")[:number]))
            raise InvalidArgumentError(
                f"Invalid content in {path}: empty line found at position {end + 1}. "
                f"Line {number} has no entry; remove it, and every id behind it moves up by one."
            )
    if size is not None and len(entries) < size:
        raise InvalidArgumentError(
            f"Invalid vocab_size in {path}: expected {size} but got {len(entries)}. Give the file that belongs to "
            "that size, or the size that belongs to the file."
        )
    first_positions: dict[bytes, int] = {}
    for position, entry in enumerate(entries):
        first = first_positions.setdefault(entry, position)
        if first != position:
            raise FailedPreconditionError(
                f"HashTable has different value for same key. Key {entry.decode(errors='replace')} has {first} and "
                f"trying to add value {position}: {path} holds it in lines {first + 1} and {position + 1}; remove the "
                "second."
            )
    if is_string:
        try:
            return tuple(entry.decode() for entry in entries)
        except UnicodeDecodeError as error:
            line = entries.index(bytes(error.object)) + 1
            raise InvalidArgumentError(
                f"{path} is not UTF-8 in line {line} ({error.object[:32]!r}); save the file as UTF-8."
            ) from None
    return tuple(_integer(path, position, entry) for position, entry in enumerate(entries))


def lines_of(content: bytes) -> list[bytes]:
    """The lines of a text file, as TensorFlow counts them: only b"\\n" ends one."""
    lines = content.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def _records(path: str) -> list[bytes]:
    # read_records needs a file whose size it can ask for, which a stream that is being unzipped is not.
    with gzip.open(path) as zipped, tempfile.NamedTemporaryFile() as plain:
        plain.write(zipped.read())
        plain.flush()
        return list(read_records(plain.name))


def _integer(path: str, position: int, entry: bytes) -> int:
    try:
        return int(entry)
    except ValueError:
        raise InvalidArgumentError(
            f"Field {entry.decode(errors='replace')} in line {position} is not a valid int64. {path} is read with an "
            "integer dtype; write one integer a line, or give the column dtype string."
        ) from None
