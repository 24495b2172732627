"""TensorFlow's checkpoints: what TensorFlow wrote, what a writer of ours wrote, and files made to do harm."""

import re
import struct
import tracemalloc
from contextlib import suppress
from pathlib import Path

import bundles
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from estimator_serving.wire.pb import tensorflow_pb
from estimator_serving.wire.records import masked_crc32c
from estimator_serving.wire.tensor_bundle import TensorBundleError, TensorNotFoundError, open_bundle
from estimator_serving.wire.tensors import write_varint

# Written by TensorFlow 2.15; goldens/make_bundle.py says how.
GOLDEN = Path(__file__).parent / "goldens" / "bundle"
TABLE = (np.arange(2 * 8400) % 7 == 0).reshape(2, 8400)
ROWS = np.arange(12, dtype=np.float32).reshape(6, 2)


@pytest.fixture
def prefix(tmp_path):
    return tmp_path / "model.ckpt-1"


def written(prefix, tensors, *, change=None, **options):
    """The bundle of these tensors after `change(pairs, shards)`."""
    pairs, shards = bundles.make_bundle(tensors, **options)
    if change:
        change(pairs, shards)
    return bundles.write_bundle(prefix, pairs, shards)


def entry_change(key, **fields):
    """A change of one entry's fields; its shape is given as a list of lengths."""

    def change(pairs, shards):
        entry = tensorflow_pb.BundleEntryProto.FromString(pairs[key])
        shape = fields.get("shape")
        if shape is not None:
            del entry.shape.dim[:]
            for length in shape:
                entry.shape.dim.add(size=length)
        for name, value in fields.items():
            if name != "shape":
                setattr(entry, name, value)
        pairs[key] = entry.SerializeToString()

    return change


def header_change(**fields):
    def change(pairs, shards):
        header = tensorflow_pb.BundleHeaderProto.FromString(pairs[b""])
        header.MergeFrom(tensorflow_pb.BundleHeaderProto(**fields))
        pairs[b""] = header.SerializeToString()

    return change


def shard_change(make):
    def change(pairs, shards):
        shards[0] = make(shards[0])

    return change


def read_all(prefix):
    bundle = open_bundle(prefix)
    return {key: (bundle.entry(key), bundle.read(key)) for key in bundle.keys()}  # noqa: SIM118  not a mapping


# What TensorFlow wrote.


def test_every_dtype_of_tensorflows_file():
    found = {key: array for key, (_, array) in read_all(GOLDEN).items()}
    assert found.keys() == {
        "bfloat16", "bool", "complex64", "double", "half", "int8", "nothing", "strings", "table", "uint64",
    }  # fmt: skip
    np.testing.assert_array_equal(found["bfloat16"], np.array([[1.5, -2.5]], ml_dtypes.bfloat16))
    np.testing.assert_array_equal(found["bool"], [True, False])
    np.testing.assert_array_equal(found["complex64"], np.array([1 + 2j], np.complex64))
    assert (found["double"].shape, found["double"].item()) == ((), np.pi)
    assert found["half"].tolist() == [0.5, 65504]
    assert (found["int8"].tolist(), found["uint64"].tolist()) == ([[-3]], [2**63])
    assert (found["nothing"].shape, found["nothing"].dtype) == ((0, 4), np.float32)


def test_tensorflows_strings_are_bytes():
    strings = open_bundle(GOLDEN).read("strings")
    assert strings.tolist() == [[b"", b"a" * 300], [b"\xff\x00z", "Zürich".encode()]]


def test_a_tensor_in_slices_is_put_together():
    bundle = open_bundle(GOLDEN)
    entry = bundle.entry("table")
    assert (entry.dtype.name, entry.shape, len(entry.slices)) == ("bool", (2, 8400), 4)
    assert entry.slices[1] == (slice(0, 1), slice(8300, 8400))
    np.testing.assert_array_equal(bundle.read("table"), TABLE)


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("", np.s_[:]),
        ("2 8400 -:-", np.s_[:]),
        ("2 8400 1,1:8300,100", np.s_[1:, 8300:]),
        ("2 8400 -:8299,2", np.s_[:, 8299:8301]),
        ("2 8400 0,0:-", np.s_[:0]),
    ],
)
def test_a_part_as_restore_names_it(spec, part):
    np.testing.assert_array_equal(open_bundle(GOLDEN).read_slice("table", spec), TABLE[part])


def test_a_part_of_a_tensor_that_is_stored_whole(prefix):
    bundle = open_bundle(written(prefix, {"w": ROWS}))
    np.testing.assert_array_equal(bundle.read_slice("w", "6 2 2,3:1,1"), ROWS[2:5, 1:])


@pytest.mark.parametrize("spec", ["7 2 0,7:-", "6 2 5,2:-", "6 2 -", "6 2 0:-", "x", "6 2 -1,2:-", "6 2 0,6:-:-"])
def test_a_part_that_is_none_is_refused(prefix, spec):
    bundle = open_bundle(written(prefix, {"w": ROWS}))
    with pytest.raises(TensorBundleError, match=re.escape(repr(spec))):
        bundle.read_slice("w", spec)


def test_a_whole_tensor_is_a_view_of_the_file(prefix):
    array = open_bundle(written(prefix, {"w": ROWS})).read("w")
    assert not array.flags.owndata
    assert not array.flags.writeable


def test_the_path_may_end_in_index(prefix):
    assert open_bundle(f"{written(prefix, {'w': ROWS})}.index").keys() == ["w"]


# What a writer of ours wrote.

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
NUMBERS = st.sampled_from([np.float32, np.float64, np.int32, np.int64, np.uint8, np.float16, np.complex64, np.bool_])
NUMERIC = NUMBERS.flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, min_side=0, max_side=5)))
STRINGS = st.lists(st.binary(max_size=200), max_size=6).map(bundles.objects)


@settings(deadline=None)
@given(
    tensors=st.dictionaries(NAMES, NUMERIC | STRINGS, max_size=8),
    shard_count=st.integers(1, 3),
    block_entries=st.integers(1, 5),
)
def test_round_trip(tmp_path_factory, tensors, shard_count, block_entries):
    prefix = tmp_path_factory.mktemp("bundle") / "b"
    pairs, shards = bundles.make_bundle(tensors, shard_count=shard_count)
    found = read_all(bundles.write_bundle(prefix, pairs, shards, block_entries=block_entries))
    assert list(found) == sorted(tensors, key=str.encode)
    for name, array in tensors.items():
        assert found[name][1].dtype == array.dtype
        np.testing.assert_array_equal(found[name][1], array)


@settings(deadline=None)
@given(rows=st.integers(1, 300), data=st.data())
def test_slices_round_trip(tmp_path_factory, rows, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, rows - 1)), max_size=5)) - {rows})
    array = np.arange(rows * 3, dtype=np.int32).reshape(rows, 3)
    prefix = written(tmp_path_factory.mktemp("bundle") / "b", {"w": array}, cuts={"w": cuts}, shard_count=2)
    start = data.draw(st.integers(0, rows))
    stop = data.draw(st.integers(start, rows))
    bundle = open_bundle(prefix)
    np.testing.assert_array_equal(bundle.read("w"), array)
    np.testing.assert_array_equal(bundle.read_slice("w", f"{rows} 3 {start},{stop - start}:-"), array[start:stop])


# What is refused.


def test_a_checkpoint_that_is_not_there(tmp_path):
    with pytest.raises(TensorBundleError, match="There is no checkpoint .*Name the files without their endings"):
        open_bundle(tmp_path / "model.ckpt-7")


@pytest.mark.parametrize("key", ["b", "", "\0w"])
def test_a_tensor_that_is_not_there(prefix, key):
    with pytest.raises(TensorNotFoundError, match=f"Key {key} not found in checkpoint"):
        open_bundle(written(prefix, {"w": ROWS})).read(key)


def test_a_cut_shard(prefix):
    written(prefix, {"w": ROWS}, change=shard_change(lambda shard: shard[:-1]))
    with pytest.raises(TensorBundleError, match=r"data-00000-of-00001 has 47 bytes .* the file was cut"):
        open_bundle(prefix).read("w")


def test_a_missing_shard(prefix):
    written(prefix, {"v": ROWS, "w": ROWS}, shard_count=2)
    Path(f"{prefix}.data-00001-of-00002").unlink()
    bundle = open_bundle(prefix)
    np.testing.assert_array_equal(bundle.read("v"), ROWS)
    with pytest.raises(TensorBundleError, match=r"data-00001-of-00002 cannot be read .* all 2 data files"):
        bundle.read("w")


@pytest.mark.parametrize("tensors", [{"w": ROWS}, {"w": bundles.objects([b"abc", b"d"])}])
def test_a_changed_shard(prefix, tensors):
    change = shard_change(lambda shard: shard[:-1] + b"?")
    with pytest.raises(TensorBundleError, match="The bytes of w .* do not have the checksum"):
        open_bundle(written(prefix, tensors, change=change)).read("w")


def test_a_big_endian_checkpoint(prefix):
    with pytest.raises(TensorBundleError, match="big-endian machine.*Load and save"):
        open_bundle(written(prefix, {"w": ROWS}, change=header_change(endianness=1)))


def test_a_format_of_the_future(prefix):
    version = tensorflow_pb.VersionDef(min_consumer=2)
    with pytest.raises(TensorBundleError, match="asks for a reader of version 2"):
        open_bundle(written(prefix, {"w": ROWS}, change=header_change(version=version)))


@pytest.mark.parametrize(("compression", "text"), [(1, "snappy"), (9, "compression 9")])
def test_a_compressed_block(prefix, compression, text):
    pairs, shards = bundles.make_bundle({"w": ROWS})
    with pytest.raises(TensorBundleError, match=f"is compressed \\({text}\\)"):
        open_bundle(bundles.write_bundle(prefix, pairs, shards, compression=compression))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"shape": [2**60]}, "more elements than any memory holds"),
        ({"shape": [2**58]}, "has 48 bytes, and a float of shape"),
        ({"shape": [2**62, 2**62]}, "more elements than any memory holds"),
        ({"shape": [0, 2**62, 2**62]}, "more elements than any memory holds"),
        ({"shape": [-1, 2]}, "is not one of at most 32 lengths"),
        ({"shape": [1] * 33}, "is not one of at most 32 lengths"),
        ({"size": 2**62}, "the file was cut, or is of another checkpoint"),
        ({"offset": -4}, "the file was cut, or is of another checkpoint"),
        ({"size": -4}, "the file was cut, or is of another checkpoint"),
        ({"size": 44}, "has 44 bytes, and a float of shape"),
        ({"shard_id": 1}, "stands in shard 1 of 1"),
        ({"shard_id": -1}, "stands in shard -1 of 1"),
        ({"dtype": 21}, "DataType 21 is not supported"),
        ({"dtype": 10, "shape": [48]}, "a bool with a byte other than 0 and 1"),
        ({"dtype": 7, "shape": [2**58]}, "too few for the lengths of 288230376151711744 strings"),
        ({"dtype": 7, "shape": [2]}, "do not add up"),
    ],
)
def test_an_entry_that_does_not_fit(prefix, fields, text):
    written(prefix, {"w": ROWS}, change=entry_change(b"w", **fields))
    with pytest.raises(TensorBundleError, match=re.escape(text)):
        read_all(prefix)


def test_an_entry_that_is_no_message(prefix):
    pairs, shards = bundles.make_bundle({"w": ROWS})
    bundles.write_bundle(prefix, pairs | {b"w": b"\xff\xff"}, shards)
    with pytest.raises(TensorBundleError, match="the entry of w is not a BundleEntryProto"):
        open_bundle(prefix).read("w")


def test_lengths_of_strings_without_their_checksum(prefix):
    change = shard_change(lambda shard: shard[:2] + b"????" + shard[6:])
    written(prefix, {"w": bundles.objects([b"abc", b"d"])}, change=change)
    with pytest.raises(TensorBundleError, match="lengths of the strings of w do not have their checksum"):
        open_bundle(prefix).read("w")


def slices_change(*rows):
    """The tensor's list of slices becomes this one."""

    def change(pairs, shards):
        pairs[b"w"] = bundles.make_entry(ROWS, slices=rows).SerializeToString()

    return change


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([(0, 4), (4, 1)], "do not cover its shape [6, 2] once"),
        ([(0, 4), (0, 2)], "do not cover its shape [6, 2] once"),
        ([(0, 4), (4, 2), (4, 2)], "do not cover its shape [6, 2] once"),
        ([(0, 4), (4, 3)], "reaches outside of its shape [6, 2]"),
        ([(0, 3), (3, 3)], "the slice 0,3:0,2 of w is not in it"),
    ],
)
def test_slices_that_do_not_make_the_tensor(prefix, rows, text):
    written(prefix, {"w": ROWS}, cuts={"w": [4]}, change=slices_change(*rows))
    with pytest.raises(TensorBundleError, match=re.escape(text)):
        open_bundle(prefix).read("w")


def test_a_slice_of_another_shape(prefix):
    key = bundles.slice_key("w", (4, 2), 2)
    written(prefix, {"w": ROWS}, cuts={"w": [4]}, change=entry_change(key, shape=[2, 1]))
    with pytest.raises(TensorBundleError, match=re.escape("4,2:0,2 of w is not a float of shape [2, 2]")):
        open_bundle(prefix).read("w")


def test_slices_that_share_their_bytes(prefix):
    """So that a file of a megabyte could not describe a tensor of a gigabyte."""
    zeros = np.zeros([8, 2], np.float32)
    key = bundles.slice_key("w", (4, 4), 2)
    written(prefix, {"w": zeros}, cuts={"w": [4]}, change=entry_change(key, offset=0))
    with pytest.raises(TensorBundleError, match="slices of w share bytes"):
        open_bundle(prefix).read("w")


def write_index(prefix, content):
    Path(f"{prefix}.index").write_bytes(content)


def table_of(*blocks):
    """A table whose index names these signed blocks as (offset, size, bytes)."""
    handles = [(b"%d" % number, write_varint(o) + write_varint(s)) for number, (o, s, _) in enumerate(blocks)]
    content = b"".join(b for _, _, b in blocks)
    index = bundles.make_block(handles)
    footer = (b"\0\0" + write_varint(len(content)) + write_varint(len(index))).ljust(40, b"\0") + bundles.MAGIC
    return content + bundles.sign(index) + footer


RESTARTS = struct.pack("<II", 0, 1)
LONG_KEY = b"\0" + write_varint(5000) + b"\0" + b"k" * 5000
GROWING = LONG_KEY + b"".join(write_varint(5000) + b"\2\0" + struct.pack(">H", n) for n in range(2000))


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (b"", "shorter than its list of restart points"),
        (struct.pack("<I", 2**32 - 1), "shorter than its list of restart points"),
        (b"\xff" * 20 + RESTARTS, "an entry of it is cut"),
        (b"\0\1" + RESTARTS, "an entry of it is cut"),
        (b"\1\1\0k" + RESTARTS, "longer than its block"),
        (b"\0\1" + write_varint(2**63) + b"k" + RESTARTS, "longer than its block"),
        (b"\0\1\0b\0\1\0a" + RESTARTS, "its keys are not sorted"),
        (b"\0\1\0b\0\1\0b" + RESTARTS, "its keys are not sorted"),
        (GROWING + RESTARTS, "longer than its block"),
        (b"\0\1\0b" + RESTARTS, "it has no header"),
        (b"\0\0\2\xff\xff" + RESTARTS, "its header is not a BundleHeaderProto"),
    ],
)
def test_a_block_that_does_not_hold_together(prefix, block, text):
    write_index(prefix, table_of((0, len(block), bundles.sign(block))))
    with pytest.raises(TensorBundleError, match=text):
        open_bundle(prefix)


@pytest.mark.parametrize("handle", [(0, 2**40), (2**62, 8), (1, 2**63)])
def test_a_block_beyond_the_file(prefix, handle):
    write_index(prefix, table_of((*handle, bundles.sign(RESTARTS))))
    with pytest.raises(TensorBundleError, match="reaches past its end"):
        open_bundle(prefix)


def test_blocks_that_overlap(prefix):
    block = bundles.sign(b"\0\0\0" + RESTARTS)
    write_index(prefix, table_of((0, 11, block), (0, 11, b"")))
    with pytest.raises(TensorBundleError, match="its blocks overlap"):
        open_bundle(prefix)


@pytest.mark.parametrize("content", [b"", b"x" * 47, b"x" * 48, b"\xff" * 40 + bundles.MAGIC])
def test_a_file_that_is_no_table(prefix, content):
    write_index(prefix, content)
    with pytest.raises(TensorBundleError, match="is not a whole index of a checkpoint"):
        open_bundle(prefix)


# Random damage: it is read, or refused with our error, and takes no memory but what the files' size allows.

SAMPLE = {"strings": bundles.objects([b"abc", b"", b"d" * 70]), "v": np.arange(4, dtype=np.int64), "w": ROWS}
MUTATIONS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4)


def mutate(content, mutations):
    changed = bytearray(content)
    for position, byte in mutations:
        changed[position % len(changed)] = byte
    return bytes(changed)


def read_or_refuse(prefix):
    tracemalloc.start()
    with suppress(TensorBundleError):
        read_all(prefix)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


@settings(deadline=None, max_examples=300)
@given(mutations=MUTATIONS, which=st.sampled_from(["index", "data-00000-of-00001"]), cut=st.integers(0, 3))
def test_mutated_files(tmp_path_factory, mutations, which, cut):
    prefix = tmp_path_factory.mktemp("bundle") / "b"
    written(prefix, SAMPLE, cuts={"w": [4]})
    file = Path(f"{prefix}.{which}")
    content = mutate(file.read_bytes(), mutations)
    file.write_bytes(content[: len(content) - cut])
    read_or_refuse(prefix)


@settings(deadline=None, max_examples=300)
@given(mutations=MUTATIONS)
def test_mutated_blocks_with_right_checksums(tmp_path_factory, mutations):
    prefix = tmp_path_factory.mktemp("bundle") / "b"
    pairs, shards = bundles.make_bundle(SAMPLE, cuts={"w": [4]})
    bundles.write_bundle(prefix, pairs, shards)
    block = mutate(bundles.make_block(sorted(pairs.items())), mutations)
    write_index(prefix, table_of((0, len(block), bundles.sign(block))))
    read_or_refuse(prefix)


@settings(deadline=None, max_examples=300)
@given(key=st.sampled_from(["strings", "v", "w"]), mutations=MUTATIONS)
def test_mutated_messages(tmp_path_factory, key, mutations):
    def change(pairs, shards):
        pairs[key.encode()] = mutate(pairs[key.encode()], mutations)

    prefix = tmp_path_factory.mktemp("bundle") / "b"
    written(prefix, SAMPLE, cuts={"w": [4]}, change=change)
    read_or_refuse(prefix)


@settings(deadline=None, max_examples=300)
@given(mutations=MUTATIONS)
def test_mutated_strings_with_right_checksums(tmp_path_factory, mutations):
    def change(pairs, shards):
        shards[0] = mutate(shards[0], mutations)
        entry_change(b"s", crc32c=masked_crc32c(shards[0]))(pairs, shards)

    prefix = tmp_path_factory.mktemp("bundle") / "b"
    written(prefix, {"s": SAMPLE["strings"]}, change=change)
    read_or_refuse(prefix)
