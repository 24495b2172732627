"""Reads TensorFlow's checkpoints (`<prefix>.index` and `<prefix>.data-00000-of-00001` …) without TensorFlow.

Owns the format that TensorFlow calls a tensor bundle: an index of messages by key, and shards of raw bytes. Both
`model.ckpt-10` and `variables/variables` of a SavedModel have it. Does not know graphs, which variable a key belongs
to, or this project's own checkpoints.

The files are not trusted. The reader checks lengths and offsets against the size of the files before it allocates
anything, and verifies the checksum of every block and every tensor. Shards are memory-mapped, and a tensor that is
stored whole is a view of the file, so a shard must not be truncated while its arrays are in use.

Source: TensorFlow's tensor_bundle.cc, ordered_code.cc, saved_tensor_slice_util.cc.
"""

from __future__ import annotations

import math
import mmap
import os
from bisect import bisect_left
from collections.abc import Mapping
from contextlib import suppress
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
from estimator_serving.wire.sorted_table import Bytes, CompressedBlockError, TableError, read_table, read_varint

Array = npt.NDArray[Any]
Region = tuple[slice, ...]
"""A part of a tensor: one slice with start and stop for each dimension."""

INDEX_SUFFIX = ".index"
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"

# The only version of the format. A file names the oldest version that a reader must know.
_VERSION = 1
_RANK_MAX = 32
# numpy counts the bytes of an array in 63 bits, at up to 16 bytes an element, and does so for empty arrays too.
_COUNTABLE_ELEMENTS_MAX = 2**63 // 16 - 1
_GRID_CELLS_MAX = 1 << 24

_WRITE_AGAIN = "Copy the checkpoint again from where it was written, or use an older one"


class TensorBundleError(ValueError):
    """A checkpoint that cannot be read because it is missing, truncated, changed, or of an unknown kind."""


class TensorNotFoundError(TensorBundleError):
    """The checkpoint has no tensor of that name."""


class TensorDtypeError(TensorBundleError):
    """The tensor's type has no arrays, for example a variant or a quantized number."""


@dataclass(frozen=True)
class Entry:
    """What the index says about one tensor.

    Attributes:
        dtype: the element type.
        shape: the shape of the whole tensor.
        slices: the parts in which it was saved, empty if it was saved whole.
    """

    dtype: DType
    shape: tuple[int, ...]
    slices: tuple[Region, ...]


def open_bundle(prefix: str | os.PathLike[str]) -> TensorBundle:
    """Opens the checkpoint `<prefix>.index`. A shard is opened when one of its tensors is read.

    Raises:
        TensorBundleError: there is no such file, or it is not the index of a checkpoint.
    """
    return TensorBundle(os.fspath(prefix).removesuffix(INDEX_SUFFIX))


class TensorBundle:
    """An open checkpoint. Every method raises TensorBundleError if the files do not contain what the index says."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._index = Path(prefix + INDEX_SUFFIX)
        try:
            content = _map(self._index)
        except OSError as error:
            raise TensorBundleError(
                f"There is no checkpoint {prefix}: {self._index} cannot be read ({error.strerror}). Give the path "
                "without the ending of its files, for example model/model.ckpt-10."
            ) from None
        try:
            self._values = dict(read_table(content))
            self.keys()
        except CompressedBlockError as error:
            raise TensorBundleError(
                f"{self._index} cannot be read: {error}. TensorFlow writes checkpoints without compression. Load and "
                "save the checkpoint once with TensorFlow."
            ) from None
        except TableError as error:
            raise self._damaged(str(error)) from None
        except UnicodeDecodeError:
            raise self._damaged("a name in it is not UTF-8") from None
        self._shard_count = self._read_header()
        self._shards: dict[int, Bytes] = {}

    def keys(self) -> list[str]:
        """The names of the tensors, sorted."""
        return [key.decode() for key in self._values if not key.startswith(b"\0")]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and _bytes(key) in self._values

    def entry(self, key: str) -> Entry:
        """Dtype, shape and slices of a tensor. Raises TensorNotFoundError for a name that is not there."""
        entry = self._proto(key)
        return Entry(self._dtype(key, entry), self._shape(key, entry), self._regions(key, entry))

    def read(self, key: str) -> Array:
        """The whole tensor, as a read-only view of the file where possible. Strings are an object array of bytes."""
        entry = self._proto(key)
        return self._read(key, entry, tuple(slice(0, length) for length in self._shape(key, entry)))

    def read_region(self, key: str, region: Region) -> Array:
        """A part of a tensor, for example one of its entry's slices."""
        return self._read(key, self._proto(key), region)

    def read_slice(self, key: str, spec: str) -> Array:
        """A part of a tensor, as RestoreV2's shape_and_slices names it.

        Args:
            key: name of the tensor.
            spec: "" for the whole tensor, or its shape followed by "start,length" for each dimension ("-" for a whole
                dimension): "40 4 14,13:0,4".
        """
        if not spec:
            return self.read(key)
        entry = self._proto(key)
        shape = self._shape(key, entry)
        named, region = _parse_slice(key, spec)
        inside = all(0 <= s.start <= s.stop <= length for s, length in zip(region, named, strict=True))
        if named != shape or not inside:
            raise TensorBundleError(
                f"The slice {spec!r} of {key} does not fit its shape {list(shape)} in {self._index}. Use a graph and a "
                "checkpoint that were saved together."
            )
        return self._read(key, entry, region)

    def verify(self) -> None:
        """Reads every tensor and verifies its checksum. Raises TensorBundleError if one is missing or changed."""
        for stored_key in self._values:
            # The key of a slice begins with a NUL, and the escaped name of its tensor is in it.
            if stored_key.startswith(b"\0"):
                name = stored_key[1:].partition(b"\x00\x01")[0]
                key = name.replace(b"\x00\xff", b"\x00").replace(b"\xff\x00", b"\xff").decode(errors="replace")
            else:
                key = stored_key.decode()
            entry = self._decode(stored_key, key)
            for part, region in zip(entry.slices, self._regions(key, entry), strict=True):
                if _slice_key(key, part) not in self._values:
                    raise self._damaged(f"the slice {_spelled(region)} of {key} is not in it")
            if not entry.slices:
                with suppress(TensorDtypeError):
                    self._stored(key, entry, self._dtype(key, entry), self._shape(key, entry))

    def object_names(self) -> dict[str, str]:
        """The variable's name for each key, if tf.train.Checkpoint or Keras wrote the file, else {}.

        They use paths of objects as keys, for example `layer-1/kernel/.ATTRIBUTES/VARIABLE_VALUE` for `dense/kernel`.
        """
        if OBJECT_GRAPH not in self:
            return {}
        content = self.read(OBJECT_GRAPH).ravel()
        try:
            graph = tensorflow_pb.TrackableObjectGraph.FromString(content[0] if content.size else b"")
        except (DecodeError, TypeError):
            raise self._damaged(f"{OBJECT_GRAPH} is not a TrackableObjectGraph") from None
        attributes = (attribute for node in graph.nodes for attribute in node.attributes)
        return {one.checkpoint_key: one.full_name for one in attributes if one.full_name}

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
                f"{self._index} was written on a big-endian machine, and only little-endian checkpoints can be read. "
                "Load and save the checkpoint once with TensorFlow on an x86 or ARM machine."
            )
        if header.version.min_consumer > _VERSION:
            raise TensorBundleError(
                f"{self._index} needs a reader for version {header.version.min_consumer} of the format, and this one "
                f"knows version {_VERSION}. Save the checkpoint with TensorFlow 2.15 or older."
            )
        return int(header.num_shards)

    def _proto(self, key: str) -> tensorflow_pb.BundleEntryProto:
        if not key or key.startswith("\0") or _bytes(key) not in self._values:
            raise TensorNotFoundError(f"Key {key} not found in checkpoint {self.prefix}. Use one of keys().")
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
            raise TensorDtypeError(f"{key} in {self._index} cannot be read: {error}") from None

    def _shape(self, key: str, entry: tensorflow_pb.BundleEntryProto) -> tuple[int, ...]:
        shape = tuple(dim.size for dim in entry.shape.dim)
        if entry.shape.unknown_rank or len(shape) > _RANK_MAX or min(shape, default=0) < 0:
            raise self._damaged(f"the shape of {key} is not one of at most {_RANK_MAX} lengths")
        if math.prod(length for length in shape if length) > _COUNTABLE_ELEMENTS_MAX:
            raise self._damaged(f"{key} of shape {list(shape)} has more elements than any memory holds")
        return shape

    def _regions(self, key: str, entry: tensorflow_pb.BundleEntryProto) -> tuple[Region, ...]:
        shape = self._shape(key, entry)
        regions: list[Region] = []
        for part in entry.slices:
            if len(part.extent) != len(shape):
                raise self._damaged(f"a slice of {key} has {len(part.extent)} dimensions and the tensor {len(shape)}")
            region = tuple(
                slice(extent.start, extent.start + (extent.length if extent.HasField("length") else length))
                for extent, length in zip(part.extent, shape, strict=True)
            )
            if not all(0 <= s.start <= s.stop <= length for s, length in zip(region, shape, strict=True)):
                raise self._damaged(f"a slice of {key} reaches outside of its shape {list(shape)}")
            regions.append(region)
        return tuple(regions)

    # Tensors.

    def _read(self, key: str, entry: tensorflow_pb.BundleEntryProto, wanted: Region) -> Array:
        dtype, shape = self._dtype(key, entry), self._shape(key, entry)
        if not entry.slices:
            whole = self._stored(key, entry, dtype, shape)
            # Indexing with () would turn a scalar array into a Python value.
            return whole[wanted] if shape else whole
        regions = self._regions(key, entry)
        # TensorFlow 1 stores the slots of each part of a variable under a separate key, with that part's slice only.
        for part, region in zip(entry.slices, regions, strict=True):
            if region == wanted:
                return self._stored_slice(key, part, region, dtype)
        if not _tiles(shape, regions):
            raise self._damaged(f"the slices of {key} do not cover its shape {list(shape)} once")
        return self._assemble(key, entry, regions, dtype, wanted)

    def _assemble(
        self,
        key: str,
        entry: tensorflow_pb.BundleEntryProto,
        regions: tuple[Region, ...],
        dtype: DType,
        wanted: Region,
    ) -> Array:
        """The wanted region, copied from the slices that share elements with it."""
        shape = tuple(s.stop - s.start for s in wanted)
        pieces: list[tuple[tensorflow_pb.TensorSliceProto, Region, Region]] = []
        for part, region in zip(entry.slices, regions, strict=True):
            pairs = zip(region, wanted, strict=True)
            common = tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in pairs)
            if all(s.start < s.stop for s in common):
                pieces.append((part, region, common))
        # The slices are read before the result is allocated, so that their sizes limit its size.
        parts = [(self._stored_slice(key, part, region, dtype), region, common) for part, region, common in pieces]
        # Slices that share bytes could make a small file describe a tensor of any size.
        entries = [self._decode(_slice_key(key, part), key) for part, _, _ in pieces]
        spans = sorted((e.shard_id, e.offset, e.offset + e.size) for e in entries)
        for before, after in pairwise(spans):
            if before[0] == after[0] and after[1] < before[2]:
                raise self._damaged(f"slices of {key} share bytes")
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
        number = entry.shard_id
        if not 0 <= number < self._shard_count:
            raise self._damaged(f"{key} is in shard {number} of {self._shard_count}")
        path = self._shard_path(number)
        if number not in self._shards:
            try:
                self._shards[number] = _map(path)
            except OSError as error:
                raise TensorBundleError(
                    f"{path} cannot be read ({error.strerror}), and {key} is in it. All {self._shard_count} data "
                    f"files of the checkpoint are needed. {_WRITE_AGAIN}."
                ) from None
        shard = self._shards[number]
        start, stop = entry.offset, entry.offset + entry.size
        if not 0 <= start <= stop <= shard.size:
            raise TensorBundleError(
                f"{path} has {shard.size} bytes, and {key} is in bytes {start} to {stop}. "
                f"The file was truncated, or belongs to another checkpoint. {_WRITE_AGAIN}."
            )
        content = shard[start:stop]
        count = math.prod(shape)
        if dtype.is_string:
            return self._strings(key, entry, content, count).reshape(shape)
        if content.size != count * dtype.numpy.itemsize:
            raise self._damaged(
                f"{key} has {content.size} bytes, and a {dtype.name} of shape {list(shape)} needs "
                f"{count * dtype.numpy.itemsize}"
            )
        self._check_crc(key, entry, masked_crc32c(content))
        if dtype is dtypes.bool_ and content.max(initial=0) > 1:
            raise self._damaged(f"{key} is a bool with a byte other than 0 and 1")
        return content.view(dtype.numpy.newbyteorder("<")).reshape(shape)

    def _strings(self, key: str, entry: tensorflow_pb.BundleEntryProto, content: Bytes, count: int) -> Array:
        """Strings are stored as all lengths (varints), a checksum of the lengths, and all bytes."""
        if count > content.size:
            raise self._damaged(f"{key} has {content.size} bytes, too few for the lengths of {count} strings")
        data = content.tobytes()
        lengths, position = [], 0
        try:
            for _ in range(count):
                length, position = read_varint(data, position, len(data))
                lengths.append(length)
        except TableError:
            raise self._damaged(f"the lengths of the strings of {key} are cut off") from None
        bytes_start = position + 4
        if bytes_start + sum(lengths) != len(data):
            raise self._damaged(f"the lengths of the strings of {key} do not add up to its {len(data)} bytes")
        # The checksum covers the lengths as fixed 32 or 64 bits, although varints are stored.
        fixed = b"".join(length.to_bytes(4 if length < 2**32 else 8, "little") for length in lengths)
        stored = data[position:bytes_start]
        if int.from_bytes(stored, "little") != masked_crc32c(fixed):
            raise self._damaged(f"the checksum of the lengths of the strings of {key} is wrong")
        self._check_crc(key, entry, masked_crc32c(fixed, stored, content[bytes_start:]))
        values = np.empty(count, object)
        position = bytes_start
        for number, length in enumerate(lengths):
            values[number] = data[position : position + length]
            position += length
        return values

    def _shard_path(self, number: int) -> Path:
        return Path(f"{self.prefix}.data-{number:05d}-of-{self._shard_count:05d}")

    # What the index promises.

    def _check_crc(self, key: str, entry: tensorflow_pb.BundleEntryProto, actual: int) -> None:
        if entry.crc32c != actual:
            raise TensorBundleError(
                f"The checksum of {key} in {self._shard_path(entry.shard_id)} is wrong, so the file has changed since "
                f"it was written. {_WRITE_AGAIN}."
            )

    def _damaged(self, what: str) -> TensorBundleError:
        return TensorBundleError(f"{self._index} is not a whole index of a checkpoint: {what}. {_WRITE_AGAIN}.")


def _map(path: Path) -> Bytes:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:  # mmap refuses empty files, and a shard without tensors is empty
            return np.empty(0, np.uint8)
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


# Slices.


def _parse_slice(key: str, spec: str) -> tuple[tuple[int, ...], Region]:
    """The shape and the region of RestoreV2's "40 4 14,13:0,4"."""
    *lengths, parts_text = spec.split(" ")
    parts = parts_text.split(":") if lengths else []
    try:
        named = tuple(int(length) for length in lengths)
        pairs = [
            (0, length) if part == "-" else tuple(map(int, part.split(",")))
            for part, length in zip(parts, named, strict=True)
        ]
        return named, tuple(slice(start, start + length) for start, length in pairs)
    except ValueError:
        raise TensorBundleError(
            f"{spec!r} is not a slice of {key}. Give its shape, then a start and a length for each dimension, "
            'for example "40 4 14,13:0,4".'
        ) from None


def _tiles(shape: tuple[int, ...], regions: tuple[Region, ...]) -> bool:
    """Whether every element of a tensor is in exactly one of the regions."""
    if sum(math.prod(s.stop - s.start for s in region) for region in regions) != math.prod(shape):
        return False
    # All elements between two neighbouring edges are in the same slices, so the grid has one cell for them.
    edges = [
        sorted({0, length, *(r[axis].start for r in regions), *(r[axis].stop for r in regions)})
        for axis, length in enumerate(shape)
    ]
    if math.prod(len(edge) - 1 for edge in edges) > _GRID_CELLS_MAX:
        return False
    grid = np.zeros([len(edge) - 1 for edge in edges], np.bool_)
    for region in regions:
        cells = zip(edges, region, strict=True)
        grid[tuple(slice(bisect_left(e, s.start), bisect_left(e, s.stop)) for e, s in cells)] = True
    return bool(grid.all())


def _relative(region: Region, outer: Region) -> Region:
    return tuple(slice(s.start - o.start, s.stop - o.start) for s, o in zip(region, outer, strict=True))


def _spelled(region: Region) -> str:
    return ":".join(f"{s.start},{s.stop - s.start}" for s in region)


def _slice_key(key: str, part: tensorflow_pb.TensorSliceProto) -> bytes:
    """The key of a slice: 0, the name, then each start and length, encoded so that the bytes sort like the numbers."""
    pairs = (
        _ordered_signed(extent.start) + _ordered_signed(extent.length if extent.HasField("length") else -1)
        for extent in part.extent
    )
    name = b"".join(_ESCAPES.get(byte, bytes((byte,))) for byte in _bytes(key)) + b"\x00\x01"
    # An unsigned number is its count of bytes, then the bytes, the most significant one first.
    rank = len(part.extent)
    rank_bytes = rank.to_bytes((rank.bit_length() + 7) // 8, "big")
    return b"\0" + name + bytes((len(rank_bytes),)) + rank_bytes + b"".join(pairs)


_ESCAPES: Mapping[int, bytes] = {0x00: b"\x00\xff", 0xFF: b"\xff\x00"}


def _ordered_signed(value: int) -> bytes:
    """Two's complement in as few bytes as possible; the leading bits encode the number of bytes and the sign."""
    length = (~value if value < 0 else value).bit_length() // 7 + 1
    header = ((1 << length) - 1) << (8 * length - length)
    return ((value & ((1 << 8 * length) - 1)) ^ header).to_bytes(length, "big")


def _bytes(key: str) -> bytes:
    return key.encode(errors="surrogatepass")
