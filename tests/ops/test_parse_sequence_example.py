"""ParseSequenceExample: the tensors of context and feature lists, and TensorFlow's texts."""

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper

from estimator_serving import ops
from estimator_serving.wire.examples import (
    FixedLenFeature,
    FixedLenSequenceFeature,
    RaggedFeature,
    VarLenFeature,
    encode_sequence_example,
)

InvalidArgument = ort.capi.onnxruntime_pybind11_state.InvalidArgument
RuntimeException = ort.capi.onnxruntime_pybind11_state.RuntimeException

R = RaggedFeature
CONTEXT = {
    "a": FixedLenFeature([], "float", 3.0),
    "b": VarLenFeature("int64"),
    "r": R("float", "v", [R.RowLengths("p")]),
}
LISTS = {
    "s": FixedLenSequenceFeature([2], "int64"),
    "t": VarLenFeature("string"),
    "r": R("float", "v", [R.RowLengths("p")], "int64"),
    "u": R("string", partitions=[R.UniformRowLength(2)]),
}
BATCH = [
    encode_sequence_example(
        {"b": [1, 2], "v": [1.0, 2.0], "p": [2]},
        {
            "s": [[1, 2], [3, 4]],
            "t": [["a", "b"], None, ["c"]],
            "v": [[1.0, 2.0, 3.0], None, [4.0]],
            "p": [[1, 2], None, [1]],
            "u": [["a", "b"], None],
        },
    ),
    encode_sequence_example({"a": 1.0}, {"s": [[7, 8]], "t": [None]}),
]


def refusal(call, *arguments) -> str:
    """The op's own text in what ONNX Runtime raises for a run."""
    with pytest.raises(InvalidArgument) as caught:
        call(*arguments)
    return str(caught.value).split("Status Message: ", 1)[1]


def test_every_kind(parser):
    assert {name: array.tolist() for name, array in parser(CONTEXT, LISTS)(BATCH).items()} == {
        "a": [3.0, 1.0],
        "b/values": [[1, 2], [0, 0]],
        "b/lengths": [2, 0],
        "r/values": [1.0, 2.0],
        "r/row_splits_0": [0, 1, 1],
        "r/row_splits_1": [0, 2],
        "lists/s": [[[1, 2], [3, 4]], [[7, 8], [0, 0]]],
        "lists/s/lengths": [2, 1],
        "lists/t/values": [[["a", "b"], ["", ""], ["c", ""]], [["", ""]] * 3],
        "lists/t/lengths": [[2, 0, 1], [0, 0, 0]],
        "lists/r/values": [1.0, 2.0, 3.0, 4.0],
        "lists/r/row_splits_0": [0, 3, 3],
        "lists/r/row_splits_1": [0, 2, 2, 3],
        "lists/r/row_splits_2": [0, 1, 3, 4],
        "lists/u/values": [["a", "b"]],
        "lists/u/row_splits_0": [0, 2, 2],
        "lists/u/row_splits_1": [0, 1, 1],
    }


def test_no_rows(parser):
    shapes = {name: array.shape for name, array in parser(CONTEXT, LISTS)([]).items()}
    assert shapes["lists/s"] == (0, 0, 2)
    assert shapes["lists/t/values"] == (0, 0, 0)
    assert shapes["lists/t/lengths"] == (0, 0)
    assert {name: shape for name, shape in shapes.items() if "row_splits" in name} == {
        f"{name}/row_splits_{i}": (1,)
        for name, levels in (("r", 2), ("lists/r", 3), ("lists/u", 2))
        for i in range(levels)
    }


@pytest.mark.parametrize("threads", [1, 4])
def test_large_batches(parser, threads):
    parsed = parser(CONTEXT, LISTS, threads=threads)(BATCH * 1000)
    assert parsed["lists/s"].shape == (2000, 2, 2)
    assert (parsed["lists/t/values"] == parser(CONTEXT, LISTS)(BATCH)["lists/t/values"].tolist() * 1000).all()
    assert parsed["lists/r/row_splits_2"].tolist() == [0, *np.cumsum([1, 2, 1] * 1000).tolist()]


@pytest.mark.parametrize(
    ("context", "lists", "text"),
    [
        ({"x": [1.0, 2.0]}, {}, "Inconsistent max number of elements for feature x: expected 1, but found 2"),
        ({}, {}, "Inconsistent max number of elements for feature x: expected 1, but found 0"),
        ({"x": 1}, {}, "Name: <unknown>, Context feature: x.  Data types don't match. Expected type: float"),
        (
            {"x": 1.0},
            {},
            "Name: <unknown>, Feature list 's' is required but could not be found.  Did you mean to include",
        ),
        (
            {"x": 1.0},
            {"s": [[1, 2], [1.0]]},
            "Name: <unknown>, Feature list: s, Index: 1.  Data types don't match. Expec",
        ),
        (
            {"x": 1.0},
            {"s": [[1, 2], [3]]},
            "Feature list 's' has an unexpected number of values.  Total values size: 3 is ",
        ),
        (
            {"x": 1.0},
            {"s": [[1], [2, 3, 4]]},
            "Name: <unknown>, Key: s, Index: 0.  Number of values != expected.  values ",
        ),
        (
            {"x": 1.0},
            {"s": [[1, 2], None]},
            "Name: <unknown>, Key: s, Index: 1.  Number of values != expected.  values siz",
        ),
        (
            {"x": 1.0},
            {"s": [], "t": [["a"], [1]]},
            "Name: <unknown>, Feature list: t, Index: 1.  Data types don't match.",
        ),
    ],
)
def test_refusals(parser, context, lists, text):
    spec = {"x": FixedLenFeature([], "float")}
    parse = parser(spec, {"s": FixedLenSequenceFeature([2], "int64"), "t": VarLenFeature("string")})
    assert refusal(parse, [encode_sequence_example(context, lists)]).startswith(text)


def test_a_list_may_be_missing_or_empty(parser):
    parse = parser({}, {"s": FixedLenSequenceFeature([], "int64", allow_missing=True)})
    parsed = parse([b"", encode_sequence_example({}, {"s": []}), encode_sequence_example({}, {"s": [[5]]})])
    assert (parsed["lists/s"].tolist(), parsed["lists/s/lengths"].tolist()) == ([[0], [0], [5]], [0, 0, 1])


def test_values_and_partitions_have_the_same_steps(parser):
    parse = parser({}, {"r": LISTS["r"]})
    example = encode_sequence_example({}, {"v": [[1.0], [2.0]], "p": [[1]]})
    text = "Feature v: values and partitions are not aligned.  Key: p, Index: 1.  The values have 2 steps and"
    assert refusal(parse, [b"", example]).startswith(text)


def test_garbage(parser):
    text = "Invalid protocol message input, example id: <unknown>, value: 'hello'"
    assert refusal(parser(CONTEXT), [b"hello"]).startswith("Could not parse")
    assert refusal(parser(CONTEXT, {}), [b"hello"]) == text


def test_steps_are_not_padded_without_limit(parser):
    """A few kilobytes would become gigabytes."""
    parse = parser({}, {"t": VarLenFeature("int64")})
    many = encode_sequence_example({}, {"t": [None] * 20_000})
    long = encode_sequence_example({}, {"t": [[0] * 20_000]})
    assert "would take more than 1 GiB" in refusal(parse, [many, long])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"kinds": [0]}, "FixedLen belongs to the context and FixedLenSequence to the feature lists"),
        (
            {"flags": [0], "kinds": [2], "outputs": 1},
            "FixedLen belongs to the context and FixedLenSequence to the feat",
        ),
    ],
)
def test_kinds_have_their_place(load, parse_inputs, changes, text):
    attributes = {"kinds": [2], "dtypes": [1], "ranks": [1], "dims": [1], "flags": [4], "key_0": "x", **changes}
    outputs = [f"y{i}" for i in range(attributes.pop("outputs", 1))]
    node = helper.make_node("ParseSequenceExample", list(parse_inputs), outputs, domain=ops.DOMAIN, **attributes)
    with pytest.raises(RuntimeException, match=f"ParseSequenceExample: Feature 'x': {text}"):
        load([node], parse_inputs)


def test_types_and_shapes_are_inferred(load, node_of, parse_inputs):
    found = {o.name: (o.type, o.shape) for o in load([node_of(CONTEXT, LISTS)], parse_inputs).get_outputs()}
    assert found["lists/s"] == ("tensor(int64)", ["batch", "3/s/longest", 2])
    assert found["lists/t/values"] == ("tensor(string)", ["batch", "4/t/steps", "4/t/longest"])
    assert found["lists/t/lengths"] == ("tensor(int64)", ["batch", "4/t/steps"])
    assert found["lists/r/row_splits_2"] == ("tensor(int64)", ["5/v/rows_2+1"])
