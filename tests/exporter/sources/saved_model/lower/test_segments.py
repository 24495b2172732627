"""Sums, means and extremes by segment: of tensors that clients send, and of the ids of sparse features."""

from functools import cache

import numpy as np
import pytest
from features import examples, feature, features, filled, gather, looked_up, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from lowered import Const, Fed, Op, Type, load, refusal, run, why_not
from numpy.testing import assert_allclose
from parsed_examples import InvalidArgument

TABLE = np.array([[0.0, 1.0], [2.0, -4.0], [6.0, 8.0], [1.0, 0.5]], np.float32)
ROWS = [[1, 2], [], [3, 3, 0], []]
DENSE = ["SegmentSum", "SegmentMean", "SegmentMax", "SegmentMin"]
INT32 = {"out_idx": Type("int32")}
SPARSE = ["SparseSegmentSum", "SparseSegmentMean", "SparseSegmentSqrtN"]


def segments(data, ids, dtype="int32"):
    """The sums, means, largest and smallest of each segment."""
    data, ids = Fed(data, (None, *data.shape[1:])), Fed(np.array(ids, dtype), (None,))
    return load([(Op(op, [data, ids]), str(data.array.dtype)) for op in DENSE])()


# ---- tensors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_segments_of_rows_with_a_gap(dtype):
    assert [one.tolist() for one in segments(TABLE, [0, 0, 2, 2], dtype)] == [
        [[2.0, -3.0], [0.0, 0.0], [7.0, 8.5]],
        [[1.0, -1.5], [0.0, 0.0], [3.5, 4.25]],
        [[2.0, 1.0], [0.0, 0.0], [6.0, 8.0]],
        [[0.0, -4.0], [0.0, 0.0], [1.0, 0.5]],
    ]


def test_segments_of_nothing():
    assert [one.shape for one in segments(TABLE[:0], [])] == [(0, 2)] * 4


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_segments_of_numbers_in_every_element_type(dtype):
    found = segments(np.array([1, 2, -5], dtype), [0, 0, 2])
    mean = 1.5 if dtype.startswith("float") else 1
    assert [one.tolist() for one in found] == [[3, 0, -5], [mean, 0, -5], [2, 0, -5], [1, 0, -5]]
    assert {one.dtype for one in found} == {np.dtype(dtype)}


def test_segments_of_higher_ranks():
    data = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    assert [one.shape for one in segments(data, [1, 1, 1])] == [(2, 2, 2)] * 4
    assert all(one.tolist() == data.tolist() for one in segments(data, [0, 1, 2]))


def test_segments_of_booleans_are_refused():
    ids = np.array([0, 0], np.int32)
    assert refusal("SegmentSum", [np.array([True, False]), ids], "bool") == "it computes with bool"


# ---- rows of a table ------------------------------------------------------------------------------------------------


def sparse_segments(places, ids, table=TABLE, dtype="int32"):
    """The sums, means and sums over roots of rows of a table."""
    given = [Const(table), Fed(np.array(places, dtype), (None,)), Fed(np.array(ids, np.int32), (None,))]
    return load([(Op(op, given), str(table.dtype)) for op in SPARSE])()


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_segments_of_rows_of_a_table(dtype):
    total, mean, sqrtn = sparse_segments([1, 2, 3, 3, 0], [0, 0, 2, 2, 2], dtype=dtype)
    assert total.tolist() == [[8.0, 4.0], [0.0, 0.0], [2.0, 2.0]]
    assert_allclose(mean, [[4.0, 2.0], [0.0, 0.0], [0.6666667, 0.6666667]], rtol=1e-6)
    assert_allclose(sqrtn, [[5.656854, 2.828427], [0.0, 0.0], [1.154701, 1.154701]], rtol=1e-6)


def test_segments_of_no_rows_of_a_table():
    assert [one.shape for one in sparse_segments([], [])] == [(0, 2)] * 3


def test_segments_of_rows_of_a_table_of_doubles():
    assert [one.tolist() for one in sparse_segments([1], [0], TABLE.astype(np.float64))] == [[[2.0, -4.0]]] * 3


@pytest.mark.parametrize("place", [-1, 4])
def test_a_row_outside_of_the_table_is_an_error(place):
    with pytest.raises(InvalidArgument, match="out of data bounds"):
        sparse_segments([place], [0])


# ---- ids of features ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("combiner", "wanted"),
    [
        ("sum", [[8.0, 4.0], [0.0, 0.0], [2.0, 2.0]]),
        ("mean", [[4.0, 2.0], [0.0, 0.0], [0.6666667, 0.6666667]]),
        ("sqrtn", [[5.656854, 2.828427], [0.0, 0.0], [1.154701, 1.154701]]),
    ],
)
def test_an_embedding_lookup_ends_with_the_last_row_that_has_ids(combiner, wanted):
    made = load([(looked_up(TABLE, feature(ROWS), combiner), "float32")])()[0]
    assert_allclose(made, np.array(wanted, np.float32), rtol=1e-6)


@pytest.mark.parametrize("rows", [[], [[]], [[], []]], ids=["no row", "an empty row", "empty rows"])
def test_an_embedding_lookup_of_no_ids(rows):
    ids = feature(rows)
    found = load([(looked_up(TABLE, ids, combiner), "float32") for combiner in ("sum", "mean", "sqrtn")])()
    assert [one.shape for one in found] == [(0, 2)] * 3


@pytest.mark.parametrize(
    ("combiner", "wanted"),
    [
        ("sum", [[8.0, 4.0], [6.0, 8.0], [2.0, 2.0], [6.0, 8.0]]),
        ("mean", [[4.0, 2.0], [6.0, 8.0], [0.6666667, 0.6666667], [6.0, 8.0]]),
        ("sqrtn", [[5.656854, 2.828427], [6.0, 8.0], [1.154701, 1.154701], [6.0, 8.0]]),
    ],
)
def test_filled_rows_look_up_what_they_were_filled_with(combiner, wanted):
    ids, _ = filled(feature(ROWS), np.int64(2))
    made = load([(looked_up(TABLE, ids, combiner), "float32")])()[0]
    assert_allclose(made, np.array(wanted, np.float32), rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "wanted"),
    [
        ("SegmentSum", [4.0, 0.0, 0.5]),
        ("SegmentMean", [2.0, 0.0, 0.1666667]),
        ("SegmentMax", [3.0, 0.0, 1.5]),
        ("SegmentMin", [1.0, 0.0, -1.5]),
    ],
)
def test_segments_of_a_features_values(op, wanted):
    values = feature([[1.0, 3.0], [], [1.5, 0.5, -1.5], []], "float32")
    made = load([(Op(op, [values.values, rows_of(values)]), "float32")])()[0]
    assert_allclose(made, wanted, rtol=1e-6)


@pytest.mark.parametrize(("op", "wanted"), [("SegmentSum", [7, 0, 2]), ("SegmentMax", [5, 0, 2])])
def test_segments_of_whole_numbers_of_a_feature(op, wanted):
    values = feature([[5, 2], [], [2]])
    assert load([(Op(op, [values.values, rows_of(values)]), "int64")])()[0].tolist() == wanted


@pytest.mark.parametrize(("op", "wanted"), [("SegmentMax", [2**31, 0, 2**32 - 1]), ("SegmentMin", [1, 0, -8])])
def test_extremes_of_large_integers_of_a_feature(op, wanted):
    """ONNX Runtime's ReduceMax and ReduceMin misread those from 2**31 to 2**32 - 1."""
    values = feature([[1, 2**31, 2**31], [], [2**32 - 1, -8, 3], []])
    assert load([(Op(op, [values.values, rows_of(values)]), "int64")])()[0].tolist() == wanted


@pytest.mark.parametrize(("op", "wanted"), [("SegmentMax", [2**31, 0, 2**32 - 1]), ("SegmentMin", [1, 0, -8])])
def test_segments_of_large_integers_in_full(op, wanted):
    values, ids = np.array([1, 2**31, 2**31, 2**32 - 1, -8, 3]), np.array([0, 0, 0, 2, 2, 2])
    assert run(op, [values, ids], "int64").tolist() == wanted


def test_weights_of_zero_divide_by_zero_as_in_tensorflow():
    """The weighted mean of Estimators: sums of products over sums of weights."""
    ids, weights = features(ids=([[1, 2], [3]], "int64"), weights=([[2.0, 1.0], [0.0]], "float32"))
    weight = Op("ExpandDims", [weights.values, Const(np.int32(1))])
    product = Op("Mul", [gather(Const(TABLE), ids.values), weight])
    total, share = (Op("SegmentSum", [one, rows_of(ids)]) for one in (product, weight))
    made = load([(Op("RealDiv", [total, share]), "float32")])()[0]
    assert_allclose(made, [[3.333333, 0.0], [np.nan, np.nan]], rtol=1e-6)


@cache
def sums_of_rows():
    return load([(looked_up(TABLE, feature(ROWS), "sum"), "float32")])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), max_size=3), max_size=4))
def test_lookups_of_any_rows_are_those_of_numpy(rows):
    found = sums_of_rows()(examples(ids=rows))[0]
    last = max((index + 1 for index, row in enumerate(rows) if row), default=0)
    wanted = [TABLE[row].sum(0) if row else np.zeros(2) for row in rows[:last]]
    assert_allclose(found, np.array(wanted).reshape(last, 2))


# ---- distinct values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int32", "int64", "int8", "uint8", "float16", "float32", "float64"])
def test_distinct_values_in_the_order_of_their_first_place(dtype):
    found = run("Unique", [np.array([5, 3, 5, 5, 0, 3], dtype)], [dtype, "int32"], shapes=[(None,)])
    assert [one.tolist() for one in found] == [[5, 3, 0], [0, 1, 0, 0, 2, 1]]
    assert found[0].dtype == dtype


def test_distinct_booleans():
    found = run("Unique", [np.array([True, True, False])], ["bool", "int32"], shapes=[(None,)])
    assert [one.tolist() for one in found] == [[True, False], [0, 0, 1]]


@pytest.mark.parametrize("out_idx", ["int32", "int64"])
def test_distinct_texts(out_idx):
    texts = np.array([b"b", "ä".encode(), b"", b"b"], object)
    found = run("Unique", [texts], ["string", out_idx], shapes=[(None,)], out_idx=Type(out_idx))
    assert [one.tolist() for one in found] == [["b", "ä", ""], [0, 1, 2, 0]]


def test_nothing_has_no_distinct_values():
    found = run("Unique", [np.zeros(0, np.int64)], ["int64", "int32"], shapes=[(None,)])
    assert [one.tolist() for one in found] == [[], []]


def test_distinct_values_along_an_axis():
    axis = Const(np.array([0], np.int64))
    found = run("UniqueV2", [np.array([2, 1, 2], np.int64), axis], ["int64", "int32"], shapes=[(None,), None])
    assert [one.tolist() for one in found] == [[2, 1], [0, 1, 0]]


def test_distinct_slices_are_refused():
    axis = Const(np.array([0], np.int64))
    assert refusal("UniqueV2", [TABLE, axis], ["float32", "int32"]) == "it looks for distinct slices"


@pytest.mark.parametrize(
    ("read", "dtype", "text"),
    [
        (lambda unique: unique.at(0), "int64", "it reads distinct values in full; they are converted only in front of"),
        (lambda unique: unique.at(1), "int32", "it reads the places of distinct values in full"),
        (lambda unique: Op("Size", [unique.at(0)]), "int32", "how many distinct values there are is used"),
        (lambda unique: Op("Unique", [unique.at(0)], INT32), "int64", "it reads distinct values in full; they are"),
    ],
    ids=["values", "places", "number", "again"],
)
def test_distinct_values_of_a_feature_are_followed_only_to_lookups(read, dtype, text):
    unique = Op("Unique", [feature(ROWS).values], INT32)
    assert why_not(lambda: load([(read(unique), dtype)])).startswith(text)


def test_segments_of_a_features_booleans_are_refused():
    ids = feature(ROWS)
    flags = Op("Greater", [ids.values, Const(np.int64(1))])
    assert why_not(lambda: load([(Op("SegmentSum", [flags, rows_of(ids)]), "bool")])) == (
        "it cannot be converted as it stands here (segments of bool)"
    )
