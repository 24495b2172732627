"""TensorFlow's checkpoints: `<prefix>.index` and `<prefix>.data-00000-of-00001` …, read without TensorFlow.

Owns the format, TensorFlow's "tensor bundle": a sorted table of keys (LevelDB's file format) and shards of raw bytes.
A SavedModel's `variables/variables` is one, and so is a `model.ckpt-10`. Knows nothing of graphs, of which variable a
key belongs to, or of our own checkpoints.

The files are not trusted. Lengths and offsets are held against the bytes that are there before anything is allocated,
every block and every tensor against its checksum. Shards are mapped: a tensor that is stored whole is a view of the
file, so a shard must not be cut short while its arrays are in use.

Source: TensorFlow's table format (lib/io/format), tensor_bundle, ordered_code, saved_tensor_slice_util.
"""

from __future__ import annotations

import math
import mmap
import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.pb import tensorflow_pb
from estimator_serving.wire.records import masked_crc32c

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Region = tuple[slice, ...]
"""A part of a tensor: one slice with start and stop for each dimension."""

INDEX_SUFFIX = ".index"

_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES = 48
_BLOCK_TRAILER_BYTES = 5
_SNAPPY = 1
# Version 1 is the only one there is; a file names the oldest reader that understands it.
_VERSION = 1
_RANK_MAX = 32
# TensorFlow stores a whole key at least every 16 entries, so the keys of a block together cannot be longer than this
# many times the block. Without the bound a crafted file of some kilobytes could describe gigabytes of keys.
_KEY_BYTES_PER_BLOCK_BYTE = 16
# What numpy can count in bytes of its widest type; it asks that of empty arrays too.
_COUNTABLE_ELEMENTS_MAX = 2**63 // 16 - 1

_WRITE_AGAIN = "copy the checkpoint again from where it was written, or use an older one"


class TensorBundleError(ValueError):
    """A checkpoint of TensorFlow that cannot be read: missing, cut, changed, or of a kind this reader does not know."""


class TensorNotFoundError(TensorBundleError):
    """The checkpoint is fine and has no tensor of that name."""


@dataclass(frozen=True)
class Entry:
    """What the index says of one tensor.

    Attributes:
        dtype: the element type.
        shape: the shape of the whole tensor.
        slices: the parts in which it was saved, empty where it was saved whole.
    """

    dtype: DType
    shape: tuple[int, ...]
    slices: tuple[Region, ...]


def open_bundle(prefix: str | os.PathLike[str]) -> TensorBundle:
    """Open the checkpoint `<prefix>.index`; its shards are opened when a tensor of theirs is read.

    Raises:
        TensorBundleError: there is no such file, or it is not the index of a checkpoint.
    """
    return TensorBundle(os.fspath(prefix).removesuffix(INDEX_SUFFIX))


class TensorBundle:
    """An open checkpoint. Every method raises TensorBundleError where the files do not hold what the index says."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._index = Path(prefix + INDEX_SUFFIX)
        try:
            content = _map(self._index)
        except OSError as error:
            raise TensorBundleError(
                f"There is no checkpoint {prefix}: {self._index} cannot be read ({error.strerror}). Name the files "
                "without their endings, for example model/model.ckpt-10."
            ) from None
        self._values = dict(_read_table(content, self._index))
        self._shard_count = self._read_header()
        self._shards: dict[int, Bytes] = {}

    def keys(self) -> list[str]:
        """The names of the tensors, sorted."""
        return [_text(key) for key in self._values if not key.startswith(b"\0")]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and _bytes(key) in self._values

    def entry(self, key: str) -> Entry:
        """Dtype, shape and slices of a tensor. Raises TensorNotFoundError for a name that is not there."""
        entry = self._proto(key)
        return Entry(self._dtype(key, entry), self._shape(key, entry), self._regions(key, entry))

    def read(self, key: str) -> Array:
        """The whole tensor, read-only where it is a view of the file. Strings are an object array of bytes."""
        entry = self._proto(key)
        return self._read(key, entry, tuple(slice(0, length) for length in self._shape(key, entry)))

    def read_slice(self, key: str, spec: str) -> Array:
        """A part of a tensor, as RestoreV2's shape_and_slices names it.

        Args:
            key: name of the tensor.
            spec: "" for all of it, or the whole shape and then start,length for each dimension, "-" for all of one:
                "40 4 14,13:0,4".
        """
        if not spec:
            return self.read(key)
        entry = self._proto(key)
        return self._read(key, entry, self._parse_slice(key, spec, self._shape(key, entry)))

    # The index's messages.

    def _read_header(self) -> int:
        content = self._values.pop(b"", None)
        if content is None:
            raise self._damaged("it has no header")
        try:
            header = tensorflow_pb.BundleHeaderProto.FromString(content)
        except DecodeError:
            raise self._damaged("its header is not a BundleHeaderProto") from None
        if header.endianness != 0:
            raise TensorBundleError(
                f"{self._index} was written on a big-endian machine, whose numbers this reader does not turn around. "
                "Load and save the checkpoint once with TensorFlow on an x86 or ARM machine."
            )
        if header.version.min_consumer > _VERSION:
            raise TensorBundleError(
                f"{self._index} asks for a reader of version {header.version.min_consumer}; this one knows version "
                f"{_VERSION}. Save the checkpoint with TensorFlow 2.15 or older."
            )
        return int(header.num_shards)

    def _proto(self, key: str) -> tensorflow_pb.BundleEntryProto:
        if not key or key.startswith("\0") or _bytes(key) not in self._values:
            raise TensorNotFoundError(f"Key {key} not found in checkpoint {self.prefix}; keys() lists those there are.")
        return self._decode(_bytes(key), key)

    def _decode(self, stored_key: bytes, key: str) -> tensorflow_pb.BundleEntryProto:
        try:
            return tensorflow_pb.BundleEntryProto.FromString(self._values[stored_key])
        except DecodeError:
            raise self._damaged(f"the entry of {key} is not a BundleEntryProto") from None

    def _dtype(self, key: str, entry: tensorflow_pb.BundleEntryProto) -> DType:
        try:
            return dtypes.from_number(entry.dtype)
        except TypeError as error:
            raise TensorBundleError(f"{key} in {self._index} cannot be read: {error}") from None

    def _shape(self, key: str, entry: tensorflow_pb.BundleEntryProto) -> tuple[int, ...]:
        shape = tuple(dim.size for dim in entry.shape.dim)
        if entry.shape.unknown_rank or len(shape) > _RANK_MAX or min(shape, default=0) < 0:
            raise self._damaged(f"the shape of {key} is not one of at most {_RANK_MAX} lengths")
        if math.prod(length for length in shape if length) > _COUNTABLE_ELEMENTS_MAX:
            raise self._damaged(f"{key} of shape {list(shape)} has more elements than any memory holds")
        return shape

    def _regions(self, key: str, entry: tensorflow_pb.BundleEntryProto) -> tuple[Region, ...]:
        shape = self._shape(key, entry)
        return tuple(self._region(key, part, shape) for part in entry.slices)

    def _region(self, key: str, part: tensorflow_pb.TensorSliceProto, shape: tuple[int, ...]) -> Region:
        if len(part.extent) != len(shape):
            raise self._damaged(f"a slice of {key} has {len(part.extent)} dimensions and the tensor {len(shape)}")
        region = tuple(
            slice(extent.start, extent.start + (extent.length if extent.HasField("length") else length))
            for extent, length in zip(part.extent, shape, strict=True)
        )
        if not all(0 <= s.start <= s.stop <= length for s, length in zip(region, shape, strict=True)):
            raise self._damaged(f"a slice of {key} reaches outside of its shape {list(shape)}")
        return region

    def _parse_slice(self, key: str, spec: str, shape: tuple[int, ...]) -> Region:
        *lengths, parts_text = spec.split(" ")
        parts = parts_text.split(":") if lengths else []
        try:
            named = tuple(int(length) for length in lengths)
            pairs = [
                (0, length) if part == "-" else tuple(map(int, part.split(",")))
                for part, length in zip(parts, named, strict=True)
            ]
            region = tuple(slice(start, start + length) for start, length in pairs)
        except ValueError:
            raise TensorBundleError(
                f"{spec!r} is no slice of {key}; write its shape and a start and length for each dimension, "
                'for example "40 4 14,13:0,4".'
            ) from None
        inside = all(0 <= s.start <= s.stop <= length for s, length in zip(region, named, strict=True))
        if named != shape or not inside:
            raise TensorBundleError(
                f"The slice {spec!r} of {key} does not fit its shape {list(shape)} in {self._index}; give a graph and "
                "a checkpoint that were saved together."
            )
        return region

    # Tensors.

    def _read(self, key: str, entry: tensorflow_pb.BundleEntryProto, wanted: Region) -> Array:
        dtype, shape = self._dtype(key, entry), self._shape(key, entry)
        if not entry.slices:
            whole = self._stored(key, entry, dtype, shape)
            # Indexed by nothing, a scalar would stop being an array.
            return whole[wanted] if shape else whole
        regions = self._regions(key, entry)
        self._check_tiling(key, shape, regions)
        for part, region in zip(entry.slices, regions, strict=True):
            if region == wanted:
                return self._stored_slice(key, part, region, dtype)
        return self._assemble(key, entry, regions, dtype, wanted)

    def _assemble(
        self,
        key: str,
        entry: tensorflow_pb.BundleEntryProto,
        regions: tuple[Region, ...],
        dtype: DType,
        wanted: Region,
    ) -> Array:
        """The wanted region out of the slices that share elements with it."""
        shape = tuple(s.stop - s.start for s in wanted)
        shared = [_intersection(region, wanted) for region in regions]
        pieces = [
            (part, region, common)
            for part, region, common in zip(entry.slices, regions, shared, strict=True)
            if common is not None
        ]
        # Read before the whole is allocated: slices that are there bound its size.
        parts = [(self._stored_slice(key, part, region, dtype), region, common) for part, region, common in pieces]
        self._check_disjoint_bytes(key, [part for part, _, _ in pieces])
        whole = np.empty(shape, dtype.numpy)
        for array, region, common in parts:
            whole[_relative(common, wanted)] = array[_relative(common, region)]
        return whole

    def _stored_slice(self, key: str, part: tensorflow_pb.TensorSliceProto, region: Region, dtype: DType) -> Array:
        stored_key = _slice_key(key, part)
        if stored_key not in self._values:
            raise self._damaged(f"the slice {_spelled(region)} of {key} is not in it")
        entry = self._decode(stored_key, key)
        shape = tuple(s.stop - s.start for s in region)
        if self._dtype(key, entry) != dtype or self._shape(key, entry) != shape:
            raise self._damaged(f"the slice {_spelled(region)} of {key} is not a {dtype.name} of shape {list(shape)}")
        return self._stored(key, entry, dtype, shape)

    def _stored(self, key: str, entry: tensorflow_pb.BundleEntryProto, dtype: DType, shape: tuple[int, ...]) -> Array:
        content = self._content(key, entry)
        count = math.prod(shape)
        if dtype.is_string:
            return self._strings(key, entry, content, count).reshape(shape)
        if content.size != count * dtype.numpy.itemsize:
            raise self._damaged(
                f"{key} has {content.size} bytes, and a {dtype.name} of shape {list(shape)} has "
                f"{count * dtype.numpy.itemsize}"
            )
        self._check_crc(key, entry, masked_crc32c(content))
        if dtype is dtypes.bool_ and content.max(initial=0) > 1:
            raise self._damaged(f"{key} is a bool with a byte other than 0 and 1")
        return content.view(dtype.numpy.newbyteorder("<")).reshape(shape)

    def _strings(self, key: str, entry: tensorflow_pb.BundleEntryProto, content: Bytes, count: int) -> Array:
        """All lengths as varints, a checksum of them, all bytes."""
        if count > content.size:
            raise self._damaged(f"{key} has {content.size} bytes, too few for the lengths of {count} strings")
        data = content.tobytes()
        lengths, position = [], 0
        try:
            for _ in range(count):
                length, position = _varint(data, position, len(data))
                lengths.append(length)
        except _CutVarint:
            raise self._damaged(f"the lengths of the strings of {key} are cut") from None
        bytes_start = position + 4
        if bytes_start + sum(lengths) != len(data):
            raise self._damaged(f"the lengths of the strings of {key} do not add up to its {len(data)} bytes")
        # The checksum is of the lengths as fixed 32 or 64 bits, not of the varints that are stored.
        fixed = b"".join(length.to_bytes(4 if length < 2**32 else 8, "little") for length in lengths)
        stored = data[position:bytes_start]
        if int.from_bytes(stored, "little") != masked_crc32c(fixed):
            raise self._damaged(f"the lengths of the strings of {key} do not have their checksum")
        self._check_crc(key, entry, masked_crc32c(fixed, stored, content[bytes_start:]))
        values = np.empty(count, object)
        position = bytes_start
        for number, length in enumerate(lengths):
            values[number] = data[position : position + length]
            position += length
        return values

    def _content(self, key: str, entry: tensorflow_pb.BundleEntryProto) -> Bytes:
        shard = self._shard(key, entry.shard_id)
        start, stop = entry.offset, entry.offset + entry.size
        if not 0 <= start <= stop <= shard.size:
            raise TensorBundleError(
                f"{self._shard_path(entry.shard_id)} has {shard.size} bytes and {key} stands in bytes {start} to "
                f"{stop}: the file was cut, or is of another checkpoint; {_WRITE_AGAIN}."
            )
        return shard[start:stop]

    def _shard(self, key: str, number: int) -> Bytes:
        if not 0 <= number < self._shard_count:
            raise self._damaged(f"{key} stands in shard {number} of {self._shard_count}")
        if number not in self._shards:
            path = self._shard_path(number)
            try:
                self._shards[number] = _map(path)
            except OSError as error:
                raise TensorBundleError(
                    f"{path} cannot be read ({error.strerror}), and {key} stands in it: all "
                    f"{self._shard_count} data files of a checkpoint are needed; {_WRITE_AGAIN}."
                ) from None
        return self._shards[number]

    def _shard_path(self, number: int) -> Path:
        return Path(f"{self.prefix}.data-{number:05d}-of-{self._shard_count:05d}")

    # What the index promises.

    def _check_crc(self, key: str, entry: tensorflow_pb.BundleEntryProto, actual: int) -> None:
        if entry.crc32c != actual:
            raise TensorBundleError(
                f"The bytes of {key} in {self._shard_path(entry.shard_id)} do not have the checksum that was written "
                f"with them: the file changed; {_WRITE_AGAIN}."
            )

    def _check_tiling(self, key: str, shape: tuple[int, ...], regions: tuple[Region, ...]) -> None:
        """Every element of the tensor is in exactly one slice."""
        sizes = [math.prod(s.stop - s.start for s in region) for region in regions]
        if sum(sizes) == math.prod(shape):
            # Between neighbouring edges all elements are in the same slices, so one cell stands for them.
            edges = [
                sorted({0, length, *(r[axis].start for r in regions), *(r[axis].stop for r in regions)})
                for axis, length in enumerate(shape)
            ]
            # Disjoint slices make a grid; others could make one of any size.
            if math.prod(len(edge) - 1 for edge in edges) <= _GRID_CELLS_MAX:
                grid = np.zeros([len(edge) - 1 for edge in edges], np.bool_)
                for region in regions:
                    cells = zip(edges, region, strict=True)
                    grid[tuple(slice(bisect_left(e, s.start), bisect_left(e, s.stop)) for e, s in cells)] = True
                if grid.all():
                    return
        raise self._damaged(f"the slices of {key} do not cover its shape {list(shape)} once")

    def _check_disjoint_bytes(self, key: str, parts: list[tensorflow_pb.TensorSliceProto]) -> None:
        """Slices that shared their bytes would let a small file describe a tensor of any size."""
        entries = [self._decode(_slice_key(key, part), key) for part in parts]
        spans = sorted((e.shard_id, e.offset, e.offset + e.size) for e in entries)
        for before, after in pairwise(spans):
            if before[0] == after[0] and after[1] < before[2]:
                raise self._damaged(f"slices of {key} share bytes")

    def _damaged(self, what: str) -> TensorBundleError:
        return _damaged(self._index, what)


_GRID_CELLS_MAX = 1 << 24


def _damaged(path: Path, what: str) -> TensorBundleError:
    return TensorBundleError(f"{path} is not a whole index of a checkpoint: {what}; {_WRITE_AGAIN}.")


def _map(path: Path) -> Bytes:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:  # mmap refuses an empty file; a shard without tensors is one
            return np.empty(0, np.uint8)
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


# The table.


def _read_table(content: Bytes, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values in the table's order, which is that of the keys' bytes."""
    if content.size < _FOOTER_BYTES:
        raise _damaged(path, f"it has {content.size} bytes, fewer than a footer")
    footer = content[-_FOOTER_BYTES:].tobytes()
    if int.from_bytes(footer[-8:], "little") != _MAGIC:
        raise _damaged(path, "its last bytes are not those of a table")
    _, position = _handle(footer, 0, path)
    index_handle, _ = _handle(footer, position, path)
    blocks_end = 0
    previous: bytes | None = None
    for _, handle in _entries(_block(content, index_handle, path), path):
        (offset, size), _ = _handle(handle, 0, path)
        if offset < blocks_end:
            raise _damaged(path, "its blocks overlap")
        blocks_end = offset + size
        for key, value in _entries(_block(content, (offset, size), path), path):
            if previous is not None and key <= previous:
                raise _damaged(path, "its keys are not sorted")
            previous = key
            yield key, value


def _block(content: Bytes, handle: tuple[int, int], path: Path) -> bytes:
    offset, size = handle
    if offset + size + _BLOCK_TRAILER_BYTES > content.size - _FOOTER_BYTES:
        raise _damaged(path, f"a block of {size} bytes at byte {offset} reaches past its end")
    block = content[offset : offset + size + _BLOCK_TRAILER_BYTES].tobytes()
    if int.from_bytes(block[-4:], "little") != masked_crc32c(block[:-4]):
        raise _damaged(path, f"the block at byte {offset} does not have its checksum")
    compression = block[size]
    if compression:
        kind = "snappy" if compression == _SNAPPY else f"compression {compression}"
        raise TensorBundleError(
            f"The block at byte {offset} of {path} is compressed ({kind}), which TensorFlow's checkpoints are not. "
            "Load and save the checkpoint once with TensorFlow to have it uncompressed."
        )
    return block[:size]


def _entries(block: bytes, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a block: each key without what it shares with the one before; the restart points are skipped."""
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    if len(block) < 4 or end < 0:
        raise _damaged(path, "a block is shorter than its list of restart points")
    key, position = b"", 0
    key_bytes_left = _KEY_BYTES_PER_BLOCK_BYTE * len(block)
    while position < end:
        try:
            shared, position = _varint(block, position, end)
            unshared, position = _varint(block, position, end)
            value_length, position = _varint(block, position, end)
        except _CutVarint:
            raise _damaged(path, "an entry of it is cut") from None
        value_start = position + unshared
        key_bytes_left -= shared + unshared
        if shared > len(key) or value_start + value_length > end or key_bytes_left < 0:
            raise _damaged(path, "an entry of it is longer than its block")
        key = key[:shared] + block[position:value_start]
        position = value_start + value_length
        yield key, block[value_start:position]


def _handle(data: bytes, position: int, path: Path) -> tuple[tuple[int, int], int]:
    """(offset, size) of a block, and where the reading stopped."""
    try:
        offset, position = _varint(data, position, len(data))
        size, position = _varint(data, position, len(data))
    except _CutVarint:
        raise _damaged(path, "the place of a block is cut") from None
    return (offset, size), position


class _CutVarint(Exception):  # noqa: N818  a signal between functions of this file
    pass


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        if position >= end:
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _CutVarint


# Slices.


def _intersection(left: Region, right: Region) -> Region | None:
    """The elements in both; None where there are none."""
    both = tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(left, right, strict=True))
    return both if all(s.start < s.stop for s in both) else None


def _relative(region: Region, outer: Region) -> Region:
    return tuple(slice(s.start - o.start, s.stop - o.start) for s, o in zip(region, outer, strict=True))


def _spelled(region: Region) -> str:
    return ":".join(f"{s.start},{s.stop - s.start}" for s in region)


def _slice_key(key: str, part: tensorflow_pb.TensorSliceProto) -> bytes:
    """The key of a slice: a zero, the name, and each start and length so that bytes sort as the numbers do."""
    pairs = (
        _ordered_signed(extent.start) + _ordered_signed(extent.length if extent.HasField("length") else -1)
        for extent in part.extent
    )
    return b"\0" + _ordered_name(_bytes(key)) + _ordered_unsigned(len(part.extent)) + b"".join(pairs)


_ESCAPES: Mapping[int, bytes] = {0x00: b"\x00\xff", 0xFF: b"\xff\x00"}


def _ordered_name(name: bytes) -> bytes:
    return b"".join(_ESCAPES.get(byte, bytes((byte,))) for byte in name) + b"\x00\x01"


def _ordered_unsigned(value: int) -> bytes:
    """The number of bytes, then the bytes."""
    length = (value.bit_length() + 7) // 8
    return bytes((length,)) + value.to_bytes(length, "big")


def _ordered_signed(value: int) -> bytes:
    """Two's complement in as many bytes as needed; the leading bits, one for each byte, tell how many and the sign."""
    length = (~value if value < 0 else value).bit_length() // 7 + 1
    header = ((1 << length) - 1) << (8 * length - length)
    return ((value & ((1 << 8 * length) - 1)) ^ header).to_bytes(length, "big")


def _text(key: bytes) -> str:
    return key.decode(errors="surrogateescape")


def _bytes(key: str) -> bytes:
    return key.encode(errors="surrogateescape")
