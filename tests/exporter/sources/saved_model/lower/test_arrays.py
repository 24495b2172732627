"""What moves, cuts, joins and repeats elements does as TensorFlow does, for every type and for open sizes."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from lowered import Const, Fed, Op, Shape, Type, load, refusal, run, run_rows, why_not
from numpy.testing import assert_allclose, assert_array_equal

X = np.arange(6, dtype=np.float32).reshape(2, 3)
GRID = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
TEXTS = np.array([[b"a", b"", b"c"], ["é".encode(), b"e", b"f"]], object)
OPEN_ROWS = Fed(X, (None, 3))


def ints(*values):
    return Const(np.array(values, np.int32))


def scalar(value, dtype="int32"):
    return Const(np.array(value, dtype))


def rows_of(x):
    return Op("StridedSlice", [Op("Shape", [x]), ints(0), ints(1), ints(1)], {"shrink_axis_mask": 1})


# ---- every type -----------------------------------------------------------------------------------------------------


MOVES = {
    "Identity": (lambda x: Op("Identity", [x]), lambda x: x),
    "Reshape": (lambda x: Op("Reshape", [x, ints(3, -1)]), lambda x: x.reshape(3, 2)),
    "ExpandDims": (lambda x: Op("ExpandDims", [x, scalar(-1)]), lambda x: x[..., None]),
    "Transpose": (lambda x: Op("Transpose", [x, ints(1, 0)]), lambda x: x.T),
    "Pack": (lambda x: Op("Pack", [x, x], {"N": 2, "axis": 1}), lambda x: np.stack([x, x], 1)),
    "ConcatV2": (lambda x: Op("ConcatV2", [x, x, scalar(1)], {"N": 2}), lambda x: np.concatenate([x, x], 1)),
    "Unpack": (lambda x: Op("Unpack", [x], {"num": 3, "axis": 1}).at(2), lambda x: x[:, 2]),
    "Split": (lambda x: Op("Split", [scalar(0), x], {"num_split": 2}).at(1), lambda x: x[1:]),
    "Slice": (lambda x: Op("Slice", [x, ints(0, 1), ints(2, -1)]), lambda x: x[:, 1:]),
    "StridedSlice": (lambda x: Op("StridedSlice", [x, ints(0, 2), ints(2, 0), ints(1, -1)]), lambda x: x[:, 2:0:-1]),
    "Tile": (lambda x: Op("Tile", [x, ints(2, 3)]), lambda x: np.tile(x, (2, 3))),
    "BroadcastTo": (lambda x: Op("BroadcastTo", [x, ints(2, 2, 3)]), lambda x: np.broadcast_to(x, (2, 2, 3))),
    "ReverseV2": (lambda x: Op("ReverseV2", [x, ints(1)]), lambda x: x[:, ::-1]),
    "Roll": (lambda x: Op("Roll", [x, scalar(1), scalar(1)]), lambda x: np.roll(x, 1, 1)),
    "ZerosLike": (lambda x: Op("ZerosLike", [x]), lambda x: np.full(x.shape, "", object) if is_text(x) else x * 0),
}


def is_text(x):
    return x.dtype == object


@pytest.mark.parametrize("source", [np.asarray, Const])
@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool", "string"]
)
def test_elements_of_every_type_are_moved(dtype, source):
    x = TEXTS if dtype == "string" else X.astype(dtype)
    fed = source(x)
    got = load([(make(fed), dtype) for make, _ in MOVES.values()])()
    plain = np.array([[one.decode() for one in row] for row in x], object) if is_text(x) else x
    for (op, (_, wanted)), found in zip(MOVES.items(), got, strict=True):
        assert_array_equal(found, wanted(plain), err_msg=op)


@pytest.mark.parametrize("op", ["Identity", "StopGradient", "PreventGradient", "Snapshot", "PlaceholderWithDefault"])
def test_what_hands_on_its_input(op):
    attributes = {"shape": Shape((2, 3))} if op == "PlaceholderWithDefault" else {}
    assert_array_equal(run(op, [X], **attributes), X)


def test_a_checked_shape_and_several_identities():
    assert_array_equal(run_rows("EnsureShape", [X], shape=Shape((-1, 3))), X)
    got = run("IdentityN", [X, TEXTS], ["float32", "string"], T=[Type("float32"), Type("string")])
    assert_array_equal(got[0], X)
    assert got[1].tolist() == [["a", "", "c"], ["é", "e", "f"]]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "int64", "bool", "bfloat16"])
def test_constants(dtype):
    wide = Op("Cast", [Const(np.array([[0], [1]], "int32"))], {"SrcT": Type("int32"), "DstT": Type(dtype)})
    back = Op("Cast", [wide], {"SrcT": Type(dtype), "DstT": Type("int32")})
    assert load([(back, "int32")])()[0].tolist() == [[0], [1]]


def test_a_placeholder_that_no_client_feeds():
    lost = Op("Placeholder", [], {"dtype": Type("float32")})
    reason = why_not(lambda: load([(Op("AddV2", [X, lost]), "float32")]))
    assert reason == "its value is none of the signature's inputs"


# ---- shapes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("rows", [0, 1, 4])
def test_shapes(rows, dtype):
    x = Fed(X, (None, 3))
    ops = [Op(op, [x], {"out_type": Type(dtype)}) for op in ("Shape", "Size", "ShapeN")]
    shape, size, first = load([(one, dtype) for one in ops])(np.zeros((rows, 3), np.float32))
    assert (shape.tolist(), int(size), first.tolist()) == ([rows, 3], 3 * rows, [rows, 3])


def test_sizes_that_are_known():
    assert run("Shape", [X], "int32").tolist() == [2, 3]
    assert run("Shape", [np.float32(1.5)], "int32").tolist() == []
    assert run("Size", [np.float32(1.5)], "int32") == 1
    assert run("Rank", [GRID], "int32") == 3
    assert [one.tolist() for one in run("ShapeN", [X, GRID[0]], ["int32", "int32"], N=2)] == [[2, 3], [3, 2]]


def test_all_sizes_may_be_open():
    assert run("Shape", [GRID], "int32", shapes=[(None, None, None)]).tolist() == [4, 3, 2]
    assert run("Size", [GRID], "int32", shapes=[(None, None, None)]) == 24


@pytest.mark.parametrize(
    ("left", "right", "wanted"),
    [([2, 3], [3], [2, 3]), ([2, 1], [1, 3], [2, 3]), ([], [4], [4]), ([5, 1, 2], [3, 1], [5, 3, 2])],
)
def test_broadcast_shapes(left, right, wanted):
    assert run("BroadcastArgs", [ints(*left), ints(*right)], "int32").tolist() == wanted


def test_broadcast_shapes_of_open_sizes():
    both = Op("BroadcastArgs", [Op("Shape", [OPEN_ROWS]), ints(1, 3)])
    assert load([(both, "int32")])().pop().tolist() == [2, 3]
    two = Op("BroadcastArgs", [Op("Shape", [OPEN_ROWS]), Op("Shape", [Fed(X, (None, 3))])])
    assert why_not(lambda: load([(two, "int32")])) == "it broadcasts sizes that only the graph can tell"


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((6,), (6,)),
        ((3, 2), (3, 2)),
        ((-1,), (6,)),
        ((1, -1, 3), (1, 2, 3)),
        ((2, 3), (2, 3)),
        ((2, 1, 3, 1), (2, 1, 3, 1)),
    ],
)
def test_reshape(shape, wanted):
    for got in (run("Reshape", [X, ints(*shape)]), run_rows("Reshape", [X, ints(*shape)])):
        assert_array_equal(got, X.reshape(wanted))
    assert_array_equal(run("Reshape", [Const(X), ints(*shape)], "float32"), X.reshape(wanted))


def test_reshape_to_a_shape_of_the_graph():
    count = rows_of(OPEN_ROWS)
    flat = Op("Reshape", [OPEN_ROWS, Op("Pack", [count, scalar(-1)], {"N": 2})])
    split = Op("Reshape", [OPEN_ROWS, Op("Pack", [scalar(3), count], {"N": 2})])
    graph = load([(flat, "float32"), (split, "float32")])
    for x in (X, X[:1], X[:0]):
        found = graph(x)
        assert_array_equal(found[0], x)
        assert_array_equal(found[1], x.reshape(3, -1) if len(x) else np.zeros((3, 0)))


def test_reshape_of_no_row():
    assert run_rows("Reshape", [X[:0], ints(-1, 1, 3)]).shape == (0, 1, 3)
    assert run_rows("Reshape", [X[:0], ints(-1)]).shape == (0,)
    assert run("Reshape", [Const(np.zeros((0, 3), "f")), ints(3, 0)], "float32").shape == (3, 0)


def test_reshape_to_scalars():
    one = Fed(np.ones((1, 1), np.float32), (1, 1))
    assert run("Reshape", [one, ints()], "float32").shape == ()
    assert run("Reshape", [np.float32(2.5), ints(1, 1)]).tolist() == [[2.5]]


def test_reshape_to_a_rank_of_the_graph():
    shape = Fed(np.array([3, 2], np.int64), (None,))
    assert refusal("Reshape", [X, shape]) == "its shape has a length that is computed by the graph"


@pytest.mark.parametrize(("axis", "shape"), [(0, (1, 2, 3)), (1, (2, 1, 3)), (-1, (2, 3, 1)), (-3, (1, 2, 3))])
def test_expand_dims(axis, shape):
    assert run_rows("ExpandDims", [X, scalar(axis)]).shape == shape
    assert run("ExpandDims", [np.float32(1), scalar(0)]).tolist() == [1]


@pytest.mark.parametrize(("axes", "shape"), [([], (2, 3)), ([0], (2, 1, 3)), ([2], (1, 2, 3)), ([0, -2], (2, 3))])
def test_squeeze(axes, shape):
    x = X.reshape(1, 2, 1, 3)
    assert run("Squeeze", [x], squeeze_dims=axes).shape == shape
    assert run("Squeeze", [Const(x)], "float32", squeeze_dims=axes).shape == shape


def test_squeeze_of_open_sizes():
    x = X.reshape(2, 1, 3)
    assert_array_equal(run_rows("Squeeze", [x], squeeze_dims=[1]), X)
    assert_array_equal(run("Squeeze", [x], squeeze_dims=[1], shapes=[(None, None, 3)]), X)
    assert_array_equal(run("Squeeze", [X[:, :1]], squeeze_dims=[1], shapes=[(None, 1)]), X[:, 0])
    assert refusal("Squeeze", [x], shapes=[(None, 1, 3)]) == "it squeezes whatever is 1, and some sizes are open"
    assert refusal("Squeeze", [x], squeeze_dims=[0]) == "it squeezes a size other than 1"


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 2, 1)])
def test_transpose(order):
    for x in (GRID, GRID[:1], GRID[:0]):
        assert_array_equal(run_rows("Transpose", [x, ints(*order)]), x.transpose(order))
    assert_array_equal(run("Transpose", [Const(GRID), ints(*order)], "float32"), GRID.transpose(order))


def test_transpose_in_an_order_of_the_graph():
    reason = "its permutation is computed by the graph; only constants are converted"
    assert refusal("Transpose", [X, np.array([1, 0], np.int32)]) == reason
    assert run("InvertPermutation", [ints(2, 0, 1)], "int32").tolist() == [1, 2, 0]


# ---- joining --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_pack(axis):
    x, y = Fed(X, (None, 3)), Const(X + 10)
    assert_array_equal(run("Pack", [x, x, y], "float32", N=3, axis=axis), np.stack([X, X, X + 10], axis))
    assert_array_equal(run("Pack", [Const(X), y], "float32", N=2, axis=axis), np.stack([X, X + 10], axis))


def test_pack_of_scalars():
    assert run("Pack", [np.float32(1), np.float32(2)], N=2).tolist() == [1, 2]
    packed = Op("Pack", [rows_of(OPEN_ROWS), scalar(7)], {"N": 2})
    assert load([(packed, "int32")])(X[:1])[0].tolist() == [1, 7]


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_concat(axis):
    wanted = np.concatenate([X, X + 10, X], axis)
    assert_array_equal(run_rows("ConcatV2", [X, Const(X + 10), Const(X), scalar(axis)], N=3), wanted)
    assert_array_equal(run("Concat", [scalar(axis), X, Const(X + 10), Const(X)], "float32", N=3), wanted)


def test_concat_of_sizes():
    sizes = Op("ConcatV2", [Op("Shape", [OPEN_ROWS]), ints(7), Op("Shape", [OPEN_ROWS]), scalar(0)], {"N": 3})
    assert load([(sizes, "int32")])(X[:0])[0].tolist() == [0, 3, 7, 0, 3]


def test_concat_of_inputs_of_other_sizes():
    x, y = Fed(X, (None, 3)), Fed(X[:, :2], (None, None))
    joined = Op("ConcatV2", [x, y, scalar(1)], {"N": 2})
    graph = load([(joined, "float32"), (Op("Shape", [joined]), "int32")])
    for rows, width in ((2, 2), (1, 0), (0, 1)):
        found, shape = graph(X[:rows], X[:rows, :width])
        assert_array_equal(found, np.concatenate([X[:rows], X[:rows, :width]], 1))
        assert shape.tolist() == [rows, 3 + width]


@pytest.mark.parametrize(("axis", "count"), [(0, 4), (1, 3), (-1, 2)])
def test_unpack(axis, count):
    wanted = [np.take(GRID, index, axis) for index in range(count)]
    for source in (GRID, Const(GRID)):
        got = run("Unpack", [source], ["float32"] * count, num=count, axis=axis)
        assert_array_equal(np.stack(got), np.stack(wanted))


def test_unpack_a_shape():
    rows, columns = (Op("Unpack", [Op("Shape", [OPEN_ROWS])], {"num": 2}).at(index) for index in (0, 1))
    assert [int(one) for one in load([(rows, "int32"), (columns, "int32")])(X[:1])] == [1, 3]


@pytest.mark.parametrize(("axis", "count"), [(0, 2), (1, 3), (-1, 2), (-3, 4)])
def test_split(axis, count):
    for source in (GRID, Const(GRID)):
        got = run("Split", [scalar(axis), source], ["float32"] * count, num_split=count)
        assert [one.tolist() for one in got] == [one.tolist() for one in np.split(GRID, count, axis)]


@pytest.mark.parametrize("lengths", [[1, 2, 1], [0, 4, 0], [1, -1, 2], [-1, 3, 1]])
def test_split_into_lengths(lengths):
    wanted = np.split(GRID, np.cumsum([4 - sum(lengths) - 1 if one == -1 else one for one in lengths])[:-1])
    for source in (GRID, Const(GRID)):
        got = run("SplitV", [source, ints(*lengths), scalar(0)], ["float32"] * 3, num_split=3)
        assert [one.tolist() for one in got] == [one.tolist() for one in wanted]


def test_split_of_open_sizes():
    assert_array_equal(run_rows("Split", [scalar(1), Const(X)], ["float32"] * 3, num_split=3)[1], X[:, 1:2])
    two = ["float32", "float32"]
    assert refusal("Split", [scalar(0), X], two, num_split=2, shapes=[None, (None, 3)]) == "it splits an open size"
    lengths = ints(1, -1)
    options = {"num_split": 2, "shapes": [(None, 3), None, None]}
    assert refusal("SplitV", [X, lengths, scalar(0)], two, **options) == "it splits an open size"
    assert_array_equal(run("SplitV", [X, ints(1, 1), scalar(0)], two, **options)[1], X[1:])


def test_split_that_does_not_come_out_even():
    assert refusal("Split", [scalar(1), X], ["float32"] * 2, num_split=2) == "it splits 3 elements into 2 parts"


# ---- cutting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begin", "size", "wanted"),
    [
        ((0, 0), (2, 3), X),
        ((0, 1), (-1, 2), X[:, 1:]),
        ((1, 0), (1, -1), X[1:]),
        ((0, 2), (-1, -1), X[:, 2:]),
        ((1, 1), (1, 0), X[1:, 1:1]),
        ((2, 0), (0, 3), X[2:]),
    ],
)
def test_slice(begin, size, wanted):
    for got in (run("Slice", [X, ints(*begin), ints(*size)]), run_rows("Slice", [X, ints(*begin), ints(*size)])):
        assert_array_equal(got, wanted)
    assert_array_equal(run("Slice", [Const(X), ints(*begin), ints(*size)], "float32"), wanted)


def test_slice_of_as_many_rows_as_another_input_has():
    count = Op("Pack", [rows_of(Fed(X[:1], (None, 3))), scalar(2)], {"N": 2})
    cut = Op("Slice", [Fed(GRID[:, :, 0], (None, 3)), ints(0, 0), count])
    assert_array_equal(load([(cut, "float32")])()[0], GRID[:1, :2, 0])


def test_slices_that_are_not_converted():
    at = np.array([0, 1], np.int32)
    assert refusal("Slice", [X, at, ints(1, 1)]) == "it begins where the graph computes"
    count = Op("Pack", [rows_of(OPEN_ROWS), scalar(2)], {"N": 2})
    assert refusal("Slice", [GRID[:, :, 0], ints(1, 0), count]) == "it ends where the graph computes"
    assert refusal("Slice", [X, ints(0, 1), ints(2, 3)]) == "it takes 3 elements from 1 on, of 3"


def indices(shape):
    """Tuples that numpy takes as an index: slices, numbers, new axes, and an ellipsis at most once."""

    def axis(size):
        bound = st.none() | st.integers(-size - 2, size + 2)
        step = st.integers(-3, 3).filter(bool)
        return st.builds(slice, bound, bound, step) | st.integers(-size, size - 1)

    def with_more(parts):
        gap, cut = st.integers(0, len(parts)), st.integers(0, len(shape))
        return st.tuples(st.just(parts), gap, st.sampled_from(["", "new", "rest"]), cut).map(_joined)

    return st.tuples(*map(axis, shape)).flatmap(with_more)


def _joined(drawn):
    parts, gap, kind, cut = drawn
    if kind == "rest":
        # The ellipsis stands for the axes between.
        first, last = sorted((gap, cut))
        return (*parts[:first], Ellipsis, *parts[last:])
    return (*parts[:gap], *([None] if kind == "new" else []), *parts[gap:])


def strided_slice(x, index):
    """The StridedSlice of a numpy index."""
    masks = dict.fromkeys(("begin", "end", "ellipsis", "new_axis", "shrink_axis"), 0)
    triples = []
    for place, one in enumerate(index):
        begin, end, step = 0, 0, 1
        if one is None or one is Ellipsis:
            masks["new_axis" if one is None else "ellipsis"] |= 1 << place
        elif isinstance(one, int):
            masks["shrink_axis"] |= 1 << place
            begin, end = one, one + 1
        else:
            masks["begin"] |= (one.start is None) << place
            masks["end"] |= (one.stop is None) << place
            begin, end, step = one.start or 0, one.stop or 0, one.step or 1
        triples.append((begin, end, step))
    bounds = [Const(np.array([one[part] for one in triples], np.int32)) for part in range(3)]
    return Op("StridedSlice", [x, *bounds], {f"{name}_mask": value for name, value in masks.items()})


# Without shrinking: a failing index says enough.
@settings(max_examples=15, phases=[Phase.generate])
@given(st.lists(indices((4, 3, 2)), min_size=8, max_size=8))
def test_strided_slices_are_numpys(drawn):
    cuts = [(strided_slice(source, index), index) for source in (Fed(GRID), Const(GRID)) for index in drawn]
    for found, (_, index) in zip(load([(cut, "float32") for cut, _ in cuts])(), cuts, strict=True):
        assert_array_equal(found, GRID[index], err_msg=str(index))


@pytest.mark.parametrize(
    "index", [np.s_[:2,], np.s_[-2:,], np.s_[::-1,], np.s_[:, ::2], np.s_[1:, None], np.s_[..., -1]]
)
def test_strided_slices_of_open_rows(index):
    cut = strided_slice(Fed(GRID, (None, 3, 2)), index)
    graph = load([(cut, "float32"), (Op("Shape", [cut]), "int32")])
    for rows in range(4):
        found, shape = graph(GRID[:rows])
        assert_array_equal(found, GRID[:rows][index])
        assert shape.tolist() == list(found.shape)


@pytest.mark.parametrize(("end", "rows"), [(1, 1), (2, 2), (5, 2), (-1, 1), (0, 0)])
def test_an_end_that_clients_send_may_lie_behind_the_last_row(end, rows):
    bound = Fed(np.array([end], np.int32), (1,))
    cut = Op("StridedSlice", [OPEN_ROWS, ints(0), bound, ints(1)])
    found, shape = load([(cut, "float32"), (Op("Shape", [cut]), "int32")])()
    assert_array_equal(found, X[:end])
    assert shape.tolist() == [rows, 3]


def test_strided_slices_that_are_not_converted():
    at, one = np.array([0], np.int32), ints(1)
    assert refusal("StridedSlice", [X, at, one, one]) == "it begins where the graph computes"
    reason = "it takes an element whose place the graph computes"
    assert refusal("StridedSlice", [X, at, one, one], shrink_axis_mask=1) == reason
    reason = "it goes backwards from a place that an open size may not have"
    assert refusal("StridedSlice", [OPEN_ROWS, ints(-2), ints(0), ints(-1)]) == reason
    beyond = [X, ints(0, 3), ints(0, 4), ints(1, 1)]
    assert refusal("StridedSlice", beyond, shrink_axis_mask=2) == "it takes element 3 of 3"


# ---- repeating ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("multiples", [(1, 1), (2, 1), (1, 3), (2, 3), (0, 1)])
def test_tile(multiples):
    for x in (X, X[:1], X[:, :1]):
        assert_array_equal(run_rows("Tile", [x, ints(*multiples)]), np.tile(x, multiples))
        assert_array_equal(run("Tile", [Const(x), ints(*multiples)], "float32"), np.tile(x, multiples))


@pytest.mark.parametrize("values", [[0, 1, 2], [7, 5], [3], [0]])
def test_tile_as_often_as_there_are_rows(values):
    count = Op("Pack", [rows_of(OPEN_ROWS)], {"N": 1})
    tiled = Op("Tile", [ints(*values), count])
    graph = load([(tiled, "int32"), (Op("Shape", [tiled]), "int32")])
    for rows in (0, 1, 2):
        found, shape = graph(X[:rows])
        assert found.tolist() == values * rows
        assert shape.tolist() == [len(values) * rows]


@pytest.mark.parametrize(("shape", "wanted"), [((2, 3), (2, 3)), ((4, 2, 3), (4, 2, 3))])
def test_broadcast_to(shape, wanted):
    for got in (run("BroadcastTo", [X, ints(*shape)]), run_rows("BroadcastTo", [X, ints(*shape)])):
        assert_array_equal(got, np.broadcast_to(X, wanted))
    assert_array_equal(run("BroadcastTo", [X[:, :1], ints(2, 5)]), np.broadcast_to(X[:, :1], (2, 5)))


def test_broadcast_to_as_many_rows_as_an_input_has():
    shape = Op("Pack", [rows_of(OPEN_ROWS), scalar(3)], {"N": 2})
    graph = load([(Op("BroadcastTo", [Const(X[:1]), shape]), "float32")])
    for rows in (0, 1, 2):
        assert_array_equal(graph(np.zeros((rows, 3), "f"))[0], np.tile(X[:1], (rows, 1)))


@pytest.mark.parametrize(("value", "dtype"), [(1.5, "float32"), (7, "int64"), (True, "bool"), (b"x", "string")])
def test_fill(value, dtype):
    element = Const(np.array(value, object if dtype == "string" else dtype))
    wanted = value.decode() if dtype == "string" else value
    assert run("Fill", [ints(2, 1), element], dtype).tolist() == [[wanted], [wanted]]
    rows = load([(Op("Fill", [Op("Shape", [OPEN_ROWS]), element]), dtype)])
    assert [rows(X[:count])[0].tolist() for count in (0, 1)] == [[], [[wanted] * 3]]


def test_fill_with_what_clients_send():
    assert run("Fill", [ints(3), np.float32(2.5)], "float32").tolist() == [2.5] * 3


@pytest.mark.parametrize("op", ["Fill", "BroadcastTo", "Tile"])
def test_tensors_of_endless_size(op):
    sizes = Const(np.array([1 << 40], np.int64))
    inputs = [sizes, scalar(0, "float32")] if op == "Fill" else [np.zeros(1, np.float32), sizes]
    assert refusal(op, inputs) == "it makes a tensor of shape [1099511627776]"


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8", "int64", "bool"])
@pytest.mark.parametrize(("op", "wanted"), [("ZerosLike", 0), ("OnesLike", 1)])
def test_blank_tensors_of_the_same_shape(op, wanted, dtype):
    for x in (X, X[:0]):
        assert_array_equal(run_rows(op, [x.astype(dtype)]), np.full(x.shape, wanted, dtype))


@pytest.mark.parametrize(
    ("start", "limit", "delta", "wanted"),
    [
        (0, 5, 1, [0, 1, 2, 3, 4]),
        (2, 9, 3, [2, 5, 8]),
        (5, 0, -2, [5, 3, 1]),
        (3, 3, 1, []),
        (0.0, 1.0, 0.25, [0, 0.25, 0.5, 0.75]),
        (1.0, 0.0, -0.5, [1.0, 0.5]),
    ],
)
def test_ranges(start, limit, delta, wanted):
    bounds = [np.array(one, "float32" if isinstance(start, float) else "int64") for one in (start, limit, delta)]
    assert run("Range", bounds).tolist() == wanted
    assert run("Range", [Const(one) for one in bounds], bounds[0].dtype.name).tolist() == wanted


def test_a_number_for_each_row():
    graph = load([(Op("Range", [scalar(0), rows_of(OPEN_ROWS), scalar(1)]), "int32")])
    assert [graph(np.zeros((rows, 3), "f"))[0].tolist() for rows in (0, 1, 3)] == [[], [0], [0, 1, 2]]


@pytest.mark.parametrize("delta", [0, 1])
def test_ranges_without_end(delta):
    bounds = [scalar(one, "int64") for one in (0, 1 << 40, delta)]
    assert refusal("Range", bounds, "int64") == "it makes too long a range"


def test_evenly_spaced_numbers():
    got = run("LinSpace", [scalar(0, "float32"), scalar(1, "float32"), scalar(7)], "float32")
    assert_allclose(got, [0, 0.16666667, 0.33333334, 0.5, 0.6666667, 0.8333334, 1], rtol=1e-6)
    assert run("LinSpace", [scalar(5, "float64"), scalar(9, "float64"), scalar(1)], "float64").tolist() == [5]


@pytest.mark.parametrize("axes", [(), (0,), (1,), (-1,), (0, 2), (0, 1, 2)])
def test_reverse(axes):
    wanted = np.flip(GRID, axes)
    for x in (GRID, Const(GRID), Fed(GRID, (None, 3, 2))):
        assert_array_equal(run("ReverseV2", [x, ints(*axes)], "float32"), wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("pads", [((0, 0), (1, 2)), ((1, 0), (0, 0)), ((2, 1), (0, 3))])
def test_pad(pads, dtype):
    paddings = Const(np.array(pads, np.int32))
    x = X.astype(dtype)
    assert_array_equal(run_rows("Pad", [x, paddings]), np.pad(x, pads))
    assert_array_equal(run("PadV2", [x, paddings, scalar(1, dtype)]), np.pad(x, pads, constant_values=1))


def test_pad_keeps_the_shape_right():
    padded = Op("Pad", [OPEN_ROWS, Const(np.array([[1, 0], [0, 2]], np.int64))])
    assert load([(Op("Shape", [padded]), "int32")])(X[:0])[0].tolist() == [1, 5]


def test_pad_by_mirroring():
    paddings = Const(np.array([[1, 0], [2, 1]], np.int32))
    assert_array_equal(run("MirrorPad", [X, paddings], mode="REFLECT"), np.pad(X, ((1, 0), (2, 1)), "reflect"))
    reason = "it pads in a way that ONNX lacks"
    assert refusal("MirrorPad", [X, paddings], mode="SYMMETRIC") == reason
    assert refusal("Pad", [TEXTS, paddings], "string") == reason


@pytest.mark.parametrize(
    ("shift", "axis"), [(1, 0), (-1, 1), (5, 1), (4, 0), (0, 2), ((1, -1), (0, 1)), ((1, 1), (1, 1))]
)
def test_roll(shift, axis):
    places = [Const(np.array(one, np.int32)) for one in (shift, axis)]
    assert_array_equal(run("Roll", [GRID, *places]), np.roll(GRID, shift, axis))


def test_roll_of_open_sizes():
    assert_array_equal(run_rows("Roll", [X, scalar(1), scalar(-1)]), np.roll(X, 1, -1))
    assert refusal("Roll", [X, scalar(1), scalar(0)], shapes=[(None, 3), None, None]) == "it rolls an open size"
