"""TFRecord files: length, masked CRC32C of the length, data, masked CRC32C of the data.

Owns the framing; what a record holds (an Example, a PredictionLog) is its reader's business.
Source: TensorFlow's record_writer; the mask is rotate right by 15 bits plus 0xa282ead8.
"""

from __future__ import annotations

import functools
import gzip
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import google_crc32c
import numpy as np
import numpy.typing as npt

from estimator_serving.wire import native
from estimator_serving.wire.ragged import RaggedBytes

_FOOTER = struct.Struct("<I")
_PIECE_BYTES = 1 << 18
_LENGTH_FAULT = 1


class RecordError(ValueError):
    """A file that is not TFRecord, or one that was cut or changed."""


def read_records(path: str | Path, *, is_gzip: bool = False) -> Iterator[bytes]:
    """The records of a file, one at a time.

    Args:
        path: the file.
        is_gzip: the whole file is compressed, as TensorFlow's compression_type "GZIP" writes it.

    Raises RecordError where the file ends inside a record or a checksum differs, OSError where it cannot be read.
    """
    for block in read_blocks(path, is_gzip=is_gzip):
        yield from block


def read_blocks(path: str | Path, *, is_gzip: bool = False) -> Iterator[RaggedBytes]:
    """As read_records, many records at a time: about a quarter of a MiB, or one record that is larger.

    Reading, decompressing and comparing checksums do not hold the interpreter's lock.
    """
    with open(path, "rb", buffering=0) as file:
        pieces = _unzipped(file, path) if is_gzip else iter(functools.partial(file.read, _PIECE_BYTES), b"")
        parts: list[bytes] = []
        held, start, wanted, size = b"", 0, 1, 0
        for piece in pieces:
            # Joined once the record can be whole. A crafted length without the bytes only reads to the file's end.
            parts.append(piece)
            size += len(piece)
            if size < wanted:
                continue
            held = b"".join(parts)
            rows, consumed, wanted, fault = native.read_frames(held)
            if consumed:
                yield RaggedBytes.from_native(rows)
            held, start = held[consumed:], start + consumed
            parts, size = ([held], len(held)) if held else ([], 0)
            if fault == _LENGTH_FAULT:
                raise RecordError(
                    f"{path} is not a TFRecord file, or byte {start} of it changed: a length's checksum differs."
                )
            if fault:
                raise RecordError(
                    f"The record at byte {start} of {path} changed since it was written; write the file again."
                )
        if parts:
            raise RecordError(_CUT.format(path, start))


def _unzipped(file: IO[bytes], path: str | Path) -> Iterator[bytes]:
    try:
        with gzip.GzipFile(fileobj=file) as unzipped:
            while piece := unzipped.read(_PIECE_BYTES):
                yield piece
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise RecordError(f"{path} is not a whole gzip file ({error}); write or copy it again.") from None


def write_records(path: str | Path, records: Iterable[bytes]) -> None:
    """Writes the records to a file, replacing it."""
    with open(path, "wb") as file:
        for record in records:
            file.write(frame_record(record))


def frame_record(record: bytes) -> bytes:
    """A record as it lies in a file."""
    length = struct.pack("<Q", len(record))
    return length + _FOOTER.pack(masked_crc32c(length)) + record + _FOOTER.pack(masked_crc32c(record))


def masked_crc32c(*parts: bytes | npt.NDArray[np.uint8]) -> int:
    """The CRC32C of the parts, one after the other, masked so that a checksum of checksums stays a good one."""
    crc = 0
    for part in parts:
        crc = google_crc32c.extend(crc, part)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


_CUT = "{} ends inside the record at byte {}; the file was cut, write or copy it again."
