"""Sorted tables of keys and values in LevelDB's file format, which the index of a TensorFlow checkpoint has.

Owns blocks, their checksums, prefix-compressed entries and varints. Does not know what keys and values mean, or which
file the bytes came from: an error says what is wrong, and the caller adds the file and the next step.

    block … block | metaindex block | index block | footer (48 bytes)
    block:  entries, restart offsets (uint32), their number (uint32) | compression (1 byte), masked CRC32C (4 bytes)
    entry:  bytes shared with the key before, other bytes of the key, bytes of the value (varints) | key | value

The bytes are not trusted: every length is checked against the bytes that are left before it is used.
Source: TensorFlow's lib/io/format.cc, table.cc and block.cc.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from estimator_serving.wire.records import masked_crc32c

Bytes = npt.NDArray[np.uint8]

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5
_COMPRESSIONS = {1: "snappy"}
# TensorFlow stores a whole key at least every 16 entries, so the keys of a block together cannot be longer than this
# many times the block. Without the limit, a crafted file of a few kilobytes could describe gigabytes of keys.
_KEY_BYTES_PER_BLOCK_BYTE = 16


class TableError(ValueError):
    """The bytes are not a whole table. The message is a clause without the file's name: "its blocks overlap"."""


class CompressedBlockError(TableError):
    """A block is compressed, which TensorFlow's checkpoints never are."""


def read_table(content: Bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a table, sorted by the bytes of the keys. Raises TableError."""
    if content.size < _FOOTER_BYTES:
        raise TableError(f"it has {content.size} bytes, fewer than a footer")
    footer = content[-_FOOTER_BYTES:].tobytes()
    if int.from_bytes(footer[-8:], "little") != _MAGIC:
        raise TableError("its last bytes are not those of a table")
    _, position = _read_handle(footer, 0)
    index, _ = _read_handle(footer, position)
    blocks_end = 0
    previous: bytes | None = None
    for _, value in _entries(_block(content, index)):
        (offset, size), _ = _read_handle(value, 0)
        if offset < blocks_end:
            raise TableError("its blocks overlap")
        blocks_end = offset + size
        for entry in _entries(_block(content, (offset, size))):
            if previous is not None and entry[0] <= previous:
                raise TableError("its keys are not sorted")
            previous = entry[0]
            yield entry


def _block(content: Bytes, handle: tuple[int, int]) -> bytes:
    offset, size = handle
    if offset + size + _TRAILER_BYTES > content.size - _FOOTER_BYTES:
        raise TableError(f"a block of {size} bytes at byte {offset} reaches past its end")
    block = content[offset : offset + size + _TRAILER_BYTES].tobytes()
    if int.from_bytes(block[-4:], "little") != masked_crc32c(block[:-4]):
        raise TableError(f"the checksum of the block at byte {offset} is wrong")
    if block[size]:
        kind = _COMPRESSIONS.get(block[size], f"compression {block[size]}")
        raise CompressedBlockError(f"the block at byte {offset} is compressed ({kind})")
    return block[:size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block. The restart points serve a search by key and are not used here."""
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    if len(block) < 4 or end < 0:
        raise TableError("a block is shorter than its list of restart points")
    key, position = b"", 0
    key_bytes_left = _KEY_BYTES_PER_BLOCK_BYTE * len(block)
    while position < end:
        shared, position = read_varint(block, position, end)
        unshared, position = read_varint(block, position, end)
        value_length, position = read_varint(block, position, end)
        value_start = position + unshared
        key_bytes_left -= shared + unshared
        if shared > len(key) or value_start + value_length > end or key_bytes_left < 0:
            raise TableError("an entry is longer than its block")
        key = key[:shared] + block[position:value_start]
        position = value_start + value_length
        yield key, block[value_start:position]


def _read_handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Offset and size of a block, and the position behind them."""
    offset, position = read_varint(data, position, len(data))
    size, position = read_varint(data, position, len(data))
    return (offset, size), position


def read_varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """A varint of at most 64 bits, and the position behind it. Raises TableError if it does not end before `end`."""
    value = 0
    for shift in range(0, 64, 7):
        if position >= end:
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise TableError("a number is cut off")
