"""Dense categorical features become padded ones inside the graph."""

import numpy as np
import pytest
import spox
from spox import Tensor, argument

from estimator_serving import ops
from estimator_serving.exporter.receivers.features_graph import look_up_text, pad_dense, pad_sequence, pad_whole
from estimator_serving.training.columns.finish import finish_graph, serialize


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


def test_look_up_text():
    got = run(np.int64, ("batch", "n"), lambda x: {"y": look_up_text(x, ("no", "é"))}, np.int64([[0, 1], [1, 1]]))
    assert got["y"].tolist() == [["no", "é"], ["é", "é"]]
