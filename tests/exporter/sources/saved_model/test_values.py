"""The algebra of sizes, and sparse values as views of a grid."""

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.exporter.sources.saved_model.values import (
    Cells,
    Coordinates,
    Flat,
    Positions,
    Product,
    Symbol,
    Tensor,
    divide,
    known,
    multiply,
    numbers_of,
)

BATCH, WIDTH = (Symbol(str) for _ in range(2))
SYMBOLS = {BATCH: 7, WIDTH: 11}
DIMS = st.one_of(st.integers(1, 6), st.sampled_from([BATCH, WIDTH]))


def number(dim):
    """What a size is where the batch is 7 and the width 11."""
    if isinstance(dim, Product):
        return dim.factor * prod(SYMBOLS[one] for one in dim.symbols)
    return SYMBOLS.get(dim, dim)


def tensor(*shape, dtype=np.float32, **facts):
    return Tensor(np.dtype(dtype), shape, lambda: "emitted", **facts)


@given(st.lists(DIMS, max_size=6))
def test_a_product_is_the_product_of_its_sizes(dims):
    assert number(multiply(dims)) == prod(map(number, dims))


@given(st.lists(DIMS, max_size=6), st.randoms())
def test_a_product_does_not_know_the_order_of_its_sizes(dims, random):
    turned = random.sample(dims, len(dims))
    assert multiply(turned) == multiply(dims)


@given(st.lists(DIMS, max_size=4), st.lists(DIMS, max_size=4))
def test_what_was_multiplied_is_divided_out_again(left, right):
    assert divide(multiply([*left, *right]), multiply(right)) == multiply(left)


@given(st.lists(DIMS, max_size=3), st.lists(DIMS, max_size=3))
def test_a_quotient_times_the_divisor_is_the_dividend(left, right):
    quotient = divide(multiply(left), multiply(right))
    assert quotient is None or number(quotient) * prod(map(number, right)) == prod(map(number, left))


@pytest.mark.parametrize(
    ("dims", "made"),
    [
        ([], 1),
        ([2, 3], 6),
        ([BATCH], BATCH),
        ([1, BATCH], BATCH),
        ([0, BATCH], 0),
        ([2, BATCH], Product(2, (BATCH,))),
        ([Product(2, (BATCH,)), 3], Product(6, (BATCH,))),
    ],
)
def test_a_product_in_its_shortest_form(dims, made):
    assert multiply(dims) == made


@pytest.mark.parametrize(
    ("dividend", "divisor", "quotient"),
    [
        (6, 3, 2),
        (6, 4, None),
        (6, 0, None),
        (0, 3, 0),
        (BATCH, BATCH, 1),
        (BATCH, WIDTH, None),
        (BATCH, 2, None),
        (Product(4, (BATCH,)), 2, Product(2, (BATCH,))),
        (multiply([BATCH, BATCH]), BATCH, BATCH),
    ],
)
def test_a_quotient_where_it_follows_from_the_factors(dividend, divisor, quotient):
    assert divide(dividend, divisor) == quotient


def test_a_shape_is_known_where_every_size_is():
    assert known((2, 3)) == numbers_of((2, 3)) == (2, 3)
    assert known(()) == ()
    assert known((2, BATCH)) is None


def test_a_tensor_is_emitted_once():
    calls = []
    made = Tensor(np.dtype(np.float32), (BATCH, 3), lambda: calls.append(1) or "emitted")
    assert (made.name, made.name, made.rank, len(calls)) == ("emitted", "emitted", 2, 1)


def test_strings_are_objects():
    assert tensor(dtype=object).is_string
    assert not tensor(dtype=np.int64).is_string


# ---- cells ----------------------------------------------------------------------------------------------------------

MASK = tensor(BATCH, WIDTH, dtype=np.bool_)
CELLS = Cells(BATCH, WIDTH, MASK, Symbol(str))


def test_the_same_cells_are_those_of_one_grid_and_mask():
    assert CELLS.same(CELLS)
    assert CELLS.same(Cells(BATCH, WIDTH, MASK, Symbol(str)))


@pytest.mark.parametrize(
    "other",
    [
        Cells(BATCH, 3, MASK, Symbol(str)),
        Cells(WIDTH, WIDTH, MASK, Symbol(str)),
        Cells(BATCH, WIDTH, tensor(BATCH, WIDTH, dtype=np.bool_), Symbol(str)),
        Cells(BATCH, WIDTH, None, Symbol(str)),
        Cells(BATCH, WIDTH, MASK, Symbol(str), empty=tensor(BATCH, dtype=np.bool_)),
        Cells(BATCH, WIDTH, MASK, Symbol(str), distinct=CELLS),
        Cells(BATCH, WIDTH, MASK, Symbol(str), is_loose=True),
    ],
    ids=["width", "rows", "mask", "all", "filled", "distinct", "loose"],
)
def test_other_cells_are_not_the_same(other):
    assert not CELLS.same(other)
    assert not other.same(CELLS)


def test_values_of_cells_have_one_entry_a_cell():
    flat = Flat(CELLS, tensor(BATCH, WIDTH, 4))
    assert (flat.dtype, flat.tail, flat.shape) == (np.float32, (4,), (CELLS.count, 4))


def test_coordinates_have_a_column_for_each_axis():
    rows = Flat(CELLS, tensor(BATCH, 1, dtype=np.int64), place="row")
    columns = Flat(CELLS, tensor(1, WIDTH, dtype=np.int64), place="column")
    made = Coordinates((rows, columns))
    assert (made.cells, made.dtype, made.shape) == (CELLS, np.int64, (CELLS.count, 2))
    assert Coordinates((rows, columns), is_transposed=True).shape == (2, CELLS.count)


def test_positions_are_a_vector_or_a_column():
    assert Positions(CELLS, CELLS).shape == (CELLS.count,)
    assert Positions(CELLS, CELLS, is_column=True).shape == (CELLS.count, 1)
    assert Positions(CELLS, CELLS).dtype == np.int64
