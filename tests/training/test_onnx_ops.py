"""The op library's nodes inside spox graphs."""

import numpy as np
import pytest
import spox
from spox import Tensor

from estimator_serving import ops
from estimator_serving.training import feature_column as fc
from estimator_serving.training import onnx_ops
from estimator_serving.training.finish import finish_graph, serialize
from estimator_serving.training.transform import build_transform
from estimator_serving.wire.examples import FixedLenFeature, VarLenFeature, encode_example, join_examples


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
