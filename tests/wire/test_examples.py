"""Examples and feature specs: what is encoded, what is refused, and that nothing is lost on the way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.wire import dtypes
from estimator_serving.wire.examples import (
    ExampleError,
    FixedLenFeature,
    RaggedFeature,
    SparseFeature,
    VarLenFeature,
    decode_example,
    encode_example,
    encode_example_by_spec,
    encode_sequence_example,
    join_examples,
    spec_from_proto,
    spec_to_proto,
)
from estimator_serving.wire.pb import tensorflow_pb

SPEC = {
    "age": FixedLenFeature([1], np.float32),
    "class": VarLenFeature(str),
    "sibsp": FixedLenFeature((), "int64", 0),
}

INT64 = st.integers(-(2**63), 2**63 - 1)
FLOAT32 = st.floats(width=32, allow_nan=False)


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=5),
        st.one_of(
            st.lists(st.binary(max_size=5), min_size=1, max_size=4),
            st.lists(INT64, min_size=1, max_size=4),
            st.lists(FLOAT32, min_size=1, max_size=4),
        ),
        max_size=4,
    )
)
def test_round_trip(features):
    assert decode_example(encode_example(features)) == features


@pytest.mark.parametrize(
    ("value", "values"),
    [
        ("é", ["é".encode()]),
        (b"\xff", [b"\xff"]),
        (True, [1]),
        (2, [2]),
        (2.0, [2.0]),
        (None, []),
        ([], []),
        (np.float32([1, 2]), [1.0, 2.0]),
        (np.int64(3), [3]),
    ],
)
def test_the_list_follows_the_value(value, values):
    assert decode_example(encode_example({"x": value})) == {"x": values}


@pytest.mark.parametrize(
    ("value", "text"), [([1, 2.0], "mixes float and int64"), (object(), "type object"), (2**64, "does not fit int64")]
)
def test_encode_refuses(value, text):
    with pytest.raises(ExampleError, match=f"'x'.*{text}"):
        encode_example({"x": value})


def test_by_spec_an_integer_is_a_float():
    encoded = encode_example_by_spec({"age": 22, "class": ["3rd"], "sibsp": None}, SPEC)
    assert decode_example(encoded) == {"age": [22.0], "class": [b"3rd"]}


@pytest.mark.parametrize(
    ("features", "text"),
    [
        ({"fare": 1.0}, "'fare' is not one of age, class, sibsp"),
        ({"sibsp": 1.5}, "'sibsp' is of type int64; 1.5 is float"),
        ({"age": "old"}, "'age' is of type float; 'old' is string"),
        ({"age": True}, "'age' is of type float; True is int64"),
        ({"class": 3}, "'class' is of type string; 3 is int64"),
    ],
)
def test_by_spec_refuses(features, text):
    with pytest.raises(ExampleError, match=text):
        encode_example_by_spec(features, SPEC)


def test_garbage_is_no_example():
    with pytest.raises(ExampleError, match="5 bytes are not a serialized"):
        decode_example(b"hello")


def test_join():
    values, row_splits = join_examples([b"ab", b"", b"c"])
    assert values.tobytes() == b"abc"
    assert row_splits.tolist() == [0, 2, 2, 3]
    values, row_splits = join_examples([])
    assert (values.size, row_splits.tolist()) == (0, [0])


@pytest.mark.parametrize(
    ("shape", "dtype", "default", "stored"),
    [
        ([2], "float32", [1, 2], (1.0, 2.0)),
        ([], int, 5, 5),
        ([1], str, "x", (b"x",)),
        ([2, 1], "string", [["a"], [b"b"]], ((b"a",), (b"b",))),
    ],
)
def test_defaults_are_stored_by_value(shape, dtype, default, stored):
    feature = FixedLenFeature(shape, dtype, default)
    assert feature.default_value == stored
    assert feature == FixedLenFeature(shape, dtype, stored)
    assert hash(feature) == hash(FixedLenFeature(shape, dtype, stored))
    assert feature.default_array.shape == tuple(shape)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([2], "float32", 1.0), r"1 values; the shape \[2\] needs 2"),
        (([None], "float32"), "First dimension of shape for feature <unknown> unknown. Consider using FixedLenSequ"),
        (([2, None], "float32"), "All dimensions of shape for feature <unknown> need to be known"),
        ((None, "float32"), "Missing shape for feature"),
        (([1], np.float64), "Value for attr 'Tdense' of double is not in the list"),
        (([], "int64", 1.5), "The default 1.5 is not of dtype int64"),
    ],
)
def test_fixed_len_refuses(arguments, text):
    with pytest.raises(ExampleError, match=text):
        FixedLenFeature(*arguments)


def test_by_spec_a_sparse_feature_is_its_keys():
    spec = {"x": SparseFeature("i", "v", float, 10), "r": RaggedFeature(str, "w", [RaggedFeature.RowLengths("p")])}
    encoded = encode_example_by_spec({"i": [3], "v": [2], "w": ["a"], "p": [1]}, spec)
    assert decode_example(encoded) == {"i": [3], "v": [2.0], "w": [b"a"], "p": [1]}
    with pytest.raises(ExampleError, match="'x' is not one of i, p, v, w; send only these"):
        encode_example_by_spec({"x": 1.0}, spec)


def test_sequence_examples():
    encoded = encode_sequence_example({"a": 1.5}, {"s": [["x", "y"], None, 3], "t": []})
    example = tensorflow_pb.SequenceExample.FromString(encoded)
    assert list(example.context.feature["a"].float_list.value) == [1.5]
    steps = example.feature_lists.feature_list["s"].feature
    assert [step.WhichOneof("kind") for step in steps] == ["bytes_list", None, "int64_list"]
    assert sorted(example.feature_lists.feature_list) == ["s", "t"]


def test_a_spec_survives_as_tensorflows_message():
    spec = {**SPEC, "d": FixedLenFeature([2], str, ["a", "b"]), "v": VarLenFeature(dtypes.float32)}
    assert spec_from_proto(spec_to_proto(spec)) == spec
