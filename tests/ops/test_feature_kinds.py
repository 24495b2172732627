"""FixedLenSequence, Sparse and Ragged features: TensorFlow's tensors and texts, and where rows are kept apart."""

import itertools

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from estimator_serving import ops
from estimator_serving.wire.examples import (
    FixedLenFeature,
    FixedLenSequenceFeature,
    RaggedFeature,
    SparseFeature,
    VarLenFeature,
    encode_example,
)

InvalidArgument = ort.capi.onnxruntime_pybind11_state.InvalidArgument
RuntimeException = ort.capi.onnxruntime_pybind11_state.RuntimeException


def examples(*rows):
    return [encode_example(row) for row in rows]


def refusal(call, *arguments) -> str:
    """The op's own text in what ONNX Runtime raises for a run."""
    with pytest.raises(InvalidArgument) as caught:
        call(*arguments)
    return str(caught.value).split("Status Message: ", 1)[1]


# An Example that has an empty list of int64 under "x".
EMPTY_LIST = bytes.fromhex("0a090a070a017812021a00")

# ---- FixedLenSequence -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "dtype", "default", "padded"),
    [
        ([], "int64", None, [[1, 2, 3, 4], [0, 0, 0, 0], [5, 6, 0, 0]]),
        ([2], "int64", 9, [[[1, 2], [3, 4]], [[9, 9], [9, 9]], [[5, 6], [9, 9]]]),
        (
            [2, 1],
            "float",
            0.5,
            [[[[1], [2]], [[3], [4]]], [[[0.5], [0.5]], [[0.5], [0.5]]], [[[5], [6]], [[0.5], [0.5]]]],
        ),
        ([1], "string", "-", [[["1"], ["2"], ["3"], ["4"]], [["-"]] * 4, [["5"], ["6"], ["-"], ["-"]]]),
    ],
)
def test_sequences_are_padded(parser, shape, dtype, default, padded):
    as_dtype = {"int64": int, "float": float, "string": str}[dtype]
    rows = [{"x": list(map(as_dtype, numbers))} for numbers in ([1, 2, 3, 4], [], [5, 6])]
    parsed = parser({"x": FixedLenSequenceFeature(shape, dtype, allow_missing=True, default_value=default)})
    assert parsed(examples(*rows))["x"].tolist() == padded


@pytest.mark.parametrize("batch", [[], [b""], [EMPTY_LIST]])
def test_sequences_without_steps(parser, batch):
    parsed = parser({"x": FixedLenSequenceFeature([2], "int64", allow_missing=True)})(batch)
    assert parsed["x"].shape == (len(batch), 0, 2)


@pytest.mark.parametrize(
    ("shape", "values", "text"),
    [
        (
            [2],
            [1, 2, 3],
            "Number of int64 values is not a multiple of stride length. Saw 3 values but output shape is: [?,2]",
        ),
        (
            [2, 3],
            [1.0],
            "Number of float values is not a multiple of stride length. Saw 1 values but output shape is: [?,2,3]",
        ),
        (
            [2],
            ["a"],
            "Number of bytes values is not a multiple of stride length. Saw 1 values but output shape is: [?,2]",
        ),
        (
            [0],
            [1],
            "Number of int64 values is not a multiple of stride length. Saw 1 values but output shape is: [?,0]",
        ),
    ],
)
def test_half_steps_are_refused(parser, shape, values, text):
    parse = parser({"x": FixedLenSequenceFeature(shape, type(values[0]), allow_missing=True)})
    assert refusal(parse, examples({}, {"x": values})) == f"Name: <unknown>, Key: x, Index: 1.  {text}"


def test_sequences_of_another_dtype(parser):
    parse = parser({"x": FixedLenSequenceFeature([], "int64", allow_missing=True)})
    text = "Name: <unknown>, Key: x, Index: 0.  Data types don't match. Data type: float but expected type: int64"
    assert refusal(parse, examples({"x": 1.5})) == text


# ---- Sparse ---------------------------------------------------------------------------------------------------------

SPARSE = SparseFeature("i", "v", "float", 10)
ROWS = examples({"i": [3, 1], "v": [1.0, 2.0]}, {}, {"i": [0], "v": [5.0]})


def tensors(parsed, name="x"):
    """The tensors of a feature by what they are."""
    return {key.removeprefix(f"{name}/"): array.tolist() for key, array in parsed.items() if key.startswith(f"{name}/")}


def test_sparse_rows_are_sorted(parser):
    assert tensors(parser({"x": SPARSE})(ROWS)) == {
        "indices": [[0, 1], [0, 3], [2, 0]],
        "values": [2.0, 1.0, 5.0],
        "dense_shape": [3, 10],
    }


def test_sparse_rows_that_are_sorted_already(parser):
    found = tensors(parser({"x": SparseFeature("i", "v", "float", 10, already_sorted=True)})(ROWS))
    assert (found["indices"], found["values"]) == ([[0, 3], [0, 1], [2, 0]], [1.0, 2.0, 5.0])


def test_sparse_rows_of_two_dimensions(parser):
    parse = parser({"x": SparseFeature(["j", "i"], "v", "string", [20, 10])})
    found = tensors(parse(examples({"i": [3, 1, 2], "j": [8, 7, 7], "v": ["a", "b", "c"]})))
    assert found == {
        "indices": [[0, 7, 1], [0, 7, 2], [0, 8, 3]],
        "values": ["b", "c", "a"],
        "dense_shape": [1, 20, 10],
    }


def test_sparse_indices_are_not_held_against_the_size(parser):
    assert tensors(parser({"x": SPARSE})(examples({"i": [30, -1], "v": [1.0, 2.0]})))["indices"] == [[0, -1], [0, 30]]


def test_values_of_one_index_keep_their_order(parser):
    found = tensors(parser({"x": SPARSE})(examples({"i": [1] * 40 + [0], "v": [*map(float, range(41))]})))
    assert found["values"] == [40.0, *map(float, range(40))]


def test_sparse_without_rows(parser):
    parsed = parser({"x": SPARSE})([])
    assert {name: array.shape for name, array in parsed.items()} == {
        "x/indices": (0, 2),
        "x/values": (0,),
        "x/dense_shape": (2,),
    }


def test_columns_can_be_shared(parser):
    spec = {"x": SPARSE, "y": SparseFeature("i", "w", "float", 10), "v": VarLenFeature("float")}
    parsed = parser(spec)(examples({"i": [3, 1], "v": [1.0, 2.0], "w": [3.0, 4.0]}))
    assert parsed["x/values"].tolist() == [2.0, 1.0]
    assert parsed["y/values"].tolist() == [4.0, 3.0]
    assert parsed["v/values"].tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"i": [3, 1], "v": [1.0]}, "Dimensions 2 and 1 are not compatible.  Key: i, Index: 1."),
        ({"v": [1.0]}, "Dimensions 0 and 1 are not compatible.  Key: i, Index: 1."),
        (
            {"i": [3.0], "v": [1.0]},
            "Name: <unknown>, Key: i, Index: 1.  Data types don't match. Expected type: int64, Act",
        ),
        (
            {"i": [3], "v": [1]},
            "Name: <unknown>, Key: v, Index: 1.  Data types don't match. Expected type: float, Actual",
        ),
    ],
)
def test_sparse_refuses(parser, row, text):
    assert refusal(parser({"x": SPARSE}), [b"", encode_example(row)]).startswith(text)


def test_sparse_rows_that_only_fit_together_are_refused(parser):
    """TensorFlow counts over the batch alone, and gives the second row's value to the first."""
    rows = examples({"i": [3, 1], "v": [1.0]}, {"i": [2], "v": [1.0, 3.0]})
    assert "Index: 0." in refusal(parser({"x": SPARSE}), rows)


# ---- Ragged ---------------------------------------------------------------------------------------------------------

R = RaggedFeature
VALUES = [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("splits", ["int32", "int64"])
def test_ragged_without_partitions(parser, splits):
    parsed = parser({"x": R("float", row_splits_dtype=splits)})(examples({"x": [1.0, 2.0]}, {}, {"x": [3.0]}))
    assert tensors(parsed) == {"values": [1.0, 2.0, 3.0], "row_splits_0": [0, 2, 2, 3]}
    assert parsed["x/row_splits_0"].dtype == np.dtype(splits)


@pytest.mark.parametrize("validate", [False, True])
@pytest.mark.parametrize(
    ("partition", "numbers", "outer", "inner"),
    [
        (R.RowSplits, [0, 1, 4], [0, 2, 2, 4], [0, 1, 4, 5, 8]),
        (R.RowLengths, [1, 3], [0, 2, 2, 4], [0, 1, 4, 5, 8]),
        (R.RowStarts, [0, 1], [0, 2, 2, 4], [0, 1, 4, 5, 8]),
        (R.RowLimits, [1, 4], [0, 2, 2, 4], [0, 1, 4, 5, 8]),
        (R.ValueRowIds, [0, 2, 2, 2], [0, 3, 3, 6], [0, 1, 1, 4, 5, 5, 8]),
    ],
)
def test_partitions(parser, partition, numbers, outer, inner, validate):
    row = {"v": VALUES, "p": numbers}
    parsed = parser({"x": R("float", "v", [partition("p")], validate=validate)})(examples(row, {}, row))
    assert tensors(parsed) == {"values": VALUES * 2, "row_splits_0": outer, "row_splits_1": inner}


@pytest.mark.parametrize(
    ("partitions", "rows", "expected"),
    [
        (
            [R.RowLengths("a"), R.RowLengths("b")],
            [{"v": VALUES, "b": [1, 1, 2], "a": [2, 1]}, {}, {"v": [5.0, 6.0], "a": [0, 1], "b": [2]}],
            [[1, 2, 3, 4, 5, 6], [0, 2, 2, 4], [0, 2, 3, 3, 4], [0, 1, 2, 4, 6]],
        ),
        (
            [R.UniformRowLength(2), R.RowLengths("b")],
            [{"v": VALUES, "b": [1, 1, 2, 0]}, {}, {"v": [5.0, 6.0], "b": [2, 0]}],
            [[1, 2, 3, 4, 5, 6], [0, 2, 2, 3], [0, 2, 4, 6], [0, 1, 2, 4, 4, 6, 6]],
        ),
        (
            [R.RowLengths("a"), R.UniformRowLength(2)],
            [{"v": VALUES, "a": [1, 1]}, {}, {"v": [5.0, 6.0], "a": [1, 0]}],
            [[[1, 2], [3, 4], [5, 6]], [0, 2, 2, 4], [0, 1, 2, 3, 3]],
        ),
        (
            [R.UniformRowLength(2), R.UniformRowLength(1)],
            [{"v": VALUES}, {}, {"v": [5.0, 6.0]}],
            [[[[1], [2]], [[3], [4]], [[5], [6]]], [0, 2, 2, 3]],
        ),
    ],
)
def test_partitions_of_partitions(parser, partitions, rows, expected):
    found = tensors(parser({"x": R("float", "v", partitions)})(examples(*rows)))
    assert [found["values"], *(found[f"row_splits_{i}"] for i in range(len(expected) - 1))] == expected


NEXT = {"v": [7.0, 8.0], "p": [2]}


@pytest.mark.parametrize(
    ("partition", "numbers", "rows", "text"),
    [
        (R.RowLengths, [1], [[1]], "Arguments to from_row_lengths do not form a valid RowPartition"),
        (R.RowLengths, [9], [[1, 2, 3, 4]], "Arguments to from_row_lengths do not form a valid RowPartition"),
        (R.RowLengths, [-1, 5], [[], [1, 2, 3, 4]], "Arguments to from_row_lengths do not form a valid RowPartition"),
        (R.RowLengths, [1 << 62] * 3, [[1, 2, 3, 4], [], []], "Arguments to from_row_lengths do not form a valid"),
        (R.RowLimits, [1], [[1]], "Arguments to from_row_limits do not form a valid RaggedTensor"),
        (R.RowLimits, [9], [[1, 2, 3, 4]], "Arguments to from_row_limits do not form a valid RaggedTensor"),
        (R.RowLimits, [3, 1, 4], [[1, 2, 3], [], [4]], "Arguments to from_row_limits do not form a valid RaggedTensor"),
    ],
)
def test_partitions_that_do_not_fit(parser, partition, numbers, rows, text):
    """Without `validate` what is left over is dropped, and never moves into the row behind."""
    batch = examples({"v": VALUES, "p": numbers}, NEXT)
    found = tensors(parser({"x": R("float", "v", [partition("p")])})(batch))
    splits = found["row_splits_1"]
    assert [found["values"][a:b] for a, b in itertools.pairwise(splits)] == [*rows, [7, 8]]
    assert found["row_splits_0"] == [0, len(rows), len(rows) + 1]
    strict = parser({"x": R("float", "v", [partition("p")], validate=True)})
    assert refusal(strict, batch).startswith(f"{text}")
    assert "Key: p, Index: 0." in refusal(strict, batch)


@pytest.mark.parametrize(
    ("partition", "numbers", "values"),
    [(R.RowStarts, [1, 2], [[2], [3, 4]]), (R.RowStarts, [-1], [[1, 2, 3, 4]]), (R.RowSplits, [0, 1], [[1]])],
)
def test_starts_and_splits_that_do_not_fit(parser, partition, numbers, values):
    batch = examples({"v": VALUES, "p": numbers})
    found = tensors(parser({"x": R("float", "v", [partition("p")])})(batch))
    splits = found["row_splits_1"]
    assert [found["values"][a:b] for a, b in itertools.pairwise(splits)] == values
    assert refusal(parser({"x": R("float", "v", [partition("p")], validate=True)}), batch).startswith(
        "Arguments to from_"
    )


@pytest.mark.parametrize("validate", [False, True])
@pytest.mark.parametrize(
    ("partition", "row", "text"),
    [
        (
            R.ValueRowIds("p"),
            {"v": VALUES, "p": [0]},
            "Arguments to from_value_rowids do not form a valid RowPartition",
        ),
        (R.ValueRowIds("p"), {"v": [1.0], "p": [-1]}, "Input arr must be non-negative!"),
        (R.ValueRowIds("p"), {"v": [1.0], "p": [1 << 40]}, "Arguments to from_value_rowids do not form a valid"),
        (R.UniformRowLength(3), {"v": VALUES}, "Input to reshape is a tensor with 4 values, but the requested shape"),
        (R.RowLengths("p"), {"v": [1.0], "p": [1.0]}, "Name: <unknown>, Key: p, Index: 0.  Data types don't match."),
        (R.RowLengths("p"), {"v": [1], "p": [1]}, "Name: <unknown>, Key: v, Index: 0.  Data types don't match."),
    ],
)
def test_partitions_that_are_always_refused(parser, partition, row, text, validate):
    parse = parser({"x": R("float", "v", [partition], validate=validate)})
    assert refusal(parse, examples(row)).startswith(text)


def test_a_few_bytes_do_not_make_millions_of_rows(parser):
    """A batch of Examples that each make as many rows as one may."""
    example = encode_example({"v": [1.0], "p": [(1 << 22) - 1]})
    parse = parser({"x": R("float", "v", [R.ValueRowIds("p")])})
    assert refusal(parse, [example] * 3).endswith("more than 4194304 inner rows; send partitions that fit the values.")


@pytest.mark.parametrize("partitions", [[], [R.RowLengths("p")], [R.UniformRowLength(2)]])
def test_ragged_without_rows(parser, partitions):
    found = parser({"x": R("float", "v", partitions)})([])
    assert all(found[key].tolist() == [0] for key in found if "row_splits" in key)
    assert found["x/values"].size == 0


# ---- large batches --------------------------------------------------------------------------------------------------

MIXED = {
    "fixed": FixedLenFeature([2], "float"),
    "var": VarLenFeature("string"),
    "steps": FixedLenSequenceFeature([2], "int64", allow_missing=True, default_value=-1),
    "sparse": SparseFeature("i", "v", "float", 100),
    "ragged": R("string", "words", [R.RowLengths("p"), R.UniformRowLength(2)], "int64"),
}


def mixed_rows(count):
    rng = np.random.default_rng(0)
    for i in range(count):
        lengths = rng.integers(0, 3, 2).tolist()
        yield {
            "fixed": [float(i), 0.5],
            "var": [f"word {i}"] * int(rng.integers(0, 4)),
            "steps": [i] * (2 * int(rng.integers(0, 4))),
            "i": rng.permutation(5)[: i % 5].tolist(),
            "v": [float(i)] * (i % 5),
            "words": [str(i)] * (2 * sum(lengths)),
            "p": lengths,
        }


def test_the_number_of_threads_changes_nothing(parser):
    batch = examples(*mixed_rows(3000))
    alone, together = (parser(MIXED, threads=threads)(batch) for threads in (1, 4))
    assert sum(map(len, batch)) > 8 * (1 << 15)  # enough for several chunks
    for name, array in alone.items():
        np.testing.assert_array_equal(array, together[name], err_msg=name)


def test_a_batch_is_its_rows(parser):
    rows = list(mixed_rows(1500))
    parsed = parser(MIXED, threads=3)(examples(*rows))
    assert parsed["fixed"][:, 0].tolist() == list(range(1500))
    assert parsed["var/lengths"].tolist() == [len(row["var"]) for row in rows]
    assert parsed["steps"].max(axis=(1, 2)).tolist() == [i if row["steps"] else -1 for i, row in enumerate(rows)]
    assert np.bincount(parsed["sparse/indices"][:, 0], minlength=1500).tolist() == [i % 5 for i in range(1500)]
    assert np.diff(parsed["ragged/row_splits_0"]).tolist() == [2] * 1500
    assert np.diff(parsed["ragged/row_splits_1"]).tolist() == [length for row in rows for length in row["p"]]
    assert parsed["ragged/values"][:, 0].tolist() == [
        str(i) for i, row in enumerate(rows) for _ in range(sum(row["p"]))
    ]


@pytest.mark.parametrize("threads", [1, 4])
def test_the_first_faulty_row_of_many_is_named(parser, threads):
    batch = examples(*mixed_rows(3000))
    for row in (2999, 1700, 900):
        batch[row] = encode_example({"fixed": [1.0]})
        text = refusal(parser(MIXED, threads=threads), batch)
        assert text.startswith(f"Name: <unknown>, Key: fixed, Index: {row}.")


# ---- attributes -----------------------------------------------------------------------------------------------------

GOOD = {"kinds": [3, 4], "dtypes": [1, 9], "ranks": [1, 1], "dims": [5, -1], "key_0": "v", "key_0_0": "i"}
GOOD |= {"key_1": "w", "key_1_0": "p", "outputs": 6}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"key_0_0": None}, "the attribute key_0_0 is missing; it is the key of that index"),
        ({"key_1_0": None}, "the attribute key_1_0 is missing; it is the key of that partition"),
        ({"dims": [5, -5]}, "the partition -5 is not known"),
        ({"dims": [-5, -1]}, r"the shape \[-5\] has a negative dimension"),
        ({"ranks": [0, 1], "dims": [-1]}, "a Sparse feature has at least one index"),
        ({"flags": [8, 0]}, "flags 8 are not known"),
        ({"flags": [0]}, "have 2, 2, 2 and 1 numbers"),
        ({"flags": [4, 0]}, "a Sparse feature has at least one index, and is none of feature lists"),
        ({"flags": [0, 4], "outputs": 7}, "feature lists and context belong to SequenceExamples alone"),
        ({"key_1": "v"}, "Feature 'v': the key stands twice in the spec"),
        ({"kinds": [3, 2]}, r"the shape \[-1\] has a negative dimension"),
        ({"default_0": numpy_helper.from_array(np.float32([1]))}, "only FixedLen and FixedLenSequence have a default"),
        ({"outputs": 5}, "the node has 5 outputs and its features make 6"),
    ],
)
def test_attributes_are_refused(load, parse_inputs, changes, text):
    attributes = {**GOOD, **changes}
    if attributes["kinds"][1] == 2 and "outputs" not in changes:
        attributes["outputs"] = 4
    outputs = [f"y{i}" for i in range(attributes.pop("outputs"))]
    node = helper.make_node("ParseExample", list(parse_inputs), outputs, domain=ops.DOMAIN, **attributes)
    with pytest.raises(RuntimeException, match=text):
        load([node], parse_inputs)


@pytest.mark.parametrize("default", [np.int64([1, 2]), np.float32([1])])
def test_a_sequence_is_padded_with_one_value_of_its_dtype(load, node_of, parse_inputs, default):
    node = node_of({"x": FixedLenSequenceFeature([], "int64", allow_missing=True)})
    node.attribute.append(helper.make_attribute("default_0", numpy_helper.from_array(default)))
    with pytest.raises(RuntimeException, match="the default pads each element; give it one value"):
        load([node], parse_inputs)


def test_types_and_shapes_are_inferred(load, node_of, parse_inputs):
    node = node_of(MIXED)
    found = {output.name: (output.type, output.shape) for output in load([node], parse_inputs).get_outputs()}
    assert found["steps"] == ("tensor(int64)", ["batch", "steps/longest", 2])
    assert found["sparse/indices"] == ("tensor(int64)", ["3/v/count", 2])
    assert found["sparse/values"] == ("tensor(float)", ["3/v/count"])
    assert found["sparse/dense_shape"] == ("tensor(int64)", [2])
    assert found["ragged/values"] == ("tensor(string)", ["4/words/count", 2])
    assert found["ragged/row_splits_0"] == ("tensor(int64)", ["4/words/rows_0+1"])
