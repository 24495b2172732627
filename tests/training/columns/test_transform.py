"""The transform graph: columns against TF 2.15's numbers, its bytes, its identity."""

import json
import math
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch

from estimator_serving.training import feature_column as fc
from estimator_serving.training.columns.definitions import Ids, define, difference
from estimator_serving.training.columns.transform import Transform, build_transform
from estimator_serving.training.errors import InvalidArgumentError

vocabulary = fc.categorical_column_with_vocabulary_list
hashed = fc.categorical_column_with_hash_bucket
WORDS = ["", "a", "b", "omar", "stringer", "marlo", "101", "201", "-5", "Tensorflow", "é"]


def text(rows):
    return np.array(rows, dtype=object)


def run(column, **raw):
    """The only output of a transform of one column."""
    (value,) = build_transform([column])(raw).values()
    return value


def pair(key, values, lengths):
    """A feature as ParseExample gives it."""
    return {f"{key}/values": np.asarray(values), f"{key}/lengths": np.asarray(lengths)}


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        (10, [3, 9, 2, 6, 4, 1, 3, 7, 6, 9, 5]),
        (100, [63, 39, 22, 86, 4, 91, 53, 47, 16, 9, 25]),
        (1000, [263, 939, 822, 986, 704, 591, 653, 47, 816, 709, 25]),
        (1, [0] * 11),
    ],
)
def test_hash_buckets_are_tensorflows(buckets, expected):
    values = text(WORDS)[:, None]
    assert run(hashed("k", buckets), **pair("k", values, [1] * len(WORDS))).ravel().tolist() == expected


@pytest.mark.parametrize(
    ("column", "raw", "expected"),
    [
        # dense: '' and -1 are nothing, and what is left moves to the left
        (hashed("k", 10, dtype="int64"), {"k": np.array([101, 201, -5, -1])}, [[3], [7], [6], [-1]]),
        (hashed("k", 10), {"k": text([["a", "", "omar"], ["", "", "b"], ["", "", ""]])},
         [[9, 6, -1], [2, -1, -1], [-1, -1, -1]]),
        (vocabulary("k", ["omar", "stringer", "marlo"]), {"k": text(["marlo", "", "skywalker", "omar"])},
         [[2], [-1], [-1], [0]]),
        (vocabulary("k", ["a", "b"], default_value=1), {"k": text([["a", "x"], ["", "b"]])}, [[0, 1], [1, -1]]),
        (vocabulary("k", ["omar", "stringer", "marlo"], num_oov_buckets=100),
         {"k": text(["skywalker", "heisenberg", "marlo", ""])}, [[33], [62], [2], [-1]]),
        (vocabulary("k", [30, 35, 11, 23, 22], num_oov_buckets=60), {"k": np.array([[30, 100], [-1, 22]])},
         [[0, 20], [4, -1]]),
        (vocabulary("k", [30, 35], num_oov_buckets=5), {"k": np.array([30, 100, -1, 7], np.int32)},
         [[0], [2], [-1], [5]]),
        (vocabulary("k", [3], default_value=0), {"k": np.array([3, 4, -1])}, [[0], [0], [-1]]),
        # a negative default is nothing, one behind the list an error where it is needed
        (vocabulary("k", ["a"], default_value=-5), {"k": text(["a", "x"])}, [[0], [-1]]),
        (vocabulary("k", ["a"], default_value=7), {"k": text(["a", ""])}, [[0], [-1]]),
        # rank 3 is read as a row of ids
        (vocabulary("k", ["a", "b"]), {"k": text([[["a"], ["b"]]])}, [[0, 1]]),
        # bytes are text
        (vocabulary("k", ["é"]), {"k": np.array(["é".encode()])}, [[0]]),
        (vocabulary("k", ["a"]), {"k": np.array(["a", "b"])}, [[0], [-1]]),
        # sparse: nothing is dropped; behind a row's length there is nothing
        (hashed("k", 10), pair("k", text([["", "a"], ["", ""], ["a", ""]]), [2, 0, 1]), [[3, 9], [-1, -1], [9, -1]]),
        (hashed("k", 10, dtype="int64"), pair("k", [[-1, 101], [201, 0]], [2, 1]), [[0, 3], [7, -1]]),
        (vocabulary("k", ["", "a"]), pair("k", text([["", "a"], ["", ""]]), [2, 1]), [[0, 1], [0, -1]]),
    ],
)  # fmt: skip
def test_ids(column, raw, expected):
    ids = run(Ids(column), **raw)
    assert ids.dtype == np.int64
    assert ids.tolist() == expected


BUCKETS_IN = [[-1.0, 0], [9.99, 10], [math.nan, math.inf], [-math.inf, 5]]
two_buckets = fc.bucketized_column(fc.numeric_column("x", shape=2), [0, 10])


@pytest.mark.parametrize(
    ("column", "raw", "expected"),
    [
        (two_buckets, {"x": np.array(BUCKETS_IN)},
         [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, 1], [0, 0, 1, 0, 0, 1], [1, 0, 0, 0, 1, 0]]),
        (fc.indicator_column(two_buckets), {"x": np.array(BUCKETS_IN[:1])}, [[1, 0, 0, 0, 1, 0]]),
        (fc.indicator_column(hashed("k", 10)), {"k": text([["a", "a", "b"], ["", "", ""]])},
         [[0, 0, 1, 0, 0, 0, 0, 0, 0, 2], [0] * 10]),
        (fc.indicator_column(vocabulary("k", ["a", "b"])), {"k": text([["a", "x"], ["b", "b"]])}, [[1, 0], [0, 2]]),
        (fc.numeric_column("x"), {"x": np.array([1, 2])}, [[1], [2]]),
        (fc.numeric_column("x", shape=()), {"x": np.array([1, 2])}, [[1], [2]]),
        (fc.numeric_column("x", shape=(2, 2)), {"x": np.arange(8).reshape(2, 2, 2)}, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (fc.numeric_column("x", shape=(2, 2)), {"x": np.arange(4.0).reshape(1, 4)}, [[0, 1, 2, 3]]),
        (fc.numeric_column("x", default_value=7.0), {"x": np.array([True, False])}, [[1], [0]]),
        (fc.numeric_column("x", normalizer_fn=lambda x: (x - 3) / 4), {"x": np.array([3, 7])}, [[0], [1]]),
        (fc.numeric_column("x", normalizer_fn=lambda x: x > 1), {"x": np.array([1, 2])}, [[0], [1]]),
    ],
)  # fmt: skip
def test_dense_values(column, raw, expected):
    values = run(column, **raw)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, np.array(expected, np.float32))


def test_bucketized_ids_count_on_over_the_dimensions():
    assert run(Ids(two_buckets), x=np.array(BUCKETS_IN)).tolist() == [[0, 4], [1, 5], [2, 5], [0, 4]]


age = fc.numeric_column("age", normalizer_fn=lambda x: torch.log1p(x.clamp(min=0)) / 4)
ALL_KINDS = [
    age,
    fc.numeric_column("pixels", shape=(2, 2)),
    fc.bucketized_column(fc.numeric_column("age"), [18, 40]),
    fc.indicator_column(vocabulary("class", ["1st", "2nd"], num_oov_buckets=3)),
    fc.indicator_column(hashed("deck", 7)),
    fc.embedding_column(hashed("number", 9, dtype="int64"), 4),
    vocabulary("class", ["1st", "2nd"], num_oov_buckets=3),
]


@pytest.fixture(scope="module")
def transform():
    return build_transform(ALL_KINDS)


@pytest.mark.parametrize("rows", [0, 1, 1000])
@pytest.mark.parametrize("width", [0, 1, 3])
def test_any_number_of_rows_and_ids(transform, rows, width):
    random = np.random.default_rng(0)
    raw = {
        "age": random.random(rows) * 80,
        "pixels": random.random((rows, 2, 2)),
        "class": text(random.choice(["1st", "2nd", "x", ""], (rows, width))).reshape(rows, width),
        "deck": text(random.choice(["A", "B", ""], (rows, width))).reshape(rows, width),
        "number": random.integers(-1, 5, (rows, width)),
    }
    shapes = {name: value.shape for name, value in transform(raw).items()}
    assert shapes == {
        "age/dense": (rows, 1),
        "age_bucketized/dense": (rows, 3),
        "class/ids": (rows, width),
        "class_indicator/dense": (rows, 5),
        "deck_indicator/dense": (rows, 7),
        "number/ids": (rows, width),
        "pixels/dense": (rows, 4),
    }


def test_a_row_does_not_depend_on_its_batch(transform):
    raw = {
        "age": np.arange(6.0),
        "pixels": np.ones((6, 2, 2)),
        "class": text(["1st", "", "x", "2nd", "y", "1st"]),
        "deck": text(list("ABCABC")),
        "number": np.arange(-1, 5),
    }
    whole = transform(raw)
    for row in range(6):
        for name, value in transform({key: array[row : row + 1] for key, array in raw.items()}).items():
            np.testing.assert_array_equal(value, whole[name][row : row + 1])


def test_names(transform):
    assert " ".join(transform.input_names) == (
        "age class/values class/lengths deck/values deck/lengths number/values number/lengths pixels"
    )
    model = onnx.load_from_string(transform.model_bytes)
    assert [value.name for value in model.graph.input] == list(transform.input_names)
    assert [value.name for value in model.graph.output] == list(transform.output_names)


def test_graph_is_finished(transform):
    model = onnx.load_from_string(transform.model_bytes)
    assert not [node.name for node in model.graph.node if node.op_type == "Constant" or node.metadata_props]
    assert all(value.type.tensor_type.shape.dim[0].dim_param == "batch" for value in model.graph.input)
    assert all(value.type.tensor_type.shape.dim[0].dim_param == "batch" for value in model.graph.output)
    assert b"/test_transform.py" not in transform.model_bytes


def test_order_of_columns_does_not_move_the_bytes(transform):
    assert build_transform(reversed(ALL_KINDS)).sha256 == transform.sha256


PROGRAM = """
import torch
from estimator_serving.training import feature_column as fc
from estimator_serving.training.columns.transform import build_transform
mean = torch.tensor([29.7])
age = fc.numeric_column("age", normalizer_fn=lambda x: torch.log1p(x / mean))
text = fc.categorical_column_with_vocabulary_list("c", ["a", "b"], num_oov_buckets=2)
sha256 = build_transform([age, fc.indicator_column(text), text, fc.bucketized_column(age, [1, 2])]).sha256
print(sha256)
"""


def test_another_process_makes_the_same_bytes():
    here = {}
    exec(PROGRAM, here)
    there = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert there.stdout.split()[-1] == here["sha256"]


def test_bytes_alone_restore_everything(transform):
    restored = Transform.from_bytes(transform.model_bytes)
    assert restored.definitions == transform.definitions == json.loads(json.dumps(transform.definitions))
    assert (restored.inputs, restored.output_names, restored.sha256) == (
        transform.inputs,
        transform.output_names,
        transform.sha256,
    )


@pytest.mark.parametrize("content", [b"", b"hello", onnx.ModelProto(ir_version=8).SerializeToString()])
def test_other_bytes_are_refused(content):
    with pytest.raises(ValueError, match="These bytes are not a feature transform"):
        Transform.from_bytes(content)


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        ({"x": np.ones(2)}, "Feature k is not in features dictionary. It has: x."),
        ({"k": text(["a"])}, "Feature x is not in features dictionary. It has: k."),
        ({"x": np.ones(2), "k": text(["a"])},
         r"Batch size \(first dimension\) of each feature must be same. Batch size of columns \(k, x\): \(1, 2\)"),
        ({"x": np.float32(3), "k": text(["a"])}, r"Feature \(key: x\) cannot have rank 0. Given: .*; did you forget"),
        ({"x": np.ones(1), "k": np.ones(1)},
         "column_name: k input_tensor dtype must be string or integer. dtype: <dtype: 'float64'>."),
        ({"x": np.ones(1), "k": np.array([3])},
         "Column dtype and SparseTensors dtype must be compatible. key: k, column dtype: <dtype: 'string'>, "
         "tensor dtype: <dtype: 'int64'>"),
        ({"x": text(["a"]), "k": text(["a"])}, "Feature x holds text where numeric_column"),
        ({"x": np.ones((1, 3)), "k": text(["a"])},
         r"Feature x has the shape \[1, 3\]; numeric_column\('x', shape=\(1,\)"),
        ({"x": np.ones(1), "k": text([None])}, "Feature k holds None .* where text was expected"),
        ({"x": np.ones(1), "k": text([b"\xff"])}, "Feature k holds the bytes .* not UTF-8"),
        ({**pair("x", [[1.0]], [1]), "k": text(["a"])},
         "The corresponding Tensor of numerical column must be a Tensor. SparseTensor is not supported. key: x"),
    ],
)  # fmt: skip
def test_features_that_do_not_fit(raw, error):
    with pytest.raises(ValueError, match=error):
        build_transform([fc.numeric_column("x"), fc.indicator_column(vocabulary("k", ["a"]))])(raw)


identity = fc.categorical_column_with_identity("k", 6)
weighted = fc.weighted_categorical_column(identity, "w")


@pytest.mark.parametrize(
    ("column", "raw", "error"),
    [
        # the position as TF 2.15 counts: a row without ids counts one
        (
            identity,
            {"k": np.array([[0, 5], [-1, -1], [6, 1]])},
            r"Bad: indices\[3\] == 6 out of range \[0, 6\)\. The feat",
        ),
        (vocabulary("k", ["a"], default_value=7), {"k": text(["x"])}, r"Bad: indices\[0\] == 7 out of range \[0, 1\)"),
        (fc.indicator_column(identity), pair("k", [[7]], [1]), r"Bad: indices\[0\] == 7 out of range \[0, 6\)"),
        (weighted, {"k": np.array([[0, 5]]), "w": np.float32([[1, 0]])}, "Feature w has 1 weights in row 0 for 2 ids"),
        (weighted, {"k": np.array([[0, -1]]), "w": np.float32([[1, 2]])}, "Feature w has 2 weights in row 0 for 1 ids"),
    ],
)
def test_values_that_the_graph_refuses(column, raw, error):
    with pytest.raises(InvalidArgumentError, match=f"^{error}"):
        run(column, **raw)


def test_a_cross_reads_ids_as_they_are():
    """What an embedding has no row for still tells rows apart (TF 2.15)."""
    cross = fc.crossed_column([identity, "t"], 1000)
    found = run(cross, **pair("k", [[6], [-3], [6]], [1, 1, 0]), t=text(["a", "a", "a"])).tolist()
    assert found[2] == [-1]
    assert found[0] != found[1]


def test_a_cross_keeps_the_blank_text_that_its_column_drops():
    cross = fc.crossed_column(["t", vocabulary("k", ["a"])], 1000)
    dense = build_transform([cross, hashed("t", 5)])({"t": text(["", "b"]), "k": text(["a", "a"])})
    assert (dense["k_X_t/ids"] >= 0).all()
    assert dense["t/ids"].tolist()[0] == [-1]


def test_one_key_read_in_two_ways_is_refused():
    columns = [fc.indicator_column(hashed("k", 3)), fc.embedding_column(hashed("k", 3, dtype="int64"), 2)]
    with pytest.raises(ValueError, match="Two columns read the feature k differently: "):
        build_transform(columns)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (fc.bucketized_column(fc.numeric_column("x"), [1, 2]), fc.bucketized_column(fc.numeric_column("x"), [1, 3]),
         "boundaries was [1.0, 2.0] and is now [1.0, 3.0]"),
        (hashed("k", 3), hashed("k", 4), "hash_bucket_size was 3 and is now 4"),
        (fc.indicator_column(vocabulary("k", ["a"])), fc.indicator_column(vocabulary("k", ["b"])),
         "categorical.vocabulary_list was ['a'] and is now ['b']"),
        (fc.numeric_column("x"), fc.numeric_column("x", shape=2), "shape was [1] and is now [2]"),
        (fc.numeric_column("x", normalizer_fn=lambda x: x / 2), fc.numeric_column("x", normalizer_fn=lambda x: x / 3),
         "normalizer.graph was ['div = aten.div.Tensor(x, 2)'] and is now ['div = aten.div.Tensor(x, 3)']"),
        (fc.numeric_column("x", default_value=1), fc.numeric_column("x", default_value=2), ""),
        (vocabulary("k", ["a"]), hashed("k", 3), "kind was 'vocabulary_list' and is now 'hash_bucket'"),
    ],
)  # fmt: skip
def test_difference_names_what_changed(old, new, words):
    assert difference(define(old), define(new)).startswith(words)
    assert (define(old) == define(new)) == (words == "")
