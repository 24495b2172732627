"""Element by element: shapes that broadcast, constants that are folded, elements that a mask picked."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from lowered import Const, Fed, Op, Type, load
from numpy.testing import assert_array_equal

from estimator_serving.exporter.sources.saved_model.lower.elementwise import broadcast, wider
from estimator_serving.exporter.sources.saved_model.values import Symbol

N, M = Symbol(lambda: "n"), Symbol(lambda: "m")
X = np.arange(6, dtype=np.float32).reshape(2, 3)
MASK = np.array([[True, False, True], [False, False, True]])


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ("int8", "int32"),
        ("uint16", "int32"),
        ("uint32", "int64"),
        ("float16", "float32"),
        (ml_dtypes.bfloat16, "float32"),
        ("float64", "float64"),
        ("int64", "int64"),
        ("bool", "bool"),
    ],
)
def test_the_type_that_is_computed_in(narrow, wide):
    assert wider(np.dtype(narrow)) == wide


@pytest.mark.parametrize(
    ("shapes", "wanted"),
    [
        ([(2, 3), (3,)], [2, 3]),
        ([(N, 3), (3,)], [N, 3]),
        ([(N, 1), (1, M)], [N, M]),
        ([(N,), (N,)], [N]),
        ([(N,), (4,)], [4]),
        ([(N,), (M,)], [None]),
        ([(), (N, 1)], [N, 1]),
        ([], []),
        ([(0, 1), (1, 3)], [0, 3]),
    ],
)
def test_shapes_together(shapes, wanted):
    assert broadcast(None, shapes) == wanted


@given(mutually_broadcastable_shapes(num_shapes=3, max_dims=4))
def test_known_shapes_broadcast_as_numpys(shapes):
    assert tuple(broadcast(None, shapes.input_shapes)) == shapes.result_shape


def test_shapes_that_do_not_broadcast():
    with pytest.raises(ValueError, match="shapes that do not broadcast"):
        broadcast(None, [(2, 3), (2,)])


def test_one_value_for_many_elements_is_computed_once():
    """A default that is repeated for every row stays one number until something needs the rows."""
    x = Fed(X, (None, 3))
    blank = Op("Fill", [Op("Shape", [x]), Const(np.float32(3))])
    scaled = Op("Mul", [Op("Sqrt", [blank]), Op("Fill", [Op("Shape", [x]), Const(np.float32(2))])])
    graph = load([(scaled, "float32"), (Op("AddV2", [x, scaled]), "float32")])
    for rows in (0, 1, 2):
        alone, added = graph(X[:rows])
        assert_array_equal(alone, np.full((rows, 3), 2 * np.sqrt(np.float32(3))))
        assert_array_equal(added, X[:rows] + alone)


def picked_by(mask, x):
    return Op("GatherNd", [x, Op("Where", [mask])])


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), max_size=4))
def test_picked_elements_are_computed_with(picked, flags):
    mask = np.array(flags, bool).reshape(-1, 3)
    x = np.arange(mask.size, dtype=np.float32).reshape(mask.shape)
    doubled, summed, compared = picked(x, mask)
    assert_array_equal(doubled, 2 * x[mask])
    assert_array_equal(summed, x[mask] + 3 * x[mask])
    assert_array_equal(compared, x[mask] > 2)


@pytest.fixture(scope="module")
def picked():
    x, mask = Fed(X, (None, 3)), Fed(MASK, (None, 3))
    one = picked_by(mask, x)
    other = Op("Mul", [picked_by(mask, x), Const(np.float32(3))])
    doubled, summed = Op("Mul", [one, Const(np.float32([2]))]), Op("AddV2", [one, other])
    return load([(doubled, "float32"), (summed, "float32"), (Op("Greater", [one, Const(np.float32(2))]), "bool")])


def test_elements_that_two_masks_picked():
    x = Fed(X, (None, 3))
    masks = [Fed(MASK, (None, 3)), Fed(~MASK, (None, 3))]
    summed = Op("AddV2", [picked_by(masks[0], x), picked_by(masks[1], x)])
    assert load([(summed, "float32")])()[0].tolist() == [0 + 1, 2 + 3, 5 + 4]


def test_coordinates_of_picked_elements_are_cast():
    places = Op("Where", [Fed(MASK, (None, 3))])
    small = Op("Cast", [places], {"SrcT": Type("int64"), "DstT": Type("int32")})
    halves = Op("Cast", [places], {"SrcT": Type("int64"), "DstT": Type("float32")})
    got = load([(small, "int32"), (halves, "float32"), (Op("Neg", [places]), "int64")])()
    assert_array_equal(got[0], np.argwhere(MASK))
    assert_array_equal(got[1], np.argwhere(MASK))
    assert_array_equal(got[2], -np.argwhere(MASK))
