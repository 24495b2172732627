"""ParseExample: TensorFlow's results and texts, the protobuf specification, and what hostile input gets."""

import json
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper
from parsed_examples import agree, answer

from estimator_serving import ops
from estimator_serving.wire.examples import (
    FixedLenFeature,
    VarLenFeature,
    encode_example,
    join_examples,
)

GOLDENS = Path(__file__).parent / "goldens"
CASES = json.loads((GOLDENS / "parse_example.json").read_text())
HOSTILE_CASES = json.loads((GOLDENS / "hostile_examples.json").read_text())
HOSTILE_SPEC = {
    "a": {"kind": "FixedLen", "shape": [1], "dtype": "int64"},
    "b": {"kind": "FixedLen", "shape": [1], "dtype": "float", "default": [0.5]},
    "c": {"kind": "VarLen", "dtype": "string"},
    "d": {"kind": "VarLen", "dtype": "int64"},
}

InvalidArgument = ort.capi.onnxruntime_pybind11_state.InvalidArgument
RuntimeException = ort.capi.onnxruntime_pybind11_state.RuntimeException


def refusal(call, *arguments) -> str:
    """The op's own text in what ONNX Runtime raises for a run."""
    with pytest.raises(InvalidArgument) as caught:
        call(*arguments)
    return str(caught.value).split("Status Message: ", 1)[1]


# ---- TensorFlow's parse_example, recorded -------------------------------------------------------------------------


def as_feature(recorded):
    if recorded["kind"] == "VarLen":
        return VarLenFeature(recorded["dtype"])
    return FixedLenFeature(recorded["shape"], recorded["dtype"], recorded.get("default"))


def as_recorded(rows):
    """Strings as hex, as the goldens have them."""
    if isinstance(rows, list):
        return [as_recorded(row) for row in rows]
    return rows.encode().hex() if isinstance(rows, str) else rows


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_as_tensorflow(parser, rows_of, case):
    parse = parser({key: as_feature(feature) for key, feature in case["spec"].items()})
    examples = [bytes.fromhex(example) for example in case["examples"]]
    if "error" in case:
        assert refusal(parse, examples).startswith(case["error"])
        return
    parsed = parse(examples)
    for key, feature in case["spec"].items():
        rows = rows_of(parsed, key) if feature["kind"] == "VarLen" else parsed[key].tolist()
        assert as_recorded(rows) == case["outputs"][key]


# ---- shapes, dtypes and order of the outputs ----------------------------------------------------------------------

SPEC = {
    "z": FixedLenFeature([2, 1], "float", [[1.0], [2.0]]),
    "a": VarLenFeature("string"),
    "m": FixedLenFeature([], "string", "none"),
    "b": VarLenFeature("int64"),
    "c": VarLenFeature("float"),
    "i": FixedLenFeature([3], "int64", [1, 2, 3]),
}


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_shapes_and_dtypes_of_a_batch(parser, batch):
    parsed = parser(SPEC)([encode_example({"a": ["x", "y"], "b": [5]})] * batch)
    long, short = (2, 1) if batch else (0, 0)
    assert {name: (array.dtype, array.shape) for name, array in parsed.items()} == {
        "z": (np.float32, (batch, 2, 1)),
        "a/values": (object, (batch, long)),
        "a/lengths": (np.int64, (batch,)),
        "m": (object, (batch,)),
        "b/values": (np.int64, (batch, short)),
        "b/lengths": (np.int64, (batch,)),
        "c/values": (np.float32, (batch, 0)),
        "c/lengths": (np.int64, (batch,)),
        "i": (np.int64, (batch, 3)),
    }


def test_defaults(parser):
    parsed = parser(SPEC)([b"", encode_example({"m": "some", "i": [7, 8, 9]})])
    assert parsed["z"].tolist() == [[[1.0], [2.0]], [[1.0], [2.0]]]
    assert parsed["m"].tolist() == ["none", "some"]
    assert parsed["i"].tolist() == [[1, 2, 3], [7, 8, 9]]


def test_empty_strings_and_minus_one_stay_values(parser, rows_of):
    parsed = parser(SPEC)([encode_example({"a": ["", "x", ""], "b": [-1]}), b""])
    assert rows_of(parsed, "a") == [["", "x", ""], []]
    assert rows_of(parsed, "b") == [[-1], []]


def test_strings_keep_their_nul(parser, rows_of):
    assert rows_of(parser(SPEC)([encode_example({"a": [b"x\0y"]})]), "a") == [["x\0y"]]


def test_wide_shapes_and_long_rows(parser, rows_of):
    numbers, words = list(range(-1000, 1000)), [str(i) * (i % 50) for i in range(500)]
    spec = {
        "n": FixedLenFeature([2000], "int64"),
        "f": FixedLenFeature([20, 100], "float"),
        "w": VarLenFeature("string"),
    }
    parsed = parser(spec)([encode_example({"n": numbers, "f": list(map(float, numbers)), "w": words})] * 2)
    assert parsed["n"].tolist() == [numbers] * 2
    assert parsed["f"].reshape(2, -1).tolist() == [numbers] * 2
    assert rows_of(parsed, "w") == [words] * 2


def test_many_keys(parser):
    keys = [f"feature_{i:04}" for i in range(1000)]
    example = encode_example({key: [i] for i, key in enumerate(keys)})
    parsed = parser({key: FixedLenFeature([], "int64") for key in keys})([example])
    assert [parsed[key].item() for key in keys] == list(range(1000))


def test_from_several_threads(parser, rows_of):
    parse = parser(SPEC)
    batches = [[encode_example({"b": list(range(n))})] * n for n in range(1, 30)]
    with ThreadPoolExecutor(4) as pool:
        for batch, parsed in zip(batches, pool.map(parse, batches), strict=True):
            assert rows_of(parsed, "b") == [list(range(len(batch)))] * len(batch)


def test_types_and_shapes_are_inferred(load, node_of, parse_inputs):
    node = node_of(SPEC)
    found = {output.name: (output.type, output.shape) for output in load([node], parse_inputs).get_outputs()}
    assert found["z"] == ("tensor(float)", ["batch", 2, 1])
    assert found["m"] == ("tensor(string)", ["batch"])
    assert found["a/values"] == ("tensor(string)", ["batch", "a/longest"])
    assert found["a/lengths"] == ("tensor(int64)", ["batch"])


@pytest.mark.parametrize(("splits", "batch"), [("batch+1", "batch"), ("n", "n-1"), (4, 3), (None, "batch")])
def test_batch_dimension_comes_from_row_splits(load, node_of, parse_inputs, splits, batch):
    node = node_of({"x": FixedLenFeature([2], "int64")})
    inputs = {**parse_inputs, "row_splits": (onnx.TensorProto.INT64, [splits])}
    assert load([node], inputs).get_outputs()[0].shape == [batch, 2]


def test_outputs_nobody_reads(load, node_of, parse_inputs):
    names = ["", "", "a/lengths", "", "b/values", "", "", "", "i"]
    node = node_of(SPEC, outputs=names)
    values, row_splits = join_examples([encode_example({"b": [4, 5]})])
    lengths, b, i = load([node], parse_inputs).run(None, {"values": values, "row_splits": row_splits})
    assert (lengths.tolist(), b.tolist(), i.tolist()) == ([0], [[4, 5]], [[1, 2, 3]])


# ---- the protobuf specification, where TensorFlow's parser is laxer or stricter ------------------------------------

VARINT, FIXED64, BYTES, START_GROUP, END_GROUP, FIXED32 = range(6)


def tag(field: int, wire_type: int) -> bytes:
    return bytes([field << 3 | wire_type])


def message(field: int, *parts: bytes) -> bytes:
    payload = b"".join(parts)
    size = bytes([len(payload)]) if len(payload) < 128 else bytes([len(payload) & 127 | 128, len(payload) >> 7])
    return tag(field, BYTES) + size + payload


def entry(*feature: bytes, key: bytes = b"x") -> bytes:
    return message(1, message(1, key), message(2, *feature))


def floats(*values: float) -> bytes:
    return message(2, message(1, struct.pack(f"<{len(values)}f", *values)))


def ints(*values: int) -> bytes:
    return message(3, message(1, bytes(values)))


def strings(*values: bytes) -> bytes:
    return message(1, *(message(1, value) for value in values))


def group(depth: int) -> bytes:
    return tag(7, START_GROUP) * depth + tag(7, END_GROUP) * depth


ONE = ints(1)

ACCEPTED = {
    "a list split into packed pieces": (
        message(1, entry(message(3, message(1, b"\1\2"), message(1, b"\3")))),
        [1, 2, 3],
    ),
    "a list given twice": (message(1, entry(ints(1), ints(2))), [1, 2]),
    "features given twice": (message(1, entry(ints(1))) + message(1, entry(ints(2), key=b"y")), [1]),
    "the last map entry wins": (message(1, entry(ints(1, 2)), entry(ints(3))), [3]),
    "a last map entry without kind": (message(1, entry(ints(1)), entry()), []),
    "the value before the key": (message(1, message(1, message(2, ONE), message(1, b"x"))), [1]),
    "an unknown field in Example": (message(9, b"?") + message(1, entry(ONE)), [1]),
    "a known field of another wire type": (tag(1, VARINT) + b"\1" + message(1, entry(ONE)), [1]),
    "ten bytes of varint": (message(1, entry(message(3, message(1, b"\xff" * 9 + b"\1")))), [-1]),
    "a longer varint than needed": (message(1, entry(message(3, message(1, b"\x81\x80\x00")))), [1]),
    "a key that is not UTF-8": (message(1, entry(ints(5), key=b"\xff"), entry(ONE)), [1]),
}

# What protobuf accepts and TensorFlow refuses.
NO_EXAMPLE = {
    "a value given twice": message(1, message(1, message(1, b"x"), message(2, ints(1)), message(2, ints(2)))),
    "a key given twice": message(1, message(1, message(1, b"y"), message(1, b"x"), message(2, ONE))),
    "a key alone": message(1, message(1, message(1, b"x"))),
    "an unknown field in Features": message(1, tag(2, VARINT) + b"\1", entry(ONE)),
    "an unknown field in an entry": message(
        1, message(1, message(1, b"x"), tag(3, FIXED32) + b"1234", message(2, ONE))
    ),
    "a group": group(1) + message(1, entry(ONE)),
    "a group in Features": message(1, group(2), entry(ONE)),
}
NO_LIST = {
    "an unknown field in a list": message(1, entry(message(3, message(2, b"?"), b"\x08\1"))),
    "unpacked numbers, then packed": message(1, entry(message(3, b"\x08\1", message(1, b"\2")))),
    "unpacked numbers, then another field": message(1, entry(message(3, b"\x08\1", tag(4, VARINT) + b"\1"))),
    "a packed varint that is cut": message(1, entry(message(3, message(1, b"\x80")))),
    "eleven bytes of varint": message(1, entry(message(3, message(1, b"\xff" * 10 + b"\1")))),
}

REFUSED = {
    "a length past the end": message(1, entry(ONE))[:-1],
    "a length far past the end": b"\x0a\xff\xff\xff\xff\x0f",
    "a length of 2^63": b"\x0a" + b"\x80" * 9 + b"\x01",
    "a varint without end": b"\x0a\x80",
    "a tag without value": b"\x0a",
    "field number 0": b"\x02\x00",
    "a tag of six bytes": b"\x8a\x80\x80\x80\x80\x00\x00",
    "wire type 6": b"\x0e",
    "wire type 7": b"\x0f",
    "the end of no group": tag(7, END_GROUP),
    "the end of another group": tag(7, START_GROUP) + tag(6, END_GROUP),
    "a group without end": tag(7, START_GROUP),
    "groups beyond the limit": group(101),
    "thousands of groups": tag(7, START_GROUP) * 100_000,
    "a fixed64 that is cut": tag(4, FIXED64) + b"1234567",
    "rubbish under a key the spec has not": message(1, entry(b"\x0f", key=b"other")),
    "rubbish in an entry that is replaced": message(1, entry(b"\x0f"), entry(ONE)),
}


@pytest.fixture(scope="module")
def parse_ints(parser):
    return parser({"x": VarLenFeature("int64")})


@pytest.mark.parametrize("name", ACCEPTED)
def test_protobuf_accepts(parse_ints, rows_of, name):
    example, expected = ACCEPTED[name]
    assert rows_of(parse_ints([example]), "x") == [expected]


@pytest.mark.parametrize("name", REFUSED)
def test_protobuf_refuses(parse_ints, name):
    assert refusal(parse_ints, [b"", REFUSED[name]]).startswith("Could not parse example input, value: '")


@pytest.mark.parametrize("name", NO_EXAMPLE)
def test_tensorflow_refuses(parse_ints, name):
    assert refusal(parse_ints, [b"", NO_EXAMPLE[name]]).startswith("Could not parse example input, value: '")


@pytest.mark.parametrize("name", NO_LIST)
def test_tensorflow_refuses_a_list(parse_ints, name):
    assert (
        refusal(parse_ints, [b"", NO_LIST[name]])
        == "Name: <unknown>, Key: x, Index: 1.  Can't parse serialized Example."
    )


@pytest.mark.parametrize("cut", [message(1, b"123"), tag(1, FIXED32) + b"123"], ids=["packed", "single"])
def test_floats_that_are_cut(parser, cut):
    parse = parser({"x": VarLenFeature("float")})
    assert refusal(parse, [message(1, entry(message(2, cut)))]).endswith(("Can't parse serialized Example.", "'"))


@pytest.mark.parametrize("feature", [tag(4, FIXED64) + b"12345678" + ONE, group(1) + ONE, message(4, b"?")])
def test_a_feature_of_no_kind(parse_ints, feature):
    assert refusal(parse_ints, [message(1, entry(feature))]) == "Unsupported datatype."


@pytest.mark.parametrize("lists", [(floats(1), ints(2)), (ints(1), floats(2)), (ints(1), strings(b"a"), ints(2))])
def test_lists_of_two_types_in_one_feature(parse_ints, lists):
    """TensorFlow would take the first one, protobuf the last."""
    text = refusal(parse_ints, [message(1, entry(*lists))])
    assert text.startswith("Name: <unknown>, Key: x, Index: 0.  Data types don't match. Expected type: int64")


def test_the_first_of_several_lists_decides_what_is_refused(parser):
    """Their values are joined as protobuf says, but not so that what TensorFlow refuses fits after all."""
    parse = parser({"x": FixedLenFeature([1], "int64")})
    assert "Values size: 0 but output shape: [1]" in refusal(parse, [message(1, entry(ints(), ints(2)))])
    twice = message(1, entry(message(3, message(1, b""), message(1, b"\2"))))
    assert "Values size: 0 but output shape: [1]" in refusal(parse, [twice])


def test_of_several_faults_the_last_entry_s_is_told(parser):
    """And what is missing comes last."""
    parse = parser({key: FixedLenFeature([1], "int64") for key in "abcd"})
    row = message(1, entry(ints(1, 2), key=b"c"), entry(ints(1, 2), key=b"a"), entry(floats(1), key=b"b"))
    assert refusal(parse, [row]).startswith("Name: <unknown>, Key: b, Index: 0.  Data types don't match.")
    row = message(1, entry(floats(1), key=b"b"), entry(ints(1, 2), key=b"c"), entry(ints(1), key=b"a"))
    assert refusal(parse, [row]).startswith("Name: <unknown>, Key: c, Index: 0.  Number of int64 values != expected.")


def test_hostile_examples_as_tensorflow(parser):
    """Random Examples that are broken in every way; the answers were recorded from TensorFlow 2.15."""
    for case in HOSTILE_CASES:
        theirs = {key: case[key] for key in ("outputs", "error") if key in case}
        assert agree(answer(parser, {"spec": HOSTILE_SPEC, **case}), theirs), case


@pytest.mark.parametrize(
    ("garbage", "shown"),
    [
        (b"hello", "hello"),
        (b"hel\0lo", "hel"),
        (b"\0", ""),
        (b"h\xc3\xa9\xff\xc3", "hé\\xff\\xc3"),
        (b"\xed\xa0\x80\xf4\x90\x80\x80\xc0\x80", "\\xed\\xa0\\x80\\xf4\\x90\\x80\\x80\\xc0\\x80"),
        ("😀€".encode(), "😀€"),
        (b"z" * 100, "z" * 64),
        (b"z" * 63 + "é".encode(), "z" * 63),
        (b"z" * 62 + "é".encode() + b"z", "z" * 62 + "é"),
    ],
)
def test_garbage_in_the_text(parse_ints, garbage, shown):
    assert refusal(parse_ints, [garbage]) == f"Could not parse example input, value: '{shown}'"


def test_the_lowest_row_is_named(parser):
    parse = parser({"x": FixedLenFeature([1], "int64", [0])})
    good, bad = encode_example({"x": [1]}), encode_example({"x": [1, 2]})
    assert "Index: 2." in refusal(parse, [good, b"", bad, b"garbage", bad])


# ---- hostile batches ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row_splits", "text"),
    [
        ([], "row_splits is empty"),
        ([1], "row_splits starts with 1"),
        ([-1, 5], "row_splits starts with -1"),
        ([0, 3, 2, 5], "row_splits decreases from 3 to 2 at index 2"),
        ([0, -5], "row_splits decreases from 0 to -5 at index 1"),
        ([0, -(1 << 63)], "row_splits decreases from 0 to -9223372036854775808"),
        ([0, (1 << 63) - 1], "row_splits ends with 9223372036854775807 but there are 5 values"),
        ([0, 6], "row_splits ends with 6 but there are 5 values"),
        ([0, 4], "row_splits ends with 4 but there are 5 values"),
        ([0], "row_splits ends with 0 but there are 5 values"),
    ],
)
def test_splits_that_do_not_fit(load, node_of, parse_inputs, row_splits, text):
    node = node_of(SPEC)
    feeds = {"values": np.zeros(5, np.uint8), "row_splits": np.array(row_splits, np.int64)}
    assert refusal(load([node], parse_inputs).run, None, feeds).startswith(text)


def test_one_long_row_does_not_pad_all_others_without_limit(parse_ints):
    """30 kB of bytes would become a tensor of 1.6 GB."""
    text = refusal(parse_ints, [message(1, entry(ints(*[0] * 10_000)))] + [b""] * 20_000)
    assert text.startswith("Key: x.  Padding 20001 rows to the longest one's 10000 values or steps would take more")


# ---- attributes that cannot be right ------------------------------------------------------------------------------

GOOD = {"kinds": [0, 1], "dtypes": [1, 9], "ranks": [1, 0], "dims": [2], "key_0": "x", "key_1": "y"}


def tensor(*values, dtype=np.float32):
    return numpy_helper.from_array(np.array(values, dtype))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"kinds": [0, 5]}, "kind 5 is not known"),
        ({"kinds": [-1, 1]}, "kind -1 is not known"),
        ({"kinds": None}, "kinds, dtypes, ranks and flags have 0, 2, 2 and 0 numbers"),
        ({"kinds": 1}, "kinds, dtypes, ranks and flags have 0, 2, 2 and 0 numbers"),
        ({"dtypes": [3, 9]}, "dtype 3 is not one Examples hold"),
        ({"ranks": [1]}, "kinds, dtypes, ranks and flags have 2, 2, 1 and 2 numbers"),
        ({"ranks": [2, 0]}, "rank 2 does not fit: 1 of the numbers in dims are left"),
        ({"ranks": [-1, 0]}, "rank -1 does not fit"),
        ({"dims": [2, 3]}, "dims has 2 numbers and the ranks add up to 1"),
        ({"dims": None}, "rank 1 does not fit: 0 of the numbers in dims are left"),
        ({"dims": [-2]}, r"the shape \[-2\] has a negative dimension"),
        ({"dims": [1 << 40]}, r"the shape \[1099511627776\] holds more than 2\^31 values"),
        ({"dims": [1 << 40, 1 << 40], "ranks": [2, 0]}, r"holds more than 2\^31 values"),
        ({"key_1": None}, "the attribute key_1 is missing"),
        ({"key_1": 1}, "the attribute key_1 is missing"),
        ({"key_1": "x"}, "Feature 'x': the key stands twice in the spec"),
        ({"default_0": tensor(1)}, r"Feature 'x': the default has 1 values, but the shape \[2\] holds 2"),
        ({"default_0": tensor(1, 2, 3)}, r"Feature 'x': the default has 3 values, but the shape \[2\] holds 2"),
        ({"default_0": tensor(1, 2, dtype=np.int64)}, "Feature 'x': the default is of another dtype .* which is float"),
        ({"default_0": tensor(1, 2, dtype=np.float64)}, "a default is neither float nor int64 nor string"),
        ({"default_0": [1.0, 2.0]}, "The attribute default_0 is not a tensor"),
        ({"default_1": tensor(1, dtype=np.int64)}, "Feature 'y': only FixedLen and FixedLenSequence have a default"),
        ({"outputs": ["x", "y"]}, "the node has 2 outputs and its features make 3"),
        ({"outputs": ["x", "y", "z", "more"]}, "the node has 4 outputs and its features make 3"),
    ],
)
def test_attributes_are_refused(load, parse_inputs, changes, text):
    attributes = {**GOOD, **changes}
    outputs = attributes.pop("outputs", ["x", "y", "y_lengths"])
    node = helper.make_node("ParseExample", list(parse_inputs), outputs, domain=ops.DOMAIN, **attributes)
    with pytest.raises(RuntimeException, match=text):
        load([node], parse_inputs)
