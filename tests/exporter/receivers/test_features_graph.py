"""The features' part of a servable's graph: what reaches a transform, and text behind ids."""

import numpy as np
import spox
from spox import Tensor, argument

from estimator_serving import ops
from estimator_serving.exporter.receivers.features_graph import look_up_text
from estimator_serving.training.columns.finish import finish_graph, serialize


def run(dtype, dims, build, value):
    x = argument(Tensor(dtype, dims))
    model = finish_graph(spox.build({"x": x}, build(x)))
    session = ops.session(serialize(model))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": value}), strict=True))


def test_look_up_text():
    got = run(np.int64, ("batch", "n"), lambda x: {"y": look_up_text(x, ("no", "é"))}, np.int64([[0, 1], [1, 1]]))
    assert got["y"].tolist() == [["no", "é"], ["é", "é"]]
