"""Branches and loops that constants decide, and lists of tensors, give what TensorFlow's give."""

import numpy as np
import pytest
from lowered import Const, Fed, Function, Op, Type, load, run, why_not
from numpy.testing import assert_array_equal

X = np.arange(6, dtype=np.float32).reshape(3, 2)


def scalar(value, dtype="int32"):
    return Const(np.array(value, dtype))


# ---- branches -------------------------------------------------------------------------------------------------------


THEN = Function("then", {"x": "float32", "y": "float32"}, [Op("AddV2", ["x", "y"]), "x"])
ELSE = Function("else", {"x": "float32", "y": "float32"}, [Op("Neg", ["x"]), "y"])


@pytest.mark.parametrize("op", ["If", "StatelessIf"])
@pytest.mark.parametrize(("condition", "wanted"), [(True, [X + 10, X]), (False, [-X, np.float32(10)])])
def test_a_branch_by_a_constant(op, condition, wanted):
    inputs = [scalar(condition, bool), Fed(X, (None, 2)), scalar(10, "float32")]
    got = run(op, inputs, ["float32", "float32"], then_branch=THEN, else_branch=ELSE)
    for found, expected in zip(got, wanted, strict=True):
        assert_array_equal(found, expected)


@pytest.mark.parametrize(("condition", "wanted"), [(5, X + X), (0, -X)])
def test_a_branch_by_a_number(condition, wanted):
    chosen = Op("If", [scalar(condition), X, X], {"then_branch": THEN, "else_branch": ELSE})
    assert_array_equal(load([(chosen, "float32")])()[0], wanted)


def test_a_branch_by_what_follows_from_constants():
    condition = Op("Less", [Op("Size", [Const(X)]), scalar(9)])
    chosen = Op("If", [condition, X, X], {"then_branch": THEN, "else_branch": ELSE})
    assert_array_equal(load([(chosen, "float32")])()[0], X + X)


def test_a_branch_in_a_branch():
    inner = Op("If", [scalar(False, bool), "x", "x"], {"then_branch": THEN, "else_branch": ELSE})
    outer = Function("outer", {"x": "float32"}, [Op("Mul", [inner, inner])])
    chosen = Op("If", [scalar(True, bool), X], {"then_branch": outer, "else_branch": outer})
    assert_array_equal(load([(chosen, "float32")])()[0], X * X)


def test_a_branch_by_what_clients_send():
    chosen = Op("If", [np.array(True), X, X], {"then_branch": THEN, "else_branch": ELSE})
    reason = "its condition is computed by the graph; only constants are converted"
    assert why_not(lambda: load([(chosen, "float32")])) == reason


# ---- loops ----------------------------------------------------------------------------------------------------------


def below(limit):
    return Function(f"below_{limit}", {"i": "int32", "x": "float32"}, [Op("Less", ["i", scalar(limit)])])


BODY = Function(
    "body", {"i": "int32", "x": "float32"}, [Op("AddV2", ["i", scalar(1)]), Op("Mul", ["x", scalar(2, "float32")])]
)


@pytest.mark.parametrize("op", ["While", "StatelessWhile"])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_a_loop_of_so_many_steps(op, steps):
    loop = Op(op, [scalar(0), Fed(X, (None, 2))], {"cond": below(steps), "body": BODY})
    count, found = load([(loop, "int32"), (loop.at(1), "float32")])(X[:2])
    assert count == steps
    assert_array_equal(found, X[:2] * 2**steps)


def test_a_loop_that_does_not_end():
    body = Function("still", {"i": "int32", "x": "float32"}, ["i", "x"])
    loop = Op("While", [scalar(0), X], {"cond": below(1), "body": body})
    assert why_not(lambda: load([(loop, "int32")])) == "it runs more than 2048 times"


def test_a_loop_that_clients_end():
    """Its second step depends on what was sent."""
    condition = Function("small", {"i": "int32", "x": "float32"}, [Op("Less", ["i", scalar(1)])])
    body = Function("sent", {"i": "int32", "x": "float32"}, [Op("Cast", ["x"], CAST), "x"])
    loop = Op("While", [scalar(0), np.float32(1.5)], {"cond": condition, "body": body})
    reason = "its condition is computed by the graph; only constants are converted"
    assert why_not(lambda: load([(loop, "int32")])) == reason


CAST = {"SrcT": Type("float32"), "DstT": Type("int32")}


# ---- lists ----------------------------------------------------------------------------------------------------------


FLOATS = {"element_dtype": Type("float32")}


def stacked(items, shape=(-1,)):
    return Op("TensorListStack", [items, Const(np.array(shape, np.int32))], {**FLOATS, "num_elements": -1})


def reserved(count, shape=(2,)):
    return Op("TensorListReserve", [Const(np.array(shape, np.int32)), scalar(count)], FLOATS)


def written(items, index, value):
    return Op("TensorListSetItem", [items, scalar(index), value], FLOATS)


def item(items, index):
    return Op("TensorListGetItem", [items, scalar(index), Const(np.array([2], np.int32))], FLOATS)


@pytest.mark.parametrize("source", [np.asarray, Const])
def test_a_list_of_rows(source):
    items = Op("TensorListFromTensor", [source(X), Const(np.array([2], np.int32))], FLOATS)
    length = Op("TensorListLength", [items])
    last, count, whole = load([(item(items, 2), "float32"), (length, "int32"), (stacked(items), "float32")])()
    assert (last.tolist(), int(count)) == ([4, 5], 3)
    assert_array_equal(whole, X)


def test_items_are_written_in_any_order():
    row = Fed(X[0], (2,))
    items = written(written(reserved(2), 1, row), 0, Const(X[2]))
    assert load([(stacked(items), "float32")])(np.float32([8, 9]))[0].tolist() == [[4, 5], [8, 9]]


def test_a_written_list_does_not_change_the_one_before():
    before = written(reserved(1), 0, Const(X[0]))
    after = written(before, 0, Const(X[1]))
    got = load([(item(before, 0), "float32"), (item(after, 0), "float32")])()
    assert [one.tolist() for one in got] == [[0, 1], [2, 3]]


def test_items_are_pushed():
    items = Op("EmptyTensorList", [Const(np.array([2], np.int32)), scalar(-1)], FLOATS)
    for row in (Fed(X[1], (2,)), Const(X[0])):
        items = Op("TensorListPushBack", [items, row], FLOATS)
    length = Op("TensorListLength", [items])
    whole, count = load([(stacked(items), "float32"), (length, "int32")])()
    assert (whole.tolist(), int(count)) == ([[2, 3], [0, 1]], 2)


def test_items_that_were_not_written_are_zeros():
    items = written(reserved(3), 1, Const(X[1]))
    got = load([(item(items, 2), "float32"), (stacked(items), "float32")])()
    assert [one.tolist() for one in got] == [[0, 0], [[0, 0], [2, 3], [0, 0]]]


def test_a_loop_that_fills_a_list():
    condition = Function("more", {"i": "int32", "list": "float32"}, [Op("Less", ["i", scalar(3)])])
    square = Op("Cast", [Op("Mul", ["i", "i"])], {"SrcT": Type("int32"), "DstT": Type("float32")})
    step = Op("TensorListSetItem", ["list", "i", square], FLOATS)
    body = Function("fill", {"i": "int32", "list": "float32"}, [Op("AddV2", ["i", scalar(1)]), step])
    loop = Op("While", [scalar(0), reserved(3, ())], {"cond": condition, "body": body})
    assert load([(stacked(loop.at(1), ()), "float32")])()[0].tolist() == [0, 1, 4]


@pytest.mark.parametrize("index", [3, -1])
def test_an_item_that_is_not_there(index):
    items = Op("TensorListFromTensor", [X, Const(np.array([2], np.int32))], FLOATS)
    assert why_not(lambda: load([(item(items, index), "float32")])) == f"it takes element {index} of 3"


def test_an_item_whose_shape_nobody_knows():
    reason = "it reads an element that nothing was written to"
    assert why_not(lambda: load([(item(reserved(1, -1), 0), "float32")])) == reason
    assert why_not(lambda: load([(item(reserved(1, (-1,)), 0), "float32")])) == reason


def test_a_list_that_nothing_was_written_to():
    reason = "it stacks a list that nothing was written to"
    assert why_not(lambda: load([(stacked(reserved(2)), "float32")])) == reason


def test_what_is_no_list():
    assert why_not(lambda: load([(item(X, 0), "float32")])) == "it reads what is no list"


def test_what_has_no_value_is_passed_over():
    checked = Op("Assert", [scalar(False, bool), Const(np.array(b"never", object))])
    doubled = Op("AddV2", [X, X], {}, [Op("NoOp", [], {}, [checked])])
    assert_array_equal(load([(doubled, "float32")])()[0], X + X)
