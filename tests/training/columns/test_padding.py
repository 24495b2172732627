"""Dense features become padded ones inside the graph."""

import numpy as np
import pytest
import spox
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from spox import Tensor, argument

from estimator_serving import ops
from estimator_serving.training.columns.finish import finish_graph, serialize
from estimator_serving.training.columns.padding import pad_dense, pad_sequence, pad_whole


def run(dtype, dims, build, value):
    x = argument(Tensor(dtype, dims))
    model = finish_graph(spox.build({"x": x}, build(x)))
    session = ops.session(serialize(model))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": value}), strict=True))


def test_pad_sequence():
    values = np.float32([[1, 0, 2, 0], [0, 0, 0, 0], [0, 0, 0, 3]])

    def pad(x):
        padded = pad_sequence(x, 0)
        return {"values": padded.values, "lengths": padded.lengths}

    assert run(np.float32, ("batch", "k"), pad, values)["lengths"].tolist() == [3, 0, 4]
    assert run(np.float32, ("batch", "k"), pad, values[:, :0])["lengths"].tolist() == [0, 0, 0]
    assert run(np.float32, ("batch",), pad, values[2])["lengths"].tolist() == [0, 0, 0, 1]


def pad(x, blank):
    padded = pad_dense(x, blank) if blank is not None else pad_whole(x)
    return {"values": padded.values, "lengths": padded.lengths}


@pytest.mark.parametrize(
    ("value", "blank", "values", "lengths"),
    [
        (np.array([["", "a", "b"], ["c", "", ""]], object), "", [["a", "b"], ["c"]], [2, 1]),
        (np.array([["", ""], ["", "z"]], object), "", [[], ["z"]], [0, 1]),
        (np.int64([[-1, 5], [6, 7]]), -1, [[5], [6, 7]], [1, 2]),
        (np.empty((0, 2), object), "", [], []),
        (np.array(["a", ""], object), "", [["a"], []], [1, 0]),
        (np.float32([[0.0, 5], [-1, 7]]), 0.0, [[5], [-1, 7]], [1, 2]),
        (np.array([["", "a"], ["b", ""]], object), None, [["", "a"], ["b", ""]], [2, 2]),
        (np.array(["a", ""], object), None, [["a"], [""]], [1, 1]),
    ],
)
def test_pad_dense(value, blank, values, lengths):
    dtype = str if value.dtype == object else value.dtype.type
    got = run(dtype, ("batch", "k")[: value.ndim], lambda x: pad(x, blank), value)
    assert got["lengths"].tolist() == lengths
    rows = zip(got["values"].tolist(), lengths, strict=True)
    assert [row[:length] for row, length in rows] == values


SHAPES = npst.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=4)
BLANKS = {object: "", np.int64: -1, np.float32: 0.0, np.float64: float("nan")}
ENTRIES = {
    object: st.sampled_from(["", "a", " "]),
    np.int64: st.integers(-2, 1),
    np.float32: st.sampled_from([0.0, -0.0, 1.0, -1.0]),
    np.float64: st.sampled_from([0.0, 2.0, float("nan")]),
}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(BLANKS)).flatmap(lambda dtype: npst.arrays(dtype, SHAPES, elements=ENTRIES[dtype])))
def test_pad_dense_keeps_what_is_no_blank_in_order(values):
    dtype, blank = values.dtype.type, BLANKS[object if values.dtype == object else values.dtype.type]
    width = 1 if values.shape[1] == 1 else "k"
    got = run(str if dtype is np.object_ else dtype, ("batch", width), lambda x: pad(x, blank), values)
    kept = [[value for value in row if value != blank and value == value] for row in values.tolist()]
    assert got["lengths"].tolist() == [len(row) for row in kept]
    assert [row[: len(want)] for row, want in zip(got["values"].tolist(), kept, strict=True)] == kept
