"""TFRecord files: length, masked CRC32C of the length, data, masked CRC32C of the data.

Owns the framing; what a record holds (an Example, a PredictionLog) is its reader's business.
Source: TensorFlow's record_writer; the mask is rotate right by 15 bits plus 0xa282ead8.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import google_crc32c

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


class RecordError(ValueError):
    """A file that is not TFRecord, or one that was cut or changed."""


def read_records(path: str | Path) -> Iterator[bytes]:
    """The records of a file, one at a time.

    Raises RecordError where the file ends inside a record or a checksum differs, OSError where it cannot be read.
    """
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        while file.tell() < size:
            yield _read_record(file, size, path)


def write_records(path: str | Path, records: Iterable[bytes]) -> None:
    """Writes the records to a file, replacing it."""
    with open(path, "wb") as file:
        for record in records:
            length = struct.pack("<Q", len(record))
            file.write(length + _FOOTER.pack(masked_crc32c(length)) + record + _FOOTER.pack(masked_crc32c(record)))


def masked_crc32c(data: bytes) -> int:
    """The CRC32C of the data, masked so that a checksum of checksums stays a good one."""
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _read_record(file: BinaryIO, size: int, path: str | Path) -> bytes:
    start = file.tell()
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise RecordError(_cut(path, start))
    length, length_crc = _HEADER.unpack(header)
    if masked_crc32c(header[:8]) != length_crc:
        raise RecordError(f"{path} is not a TFRecord file, or byte {start} of it changed: a length's checksum differs.")
    # The checksum holds the length, yet a crafted file may have both: never read more than there is.
    if length > size - file.tell() - _FOOTER.size:
        raise RecordError(_cut(path, start))
    data = file.read(length)
    if masked_crc32c(data) != _FOOTER.unpack(file.read(_FOOTER.size))[0]:
        raise RecordError(f"The record at byte {start} of {path} changed since it was written; write the file again.")
    return data


def _cut(path: str | Path, start: int) -> str:
    return f"{path} ends inside the record at byte {start}; the file was cut, write or copy it again."
