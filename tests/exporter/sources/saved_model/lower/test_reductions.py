"""Sums, extremes and their places along axes give TensorFlow's numbers, for batches without rows too."""

import numpy as np
import pytest
from lowered import Const, Fed, Op, Type, load, refusal, run, run_rows
from numpy.testing import assert_allclose, assert_array_equal

INF, NAN = np.inf, np.nan
TABLE = np.array([[1.5, -2.0, 3.0], [0.5, 4.0, -1.0]], np.float32)
NUMERIC = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"]
REDUCTIONS = ["Sum", "Mean", "Max", "Min", "Prod", "EuclideanNorm"]


def axes(*numbers):
    return Const(np.array(numbers, np.int32))


# ---- sums and extremes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "over_rows", "over_columns", "over_all"),
    [
        ("Sum", [2.0, 2.0, 2.0], [2.5, 3.5], 6.0),
        ("Mean", [1.0, 1.0, 1.0], [0.8333333, 1.166667], 1.0),
        ("Max", [1.5, 4.0, 3.0], [3.0, 4.0], 4.0),
        ("Min", [0.5, -2.0, -1.0], [-2.0, -1.0], -2.0),
        ("Prod", [0.75, -8.0, -3.0], [-9.0, -2.0], 18.0),
        ("EuclideanNorm", [1.581139, 4.472136, 3.162278], [3.905125, 4.153312], 5.700877),
    ],
)
def test_reductions_along_each_axis(op, over_rows, over_columns, over_all):
    for source in Fed(TABLE, (None, 3)), Const(TABLE):
        found = load([(Op(op, [source, axes(*one)]), "float32") for one in ([0], [1], [-1], [0, 1])])()
        for made, wanted in zip(found, (over_rows, over_columns, over_columns, over_all), strict=True):
            assert_allclose(made, np.array(wanted, np.float32), rtol=1e-6)


@pytest.mark.parametrize("op", REDUCTIONS)
def test_no_axis_at_all(op):
    assert_array_equal(run_rows(op, [TABLE, axes()]), np.abs(TABLE) if op == "EuclideanNorm" else TABLE)


@pytest.mark.parametrize("op", REDUCTIONS)
def test_an_axis_may_be_kept(op):
    kept = run_rows(op, [TABLE, axes(-1)], keep_dims=True)
    assert kept.shape == (2, 1)
    assert_array_equal(kept[:, 0], run_rows(op, [TABLE, axes(1)]))


def test_an_axis_may_be_a_scalar():
    assert run_rows("Sum", [TABLE, Const(np.int32(1))]).tolist() == [2.5, 3.5]


@pytest.mark.parametrize(
    ("op", "of_rows", "of_nothing"),
    [("Sum", [0.0] * 3, []), ("Prod", [1.0] * 3, []), ("EuclideanNorm", [0.0] * 3, [])],
)
def test_a_batch_without_rows(op, of_rows, of_nothing):
    fed = Fed(TABLE[:0], (None, 3))
    found = load(
        [
            (Op(op, [fed, axes(axis)], {"keep_dims": keep}), "float32")
            for axis, keep in ((0, False), (1, False), (-1, True))
        ]
    )()
    assert [one.tolist() for one in found[:2]] == [of_rows, of_nothing]
    assert found[2].shape == (0, 1)


@pytest.mark.parametrize(("op", "wanted"), [("Max", -INF), ("Min", INF), ("Mean", NAN)])
def test_extremes_and_means_of_no_row(op, wanted):
    assert_array_equal(run_rows(op, [TABLE[:0], axes(0)]), np.full(3, wanted, np.float32))


@pytest.mark.parametrize("op", ["Max", "Min", "Mean"])
def test_what_is_known_to_be_nothing_is_refused(op):
    assert refusal(op, [np.zeros((2, 0), np.float32), axes(1)]) == "it reduces nothing"


@pytest.mark.parametrize("dtype", NUMERIC)
def test_element_types(dtype):
    rows = Fed(np.array([[2, 3], [5, 4]], dtype), (None, 2))
    made = load([(Op(op, [rows, axes(1)]), dtype) for op in ("Sum", "Max", "Min", "Prod", "Mean")])()
    assert [one.tolist() for one in made[:4]] == [[5, 9], [3, 5], [2, 4], [6, 20]]
    assert made[4].tolist() == ([2.5, 4.5] if dtype.startswith("float") else [2, 4])


@pytest.mark.parametrize(
    ("op", "dtype", "values", "wanted"),
    [
        ("Sum", "int8", [100, 100], -56),
        ("Prod", "uint8", [20, 14], 24),
        ("Sum", "uint32", [2**32 - 1, 3], 2),
        ("Sum", "int32", [2**31 - 1, 1], -(2**31)),
        ("Sum", "int64", [2**63 - 1, 1], -(2**63)),
        ("Sum", "int64", [2**53, 1], 2**53 + 1),
        ("Sum", "int64", [-(2**53), -1, 2**32], -(2**53) - 1 + 2**32),
        ("Sum", "int64", [], 0),
        ("Max", "int64", [2**53 + 1, 2**53], 2**53 + 1),
    ],
)
def test_whole_numbers_wrap_around(op, dtype, values, wanted):
    for given in np.array(values, dtype), Const(np.array(values, dtype)):
        made = run_rows(op, [given, axes(0)], dtype)
        assert (made.dtype, made) == (dtype, wanted)


LARGE = [1, 2**31, 2**32 - 1, -8, 2**53 + 1, -(2**63), 2**63 - 1, -(2**31), 2**32 + 7, 3, 0, -1]


@pytest.mark.parametrize("dtype", ["int64", "uint32"])
@pytest.mark.parametrize(("op", "numpys"), [("Max", np.max), ("Min", np.min)])
def test_extremes_of_large_integers(op, numpys, dtype):
    """ONNX Runtime's ReduceMax and ReduceMin misread those from 2**31 to 2**32 - 1."""
    values = np.random.default_rng(0).choice(np.array(LARGE), (40, 5, 6)).astype(dtype)
    for shape in (None, 5, 6), (None, None, None):
        fed = Fed(values, shape)
        cases = [(along, keep) for along in ((0,), (1,), (-1,), (0, 1), (1, 2), (0, 2), (0, 1, 2)) for keep in (0, 1)]
        made = load([(Op(op, [fed, axes(*along)], {"keep_dims": bool(keep)}), dtype) for along, keep in cases])()
        for found, (along, keep) in zip(made, cases, strict=True):
            assert_array_equal(found, numpys(values, axis=along, keepdims=bool(keep)))


@pytest.mark.parametrize("dtype", ["int64", "uint32"])
def test_extremes_of_no_integers(dtype):
    none = np.zeros((0, 2), dtype)
    limits = np.iinfo(dtype)
    assert run_rows("Max", [none, axes(0)], dtype).tolist() == [limits.min] * 2
    assert run_rows("Min", [none, axes(0)], dtype).tolist() == [limits.max] * 2
    assert run_rows("Max", [none, axes(1)], dtype).tolist() == []


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_the_mean_of_whole_numbers_is_cut(dtype):
    rows = np.array([[1, 2], [-1, -2], [7, 8]], dtype)
    assert run_rows("Mean", [rows, axes(1)]).tolist() == [1, -1, 7]
    assert run("Mean", [Const(rows), axes(1)], dtype).tolist() == [1, -1, 7]


def test_no_number_and_infinity():
    rows = np.array([[1, NAN], [INF, -INF], [INF, 1]], np.float32)
    assert_array_equal(run_rows("Sum", [rows, axes(1)]), np.array([NAN, NAN, INF], np.float32))
    assert_array_equal(run_rows("Max", [rows, axes(1)]), np.array([NAN, INF, INF], np.float32))


def test_the_number_of_elements_is_the_product_of_the_shape():
    """Sizes stay sizes: what is reshaped to their product keeps its elements, whatever the batch is."""
    fed = Fed(TABLE, (None, 3))
    count = Op("Prod", [Op("Shape", [fed]), axes(0)], {"keep_dims": True})
    flat = load([(Op("Reshape", [fed, count]), "float32")])
    assert flat(TABLE)[0].tolist() == [1.5, -2.0, 3.0, 0.5, 4.0, -1.0]
    assert flat(TABLE[:0])[0].shape == (0,)


@pytest.mark.parametrize("given", [2, -3])
def test_an_axis_that_is_not_there(given):
    assert refusal("Sum", [TABLE, axes(given)]) == f"it reduces the axes [{given}] of a tensor of rank 2"


def test_axes_that_are_computed():
    assert refusal("Sum", [TABLE, np.array([1], np.int32)]) == (
        "its axes is computed by the graph; only constants are converted"
    )


# ---- booleans -------------------------------------------------------------------------------------------------------

FLAGS = np.array([[True, True], [True, False], [False, False]])


@pytest.mark.parametrize(
    ("op", "of_rows", "of_columns", "of_none"),
    [("All", [True, False, False], [False, False], True), ("Any", [True, True, False], [True, True], False)],
)
def test_all_and_any(op, of_rows, of_columns, of_none):
    fed = Fed(FLAGS, (None, 2))
    for source in fed, Const(FLAGS):
        found = load([(Op(op, [source, axes(*one)]), "bool") for one in ([-1], [0], [])])()
        assert [one.tolist() for one in found] == [of_rows, of_columns, FLAGS.tolist()]
    kept = load([(Op(op, [fed, axes(1)], {"keep_dims": True}), "bool"), (Op(op, [fed, axes(0)]), "bool")])
    assert kept(FLAGS)[0].tolist() == [[one] for one in of_rows]
    assert [one.tolist() for one in kept(FLAGS[:0])] == [[], [of_none] * 2]


def test_all_of_an_axis_that_is_not_there():
    assert refusal("All", [FLAGS, axes(2)], "bool") == "it reduces the axes [2] of a tensor of rank 2"


# ---- places ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "of_rows", "of_columns"), [("ArgMax", [2, 1], [0, 1, 0]), ("ArgMin", [1, 2], [1, 0, 1])]
)
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_places_of_extremes(op, of_rows, of_columns, dtype):
    for given, wanted in (-1, of_rows), (1, of_rows), (0, of_columns):
        made = run_rows(op, [TABLE, Const(np.int32(given))], dtype, output_type=Type(dtype))
        assert made.tolist() == wanted
    assert run_rows(op, [TABLE[:0], Const(np.int32(1))], dtype, output_type=Type(dtype)).tolist() == []


def test_the_first_of_equal_extremes():
    rows = np.array([[3, 1, 3], [1, 1, 2]], np.int32)
    assert run_rows("ArgMax", [rows, Const(np.int64(1))], "int64").tolist() == [0, 2]
    assert run_rows("ArgMin", [rows, Const(np.int64(1))], "int64").tolist() == [1, 0]


@pytest.mark.parametrize("dtype", NUMERIC)
def test_places_in_every_element_type(dtype):
    rows = np.array([[2, 3], [5, 4]], dtype)
    assert run_rows("ArgMax", [rows, Const(np.int32(1))], "int64").tolist() == [1, 0]


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_places_along_an_axis_that_is_not_there(op):
    assert refusal(op, [TABLE, Const(np.int32(2))], "int64") == "it reduces the axes [2] of a tensor of rank 2"


# ---- running sums ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ({}, [[1, 3, 6], [4, 9, 15]]),
        ({"exclusive": True}, [[0, 1, 3], [0, 4, 9]]),
        ({"reverse": True}, [[6, 5, 3], [15, 11, 6]]),
        ({"exclusive": True, "reverse": True}, [[5, 3, 0], [11, 6, 0]]),
    ],
    ids=["plain", "exclusive", "reverse", "both"],
)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_running_sums(flags, wanted, dtype):
    rows = np.array([[1, 2, 3], [4, 5, 6]], dtype)
    assert run_rows("Cumsum", [rows, Const(np.int32(-1))], **flags).tolist() == wanted
    assert run_rows("Cumsum", [rows[:0], Const(np.int32(1))], **flags).shape == (0, 3)


def test_running_sums_down_the_rows():
    assert run_rows("Cumsum", [TABLE, Const(np.int32(0))]).tolist() == [[1.5, -2.0, 3.0], [2.0, 2.0, 2.0]]


@pytest.mark.parametrize("dtype", ["float16", "int8", "uint8"])
def test_running_sums_of_small_types(dtype):
    made = run_rows("Cumsum", [np.array([[1, 2, 3]], dtype), Const(np.int32(1))])
    assert (made.dtype, made.tolist()) == (dtype, [[1, 3, 6]])


# ---- squares --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_half_the_sum_of_squares(dtype):
    made = run_rows("L2Loss", [np.array([[1, 2], [-3, 0.5]], dtype)])
    assert (made.dtype, made) == (dtype, 7.125)
    assert run_rows("L2Loss", [np.zeros((0, 2), dtype)]) == 0
