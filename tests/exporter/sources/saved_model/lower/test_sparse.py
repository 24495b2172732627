"""Sparse tensors: filled, reordered, cut, crossed, taken apart, and back to dense ones, of features and of clients."""

from functools import cache

import numpy as np
import pytest
from features import Sparse, column, examples, feature, features, filled, gather, looked_up, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from lowered import Const, Fed, Op, Type, load, refusal, run, why_not
from numpy.testing import assert_allclose
from parsed_examples import InvalidArgument

IDS = [[3, 1], [], [2, 2, 0]]
WORDS = [[b"a", b""], [], ["ü".encode()]]
INDICES = np.array([[0, 1], [2, 0]], np.int64)
TABLE = np.array([[0.0, 1.0], [2.0, -4.0], [6.0, 8.0], [1.0, 0.5]], np.float32)


def given_sparse(shape=(3, 4)):
    """A sparse tensor that clients send."""
    return Sparse(Fed(INDICES, (None, 2)), Fed(np.array([7.0, 5.0], np.float32), (None,)), Const(np.array(shape)))


def dense(sparse, default, width=None):
    """The dense tensor of a sparse one; its own shape, or as many columns as `width` says."""
    shape = sparse.shape if width is None else Const(np.array([3, width], np.int64))
    return Op("SparseToDense", [sparse.indices, shape, sparse.values, Const(default)], {"validate_indices": True})


def with_width(sparse, width):
    """The dense shape of a batch with another width."""
    rows = Op("StridedSlice", [sparse.shape, *(Const(np.array([one], np.int32)) for one in (0, 1, 1))])
    return Op("ConcatV2", [rows, Const(np.array([width], np.int64)), Const(np.int32(0))])


def found(*outputs):
    """What a graph gives for outputs, each with its dtype."""
    return [one.tolist() for one in load(outputs)()]


# ---- dense ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "dtype", "default", "wanted"),
    [
        (IDS, "int64", np.int64(-1), [[3, 1, -1], [-1, -1, -1], [2, 2, 0]]),
        ([[0.5], [], [1.5, 2.5]], "float32", np.float32(9), [[0.5, 9.0], [9.0, 9.0], [1.5, 2.5]]),
        (WORDS, "string", np.array(b"?", object), [["a", ""], ["?", "?"], ["ü", "?"]]),
        ([[], []], "int64", np.int64(-1), [[], []]),
        ([], "int64", np.int64(-1), []),
    ],
    ids=["ids", "floats", "words", "empty rows", "no rows"],
)
def test_a_feature_as_a_dense_tensor(rows, dtype, default, wanted):
    assert found((dense(feature(rows, dtype), default), dtype)) == [wanted]


def test_a_feature_in_a_wider_tensor():
    assert found((dense(feature(IDS), np.int64(0), 4), "int64")) == [[[3, 1, 0, 0], [0, 0, 0, 0], [2, 2, 0, 0]]]


def test_one_value_for_every_entry():
    ids = feature(IDS)
    ones = Sparse(ids.indices, Const(np.float32(1)), ids.shape)
    assert found((dense(ones, np.float32(0)), "float32")) == [[[1, 1, 0], [0, 0, 0], [1, 1, 1]]]


def test_a_clients_sparse_tensor_as_a_dense_one():
    wanted = [[0.0, 7.0, 0.0, 0.0], [0.0] * 4, [5.0, 0.0, 0.0, 0.0]]
    assert found((dense(given_sparse(), np.float32(0)), "float32")) == [wanted]


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_places_in_a_vector(dtype):
    places, values = np.array([1, 3], dtype), np.array([2.5, 1.5], np.float32)
    inputs = [places, Const(np.array([4], dtype)), values, Const(np.float32(0))]
    assert run("SparseToDense", inputs, "float32", shapes=[(None,), None, (None,), None]).tolist() == [0, 2.5, 0, 1.5]
    one = [Const(np.array(2, dtype)), Const(np.array([4], dtype)), Const(np.int64(7)), Const(np.int64(-1))]
    assert run("SparseToDense", one, "int64").tolist() == [-1, -1, 7, -1]


# ---- empty rows -----------------------------------------------------------------------------------------------------


def test_empty_rows_are_filled():
    ids, flags = filled(feature(IDS), np.int64(9))
    assert found((ids.indices, "int64"), (ids.values, "int64"), (flags, "bool")) == [
        [[0, 0], [0, 1], [1, 0], [2, 0], [2, 1], [2, 2]],
        [3, 1, 9, 2, 2, 0],
        [False, True, False],
    ]


@pytest.mark.parametrize("dtype", ["float32", "string"])
def test_empty_rows_of_other_types_are_filled(dtype):
    rows, default = (
        ([[], [1.5]], np.float32(-1)) if dtype == "float32" else ([[], [b"x"]], np.array("ü".encode(), object))
    )
    values, flags = filled(feature(rows, dtype), default)
    wanted = [-1.0, 1.5] if dtype == "float32" else ["ü", "x"]
    assert found((values.values, dtype), (flags, "bool")) == [wanted, [True, False]]


@pytest.mark.parametrize(("rows", "values"), [([], []), ([[]], [9]), ([[1], [2]], [1, 2])])
def test_batches_of_any_size_are_filled(rows, values):
    ids, flags = filled(feature(rows), np.int64(9))
    assert found((ids.values, "int64"), (flags, "bool")) == [values, [not row for row in rows]]


def test_the_rows_of_filled_entries():
    ids, _ = filled(feature(IDS), np.int64(9))
    assert found((rows_of(ids), "int32")) == [[0, 0, 1, 2, 2, 2]]


def test_what_is_filled_must_be_a_feature():
    fill = Op("SparseFillEmptyRows", [*given_sparse(), Const(np.float32(0))])
    assert why_not(lambda: load([(fill.at(1), "float32")])) == (
        "its entries are no feature's, or were moved in a way that is not followed"
    )


def test_rows_are_filled_once():
    ids, _ = filled(feature(IDS), np.int64(9))
    again, _ = filled(ids, np.int64(8))
    assert why_not(lambda: load([(again.values, "int64")])) == "its entries were filled or taken apart before"


def test_rows_that_were_sorted_by_their_ids_are_not_filled():
    ids = feature(IDS)
    sparse, _ = filled(by_ids(ids, ids.values), np.int64(9))
    assert why_not(lambda: load([(sparse.values, "int64")])) == "its entries are not in the order of their rows"


def test_entries_of_filled_rows_are_numbered():
    ids, _ = filled(feature(IDS), np.int64(9))
    count = Op("Size", [ids.values], {"out_type": Type("int64")})
    assert found((Op("Range", [Const(np.int64(0)), count, Const(np.int64(1))]), "int64")) == [[0, 1, 2, 3, 4, 5]]


def test_the_way_back_from_filled_rows_is_refused():
    fill = Op("SparseFillEmptyRows", [*feature(IDS), Const(np.int64(9))])
    assert why_not(lambda: load([(fill.at(3), "int64")])) == "its reverse index map is used"


# ---- shape and order ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "indices", "wanted"),
    [
        ([4, 3], [[0, 1], [2, 2]], [4, 3]),
        ([-1, 2], [[0, 1], [4, 0]], [6, 2]),
        ([12], [[1], [8]], [12]),
        ([2, -1, 3], [[0, 0, 1], [1, 0, 2]], [2, 2, 3]),
        ([3, 4], INDICES.tolist(), [3, 4]),
    ],
)
def test_a_clients_sparse_tensor_in_another_shape(shape, indices, wanted):
    sparse = given_sparse()
    made = Op("SparseReshape", [sparse.indices, sparse.shape, Const(np.array(shape, np.int64))])
    assert found((made.at(0), "int64"), (made.at(1), "int64")) == [indices, wanted]


def test_a_feature_in_another_shape():
    """[3, 3] with one row for each entry's place: its indices are computed by the graph."""
    ids = feature(IDS)
    made = Op("SparseReshape", [ids.indices, ids.shape, Const(np.array([-1, 1], np.int64))])
    assert found((made.at(0), "int64"), (made.at(1), "int64")) == [[[0, 0], [1, 0], [6, 0], [7, 0], [8, 0]], [9, 1]]


def test_a_feature_in_its_own_shape_stays_a_feature():
    ids = feature(IDS)
    made = Op("SparseReshape", [ids.indices, ids.shape, with_width(ids, -1)])
    reshaped = Sparse(made.at(0), ids.values, made.at(1))
    assert_allclose(found((looked_up(TABLE, reshaped, "sum"), "float32"))[0], [[3, -3.5], [0, 0], [12, 17]])


def reordered(sparse):
    made = Op("SparseReorder", sparse)
    return Sparse(made.at(0), made.at(1), sparse.shape)


def test_a_feature_in_order_stays_as_it_is():
    ids = reordered(feature(IDS))
    assert found((ids.indices, "int64"), (ids.values, "int64")) == [
        [[0, 0], [0, 1], [2, 0], [2, 1], [2, 2]],
        [3, 1, 2, 2, 0],
    ]


def by_ids(ids, values, width=4):
    """The sparse tensor whose columns are ids, as weighted columns have it."""
    indices = Op("Pack", [column(ids.indices, 0), ids.values], {"axis": 1})
    return reordered(Sparse(indices, values, with_width(ids, width)))


def test_entries_sorted_by_their_ids_are_added_up_where_they_are():
    ids, weights = features(ids=(IDS, "int64"), weights=([[0.5, 2.0], [], [1.0, 3.0, 4.0]], "float32"))
    ids = ids._replace(values=Op("Maximum", [ids.values, Const(np.int64(0))]))
    sparse = by_ids(ids, weights.values)
    made = Op("ScatterNd", [sparse.indices, sparse.values, sparse.shape])
    assert found((made, "float32")) == [[[0.0, 2.0, 0.0, 0.5], [0.0] * 4, [4.0, 0.0, 4.0, 0.0]]]


def test_the_order_of_entries_sorted_by_their_ids_is_not_known():
    ids = feature(IDS)
    sparse = by_ids(ids, ids.values)
    assert why_not(lambda: load([(sparse.values, "int64")])) == (
        "it depends on the order of entries that were sorted by their ids"
    )


def test_a_clients_sparse_tensor_is_not_sorted():
    assert why_not(lambda: load([(reordered(given_sparse()).values, "float32")])) == (
        "its entries are no feature's, or were moved in a way that is not followed"
    )


def cut(sparse, start, size):
    starts, sizes = (Const(np.array(one, np.int64)) for one in (start, size))
    made = Op("SparseSlice", [*sparse, starts, sizes])
    return Sparse(made.at(0), made.at(1), made.at(2))


@pytest.mark.parametrize(
    ("size", "values", "shape"),
    [
        ([3, 2], [3, 1, 2, 2], [3, 2]),
        ([2, 3], [3, 1], [2, 3]),
        ([1, 1], [3], [1, 1]),
        ([9, 9], [3, 1, 2, 2, 0], [3, 3]),
        ([3, 0], [], [3, 0]),
    ],
)
def test_the_first_rows_and_columns_of_a_feature(size, values, shape):
    made = cut(feature(IDS), [0, 0], size)
    assert found((made.values, "int64"), (made.shape, "int64")) == [values, shape]


def test_a_cut_that_begins_later_is_refused():
    made = cut(feature(IDS), [0, 1], [3, 1])
    assert why_not(lambda: load([(made.values, "int64")])) == "it does not begin at 0"


def test_ids_that_are_too_large_are_cut_away():
    """As indicator columns do: the sparse tensor by ids, cut to the number of buckets, added up."""
    ids = feature([[0, 7], [1, 1], [-1]])
    ones = Op("OnesLike", [Op("Cast", [ids.values], {"SrcT": Type("int64"), "DstT": Type("float32")})])
    starts, sizes = Const(np.zeros(2, np.int64)), with_width(ids, 2)
    cut_away = Op("SparseSlice", [*by_ids(ids, ones), starts, sizes])
    inside = Sparse(*(cut_away.at(index) for index in range(3)))
    made = Op("ScatterNd", [inside.indices, inside.values, inside.shape])
    assert found((made, "float32")) == [[[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]]


# ---- scatter --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_repeated_places_add_up(dtype):
    places, values = np.array([[1], [3], [1]], np.int32), np.array([1, 2, 4], dtype)
    made = run("ScatterNd", [places, values, Const(np.array([5], np.int32))], dtype, shapes=[(None, 1), (None,), None])
    assert (made.dtype, made.tolist()) == (dtype, [0, 5, 0, 2, 0])


def test_rows_are_scattered():
    places, rows = np.array([[2], [0]], np.int64), np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    made = run("ScatterNd", [places, rows, Const(np.array([3, 2]))], "float32", shapes=[(None, 1), (None, 2), None])
    assert made.tolist() == [[3.0, 4.0], [0.0, 0.0], [1.0, 2.0]]


@pytest.mark.parametrize("place", [-1, 5])
def test_a_place_outside_is_an_error(place):
    inputs = [np.array([[place]], np.int32), np.ones(1, np.float32), Const(np.array([5], np.int32))]
    with pytest.raises(InvalidArgument, match="invalid indice found"):
        run("ScatterNd", inputs, "float32", shapes=[(None, 1), (None,), None])


# ---- crosses --------------------------------------------------------------------------------------------------------


def crossed(sparse, types, denses=(), buckets=10, key=956888297470):
    """SparseCross of sparse tensors and dense ones; `types` are those of all of them."""
    kinds = [Type(one) for one in types]
    attributes = {
        "N": len(sparse),
        "sparse_types": kinds[: len(sparse)],
        "dense_types": kinds[len(sparse) :],
        "hashed_output": True,
        "num_buckets": buckets,
        "hash_key": key,
        "out_type": Type("int64"),
        "internal_type": Type("int64" if "int64" in types else "string"),
    }
    inputs = [one for part in zip(*sparse, strict=True) for one in part]
    made = Op("SparseCross", [*inputs, *denses], attributes)
    return Sparse(made.at(0), made.at(1), made.at(2))


def test_a_cross_of_two_features():
    words, ids = features(words=([[b"a", b""], [], [b"b"]], "string"), ids=([[1, 2], [3], [-4]], "int64"))
    made = crossed([words, ids], ["string", "int64"], buckets=1000)
    assert found((made.indices, "int64"), (made.values, "int64"), (made.shape, "int64")) == [
        [[0, 0], [0, 1], [0, 2], [0, 3], [2, 0]],
        [485, 987, 911, 385, 470],
        [3, 4],
    ]


def test_a_cross_of_texts():
    words, others = features(a=([[b"a", b""], [b"b"]], "string"), b=([["\u00fc".encode()], [b"x", b"y"]], "string"))
    made = crossed([words, others], ["string", "string"], buckets=1000)
    assert found((made.values, "int64")) == [[285, 795, 4, 805]]


def test_a_cross_with_a_dense_tensor():
    words = feature([[b"a"], [b"b", b"c"]], "string")
    numbers = Fed(np.array([[5], [6]], np.int64), (None, 1))
    texts = Fed(np.array([["x"], ["ü"]], object), (None, 1))
    made = crossed([words], ["string", "int64", "string"], [numbers, texts], buckets=1000, key=7)
    assert found((made.values, "int64")) == [[667, 683, 994]]


@pytest.mark.parametrize("rows", [[], [[]], [[], []]])
def test_a_cross_of_nothing(rows):
    made = crossed([feature(rows), feature(rows)], ["int64", "int64"])
    assert found((made.values, "int64")) == [[]]


def test_a_cross_of_ids_that_were_chosen():
    """Entries that are left out in the middle of a row move to its front."""
    ids = feature([[1, -1, 2], [-1], [-1, 3]])
    there = Op("GreaterEqual", [ids.values, Const(np.int64(0))])
    places = Op("Reshape", [Op("Where", [there]), Const(np.array([-1], np.int32))])
    kept = Sparse(gather(ids.indices, places), gather(ids.values, places), ids.shape)
    made = crossed([kept], ["int64"], buckets=1000)
    assert found((made.values, "int64")) == [[220, 75, 842]]


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"hashed_output": False, "num_buckets": 0}, "it gives the crossed text itself, or ids without a bound"),
        ({"hashed_output": True, "num_buckets": 0}, "it gives the crossed text itself, or ids without a bound"),
    ],
)
def test_crosses_without_buckets_are_refused(attributes, text):
    ids = feature(IDS)
    assert refusal("SparseCross", [*ids], ["int64", "int64", "int64"], N=1, hash_key=1, **attributes) == text


def test_a_cross_of_a_clients_sparse_tensor_is_refused():
    reason = why_not(lambda: load([(crossed([given_sparse()], ["float32"]).values, "int64")]))
    assert reason == "it crosses entries that are no feature's, or were moved in a way that is not followed"


def test_a_cross_of_filled_rows_is_refused():
    ids, _ = filled(feature(IDS), np.int64(0))
    reason = why_not(lambda: load([(crossed([ids], ["int64"]).values, "int64")]))
    assert reason == "it crosses entries that were filled before"


def test_a_cross_with_a_vector_is_refused():
    vector = Fed(np.array([1, 2, 3]), (None,))
    reason = why_not(lambda: load([(crossed([feature(IDS)], ["int64", "int64"], [vector]).values, "int64")]))
    assert reason == "it crosses a dense tensor that is no matrix"


# ---- partitions -----------------------------------------------------------------------------------------------------


def test_rows_are_taken_apart():
    parts = Op("DynamicPartition", [Fed(TABLE, (None, 2)), Fed(np.array([1, 0, 1, 1], np.int32), (None,))])
    parts.attributes["num_partitions"] = 3
    assert found(*((parts.at(index), "float32") for index in range(3))) == [
        [[2.0, -4.0]],
        [[0.0, 1.0], [6.0, 8.0], [1.0, 0.5]],
        [],
    ]


def test_rows_are_put_together():
    first, second = np.array([2, 0], np.int32), np.array([1, 4], np.int32)
    rows = [Fed(TABLE[:2], (None, 2)), Fed(TABLE[2:], (None, 2))]
    made = Op("DynamicStitch", [Fed(first, (None,)), Fed(second, (None,)), *rows], {"N": 2})
    wanted = [[2.0, -4.0], [6.0, 8.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.5]]
    made_rows = found((made, "float32"))[0]
    assert made_rows[:3] + made_rows[4:] == wanted[:3] + wanted[4:]


def test_the_last_of_repeated_places_stands():
    places, values = Fed(np.array([0, 0, 1], np.int32), (None,)), Fed(np.array([1.0, 2.0, 3.0], np.float32), (None,))
    assert found((Op("DynamicStitch", [places, values], {"N": 1}), "float32")) == [[2.0, 3.0]]


def test_places_of_a_higher_rank_are_refused():
    inputs = [np.array([[0, 1]], np.int32), np.ones((1, 2), np.float32)]
    assert refusal("DynamicStitch", inputs, N=1) == "it stitches indices of other ranks than 1"


def partitioned_lookup(ids, tables, part_op, inner_op):
    """A lookup in a table that is kept in parts: row `inner_op(i)` of part `part_op(i)`."""
    count = Const(np.int64(2))
    part = Op("Cast", [Op(part_op, [ids.values, count])], {"SrcT": Type("int64"), "DstT": Type("int32")})
    places = Op("Range", [Const(np.int32(0)), Op("Size", [ids.values]), Const(np.int32(1))])
    divided = {"num_partitions": len(tables)}
    inner = Op("DynamicPartition", [Op(inner_op, [ids.values, count]), part], divided)
    backwards = Op("DynamicPartition", [places, part], divided)
    rows = [gather(Const(table), inner.at(index)) for index, table in enumerate(tables)]
    return Op("DynamicStitch", [*(backwards.at(index) for index in range(len(tables))), *rows], {"N": len(tables)})


MOD, DIV = ([TABLE[::2], TABLE[1::2]], "FloorMod", "FloorDiv"), ([TABLE[:2], TABLE[2:]], "FloorDiv", "FloorMod")


@pytest.mark.parametrize("strategy", [MOD, DIV], ids=["mod", "div"])
def test_a_table_in_parts_is_looked_up(strategy):
    ids = feature(IDS)
    made = Op("SegmentSum", [partitioned_lookup(ids, *strategy), rows_of(ids)])
    assert found((made, "float32")) == [[[3.0, -3.5], [0.0, 0.0], [12.0, 17.0]]]


@pytest.mark.parametrize(("default", "row"), [(1, [2.0, -4.0]), (3, [1.0, 0.5])])
def test_a_table_in_parts_is_looked_up_where_rows_were_filled(default, row):
    ids, _ = filled(feature(IDS), np.int64(default))
    made = Op("SegmentSum", [partitioned_lookup(ids, *DIV), rows_of(ids)])
    assert found((made, "float32")) == [[[3.0, -3.5], row, [12.0, 17.0]]]


def test_texts_are_put_together():
    texts = [np.array(["b", "ü"], object), np.array([""], object)]
    places = [np.array([2, 0], np.int32), np.array([1], np.int32)]
    assert run("DynamicStitch", [*places, *texts], "string", N=2).tolist() == ["ü", "", "b"]


def test_how_many_entries_a_part_has_is_not_followed():
    ids = feature(IDS)
    part = Op("Cast", [ids.values], {"SrcT": Type("int64"), "DstT": Type("int32")})
    parts = Op("DynamicPartition", [ids.values, part], {"num_partitions": 4})
    size = Op("Size", [parts.at(1)])
    assert why_not(lambda: load([(size, "int32")])) == "how many entries a part has is used"


# ---- ragged ---------------------------------------------------------------------------------------------------------

TEXTS = np.array(["one two", "", "  drei  vier\tfünf "], object)


def words_of(texts, width, default="?", rows=-1):
    """The words of texts as a matrix, as Keras' TextVectorization makes it."""
    split = Op("StringSplitV2", [Fed(texts, (None,)), Const(np.array(b"", object))], {"maxsplit": -1})
    words = Sparse(*(split.at(index) for index in range(3)))
    count = Op(
        "Reshape", [Op("StridedSlice", [words.shape, *(Const(np.array([i], np.int32)) for i in (0, 1, 1))]), EMPTY]
    )
    attributes = {"num_row_partition_tensors": 2, "row_partition_types": ["FIRST_DIM_SIZE", "VALUE_ROWIDS"]}
    shape = Const(np.array([rows, width], np.int64))
    inputs = [shape, words.values, Const(np.array(default.encode(), object)), count, column(words.indices, 0)]
    return Op("RaggedTensorToTensor", inputs, attributes)


EMPTY = Const(np.array([], np.int32))


@pytest.mark.parametrize(
    ("width", "wanted"),
    [
        (-1, [["one", "two", "?"], ["?"] * 3, ["drei", "vier", "fünf"]]),
        (2, [["one", "two"], ["?", "?"], ["drei", "vier"]]),
        (4, [["one", "two", "?", "?"], ["?"] * 4, ["drei", "vier", "fünf", "?"]]),
    ],
)
def test_words_as_a_matrix(width, wanted):
    assert found((words_of(TEXTS, width), "string")) == [wanted]


@pytest.mark.parametrize("texts", [TEXTS[:0], TEXTS[1:2]])
def test_no_words_as_a_matrix(texts):
    assert found((words_of(texts, 2), "string")) == [[["?", "?"]] * len(texts)]


def test_a_matrix_of_a_given_number_of_rows_is_refused():
    reason = why_not(lambda: load([(words_of(TEXTS, 2, rows=3), "string")]))
    assert reason == "its rows are not followed to where they come from"


# ---- any rows -------------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.integers(-3, 3), max_size=4), max_size=4))
def test_any_rows_are_filled_and_added_up(rows):
    values, total = sums_of_filled()(examples(ids=rows))
    assert values.tolist() == [one for row in rows for one in row or [9]]
    assert total.tolist() == [sum(row) if row else 9 for row in rows]


@cache
def sums_of_filled():
    ids, _ = filled(feature(IDS), np.int64(9))
    return load([(ids.values, "int64"), (Op("SegmentSum", [ids.values, rows_of(ids)]), "int64")])
