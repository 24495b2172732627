"""The op library's nodes inside spox graphs."""

import numpy as np
import onnx
import pytest
import spox
from spox import Tensor

from estimator_serving import ops
from estimator_serving.training import feature_column as fc
from estimator_serving.training.columns import onnx_ops
from estimator_serving.training.columns.finish import finish_graph, serialize
from estimator_serving.training.columns.transform import build_transform
from estimator_serving.wire.examples import (
    ExampleError,
    FixedLenFeature,
    FixedLenSequenceFeature,
    RaggedFeature,
    SparseFeature,
    VarLenFeature,
    encode_example,
    encode_sequence_example,
    join_examples,
    tensors_of,
)


def test_fingerprints():
    values = spox.argument(Tensor(np.str_, ("batch", 1)))
    model = finish_graph(spox.build({"values": values}, {"y": onnx_ops.fingerprint64(values)}))
    found = ops.session(serialize(model)).run(
        None, {"values": np.array([[""], ["a"], ["abc"], ["hello world"]], object)}
    )[0]
    assert found.dtype == np.uint64
    assert found.ravel().tolist() == [
        11160318154034397263, 12917804110809363939, 2640714258260161385, 6381520714923946011,
    ]  # fmt: skip


def parser(spec):
    """Serialized Examples -> features by name."""
    values = spox.argument(Tensor(np.uint8, ("n",)))
    row_splits = spox.argument(Tensor(np.int64, ("batch_plus_1",)))
    parsed = onnx_ops.parse_example(values, row_splits, spec)
    model = finish_graph(spox.build({"values": values, "row_splits": row_splits}, parsed))
    session = ops.session(serialize(model))

    def parse(*examples):
        values, row_splits = join_examples([encode_example(example) for example in examples])
        return dict(zip(parsed, session.run(list(parsed), {"values": values, "row_splits": row_splits}), strict=True))

    return parse


SPEC = {
    "word": VarLenFeature("string"),
    "ids": VarLenFeature("int64"),
    "x": FixedLenFeature((2,), "float32", (1.5, 2.5)),
    "n": FixedLenFeature((), "int64", 7),
    "s": FixedLenFeature((1,), "string", "none"),
}


def test_examples_become_features():
    found = parser(SPEC)({"word": ["a", ""], "ids": [3], "x": [1.0, 2.0], "n": 5, "s": "é"}, {"ids": [1, 2]})
    assert {name: array.tolist() for name, array in found.items()} == {
        "ids/values": [[3, 0], [1, 2]],
        "ids/lengths": [1, 2],
        "n": [5, 7],
        "s": [["é"], ["none"]],
        "word/values": [["a", ""], ["", ""]],
        "word/lengths": [2, 0],
        "x": [[1, 2], [1.5, 2.5]],
    }


R = RaggedFeature
KINDS = {
    "steps": FixedLenSequenceFeature([2], "int64", allow_missing=True, default_value=9),
    "sparse": SparseFeature(["i", "j"], "v", "float", [10, 20], already_sorted=True),
    "ragged": R("string", "w", [R.RowLengths("p"), R.ValueRowIds("q"), R.UniformRowLength(2)], "int64", True),
    "same values": R("string", "w"),
}


def test_every_kind_becomes_its_tensors():
    with pytest.raises(ExampleError, match="Conflicting partition type int64 vs int32 for feature w"):
        parser(KINDS)
    spec = KINDS | {"same values": R("string", "w", row_splits_dtype="int64")}
    words = ["a", "b", "c", "d"]
    found = parser(spec)({"steps": [1, 2], "i": [3], "j": [4], "v": [0.5], "w": words, "p": [1, 1], "q": [0, 1]}, {})
    assert {name: array.tolist() for name, array in found.items()} == {
        "ragged/values": [["a", "b"], ["c", "d"]],
        "ragged/row_splits_0": [0, 2, 2],
        "ragged/row_splits_1": [0, 1, 2],
        "ragged/row_splits_2": [0, 1, 2],
        "same values/values": words,
        "same values/row_splits_0": [0, 4, 4],
        "sparse/indices": [[0, 3, 4]],
        "sparse/values": [0.5],
        "sparse/dense_shape": [2, 10, 20],
        "steps": [[[1, 2]], [[9, 9]]],
    }
    assert list(found) == [tensor.name for name in sorted(spec) for tensor in tensors_of(name, spec[name])]


def test_attributes_say_which_features_a_node_reads():
    features = [("x", FixedLenFeature((2,), "float"), False), ("v", VarLenFeature("string"), False)]
    features += [("v", SparseFeature(("i", "j"), "v", "float", (10, 20)), False), ("w", KINDS["ragged"], False)]
    features += [("s", FixedLenSequenceFeature((), "int64", True), True), ("w", R("float", "w"), True)]
    node = onnx.helper.make_node("ParseSequenceExample", ["values", "row_splits"], [])
    node.attribute.extend(onnx_ops.attributes_of(features))
    assert onnx_ops.features_of(node) == features


def test_sequence_examples_become_features():
    values, row_splits = spox.argument(Tensor(np.uint8, ("n",))), spox.argument(Tensor(np.int64, ("batch_plus_1",)))
    spec = {"x": VarLenFeature("int64")}
    context, lists = onnx_ops.parse_sequence_example(
        values, row_splits, spec, spec | {"s": FixedLenSequenceFeature([], float)}
    )
    assert (list(context), list(lists)) == (["x/values", "x/lengths"], ["s", "s/lengths", "x/values", "x/lengths"])
    outputs = {f"context/{name}": var for name, var in context.items()} | {
        f"lists/{name}": var for name, var in lists.items()
    }
    session = ops.session(serialize(finish_graph(spox.build({"values": values, "row_splits": row_splits}, outputs))))
    example = encode_sequence_example({"x": [1, 2]}, {"x": [[3], [4, 5, 6]], "s": [[0.5]]})
    given = dict(
        zip(("values", "row_splits"), join_examples([example, encode_sequence_example({}, {"s": []})]), strict=True)
    )
    found = dict(zip(outputs, session.run(list(outputs), given), strict=True))
    assert found["context/x/values"].tolist() == [[1, 2], [0, 0]]
    assert found["lists/x/values"].tolist() == [[[3, 0, 0], [4, 5, 6]], [[0, 0, 0]] * 2]
    assert found["lists/s/lengths"].tolist() == [1, 0]


@pytest.mark.parametrize(
    "examples",
    [
        [{"age": 17.0, "deck": ["A", "", "x"]}, {"age": 40.0, "deck": ["B"]}, {"age": 18.0}],
        [{"age": 1.0}],
    ],
)
def test_parsed_examples_feed_the_transform(examples):
    age = fc.numeric_column("age")
    deck = fc.categorical_column_with_vocabulary_list("deck", ["A", "B"], num_oov_buckets=2)
    columns = [age, fc.bucketized_column(age, [18]), fc.indicator_column(deck), deck]
    transform = build_transform(columns)
    parsed = parser(fc.make_parse_example_spec(columns))(*examples)
    assert set(parsed) == set(transform.input_names)
    found = transform(parsed)
    assert found["age/dense"].ravel().tolist() == [example["age"] for example in examples]
    width = max(len(example.get("deck", ())) for example in examples)
    assert found["deck/ids"].shape == (len(examples), width)
    assert found["deck_indicator/dense"].sum(axis=1).tolist() == [len(example.get("deck", ())) for example in examples]
