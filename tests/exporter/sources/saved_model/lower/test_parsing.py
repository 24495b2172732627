"""Serialized Examples: sparse and dense features of both versions of the op, defaults, and what cannot be parsed."""

import numpy as np
import pytest
from features import example, examples, parse
from lowered import Const, Fed, Op, Shape, Type, load, why_not
from parsed_examples import InvalidArgument

NAMES = Const(np.array([], object))


def keys(*names):
    return Const(np.array([name.encode() for name in names], object))


def parse_v1(serialized, sparse, dense=None):
    """ParseExample of 1.x, which takes each key apart."""
    dense = dense or {}
    inputs = [Const(np.array(key.encode(), object)) for key in (*sparse, *dense)]
    inputs += [Const(default) for _, _, default in dense.values()]
    attributes = {
        "Nsparse": len(sparse),
        "Ndense": len(dense),
        "sparse_types": [Type(one) for one in sparse.values()],
        "Tdense": [Type(one) for one, _, _ in dense.values()],
        "dense_shapes": [Shape(one) for _, one, _ in dense.values()],
    }
    return Op("ParseExample", [Fed(serialized, (None,)), NAMES, *inputs], attributes)


BOTH = pytest.mark.parametrize("parser", [parse_v1, parse], ids=["v1", "v2"])


def found(op, dtypes):
    return [one.tolist() for one in load([(op.at(index), dtype) for index, dtype in enumerate(dtypes)])()]


# ---- sparse ---------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("dtype", "rows", "values"),
    [
        ("int64", [[3, -1], [], [7]], [3, -1, 7]),
        ("float32", [[0.5], [], [1.5, -2.0]], [0.5, 1.5, -2.0]),
        ("string", [[b"a", b""], [], ["ü".encode()]], ["a", "", "ü"]),
    ],
)
def test_a_sparse_feature(parser, dtype, rows, values):
    made = found(parser(examples(x=rows), {"x": dtype}), ["int64", dtype, "int64"])
    places = [[row, column] for row, one in enumerate(rows) for column in range(len(one))]
    assert made == [places, values, [3, 2]]


@BOTH
def test_all_indices_come_before_all_values_and_shapes(parser):
    op = parser(examples(b=[[b"x"]], a=[[1, 2]]), {"b": "string", "a": "int64"})
    assert found(op, ["int64", "int64", "string", "int64", "int64", "int64"]) == [
        [[0, 0]],
        [[0, 0], [0, 1]],
        ["x"],
        [1, 2],
        [1, 1],
        [1, 2],
    ]


@BOTH
@pytest.mark.parametrize(("rows", "shape"), [([], [0, 0]), ([[]], [1, 0]), ([[], []], [2, 0])])
def test_no_values_at_all(parser, rows, shape):
    assert found(parser(examples(x=rows), {"x": "int64"}), ["int64", "int64", "int64"]) == [[], [], shape]


# ---- dense ----------------------------------------------------------------------------------------------------------

NO_DEFAULT = {"int64": np.zeros(0, np.int64), "float32": np.zeros(0, np.float32), "string": np.array([], object)}


@BOTH
@pytest.mark.parametrize(
    ("dtype", "shape", "rows", "wanted"),
    [
        ("int64", (), [[3], [-1]], [3, -1]),
        ("float32", (1,), [[0.5], [1.5]], [[0.5], [1.5]]),
        ("string", (2,), [[b"a", b""], ["ü".encode(), b"b"]], [["a", ""], ["ü", "b"]]),
        ("int64", (2, 2), [[1, 2, 3, 4]], [[[1, 2], [3, 4]]]),
        ("int64", (), [], []),
    ],
)
def test_a_dense_feature(parser, dtype, shape, rows, wanted):
    op = parser(examples(x=rows), {}, {"x": (dtype, shape, NO_DEFAULT[dtype])})
    assert found(op, [dtype]) == [wanted]


@BOTH
@pytest.mark.parametrize(
    ("dtype", "shape", "default", "row"),
    [
        ("int64", (), np.int64(7), 7),
        ("float32", (2,), np.array([0.5, 1.5], np.float32), [0.5, 1.5]),
        ("float32", (2, 2), np.array([[1, 2], [3, 4]], np.float32), [[1.0, 2.0], [3.0, 4.0]]),
        ("string", (1,), np.array(["ü".encode()], object), ["ü"]),
    ],
)
def test_a_missing_feature_is_its_default(parser, dtype, shape, default, row):
    made = found(parser(examples(x=[[], []]), {}, {"x": (dtype, shape, default)}), [dtype])
    assert made == [[row, row]]


@BOTH
def test_a_missing_feature_without_a_default_is_tensorflows_error(parser):
    op = load([(parser(examples(x=[[1]]), {}, {"x": ("int64", (), NO_DEFAULT["int64"])}), "int64")])
    with pytest.raises(InvalidArgument, match=r"Feature: x \(data type: int64\) is required but could not be found"):
        op(examples(x=[[1], []]))


@BOTH
@pytest.mark.parametrize(
    ("row", "text"),
    [
        ([1, 2], r"Key: x, Index: 0\.  Number of int64 values != expected\.  Values size: 2 but output shape: \[\]"),
        ([0.5], r"Key: x, Index: 0\.  Data types don't match\. Data type: float but expected type: int64"),
    ],
)
def test_values_that_do_not_fit_are_tensorflows_error(parser, row, text):
    op = load([(parser(examples(x=[[1]]), {}, {"x": ("int64", (), NO_DEFAULT["int64"])}), "int64")])
    with pytest.raises(InvalidArgument, match=text):
        op(examples(x=[row]))


def test_bytes_that_are_no_example_are_an_error():
    op = load([(parse(examples(x=[[1]]), {"x": "int64"}).at(1), "int64")])
    with pytest.raises(InvalidArgument, match="Could not parse example input"):
        op(np.array([b"\xff\xff"], object))


# ---- sequences ------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("dtype", "shape", "default", "rows", "wanted"),
    [
        ("int64", (-1,), np.int64(-1), [[1, 2], [], [3]], [[1, 2], [-1, -1], [3, -1]]),
        ("float32", (-1, 2), np.float32(0.5), [[1.0, 2.0], []], [[[1.0, 2.0]], [[0.5, 0.5]]]),
        ("string", (-1,), np.array(b"?", object), [[b"a"], []], [["a"], ["?"]]),
        ("int64", (-1,), np.int64(0), [[], []], [[], []]),
    ],
)
def test_rows_of_any_length_are_padded(parser, dtype, shape, default, rows, wanted):
    assert found(parser(examples(x=rows), {}, {"x": (dtype, shape, default)}), [dtype]) == [wanted]


# ---- together -------------------------------------------------------------------------------------------------------


@BOTH
def test_sparse_and_dense_features_of_one_batch(parser):
    rows = examples(words=[[b"a"], []], age=[[30.0], [20.0]])
    op = parser(rows, {"words": "string"}, {"age": ("float32", (), NO_DEFAULT["float32"])})
    assert found(op, ["int64", "string", "int64", "float32"]) == [[[0, 0]], ["a"], [2, 1], [30.0, 20.0]]


def test_two_ops_may_parse_one_batch():
    rows = Fed(examples(a=[[1]], b=[[2]]), (None,))
    first, second = parse(rows, {"a": "int64"}), parse(rows, {"b": "int64", "a": "int64"})
    assert [one.tolist() for one in load([(first.at(1), "int64"), (second.at(2), "int64")])()] == [[1], [2]]


def test_features_that_nobody_asked_for_are_left_alone():
    rows = np.array([example(a=[1], other=[b"x"])], object)
    assert found(parse(rows, {"a": "int64"}), ["int64", "int64", "int64"])[1] == [1]


# ---- refusals -------------------------------------------------------------------------------------------------------


def reason(*outputs):
    return why_not(lambda: load([(output, "int64") for output in outputs]))


def test_one_feature_in_two_ways_is_refused():
    both = parse(examples(a=[[1]]), {"a": "int64"}, {"a": ("int64", (), np.int64(0))})
    assert reason(both.at(1)) == "it parses a in two ways, or in no shape"


def test_one_key_twice_is_refused():
    op = parse(examples(a=[[1]]), {"a": "int64", "b": "int64"})
    op.inputs[2] = keys("a", "a")
    assert reason(op.at(1)) == "it parses a key twice"


def test_a_feature_of_no_shape_is_refused():
    assert reason(parse(examples(a=[[1]]), {}, {"a": ("int64", None, np.int64(0))})) == (
        "it parses a in two ways, or in no shape"
    )


def test_two_ops_that_parse_a_feature_differently_are_refused():
    rows = Fed(examples(a=[[1]]), (None,))
    first, second = parse(rows, {"a": "int64"}), parse(rows, {}, {"a": ("int64", (), np.int64(0))})
    assert reason(first.at(1), second.at(0)) == "a is parsed in two ways"


def test_keys_that_are_computed_are_refused():
    op = parse(examples(a=[[1]]), {"a": "int64"})
    op.inputs[2] = Fed(np.array(["a"], object))
    assert reason(op.at(1)) == "its key is computed by the graph; only constants are converted"


def test_examples_that_are_computed_are_refused():
    op = parse(examples(a=[[1]]), {"a": "int64"})
    op.inputs[0] = Op("StringLower", [op.inputs[0]])
    assert reason(op.at(1)) == "it parses what is no input of the signature"


def test_an_input_that_is_parsed_and_read_is_refused():
    rows = Fed(examples(a=[[1]]), (None,))
    hashed = Op("StringToHashBucketFast", [rows], {"num_buckets": 3})
    assert reason(parse(rows, {"a": "int64"}).at(1), hashed) == (
        "The input Placeholder_0 is parsed as Examples and read as text, too; export signatures that do one of both."
    )


def test_a_type_that_examples_have_not_is_refused():
    assert "int32" in reason(parse(examples(a=[[1]]), {"a": "int32"}).at(1))
