"""What takes elements by their places or by a condition, and puts them at places, does as TensorFlow does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lowered import Const, Fed, Op, Type, Variable, load, refusal, run, run_rows
from numpy.testing import assert_allclose, assert_array_equal
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument

X = np.arange(6, dtype=np.float32).reshape(2, 3)
TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)
MASK = np.array([[True, False, True], [False, False, True]])
ZERO = Const(np.array(0, np.int32))


def ints(*values):
    return Const(np.array(values, np.int32))


def outside():
    """What ONNX Runtime says of a place that is not there."""
    return pytest.raises((Fail, InvalidArgument), match="ind(ex|ic)")


# ---- places of what is true -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "wanted"),
    [
        ([True, False, True], [[0], [2]]),
        ([False, False, False], np.zeros((0, 1))),
        ([[True, False, True], [False, False, True]], [[0, 0], [0, 2], [1, 2]]),
        ([[[True], [False]], [[False], [True]]], [[0, 0, 0], [1, 1, 0]]),
        (np.zeros((0, 3), bool), np.zeros((0, 2))),
    ],
)
def test_where(mask, wanted):
    mask = np.array(mask, bool)
    assert_array_equal(run_rows("Where", [mask], "int64"), wanted)
    assert_array_equal(run("Where", [Const(mask)], "int64"), wanted)


def test_where_of_numbers():
    assert refusal("Where", [X], "int64") == "it looks for float32 that are not 0"


@given(arrays(bool, st.tuples(st.integers(0, 4), st.just(3))))
def test_masked_elements_are_numpys(masked, mask):
    x = np.arange(mask.size, dtype=np.float32).reshape(mask.shape)
    places, elements, rows = masked(mask, x)
    assert_array_equal(places, np.argwhere(mask))
    assert_array_equal(elements, x[mask])
    assert_array_equal(rows, x[mask[:, 0]])


@pytest.fixture(scope="module")
def masked():
    """The places of a mask [rows, 3], the elements there, and the rows whose first flag is true."""
    mask, x = Fed(MASK, (None, 3)), Fed(X, (None, 3))
    places = Op("Where", [mask])
    flags = Op(
        "StridedSlice",
        [mask, ints(0, 0), ints(0, 1), ints(1, 1)],
        {"begin_mask": 1, "end_mask": 1, "shrink_axis_mask": 2},
    )
    rows = Op("Squeeze", [Op("Where", [flags])], {"squeeze_dims": [1]})
    taken = Op("GatherV2", [x, rows, ZERO])
    return load([(places, "int64"), (Op("GatherNd", [x, places]), "float32"), (taken, "float32")])


def test_masked_elements_masked_again():
    """What is true among elements that are no longer a matrix: places count among these."""
    x = Fed(X, (None, 3))
    picked = Op("GatherNd", [x, Op("Where", [Fed(MASK, (None, 3))])])
    large = Op("Where", [Op("Greater", [picked, Const(np.float32(1))])])
    places = Op("Squeeze", [large], {"squeeze_dims": [1]})
    again = Op("GatherV2", [picked, places, ZERO])
    got = load([(picked, "float32"), (large, "int64"), (again, "float32")])(X, MASK)
    assert [one.tolist() for one in got] == [[0, 2, 5], [[1], [2]], [2, 5]]


# ---- gathering ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "at"), [(0, [3, 0]), (1, [2, 2, 0]), (-1, [1]), (0, [[0, 1], [2, 3]]), (1, 2), (0, [])]
)
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_gather(axis, at, dtype):
    at = np.array(at, dtype)
    wanted = np.take(TABLE, at, axis)
    for source in (TABLE, Const(TABLE)):
        for indices in (Fed(at), Const(at), Fed(at, (None, *at.shape[1:]) if at.ndim else ())):
            got = run("GatherV2", [source, indices, Const(np.array(axis, np.int32))], "float32")
            assert_array_equal(got, wanted)


@pytest.mark.parametrize("dtype", ["float16", "float64", "int8", "uint8", "int64", "bool", "string"])
def test_gather_of_every_type(dtype):
    table = np.array([b"0", b"1", b"2"], object) if dtype == "string" else np.array([0, 1, 1], dtype)
    got = run("GatherV2", [table, np.array([2, 0], np.int32), ZERO], dtype)
    assert got.tolist() == (["2", "0"] if dtype == "string" else [1, 0])


def test_gather_of_version_one_and_of_a_variable():
    at = np.array([[1], [3]], np.int64)
    assert_array_equal(run("Gather", [TABLE, at]), TABLE[at])
    assert_array_equal(run_rows("ResourceGather", [Variable(TABLE), at], "float32", dtype="float32"), TABLE[at])


def test_gather_of_sizes():
    shape = Op("Shape", [Fed(X, (None, 3))])
    both = Op("GatherV2", [shape, ints(1, 0), ZERO])
    assert load([(both, "int32")])(X[:1])[0].tolist() == [3, 1]


@pytest.mark.parametrize("index", [-1, 4, -5])
def test_places_outside_a_table_are_refused(index):
    graph = load([(Op("GatherV2", [Const(TABLE), Fed(np.array([0], np.int32), (None,)), ZERO]), "float32")])
    assert graph(np.array([3], np.int32))[0].tolist() == [[9, 10, 11]]
    with outside():
        graph(np.array([index], np.int32))
    constant = refusal("GatherV2", [Const(TABLE), ints(index), ZERO])
    assert constant == f"it takes element {index} of 4"


def test_gather_batch_by_batch():
    assert refusal("GatherV2", [X, X.astype("int32"), ints(1)], batch_dims=1) == "it gathers batch by batch"


@pytest.mark.parametrize(
    ("at", "wanted"),
    [
        ([[1, 2], [0, 0]], [5, 0]),
        ([[1], [0], [1]], [[3, 4, 5], [0, 1, 2], [3, 4, 5]]),
        ([[[0, 1]], [[1, 0]]], [[1], [3]]),
        (np.zeros((0, 2)), []),
    ],
)
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_gather_by_coordinates(at, wanted, dtype):
    at = np.array(at, dtype)
    assert run_rows("GatherNd", [Const(X), at], "float32").tolist() == wanted
    assert run("GatherNd", [X, Const(at)]).tolist() == wanted


@pytest.mark.parametrize("place", [[-1, 0], [0, 3], [2, 0]])
def test_coordinates_outside_are_refused(place):
    graph = load([(Op("GatherNd", [Const(X), Fed(np.zeros((1, 2), np.int32), (None, 2))]), "float32")])
    with outside():
        graph(np.array([place], np.int32))


def test_coordinates_of_an_open_depth():
    reason = refusal("GatherNd", [X, np.zeros((1, 2), np.int32)], shapes=[None, (1, None)])
    assert reason == "its indices have an open depth"


# ---- choosing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool", "string"]
)
@pytest.mark.parametrize("op", ["Select", "SelectV2"])
def test_select_of_every_type(op, dtype):
    x, y = np.array([1, 1, 0], "int8"), np.array([0, 1, 1], "int8")
    if dtype == "string":
        x, y = (np.array([b"%d" % one for one in values], object) for values in (x, y))
    else:
        x, y = x.astype(dtype), y.astype(dtype)
    condition = np.array([True, False, False])
    wanted = ["1", "1", "1"] if dtype == "string" else [1, 1, 1]
    assert run(op, [condition, x, y], dtype).tolist() == wanted
    assert run(op, [Const(condition), Const(x), Const(y)], dtype).tolist() == wanted


@pytest.mark.parametrize(
    ("c", "x", "y"), [((2, 1), (2, 3), (2, 3)), ((2, 3), (), (3,)), ((), (2, 3), (1, 3)), ((3,), (2, 1), ())]
)
def test_select_broadcasts(c, x, y):
    condition = np.arange(np.prod(c, dtype=int)).reshape(c) % 2 == 0
    x, y = np.full(x, 1, np.float32), np.full(y, 2, np.float32)
    assert_array_equal(run("SelectV2", [condition, x, y], "float32"), np.where(condition, x, y))


@pytest.mark.parametrize("condition", [[True, False], [False, False]])
def test_select_of_version_one_takes_a_flag_for_each_row(condition):
    flags = np.array(condition)
    wanted = np.where(flags[:, None], X, -X)
    assert_array_equal(run_rows("Select", [flags, X, -X], "float32"), wanted)
    assert_array_equal(run("Select", [np.array(True), X, -X], "float32"), X)


@given(arrays("float32", (4, 3), elements=st.floats(-9, 9, width=32)))
def test_select_by_a_comparison_is_numpys(halved, x):
    assert_array_equal(halved(x)[0], np.where(x > 1, x / 2, 7))


@pytest.fixture(scope="module")
def halved():
    x = Fed(np.ones((2, 3), np.float32), (None, 3))
    above = Op("Greater", [x, Const(np.float32(1))])
    half = Op("RealDiv", [x, Const(np.float32(2))])
    blank = Op("Fill", [Op("Shape", [x]), Const(np.float32(7))])
    return load([(Op("SelectV2", [above, half, blank]), "float32")])


def test_ids_are_brought_into_range_before_a_lookup():
    """What an integer column does: ids out of range get a default, and no lookup needs a check."""
    ids = Fed(np.array([[0]], np.int64), (None, 1))
    low = Op("Less", [ids, Const(np.int64(0))])
    high = Op("GreaterEqual", [ids, Const(np.int64(4))])
    default = Op("Fill", [Op("Shape", [ids]), Const(np.int64(1))])
    safe = Op("SelectV2", [Op("LogicalOr", [low, high]), default, ids])
    graph = load([(Op("GatherV2", [Const(TABLE[:, 0]), safe, ZERO]), "float32")])
    assert graph(np.array([[3], [4], [-7], [0]], np.int64))[0].tolist() == [[9], [3], [3], [0]]


# ---- one hot, top k -------------------------------------------------------------------------------------------------


def one_hot(ids, depth=3, on=1, off=0, dtype="float32", axis=-1):
    values = [Const(np.array(one, dtype)) for one in (on, off)]
    return run_rows("OneHot", [ids, Const(np.array(depth, np.int32)), *values], dtype, axis=axis)


@pytest.mark.parametrize("ids", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "int64", "uint8", "bool"])
def test_one_hot(ids, dtype):
    got = one_hot(np.array([2, 0, 7], ids), dtype=dtype)
    assert got.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]


def test_one_hot_of_negative_numbers_and_other_values():
    assert one_hot(np.array([-1, 1], np.int64), on=5, off=-2).tolist() == [[-2, -2, -2], [-2, 5, -2]]


@pytest.mark.parametrize(("axis", "shape"), [(-1, (2, 1, 3)), (0, (3, 2, 1)), (1, (2, 3, 1)), (2, (2, 1, 3))])
def test_one_hot_along_an_axis(axis, shape):
    ids = np.array([[1], [2]], np.int64)
    wanted = np.moveaxis(np.eye(3, dtype=np.float32)[ids], -1, axis)
    got = one_hot(ids, axis=axis)
    assert got.shape == shape
    assert_array_equal(got, wanted)
    assert one_hot(ids[:0]).shape == (0, 1, 3)


@pytest.mark.parametrize(("dtype", "name"), [("float64", "float64"), ("object", "object")])
def test_one_hot_that_is_not_converted(dtype, name):
    values = [Const(np.array(one, dtype)) for one in ((b"1", b"0") if dtype == "object" else (1, 0))]
    reason = refusal("OneHot", [np.array([1], np.int64), Const(np.int32(3)), *values], "string")
    assert reason == f"it makes values of {name}"


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize(("op", "k"), [("TopKV2", 2), ("TopK", 2), ("TopKV2", 3), ("TopKV2", 0)])
def test_top_k(op, k, dtype):
    x = np.array([[1, 3, 2], [5, 5, 4]], dtype)
    given_k = {"k": k} if op == "TopK" else {}
    inputs = [x] if op == "TopK" else [x, Const(np.array(k, np.int32))]
    values, places = run_rows(op, inputs, [dtype, "int32"], **given_k)
    assert values.tolist() == [one[:k] for one in ([3, 2, 1], [5, 5, 4])]
    assert places.tolist() == [one[:k] for one in ([1, 2, 0], [0, 1, 2])]


# ---- putting at places ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "int64"])
def test_scatter(dtype):
    at, updates = np.array([[1], [3], [1]], np.int32), np.array([1, 2, 3], dtype)
    assert run("ScatterNd", [at, updates, ints(5)], dtype).tolist() == [0, 4, 0, 2, 0]
    assert run("TensorScatterAdd", [np.ones(4, dtype), at, updates], dtype).tolist() == [1, 5, 1, 3]
    assert run("TensorScatterUpdate", [np.ones(4, dtype), at[:2], updates[:2]], dtype).tolist() == [1, 1, 1, 2]


def test_scatter_of_rows_and_of_cells():
    rows = run_rows("ScatterNd", [np.array([[1], [0]], np.int64), X, Const(np.array([3, 3], np.int64))], "float32")
    assert rows.tolist() == [[3, 4, 5], [0, 1, 2], [0, 0, 0]]
    cells = run("ScatterNd", [np.array([[1, 2], [0, 0]], np.int32), np.float32([7, 8]), ints(2, 3)], "float32")
    assert cells.tolist() == [[8, 0, 0], [0, 0, 7]]


def test_scatter_to_places_outside_is_refused():
    at = Fed(np.zeros((1, 1), np.int32), (None, 1))
    graph = load(
        [(Op("TensorScatterUpdate", [Const(np.zeros(3, np.float32)), at, Fed(np.ones(1, "f"), (None,))]), "float32")]
    )
    assert graph(np.array([[2]], np.int32), np.float32([5]))[0].tolist() == [0, 0, 5]
    with outside():
        graph(np.array([[3]], np.int32), np.float32([5]))
    with outside():
        graph(np.array([[-1]], np.int32), np.float32([5]))


def test_scatter_of_flags():
    at = np.array([[1]], np.int32)
    assert refusal("ScatterNd", [at, np.array([True]), ints(3)], "bool") == "it scatters bool"


# ---- counting, neighbours -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize(
    ("x", "counts", "flags"),
    [
        ([1, 1, 3, 9], [0, 2, 0, 1], [0, 1, 0, 1]),
        ([[1, 1, 3], [0, 0, 0]], [[0, 2, 0, 1], [3, 0, 0, 0]], [[0, 1, 0, 1], [1, 0, 0, 0]]),
        (np.zeros((0, 2)), np.zeros((0, 4)), np.zeros((0, 4))),
    ],
)
def test_counts(x, counts, flags, dtype):
    inputs = [np.array(x, np.int64), Const(np.array(4, np.int64)), Const(np.zeros(0, dtype))]
    assert_array_equal(run_rows("DenseBincount", inputs, dtype), counts)
    assert_array_equal(run_rows("DenseBincount", inputs, dtype, binary_output=True), flags)


def test_counts_of_negative_numbers_are_refused():
    x = Fed(np.zeros(1, np.int32), (None,))
    graph = load([(Op("DenseBincount", [x, Const(np.int32(3)), Const(np.zeros(0, np.float32))]), "float32")])
    with outside():
        graph(np.array([1, -1], np.int32))


@pytest.mark.parametrize("op", ["DenseBincount", "Bincount"])
def test_counts_with_weights(op):
    inputs = [np.array([1, 2], np.int32), Const(np.array(3, np.int32)), np.float32([0.5, 2])]
    assert refusal(op, inputs) == "it counts with weights"


@pytest.mark.parametrize("k", [1, 2, 9])
def test_nearest_neighbours(k):
    points, centres = np.float32([[0, 0], [3, 4]]), np.float32([[0, 1], [3, 4], [6, 8]])
    inputs = [points, Const(centres), Const(np.array(k, np.int64))]
    places, squares = run_rows("NearestNeighbors", inputs, ["int64", "float32"])
    assert places.tolist() == [one[:k] for one in ([0, 1, 2], [1, 0, 2])]
    assert_allclose(squares, [one[:k] for one in ([1, 25, 100], [0, 18, 25])], atol=1e-5)


# ---- ids of a grid that are kept, as feature columns keep them ------------------------------------------------------


IDS = np.array([[3, -1, 0], [-2, 4, -1]], np.int64)
EMBEDDINGS = np.arange(10, dtype=np.float32).reshape(5, 2)


def one_of(values, axis, kind="StridedSlice"):
    """Column `axis` of coordinates, as a vector; by Slice as a matrix."""
    if kind == "Slice":
        return Op("Slice", [values, ints(0, axis), ints(-1, 1)])
    masks = {"begin_mask": 1, "end_mask": 1, "shrink_axis_mask": 2}
    return Op("StridedSlice", [values, ints(0, axis), ints(0, axis + 1), ints(1, 1)], masks)


@pytest.fixture(scope="module")
def kept():
    """What a graph makes of the ids other than -1, by name."""
    ids = Fed(IDS, (None, 3))
    places = Op("Where", [Op("NotEqual", [ids, Const(np.int64(-1))])])
    values = Op("GatherNd", [ids, places])
    count = Op("Shape", [values], {"out_type": Type("int64")})
    where_valid = Op("Where", [Op("GreaterEqual", [values, Const(np.int64(0))])])
    valid = Op("Reshape", [where_valid, ints(-1)])
    valid_ids = Op("GatherV2", [values, valid, ZERO])
    column = Op("Reshape", [values, Op("ConcatV2", [count, Const(np.int64([1])), ZERO], {"N": 2})])
    widened = [Op("ExpandDims", [one_of(places, axis), Const(np.int32(1))]) for axis in (0, 1)]
    computed = {
        "places": places,
        "transposed": Op("Transpose", [places, ints(1, 0)]),
        "values": values,
        "rows": one_of(places, 0),
        "columns": one_of(places, 1, "Slice"),
        "count": count,
        "as a column": column,
        "and back": Op("Reshape", [column, ints(-1)]),
        "joined": Op("ConcatV2", [*widened, Const(np.int32(1))], {"N": 2}),
        "packed": Op("Pack", [values, one_of(places, 1)], {"N": 2, "axis": 1}),
        "sum": Op("AddV2", [values, one_of(places, 0)]),
        "remainder": Op("FloorMod", [values, Const(np.int64(5))]),
        "ones": Op("OnesLike", [values]),
        "numbers": Op("Range", [Const(np.int64(0)), Op("Squeeze", [count]), Const(np.int64(1))]),
        "which are valid": where_valid,
        "valid ids": valid_ids,
        "valid places": Op("GatherV2", [places, valid, ZERO]),
    }
    looked_up = {
        "looked up": Op("GatherV2", [Const(EMBEDDINGS), computed["remainder"], ZERO]),
        "valid looked up": Op("GatherV2", [Const(EMBEDDINGS), valid_ids, ZERO]),
    }
    outputs = [*((one, "int64") for one in computed.values()), *((one, "float32") for one in looked_up.values())]
    graph = load(outputs)
    return lambda x: dict(zip([*computed, *looked_up], graph(x), strict=True))


def kept_by_numpy(x):
    keep = x != -1
    places, values = np.argwhere(keep), x[keep]
    return {
        "places": places,
        "transposed": places.T,
        "values": values,
        "rows": places[:, 0],
        "columns": places[:, 1:],
        "count": [len(values)],
        "as a column": values[:, None],
        "and back": values,
        "joined": places,
        "packed": np.stack([values, places[:, 1]], 1),
        "sum": values + places[:, 0],
        "remainder": values % 5,
        "ones": np.ones(len(values)),
        "numbers": np.arange(len(values)),
        "which are valid": np.argwhere(values >= 0),
        "valid ids": values[values >= 0],
        "valid places": places[values >= 0],
        "looked up": EMBEDDINGS[values % 5],
        "valid looked up": EMBEDDINGS[values[values >= 0]],
    }


@given(arrays("int64", st.tuples(st.integers(0, 4), st.just(3)), elements=st.integers(-2, 4)))
def test_kept_ids_are_numpys(kept, x):
    found = kept(x)
    for name, wanted in kept_by_numpy(x).items():
        assert_array_equal(found[name], wanted, err_msg=name)


def test_kept_ids_outside_a_table_are_refused():
    ids = Fed(IDS, (None, 3))
    values = Op("GatherNd", [ids, Op("Where", [Op("NotEqual", [ids, Const(np.int64(-1))])])])
    graph = load([(Op("GatherV2", [Const(EMBEDDINGS), values, ZERO]), "float32")])
    assert graph(np.array([[0, -1, 4]]))[0].tolist() == [[0, 1], [8, 9]]
    for outside_it in (5, -2):
        with outside():
            graph(np.array([[0, -1, outside_it]]))


def test_a_matrix_as_a_vector_and_back():
    """All elements of a grid, in row order."""
    x = Fed(X, (None, 3))
    flat = Op("Reshape", [x, ints(-1)])
    doubled = Op("Mul", [flat, Const(np.float32(2))])
    back = Op("Reshape", [doubled, ints(-1, 3)])
    looked_up = Op(
        "GatherV2", [Const(EMBEDDINGS), Op("Cast", [flat], {"SrcT": Type("float32"), "DstT": Type("int32")}), ZERO]
    )
    graph = load([(doubled, "float32"), (back, "float32"), (looked_up, "float32")])
    for rows in (0, 1):
        got = graph(X[:rows])
        assert_array_equal(got[0], 2 * X[:rows].ravel())
        assert_array_equal(got[1], 2 * X[:rows])
        assert_array_equal(got[2], EMBEDDINGS[X[:rows].ravel().astype(int)])
