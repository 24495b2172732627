"""Graphs of Keras models beside the models themselves."""

import keras
import numpy as np
import torch
from onnxruntime import InferenceSession

from estimator_serving.exporter.sources.keras_graph.graph import to_graph

RANDOM = np.random.default_rng(0)


def session_of(model):
    """A session of the model's graph, whose outputs are `0`, `1`, …; axes without a size are of any."""
    inputs = {f"input {index}": (one.dtype, one.shape) for index, one in enumerate(model.inputs)}
    graph = to_graph(
        model,
        inputs,
        lambda values: list(values.values()) if len(values) > 1 else next(iter(values.values())),
        lambda made: {str(index): one for index, one in enumerate(keras.tree.flatten(made))},
    )
    return InferenceSession(graph.SerializeToString())


def assert_agree(session, model, *arrays, tolerance=1e-5):
    """The session gives what the model gives: shapes, dtypes, numbers."""
    tensors = [torch.from_numpy(one) for one in arrays]
    with torch.no_grad():
        made = model(tensors if len(tensors) > 1 else tensors[0], training=False)
    wanted = [one.numpy() for one in keras.tree.flatten(made)]
    got = session.run(None, {f"input {index}": one for index, one in enumerate(arrays)})
    assert [(one.shape, one.dtype) for one in got] == [(one.shape, one.dtype) for one in wanted]
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def assert_lowered(layers, shape, dtype="float32", data=None):
    """A model of these layers becomes a graph that agrees with it on three rows and on one; None is 5 and 2."""
    model = keras.Sequential([keras.Input(shape, dtype=dtype), *layers])
    session = session_of(model)
    for rows, open_size in ((3, 5), (1, 2)):
        sizes = [rows, *(open_size if size is None else size for size in shape)]
        floats = RANDOM.normal(size=sizes)
        array = floats if dtype.startswith("float") else RANDOM.integers(0, 4, sizes)
        assert_agree(session, model, np.asarray(array if data is None else data(array), dtype))
