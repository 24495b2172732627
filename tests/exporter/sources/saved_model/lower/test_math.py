"""Arithmetic, comparisons, activations and matrix products give TensorFlow's numbers, at their edges too."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from lowered import Const, Fed, Op, Shape, Type, load, refusal, run, run_rows, why_not
from numpy.testing import assert_allclose, assert_array_equal

INF, NAN = np.inf, np.nan
EDGES = [-2.0, -0.5, 0.0, 1.5, INF, -INF, NAN]
FLOATS = ["float16", "float32", "float64"]
INTEGERS = ["int8", "int16", "int32", "int64"]


def array(values, dtype="float32"):
    return np.array(values, dtype)


def each(ops, inputs, dtype="float32"):
    """What each op gives for the same inputs, computed in one graph."""
    return dict(zip(ops, load([(Op(op, inputs), dtype) for op in ops])(), strict=True))


# ---- one operand ----------------------------------------------------------------------------------------------------


AT_EDGES = {
    "Neg": [2.0, 0.5, 0.0, -1.5, -INF, INF, NAN],
    "Abs": [2.0, 0.5, 0.0, 1.5, INF, INF, NAN],
    "Exp": [0.1353353, 0.6065307, 1.0, 4.481689, INF, 0.0, NAN],
    "Sqrt": [NAN, NAN, 0.0, 1.224745, INF, NAN, NAN],
    "Log": [NAN, NAN, -INF, 0.4054651, INF, NAN, NAN],
    "Floor": [-2.0, -1.0, 0.0, 1.0, INF, -INF, NAN],
    "Ceil": [-2.0, 0.0, 0.0, 2.0, INF, -INF, NAN],
    "Sign": [-1.0, -1.0, 0.0, 1.0, 1.0, -1.0, NAN],
    "Square": [4.0, 0.25, 0.0, 2.25, INF, INF, NAN],
    "Rsqrt": [NAN, NAN, INF, 0.8164966, 0.0, NAN, NAN],
    "Sigmoid": [0.1192029, 0.3775407, 0.5, 0.8175745, 1.0, 0.0, NAN],
    "Tanh": [-0.9640276, -0.4621172, 0.0, 0.9051482, 1.0, -1.0, NAN],
    "Erf": [-0.9953222, -0.5204999, 0.0, 0.966105, 1.0, -1.0, NAN],
    "Log1p": [NAN, -0.6931472, 0.0, 0.9162908, INF, NAN, NAN],
    "Expm1": [-0.8646647, -0.3934693, 0.0, 3.481689, INF, -1.0, NAN],
    "Sin": [-0.9092974, -0.4794255, 0.0, 0.997495, NAN, NAN, NAN],
    "Cos": [-0.4161468, 0.8775826, 1.0, 0.0707372, NAN, NAN, NAN],
    "Tan": [2.18504, -0.5463025, 0.0, 14.10142, NAN, NAN, NAN],
    "Atan": [-1.107149, -0.4636476, 0.0, 0.9827937, 1.570796, -1.570796, NAN],
    "Sinh": [-3.62686, -0.5210953, 0.0, 2.129279, INF, -INF, NAN],
    "Cosh": [3.762196, 1.127626, 1.0, 2.35241, INF, INF, NAN],
    "Asinh": [-1.443635, -0.4812118, 0.0, 1.194763, INF, -INF, NAN],
    "Reciprocal": [-0.5, -2.0, INF, 0.6666667, 0.0, 0.0, NAN],
    "Inv": [-0.5, -2.0, INF, 0.6666667, 0.0, 0.0, NAN],
    "Relu": [0.0, 0.0, 0.0, 1.5, INF, 0.0, NAN],
    "Relu6": [0.0, 0.0, 0.0, 1.5, 6.0, 0.0, NAN],
    "Elu": [-0.8646647, -0.3934693, 0.0, 1.5, INF, -1.0, NAN],
    "Selu": [-1.520167, -0.6917582, 0.0, 1.576051, INF, -1.758099, NAN],
    "Softplus": [0.126928, 0.474077, 0.6931472, 1.701413, INF, 0.0, NAN],
    "Softsign": [-0.6666667, -0.3333333, 0.0, 0.6, NAN, NAN, NAN],
    "LeakyRelu": [-0.4, -0.1, 0.0, 1.5, INF, -INF, NAN],
}


@pytest.fixture(scope="module")
def at_edges():
    return each(AT_EDGES, [array(EDGES)])


@pytest.mark.parametrize("op", AT_EDGES)
def test_functions_of_one_number(op, at_edges):
    assert_allclose(at_edges[op], array(AT_EDGES[op]), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("op", "x", "wanted"),
    [
        ("Asin", [-1.0, -0.5, 0.0, 0.75, 2.0], [-1.570796, -0.5235988, 0.0, 0.8480621, NAN]),
        ("Acos", [-1.0, -0.5, 0.0, 0.75, 2.0], [3.141593, 2.094395, 1.570796, 0.7227343, NAN]),
        ("Atanh", [-1.0, -0.5, 0.0, 0.75, 2.0], [-INF, -0.5493062, 0.0, 0.9729551, NAN]),
        ("Acosh", [1.0, 2.5, 10.0, 0.5, NAN], [0.0, 1.566799, 2.993223, NAN, NAN]),
        ("Round", [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 1e9], [-2.0, -2.0, 0.0, 0.0, 2.0, 2.0, 1e9]),
        ("Rint", [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 1e9], [-2.0, -2.0, 0.0, 0.0, 2.0, 2.0, 1e9]),
        ("Log1p", [1e-10, -1e-8, 1e-4, -1.0, 1e20], [1e-10, -1e-8, 9.9995e-05, -INF, 46.0517]),
        ("Expm1", [1e-10, -1e-8, 1e-4, 0.49, -80.0], [1e-10, -1e-8, 0.000100005, 0.6323162, -1.0]),
    ],
)
def test_functions_where_they_are_delicate(op, x, wanted):
    assert_allclose(run(op, [array(x)]), array(wanted), rtol=2e-6)
    assert_allclose(run(op, [Const(array(x))], "float32"), array(wanted), rtol=2e-6)


@pytest.mark.parametrize("dtype", [*FLOATS, "int8", "int32", "int64"])
def test_whole_numbers_of_every_type(dtype):
    got = each(["Neg", "Abs", "Sign", "Square", "Relu", "Relu6"], [array([-3, 0, 7], dtype)], dtype)
    assert {op: found.tolist() for op, found in got.items()} == {
        "Neg": [3, 0, -7],
        "Abs": [3, 0, 7],
        "Sign": [-1, 0, 1],
        "Square": [9, 0, 49],
        "Relu": [0, 0, 7],
        "Relu6": [0, 0, 6],
    }


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_rounding_leaves_integers_as_they_are(dtype):
    x = array([-3, 0, 2_000_000_001], dtype)
    assert_array_equal(run("Round", [x]), x)


DOUBLE = ["Exp", "Log", "Sqrt", "Rsqrt", "Sigmoid", "Tanh", "Reciprocal", "Sin", "Cos", "Log1p", "Expm1"]
NOT_DOUBLE = [
    "Softplus", "Softsign", "Erf", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh", "Acosh", "Atanh", "Elu",
    "Selu", "LeakyRelu",
]  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "ops", "tolerance"), [("float64", DOUBLE, 1e-6), ("float16", [*DOUBLE, *NOT_DOUBLE], 2e-3)]
)
def test_functions_of_double_and_half(dtype, ops, tolerance):
    x = array([0.25, 0.875])
    wanted = each(ops, [x])
    for op, found in each(ops, [x.astype(dtype)], dtype).items():
        assert_allclose(found, wanted[op], rtol=tolerance, err_msg=op)


@pytest.mark.parametrize("op", NOT_DOUBLE)
def test_functions_that_onnx_runtime_lacks_for_double(op):
    assert refusal(op, [array([0.5], "float64")], "float64") == "it computes with float64"


def test_double_keeps_its_digits():
    assert_allclose(run("Exp", [array([1.0], "float64")]), [2.718281828459045], rtol=1e-15)
    assert_allclose(run("Log1p", [array([1e-12], "float64")]), [9.999999999995e-13], rtol=1e-15)


def test_a_leak_of_its_own():
    assert_allclose(run("LeakyRelu", [array([-2.0, 3.0])], alpha=0.5), [-1.0, 3.0])


@pytest.mark.parametrize("dtype", FLOATS)
def test_kinds_of_numbers(dtype):
    got = each(["IsNan", "IsInf", "IsFinite"], [array([1.0, INF, -INF, NAN], dtype)], "bool")
    assert got["IsNan"].tolist() == [False, False, False, True]
    assert got["IsInf"].tolist() == [False, True, True, False]
    assert got["IsFinite"].tolist() == [True, False, False, False]


def test_bfloat16_is_computed_in_float_and_rounded_after_each_op():
    rounded = Op("Cast", [array([1.0, 3.0])], {"SrcT": Type("float32"), "DstT": Type("bfloat16")})
    third = Op("Reciprocal", [rounded])
    wide = Op("Cast", [third], {"SrcT": Type("bfloat16"), "DstT": Type("float32")})
    assert load([(wide, "float32")])()[0].tolist() == [1.0, 0.333984375]


def test_no_rows():
    assert run_rows("Exp", [np.zeros((0, 3), np.float32)]).shape == (0, 3)
    assert run_rows("AddV2", [np.zeros((0, 3), np.float32), Const(array([1.0, 2.0, 3.0]))]).shape == (0, 3)


# ---- two operands ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_arithmetic_of_every_type(dtype):
    ops = ["Add", "AddV2", "Sub", "Mul", "Maximum", "Minimum"]
    got = each(ops, [array([7, -7, 0], dtype), array([2, 2, 3], dtype)], dtype)
    assert {op: found.tolist() for op, found in got.items()} == {
        "Add": [9, -5, 3],
        "AddV2": [9, -5, 3],
        "Sub": [5, -9, -3],
        "Mul": [14, -14, 0],
        "Maximum": [7, 2, 3],
        "Minimum": [2, -7, 0],
    }


@pytest.mark.parametrize("dtype", [*FLOATS, "int32", "int64"])
def test_squared_differences(dtype):
    assert run("SquaredDifference", [array([7, -7, 0], dtype), Const(array(2, dtype))]).tolist() == [25, 81, 4]


@pytest.mark.parametrize(
    ("dtype", "wanted"), [("float32", [8, 1, -27]), ("int32", [8, 1, -27]), ("int64", [8, 1, -27])]
)
def test_powers(dtype, wanted):
    assert run("Pow", [array([2, 5, -3], dtype), array([3, 0, 3], dtype)]).tolist() == wanted


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64"])
def test_integers_wrap_around(dtype):
    x, y = np.full(3, np.iinfo(dtype).max, dtype), array([1, 2, 3], dtype)
    got = each(["AddV2", "Mul"], [x, y], dtype)
    assert_array_equal(got["AddV2"], x + y)
    assert_array_equal(got["Mul"], x * y)


@pytest.mark.parametrize("op", ["Maximum", "Minimum"])
def test_an_extreme_of_no_number_is_none(op):
    x, y = array([NAN, 1.0, NAN]), array([1.0, NAN, NAN])
    assert np.isnan(run(op, [x, y])).all()
    assert np.isnan(run(op, [Const(x), Const(y)], "float32")).all()


@pytest.mark.parametrize(
    ("op", "x", "y", "wanted"),
    [
        ("RealDiv", [1.0, -1.0, 0.0, 7.0], [0.0, 0.0, 0.0, 2.0], [INF, -INF, NAN, 3.5]),
        ("Div", [1.0, -7.0], [0.0, 2.0], [INF, -3.5]),
        ("FloorDiv", [1.0, -1.0, 7.0, -7.0, 1.0], [0.1, 0.1, 2.0, 2.0, 0.0], [10.0, -10.0, 3.0, -4.0, INF]),
        ("FloorMod", [7.0, -7.0, 7.0, 1.0, 5.5, -5.5], [2.0, 2.0, -2.0, 0.0, INF, INF], [1, 1, -1, NAN, 5.5, INF]),
        ("Mod", [7.0, -7.0, 7.0], [2.0, 2.0, -2.0], [1.0, -1.0, 1.0]),
        ("TruncateMod", [7.0, -7.0, 7.0], [2.0, 2.0, -2.0], [1.0, -1.0, 1.0]),
        ("Pow", [2.0, 2.0, -8.0, 0.0], [3.0, -1.0, 1 / 3, 0.0], [8.0, 0.5, NAN, 1.0]),
        ("DivNoNan", [1.0, NAN, 6.0], [0.0, 0.0, 4.0], [0.0, 0.0, 1.5]),
        ("MulNoNan", [INF, NAN, 6.0], [0.0, 0.0, 4.0], [0.0, 0.0, 24.0]),
        ("Xdivy", [0.0, 0.0, 6.0], [0.0, NAN, 4.0], [0.0, 0.0, 1.5]),
        ("Xlogy", [0.0, 0.0, 2.0], [0.0, NAN, 1.0], [0.0, 0.0, 0.0]),
    ],
)
def test_division_and_its_kin(op, x, y, wanted):
    assert_allclose(run(op, [array(x), array(y)]), array(wanted))
    assert_allclose(run(op, [Const(array(x)), Const(array(y))], "float32"), array(wanted))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("source", [np.asarray, Const])
def test_division_of_negative_integers(source, dtype):
    ops = ["FloorDiv", "FloorMod", "Div", "TruncateDiv", "Mod", "TruncateMod"]
    x, y = array([7, -7, 7, -7], dtype), array([2, 2, -2, -2], dtype)
    got = each(ops, [source(x), Const(y)], dtype)
    assert {op: found.tolist() for op, found in got.items()} == {
        "FloorDiv": [3, -4, -4, 3],
        "FloorMod": [1, 1, -1, -1],
        "Div": [3, -3, -3, 3],
        "TruncateDiv": [3, -3, -3, 3],
        "Mod": [1, -1, 1, -1],
        "TruncateMod": [1, -1, 1, -1],
    }


@pytest.mark.parametrize("op", ["FloorDiv", "FloorMod", "Div", "TruncateDiv", "Mod", "TruncateMod"])
def test_integers_are_divided_by_constants_only(op):
    reason = "it divides integers by what the graph computes, which may be 0"
    assert refusal(op, [array([1], "int32"), array([1], "int32")], "int32") == reason
    assert refusal(op, [array([1], "int32"), Const(array([0], "int32"))], "int32") == reason


@pytest.mark.parametrize(("dtype", "x"), [("uint8", [200, 7]), ("int8", [-56, 7]), ("int16", [-56, 7])])
def test_small_integers_are_divided(dtype, x):
    divisor = Const(array([3, 2], dtype))
    assert run("FloorDiv", [array(x, dtype), divisor]).tolist() == [one // y for one, y in zip(x, [3, 2], strict=True)]
    assert run("FloorMod", [array(x, dtype), divisor]).tolist() == [one % y for one, y in zip(x, [3, 2], strict=True)]


def test_sizes_are_divided_without_a_correction_for_negative_ones():
    x = Fed(np.zeros((2, 2), np.float32), (None, 2))
    graph = load([(Op("FloorDiv", [rows_of(x), Const(array(2, "int32"))]), "int32")])
    assert [int(graph(np.zeros((rows, 2), np.float32))[0]) for rows in (0, 1, 4, 5)] == [0, 0, 2, 2]


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_the_smallest_integer_is_divided_by_minus_one(dtype):
    """ONNX Runtime would end the process."""
    smallest = np.iinfo(dtype).min
    x, divisors = array([smallest, 7, -7, smallest], dtype), Const(array([-1, -1, -1, 1], dtype))
    for y in divisors, Const(array(-1, dtype)):
        got = each(["FloorDiv", "TruncateDiv", "Div", "FloorMod", "Mod", "TruncateMod"], [x, y], dtype)
        assert [got.pop(op).tolist() for op in ("FloorDiv", "TruncateDiv", "Div")] == [[smallest, -7, 7, smallest]] * 3
        assert [one.tolist() for one in got.values()] == [[0] * 4] * 3


@pytest.fixture(scope="module")
def divided():
    """Quotients and remainders of a number by -3, -1, 2 and 7."""
    x, divisors = np.zeros(1, np.int64), Const(array(DIVISORS, "int64"))
    return load([(Op(op, [x, divisors]), "int64") for op in ("FloorDiv", "FloorMod", "TruncateMod")])


DIVISORS = [-3, -1, 2, 7]


@given(st.integers(1 - (1 << 63), (1 << 63) - 1))
def test_floor_division_and_remainder_are_pythons(divided, x):
    quotients, rests, truncated = divided(array([x], "int64"))
    assert quotients.tolist() == [x // y for y in DIVISORS]
    assert rests.tolist() == [x % y for y in DIVISORS]
    assert truncated.tolist() == [abs(x) % abs(y) * (1 if x >= 0 else -1) for y in DIVISORS]


@pytest.mark.parametrize("dtype", FLOATS)
def test_guarded_arithmetic_of_every_type(dtype):
    got = each(["DivNoNan", "MulNoNan", "Xdivy", "Xlogy"], [array([0, 3, 2], dtype), array([0, 0, 1], dtype)], dtype)
    assert {op: found.tolist() for op, found in got.items()} == {
        "DivNoNan": [0, 0, 2],
        "MulNoNan": [0, 0, 2],
        "Xdivy": [0, INF, 2],
        "Xlogy": [0, -INF, 0],
    }


@pytest.mark.parametrize(
    ("x", "y", "shape"),
    [((2, 3), (3,), (2, 3)), ((2, 1), (1, 3), (2, 3)), ((2, 3), (), (2, 3)), ((3, 1, 2), (4, 1), (3, 4, 2))],
)
def test_shapes_broadcast(x, y, shape):
    x, y = np.arange(np.prod(x), dtype="f").reshape(x), np.ones(y, "f")
    made = run_rows("AddV2", [x, Const(y)])
    assert made.shape == shape
    assert_array_equal(made, x + y)


def test_shapes_that_do_not_broadcast():
    reason = refusal("AddV2", [np.ones(2, "f"), np.ones(3, "f")])
    assert reason.startswith("it cannot be converted as it stands here (shapes that do not broadcast:")


@pytest.mark.parametrize("source", [np.asarray, Const])
def test_comparisons(source):
    ops = ["Equal", "NotEqual", "Less", "LessEqual", "Greater", "GreaterEqual"]
    got = each(ops, [source(array([1.0, 2.0, 3.0, NAN])), source(array([2.0, 2.0, 2.0, NAN]))], "bool")
    assert {op: found.tolist() for op, found in got.items()} == {
        "Equal": [False, True, False, False],
        "NotEqual": [True, False, True, True],
        "Less": [True, False, False, False],
        "LessEqual": [True, True, False, False],
        "Greater": [False, False, True, False],
        "GreaterEqual": [False, True, True, False],
    }


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64", "float16", "float64"])
def test_comparisons_of_every_type(dtype):
    x, y = array([1, 2, 3], dtype), array([2, 2, 2], dtype)
    assert run("Less", [x, y], "bool").tolist() == [True, False, False]
    assert run("NotEqual", [x, y], "bool").tolist() == [True, False, True]


def test_strings_and_flags_are_compared():
    texts = np.array([b"a", b"b", b""], object)
    assert run("Equal", [texts, Const(np.array(b"b", object))], "bool").tolist() == [False, True, False]
    flags = array([True, False, True], bool)
    assert run("NotEqual", [flags, Const(np.array(True))], "bool").tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("op", "wanted"), [("LogicalAnd", [True, False, False, False]), ("LogicalOr", [True, True, True, False])]
)
def test_logic(op, wanted):
    x, y = array([True, True, False, False], bool), array([True, False, True, False], bool)
    assert run(op, [x, y]).tolist() == wanted
    assert run(op, [Const(x), Const(y)], "bool").tolist() == wanted
    assert run("LogicalNot", [x]).tolist() == [False, False, True, True]


@pytest.mark.parametrize("op", ["AddN", "AccumulateNV2"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int32"])
def test_sums_of_many(op, dtype):
    x = array([[1, 2], [3, 4]], dtype)
    attributes = {"shape": Shape((2, 2))} if op == "AccumulateNV2" else {}
    assert_array_equal(run(op, [x, x.copy(), Const(x)], **attributes), 3 * x)
    assert_array_equal(run(op, [x], **attributes), x)


LARGE = [1, 2**31, 2**32 - 1, -8, 2**53 + 1, -(2**63), 2**63 - 1, -(2**31), 2**32 + 7, 3, 0, -1]


@pytest.mark.parametrize("dtype", ["int64", "uint32"])
def test_extremes_and_signs_of_large_integers(dtype):
    """ONNX Runtime's Max, Min, Sign and Clip misread int64 from 2**31 to 2**32 - 1 where there are several."""
    x, y = (np.array(one).astype(dtype) for one in (np.repeat(LARGE, len(LARGE)), LARGE * len(LARGE)))
    three, limit = array(3, dtype), array(2**31 + 1, dtype)
    numpys = {
        Op("Maximum", [x, y]): np.maximum(x, y),
        Op("Minimum", [x, y]): np.minimum(x, y),
        Op("Maximum", [x, Const(three)]): np.maximum(x, three),
        Op("Minimum", [Const(limit), x]): np.minimum(x, limit),
        Op("Relu", [x]): np.maximum(x, 0),
        Op("Relu6", [x]): np.clip(x, 0, 6),
        Op("ClipByValue", [x, Const(three), Const(limit)]): np.clip(x, three, limit),
        Op("Sign", [x]): np.sign(x),
    }
    for made, wanted in zip(load([(op, dtype) for op in numpys])(), numpys.values(), strict=True):
        assert_array_equal(made, wanted)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_clipping(dtype):
    low, high = (Const(array(one, dtype)) for one in (-1, 3))
    assert run("ClipByValue", [array([-5, 0, 9], dtype), low, high]).tolist() == [-1, 0, 3]


def test_a_list_is_no_operand():
    items = Op(
        "EmptyTensorList", [Const(array([], "int32")), Const(array(3, "int32"))], {"element_dtype": Type("float32")}
    )
    reason = "it reads a resource or a list as a tensor"
    assert why_not(lambda: load([(Op("AddV2", [items, array([1.0])]), "float32")])) == reason


# ---- arithmetic of sizes --------------------------------------------------------------------------------------------


def rows_of(x):
    """The number of rows of x, as a scalar."""
    shape = Op("Shape", [x], {"out_type": Type("int32")})
    return Op("GatherV2", [shape, Const(array(0, "int32")), Const(array(0, "int32"))])


@pytest.mark.parametrize(
    ("op", "other", "wanted"),
    [
        ("AddV2", 0, [0, 1, 5]),
        ("AddV2", 3, [3, 4, 8]),
        ("Sub", 0, [0, 1, 5]),
        ("Sub", 2, [-2, -1, 3]),
        ("Mul", 4, [0, 4, 20]),
        ("Mul", 0, [0, 0, 0]),
        ("FloorDiv", 1, [0, 1, 5]),
        ("FloorDiv", 2, [0, 0, 2]),
        ("FloorMod", 3, [0, 1, 2]),
        ("Maximum", 2, [2, 2, 5]),
        ("Maximum", 0, [0, 1, 5]),
        ("Minimum", 2, [0, 1, 2]),
        ("Minimum", 0, [0, 0, 0]),
    ],
)
def test_sizes_are_computed_with(op, other, wanted):
    x = Fed(np.zeros((2, 2), np.float32), (None, 2))
    graph = load([(Op(op, [rows_of(x), Const(array(other, "int32"))]), "int32")])
    assert [int(graph(np.zeros((rows, 2), np.float32))[0]) for rows in (0, 1, 5)] == wanted


def test_sizes_of_two_inputs_are_computed_with():
    x, y = (Fed(np.zeros(size, np.float32), (None,)) for size in (4, 2))
    total = Op("AddV2", [rows_of(x), rows_of(y)])
    product = Op("Mul", [rows_of(x), rows_of(y)])
    quotient = Op("FloorDiv", [product, rows_of(y)])
    nothing = Op("Sub", [rows_of(x), rows_of(x)])
    graph = load([(one, "int32") for one in (total, product, quotient, nothing)])
    assert [int(one) for one in graph()] == [6, 8, 4, 0]


# ---- casts ----------------------------------------------------------------------------------------------------------


TYPES = ["uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "bool"]


@pytest.mark.parametrize("source", TYPES)
def test_casts_of_numbers_that_fit(source):
    x = array([0, 1, 100], source)
    casts = [Op("Cast", [x], {"SrcT": Type(source), "DstT": Type(target)}) for target in TYPES]
    folded = [Op("Cast", [Const(x)], one.attributes) for one in casts]
    got = load(list(zip([*casts, *folded], TYPES * 2, strict=True)))()
    for found, target in zip(got, TYPES * 2, strict=True):
        assert found.dtype == target
        assert_array_equal(found, x.astype(target))


@pytest.mark.parametrize(
    ("source", "target", "x", "wanted"),
    [
        ("float32", "int32", [-1.7, -0.4, 1.9, -1e3], [-1, 0, 1, -1000]),
        ("float32", "int64", [-1.7, 3e9], [-1, 3_000_000_000]),
        ("float64", "int32", [2147483646.5, -2.5], [2147483646, -2]),
        ("float32", "bool", [0.0, -0.0, 0.5, NAN], [False, False, True, True]),
        ("int32", "bool", [0, -1, 256], [False, True, True]),
        ("int32", "uint8", [256, 257, -1], [0, 1, 255]),
        ("int64", "int32", [1 << 32, (1 << 31) + 5], [0, -2147483643]),
        ("int64", "float32", [16_777_217, -1], [16_777_216.0, -1.0]),
        ("float64", "float32", [1e300, 0.1], [INF, 0.1]),
        ("float32", "float16", [70000.0, 0.1], [INF, 0.0999755859375]),
    ],
)
def test_casts_that_lose_something(source, target, x, wanted):
    got = run("Cast", [array(x, source)], target, SrcT=Type(source), DstT=Type(target))
    assert_array_equal(got, array(wanted, target))


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("uint8", [0, 255, 0, 255, 0]),
        ("int8", [-128, 127, -128, 127, -1]),
        ("int16", [-1000, 1000, -32768, 32767, -1]),
        ("uint16", [0, 1000, 0, 65535, 0]),
    ],
)
@pytest.mark.parametrize("source", ["float16", "float32", "float64"])
def test_floats_that_small_integers_cannot_hold(source, target, wanted):
    x = array([-1000.0, 1000.0, NAN, INF, -1.5], source)
    assert run("Cast", [x], target, SrcT=Type(source), DstT=Type(target)).tolist() == wanted


@settings(max_examples=20)
@given(arrays("int64", 5, elements=st.integers(-(1 << 63), (1 << 63) - 1)))
def test_casts_of_integers_keep_the_lowest_bits(x):
    targets = ["int8", "uint8", "int16", "int32", "float64"]
    casts = [Op("Cast", [x], {"SrcT": Type("int64"), "DstT": Type(target)}) for target in targets]
    for got, target in zip(load(list(zip(casts, targets, strict=True)))(), targets, strict=True):
        assert_array_equal(got, x.astype(target))


def test_a_cast_to_the_same_type():
    assert run("Cast", [array([1.5])], SrcT=Type("float32"), DstT=Type("float32")).tolist() == [1.5]


# ---- matrices -------------------------------------------------------------------------------------------------------


LEFT = np.arange(6, dtype=np.float32).reshape(2, 3)
RIGHT = np.array([[1, 0], [2, 1], [0, 3]], np.float32)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "int64"])
def test_products_of_matrices(dtype):
    left, right = LEFT.astype(dtype), RIGHT.astype(dtype)
    turned = [np.ascontiguousarray(one.T) for one in (left, right)]
    given = {(False, False): [left, right], (True, False): [turned[0], right], (True, True): turned}
    products = [Op("MatMul", xy, {"transpose_a": a, "transpose_b": b}) for (a, b), xy in given.items()]
    for found in load([(one, dtype) for one in products])():
        assert found.tolist() == [[2, 7], [11, 19]]


@pytest.mark.parametrize("op", ["BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"])
@pytest.mark.parametrize(("x", "y"), [(False, False), (True, False), (False, True)])
def test_products_batch_by_batch(op, x, y):
    given = [np.stack([one, 2 * one]) for one in (LEFT.T if x else LEFT, RIGHT.T if y else RIGHT)]
    attributes = {"Ta": Type("float32"), "Tb": Type("float32"), "Tout": Type("float32")} if op.endswith("V3") else {}
    got = run_rows(op, [given[0], Const(given[1])], adj_x=x, adj_y=y, **attributes)
    assert got.tolist() == [[[2, 7], [11, 19]], [[8, 28], [44, 76]]]


def test_batches_broadcast():
    left, right = np.ones((2, 1, 2, 3), np.float32), Const(np.ones((4, 3, 5), np.float32))
    got = run_rows("BatchMatMulV2", [left, right])
    assert_array_equal(got, np.full((2, 4, 2, 5), 3.0))


def test_a_product_of_no_rows():
    assert run_rows("MatMul", [np.zeros((0, 3), np.float32), Const(RIGHT)]).shape == (0, 2)
    nothing = Const(np.zeros((0, 2), np.float32))
    assert run("MatMul", [Const(np.zeros((2, 0), np.float32)), nothing], "float32").tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("layout", "wanted"),
    [("NHWC", [[[[0, 10], [0, 10]]]]), ("NCHW", [[[[0, 0]]], [[[10, 10]]]])],
)
def test_a_bias_is_of_channels(layout, wanted):
    shape = (1, 1, 2, 2) if layout == "NHWC" else (1, 2, 1, 2)
    got = run_rows("BiasAdd", [np.zeros(shape, np.float32), Const(array([0.0, 10.0]))], data_format=layout)
    assert got.tolist() == np.reshape(wanted, shape).tolist()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
def test_a_bias_of_rows(dtype):
    x, bias = array([[1, 2], [3, 4]], dtype), array([10, 20], dtype)
    assert run_rows("BiasAdd", [x, Const(bias)]).tolist() == [[11, 22], [13, 24]]
    assert run_rows("BiasAddV1", [x, Const(bias)]).tolist() == [[11, 22], [13, 24]]


@pytest.mark.parametrize(
    ("equation", "x", "y"),
    [
        ("ab,bc->ac", (2, 3), (3, 4)),
        ("abc,cd->abd", (2, 3, 4), (4, 5)),
        ("abc,cde->abde", (2, 3, 4), (4, 5, 6)),
        ("abcd,cde->abe", (2, 3, 4, 5), (4, 5, 6)),
        ("aecd,abcd->acbe", (2, 3, 4, 5), (2, 6, 4, 5)),
        ("acbe,aecd->abcd", (2, 4, 6, 3), (2, 3, 4, 5)),
        ("ab,cd->dacb", (2, 3), (4, 5)),
        ("ab,b->a", (2, 3), (3,)),
    ],
)
def test_einsum(equation, x, y):
    x, y = (np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 8 for shape in (x, y))
    assert_allclose(run_rows("Einsum", [x, Const(y)], equation=equation), np.einsum(equation, x, y), rtol=1e-6)


def test_einsum_of_no_rows():
    x, y = np.zeros((0, 3, 4), np.float32), np.ones((4, 5), np.float32)
    assert run_rows("Einsum", [x, Const(y)], equation="abc,cd->abd").shape == (0, 3, 5)


@pytest.mark.parametrize("equation", ["...b,bc->...c", "ab,bc", "aab,bc->ac", "ab,bc->a"])
def test_equations_that_are_not_converted(equation):
    x = np.ones((2,) * len(equation.split(",")[0].replace("...", "a")), np.float32)
    assert refusal("Einsum", [x, np.ones((2, 2), np.float32)], equation=equation) == f"its equation is {equation}"


def test_an_equation_of_one_operand():
    assert refusal("Einsum", [LEFT], equation="ab->ba") == "its equation is ab->ba"


@pytest.mark.parametrize(
    ("op", "wanted"),
    [
        ("Softmax", [[0.0900306, 0.2447285, 0.665241], [0.5, 0.5, 0.0]]),
        ("LogSoftmax", [[-2.407606, -1.407606, -0.407606], [-0.6931472, -0.6931472, -200.6931472]]),
    ],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-3), ("float32", 2e-6), ("float64", 2e-6)])
def test_softmax(op, wanted, dtype, tolerance):
    x = array([[1.0, 2.0, 3.0], [100.0, 100.0, -100.0]], dtype)
    assert_allclose(run_rows(op, [x]), wanted, rtol=tolerance, atol=1e-9)
    assert_allclose(run(op, [x[0]]), wanted[0], rtol=tolerance)
    assert_allclose(run(op, [x[:, None]]), np.array(wanted)[:, None], rtol=tolerance, atol=1e-9)
    assert run_rows(op, [x[:0]]).shape == (0, 3)


# ---- buckets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_buckets(dtype):
    x = array([[-9, 0], [1, 2], [10, 99]], dtype)
    assert run_rows("Bucketize", [x], "int32", boundaries=[0.0, 1.5, 10.0]).tolist() == [[0, 1], [1, 2], [3, 3]]
    assert run_rows("Bucketize", [x[:0]], "int32", boundaries=[0.0, 1.5, 10.0]).shape == (0, 2)


def test_buckets_of_what_is_on_no_side():
    x = array([NAN, INF, -INF])
    assert run("Bucketize", [x], "int32", boundaries=[0.0, 1.5]).tolist() == [2, 2, 0]


def test_one_bucket_without_boundaries():
    assert run("Bucketize", [array([1.0, 2.0])], "int32").tolist() == [0, 0]


@settings(max_examples=20)
@given(
    arrays("float32", array_shapes(max_dims=2, max_side=4), elements=st.floats(-9, 9, width=32)),
    st.lists(st.integers(-8, 8), min_size=1, max_size=5, unique=True).map(sorted),
)
def test_buckets_are_numpys(x, boundaries):
    got = run("Bucketize", [x], "int32", boundaries=[float(one) for one in boundaries])
    assert_array_equal(got, np.digitize(x, boundaries))
