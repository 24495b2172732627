"""Checkpoints in TensorFlow's format, written for tests: whole ones, and ones that are wrong in a single place.

A bundle is `pairs` (key -> serialized message) and `shards` (bytes); tests change either before they are written.
"""

import struct
from itertools import pairwise

import numpy as np

from estimator_serving.wire import dtypes
from estimator_serving.wire.pb import tensorflow_pb
from estimator_serving.wire.records import masked_crc32c
from estimator_serving.wire.tensors import write_varint

MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)


def make_bundle(tensors, *, cuts=None, shard_count=1):
    """(pairs, shards) of named arrays. `cuts` has the row numbers at which a tensor is cut into slices."""
    header = tensorflow_pb.BundleHeaderProto(num_shards=shard_count)
    header.version.producer = 1
    pairs, shards = {b"": header.SerializeToString()}, [b""] * shard_count
    parts = [part for name, array in tensors.items() for part in _parts(name, array, (cuts or {}).get(name))]
    for number, (key, array, slices) in enumerate(parts):
        shard = number % shard_count
        content, crc = ("", 0) if slices else encode(array)
        entry = make_entry(array, slices=slices)
        if not slices:
            entry.shard_id, entry.offset, entry.size, entry.crc32c = shard, len(shards[shard]), len(content), crc
            shards[shard] += content
        pairs[key] = entry.SerializeToString()
    return pairs, shards


def make_entry(array, *, slices=()):
    entry = tensorflow_pb.BundleEntryProto(dtype=dtypes.from_numpy(array.dtype).number)
    for length in array.shape:
        entry.shape.dim.add(size=length)
    for start, length in slices:
        part = entry.slices.add()
        part.extent.add(start=start, length=length)
        for _ in array.shape[1:]:
            part.extent.add()
    return entry


def encode(array):
    """(bytes, masked checksum) of a tensor as it lies in a shard."""
    if array.dtype.kind != "O":
        content = array.tobytes()
        return content, masked_crc32c(content)
    strings = array.ravel().tolist()
    lengths = b"".join(struct.pack("<I", len(string)) for string in strings)
    checksum = struct.pack("<I", masked_crc32c(lengths))
    varints = b"".join(write_varint(len(string)) for string in strings)
    return varints + checksum + b"".join(strings), masked_crc32c(lengths + checksum + b"".join(strings))


def write_bundle(prefix, pairs, shards, **table):
    for number, content in enumerate(shards):
        with open(f"{prefix}.data-{number:05d}-of-{len(shards):05d}", "wb") as file:
            file.write(content)
    with open(f"{prefix}.index", "wb") as file:
        file.write(make_table(sorted(pairs.items()), **table))
    return str(prefix)


def make_table(pairs, *, block_entries=1000, compression=0):
    """The bytes of a sorted table: data blocks, an empty metaindex, the index of blocks, the footer."""
    content, handles = b"", []
    for first in range(0, len(pairs), block_entries):
        block = pairs[first : first + block_entries]
        handles.append((block[-1][0], _handle(len(content), make_block(block))))
        content += sign(make_block(block), compression)
    metaindex = _handle(len(content), make_block([]))
    content += sign(make_block([]))
    index = _handle(len(content), make_block(handles))
    content += sign(make_block(handles))
    return content + (metaindex + index).ljust(40, b"\0") + MAGIC


def sign(block, compression=0):
    typed = block + bytes([compression])
    return typed + struct.pack("<I", masked_crc32c(typed))


def make_block(pairs):
    content, restarts, previous = b"", [], b""
    for number, (key, value) in enumerate(pairs):
        if number % 16 == 0:
            restarts.append(len(content))
            previous = b""
        shared = next(
            (i for i, (a, b) in enumerate(zip(previous, key, strict=False)) if a != b), min(len(previous), len(key))
        )
        lengths = (shared, len(key) - shared, len(value))
        content += b"".join(map(write_varint, lengths)) + key[shared:] + value
        previous = key
    restarts = restarts or [0]
    return content + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def _handle(offset, block):
    return write_varint(offset) + write_varint(len(block))


def _parts(name, array, cuts):
    """(key, array, slices) for the tensor and for each of its slices."""
    if not cuts:
        return [(name.encode(), array, ())]
    edges = [0, *cuts, len(array)]
    slices = [(start, stop - start) for start, stop in pairwise(edges)]
    pieces = [(slice_key(name, s, array.ndim), array[s[0] : sum(s)], ()) for s in slices]
    return [(name.encode(), array, slices), *pieces]


def slice_key(name, rows, rank):
    """The key of a slice of rows, all of every other dimension. Only numbers below 2**20, spelled out by size."""
    key = b"\0" + name.encode() + b"\0\1" + bytes([1, rank])
    return key + b"".join(map(_signed, rows)) + (_signed(0) + b"\x7f") * (rank - 1)


def _signed(value):
    if value < 64:
        return bytes([0x80 + value])
    return struct.pack(">H", 0xC000 + value) if value < 2**13 else struct.pack(">I", 0xE00000 + value)[1:]


def objects(values):
    """An object array, whatever the values look like to numpy."""
    array = np.empty(len(values), object)
    array[:] = values
    return array
