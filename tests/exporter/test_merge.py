"""Dense categorical features become padded ones inside the graph."""

import numpy as np
import pytest
import spox
from spox import Tensor, argument

from estimator_serving import ops
from estimator_serving.exporter.merge import look_up_text, pad_dense
from estimator_serving.training.finish import finish_graph, serialize


def run(dtype, dims, build, value):
    x = argument(Tensor(dtype, dims))
    model = finish_graph(spox.build({"x": x}, build(x)))
    session = ops.session(serialize(model))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": value}), strict=True))


def pad(x):
    padded = pad_dense(x)
    return {"values": padded.values, "lengths": padded.lengths}


@pytest.mark.parametrize(
    ("value", "values", "lengths"),
    [
        (np.array([["", "a", "b"], ["c", "", ""]], object), [["a", "b"], ["c"]], [2, 1]),
        (np.array([["", ""], ["", "z"]], object), [[], ["z"]], [0, 1]),
        (np.int64([[-1, 5], [6, 7]]), [[5], [6, 7]], [1, 2]),
        (np.empty((0, 2), object), [], []),
        (np.array(["a", ""], object), [["a"], []], [1, 0]),
    ],
)
def test_pad_dense(value, values, lengths):
    dtype = str if value.dtype == object else np.int64
    got = run(dtype, ("batch", "k")[: value.ndim], pad, value)
    assert got["lengths"].tolist() == lengths
    rows = zip(got["values"].tolist(), lengths, strict=True)
    assert [row[:length] for row, length in rows] == values


def test_look_up_text():
    got = run(np.int64, ("batch", "n"), lambda x: {"y": look_up_text(x, ("no", "é"))}, np.int64([[0, 1], [1, 1]]))
    assert got["y"].tolist() == [["no", "é"], ["é", "é"]]
