"""The walk over a graph, and the values that every op's lowering makes and reads."""

from dataclasses import replace

import numpy as np
import pytest
import saved_graphs
from saved_graphs import FLOAT, INT64, add, call, constant, function, value_of

from estimator_serving import ops
from estimator_serving.exporter.sources.saved_model import lower, lowering
from estimator_serving.exporter.sources.saved_model.errors import SavedModelError, Unsupported
from estimator_serving.exporter.sources.saved_model.graph import ELEMENTS_MAX, Node, Ref
from estimator_serving.exporter.sources.saved_model.lowering import lowers
from estimator_serving.exporter.sources.saved_model.values import (
    Coordinates,
    Flat,
    Handle,
    Positions,
    Symbol,
    TensorList,
    multiply,
)

NODE = Node("here", "Op", [], [], {})
ROWS = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], np.float32)
MASK = np.array([[True, False, True], [False, False, True]])


@pytest.fixture
def meta_graph():
    return saved_graphs.meta_graph()


@pytest.fixture
def context(meta_graph):
    """A lowering whose graph takes x, float32 [batch, width], and mask, bool of the same sizes."""
    made = saved_graphs.lowering(meta_graph)
    made.builder.add_input("x", FLOAT, ["batch", "width"])
    made.builder.add_input("mask", np.dtype(np.bool_), ["batch", "width"])
    return made


@pytest.fixture
def x(context):
    return context.tensor(FLOAT, [None, None], lambda: "x")


@pytest.fixture
def cells(context, x):
    """The cells of x that the mask keeps."""
    return context.cells_of(*x.shape, context.tensor(np.dtype(np.bool_), x.shape, lambda: "mask"))


def run(context, name, dtype=INT64, x=ROWS, mask=MASK):
    model = context.builder.model({"y": (name, np.dtype(dtype), None)})
    return ops.session(model.SerializeToString()).run(None, {"x": x, "mask": mask})[0].tolist()


# ---- the walk -------------------------------------------------------------------------------------------------------


def test_constants_are_folded(meta_graph):
    constant(meta_graph, "two", 2.0, np.float32)
    constant(meta_graph, "three", 3.0, np.float32)
    add(meta_graph, "sum", "AddV2", "two three")
    add(meta_graph, "product", "Mul", "sum sum")
    context = saved_graphs.lowering(meta_graph)
    assert value_of(context, "product").item() == 25.0
    assert not context.builder.model({"y": (context.value(Ref("product", 0)).name, FLOAT, [])}).graph.node[:-1]


def test_a_long_chain_is_no_deep_recursion(meta_graph):
    constant(meta_graph, "add_0", 0.0, np.float32)
    constant(meta_graph, "one", 1.0, np.float32)
    for index in range(3000):
        add(meta_graph, f"add_{index + 1}", "AddV2", f"add_{index} one")
    assert value_of(saved_graphs.lowering(meta_graph), "add_3000").item() == 3000.0


def test_calls_are_lowered_as_their_bodies(meta_graph):
    constant(meta_graph, "two", 2.0, np.float32)
    body = function(meta_graph, "square", "a", {"out": "product:z:0"})
    add(body, "product", "Mul", "a a")
    add(meta_graph, "inner", "PartitionedCall", "two", f=call("square"))
    add(meta_graph, "outer", "StatefulPartitionedCall", "inner", f=call("square"))
    assert value_of(saved_graphs.lowering(meta_graph), "outer").item() == 16.0


def test_what_is_fed_is_not_lowered(meta_graph):
    constant(meta_graph, "one", 1.0, np.float32)
    add(meta_graph, "mystery", "Mystery")
    add(meta_graph, "sum", "AddV2", "mystery one")
    context = saved_graphs.lowering(meta_graph, fed={Ref("mystery", 0): 4.0})
    assert value_of(context, "sum").item() == 5.0


def test_a_node_that_only_has_to_run_before_is_not_lowered(meta_graph):
    add(meta_graph, "mystery", "Mystery")
    constant(meta_graph, "one", 1.0, np.float32)
    add(meta_graph, "same", "Identity", "one ^mystery")
    assert value_of(saved_graphs.lowering(meta_graph), "same").item() == 1.0


def test_a_graph_that_runs_in_a_circle(meta_graph):
    add(meta_graph, "a", "Identity", "b")
    add(meta_graph, "b", "Identity", "a")
    with pytest.raises(SavedModelError, match="runs in a circle through a; loops of this form are not read"):
        saved_graphs.lowering(meta_graph).value(Ref("a", 0))


def test_an_output_that_an_op_has_not(meta_graph):
    constant(meta_graph, "one", 1.0)
    with pytest.raises(SavedModelError, match="refers to output 2 of one, which has 1"):
        saved_graphs.lowering(meta_graph).value(Ref("one", 2))


def test_an_op_that_is_not_converted(meta_graph):
    add(meta_graph, "a", "Mystery")
    with pytest.raises(Unsupported, match="Mystery at a: this op is not converted"):
        saved_graphs.lowering(meta_graph).value(Ref("a", 0))


def test_operands_that_no_op_could_take_are_refused(meta_graph):
    constant(meta_graph, "two", [1.0, 2.0], np.float32)
    constant(meta_graph, "three", [1.0, 2.0, 3.0], np.float32)
    add(meta_graph, "sum", "AddV2", "two three")
    with pytest.raises(Unsupported, match="AddV2 at sum: it cannot be converted as it stands here"):
        saved_graphs.lowering(meta_graph).value(Ref("sum", 0))


def test_a_function_is_registered_for_several_ops(monkeypatch):
    monkeypatch.setattr(lowering, "LOWERINGS", {})
    assert lowers("First", "Second")(len) is len
    assert {"First": len, "Second": len} == lowering.LOWERINGS


# ---- constants and sizes --------------------------------------------------------------------------------------------


def test_whole_numbers_know_their_bounds_and_sizes(context):
    made = context.constant(np.array([3, -1, 2]))
    assert (made.low, made.high, made.sizes) == (-1, 3, (3, -1, 2))
    assert context.constant(np.zeros(0, np.int32)).sizes == ()
    assert context.constant(np.array([[1, 2]])).sizes is None
    assert context.constant(ROWS).low is None


def test_a_constant_in_another_type(context):
    assert context.constant([1, 2], FLOAT).constant.dtype == FLOAT


@pytest.mark.parametrize(
    ("factors", "wanted"),
    [([5], [5]), (["rows"], [2]), (["rows", 4], [8]), (["rows", "width"], [6]), (["rows", "rows", 3], [12])],
)
def test_a_size_as_a_number_of_the_graph(context, x, factors, wanted):
    sizes = {"rows": x.shape[0], "width": x.shape[1]}
    dim = multiply([sizes.get(one, one) for one in factors])
    assert run(context, context.dim_name(dim)) == wanted


def test_a_shape_as_a_vector_of_the_graph(context, x):
    assert run(context, context.shape_name((x.shape[1], 7, x.shape[0]))) == [3, 7, 2]
    assert run(context, context.shape_name((x.shape[1],))) == [3]
    assert run(context, context.shape_name((4, 5))) == [4, 5]


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_sizes_as_a_tensor(context, x, dtype):
    vector, scalar = context.sizes(x.shape, np.dtype(dtype)), context.sizes(x.shape[:1], np.dtype(dtype), 0)
    assert (vector.sizes, vector.low) == (x.shape, 0)
    assert run(context, vector.name, dtype) == [2, 3]
    assert run(context, scalar.name, dtype) == 2
    assert context.sizes((2, 3), np.dtype(dtype)).constant.tolist() == [2, 3]


def test_elements_of_a_computed_vector_are_sizes(context, x):
    shape = context.written(context.builder.one("Shape", "x"), INT64, [2])
    first, second = context.dims(shape, NODE, "shape")
    assert isinstance(first, Symbol)
    assert run(context, context.shape_name((second, first))) == [3, 2]
    assert context.dims(shape, NODE, "shape") == (first, second)


def test_sizes_of_an_open_number_are_refused(context, x):
    vector = context.written("x", INT64, [None])
    with pytest.raises(Unsupported, match="its shape has a length that is computed by the graph"):
        context.dims(vector, NODE, "shape")


def test_a_range_as_long_as_a_size(context, x):
    assert run(context, context.range_of(x.shape[1]).name) == [0, 1, 2]
    assert run(context, context.range_of(x.shape[0], np.dtype(np.int32)).name, np.int32) == [0, 1]
    assert context.range_of(3).constant.tolist() == [0, 1, 2]
    assert context.range_of(x.shape[0]).row_numbers


def test_a_tensor_spread_to_a_shape(context, x):
    scalar = context.constant(np.float32(7))
    assert run(context, context.spread(scalar, x.shape), FLOAT) == [[7.0] * 3] * 2
    assert context.spread(x, x.shape) == "x"


@pytest.mark.parametrize("shape", [(ELEMENTS_MAX + 1,), (1 << 40, 1 << 40)])
def test_a_constant_that_nobody_can_mean_is_refused(context, shape):
    with pytest.raises(Unsupported, match=r"it makes a tensor of shape \["):
        context.check_elements(shape, NODE)


def test_a_constant_of_open_sizes_may_be_large(context, x):
    assert context.check_elements((x.shape[0], 1 << 40), NODE) is None


# ---- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [Handle("v"), TensorList((), FLOAT, ())])
def test_a_resource_is_no_tensor(context, value):
    with pytest.raises(Unsupported, match="it reads a resource or a list as a tensor"):
        context.dense(value, NODE)


def test_a_computed_value_is_no_constant(context, x):
    with pytest.raises(Unsupported, match="its axis is computed by the graph; only constants are converted"):
        context.array(x, NODE, "axis")


# ---- cells ----------------------------------------------------------------------------------------------------------


def dense(context, value):
    return context.dense(value, NODE).name


def test_values_of_cells_in_full(context, x, cells):
    assert run(context, dense(context, Flat(cells, x)), FLOAT) == [1.0, 3.0, 6.0]
    assert run(context, context.dim_name(cells.count)) == [3]
    whole = context.cells_of(*x.shape, None)
    assert run(context, dense(context, Flat(whole, x)), FLOAT) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


@pytest.mark.parametrize(("rows", "width"), [(0, 3), (2, 0), (0, 0)])
def test_no_cells_in_full(context, x, cells, rows, width):
    empty = {"x": np.zeros((rows, width), np.float32), "mask": np.zeros((rows, width), np.bool_)}
    assert run(context, dense(context, Flat(cells, x)), FLOAT, **empty) == []
    assert run(context, context.dim_name(cells.count), **empty) == [0]


def test_one_value_for_all_cells_in_full(context, cells):
    seven = context.constant(np.full((1, 1), 7, np.int64))
    assert run(context, dense(context, Flat(cells, seven))) == [7, 7, 7]


def test_coordinates_in_full(context, cells):
    made = lower.choosing.coordinates_of(context, cells)
    assert run(context, dense(context, made)) == [[0, 0], [0, 2], [1, 2]]
    assert run(context, dense(context, Coordinates(made.columns, is_transposed=True))) == [[0, 0, 1], [0, 2, 2]]


def test_positions_in_full(context, x, cells):
    large = context.written(context.builder.one("Greater", "x", context.scalar(2, FLOAT)), np.dtype(np.bool_), x.shape)
    kept = lower.choosing.narrow(context, Flat(cells, large))
    assert run(context, dense(context, Positions(kept, cells))) == [1, 2]
    assert run(context, dense(context, Positions(kept, cells, is_column=True))) == [[1], [2]]
    int32 = np.dtype(np.int32)
    assert run(context, dense(context, Positions(kept, cells, dtype=int32)), int32) == [1, 2]
    assert run(context, dense(context, Positions(kept, context.cells_of(*x.shape, None)))) == [2, 5]


def test_positions_of_cells_among_themselves_number_them(context, cells):
    assert run(context, dense(context, Positions(cells, cells))) == [0, 1, 2]
    assert run(context, dense(context, Positions(cells, cells, is_column=True))) == [[0], [1], [2]]


def test_positions_among_filled_rows_are_refused(context, x, cells):
    filled = replace(cells, empty=context.written("flags", np.dtype(np.bool_), x.shape[:1]))
    with pytest.raises(Unsupported, match="it reads positions among filled rows"):
        dense(context, Positions(cells, filled))


def test_values_are_written_in_full_once(context, x, cells):
    flat = Flat(cells, x)
    assert context.dense(flat, NODE) is context.dense(flat, NODE)
