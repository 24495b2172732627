"""TFRecord files: length, masked CRC32C of the length, data, masked CRC32C of the data.

Owns the framing; what a record holds (an Example, a PredictionLog) is its reader's business.
Source: TensorFlow's record_writer; the mask is rotate right by 15 bits plus 0xa282ead8.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import google_crc32c
import numpy as np
import numpy.typing as npt

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_PIECE_BYTES = 1 << 20


class RecordError(ValueError):
    """A file that is not TFRecord, or one that was cut or changed."""


def read_records(path: str | Path, *, is_gzip: bool = False) -> Iterator[bytes]:
    """The records of a file, one at a time.

    Args:
        path: the file.
        is_gzip: the whole file is compressed, as TensorFlow's compression_type "GZIP" writes it.

    Raises RecordError where the file ends inside a record or a checksum differs, OSError where it cannot be read.
    """
    with gzip.open(path, "rb") if is_gzip else open(path, "rb") as file:
        try:
            while header := file.read(_HEADER.size):
                start = file.tell() - len(header)
                if len(header) < _HEADER.size:
                    raise RecordError(_CUT.format(path, start))
                length, length_crc = _HEADER.unpack(header)
                if masked_crc32c(header[:8]) != length_crc:
                    raise RecordError(
                        f"{path} is not a TFRecord file, or byte {start} of it changed: a length's checksum differs."
                    )
                # In pieces: a crafted file may have a length with its checksum, and nothing behind it.
                pieces, left = [], length
                while left and (piece := file.read(min(left, _PIECE_BYTES))):
                    pieces.append(piece)
                    left -= len(piece)
                data, footer = b"".join(pieces), file.read(_FOOTER.size)
                if left or len(footer) < _FOOTER.size:
                    raise RecordError(_CUT.format(path, start))
                if masked_crc32c(data) != _FOOTER.unpack(footer)[0]:
                    raise RecordError(
                        f"The record at byte {start} of {path} changed since it was written; write the file again."
                    )
                yield data
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
