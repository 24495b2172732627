"""Small graphs of spox values, run by ONNX Runtime."""

import numpy as np
import spox
from spox import Tensor, argument

from estimator_serving.exporter.servable.running import run_all, session_of
from estimator_serving.training.columns.finish import finish_graph


def graph_of(build, *types):
    """A function from arrays to outputs by name, of the graph that `build` makes of inputs of these (dtype, shape)."""
    inputs = {f"input {index}": argument(Tensor(dtype, shape)) for index, (dtype, shape) in enumerate(types)}
    session = session_of(finish_graph(spox.build(inputs, build(*inputs.values()))))
    fed = {one.name for one in session.get_inputs()}

    def run(*arrays):
        feeds = dict(zip(inputs, arrays, strict=True))
        return run_all(session, {name: array for name, array in feeds.items() if name in fed})

    return run


def compute(build, *arrays):
    """The outputs of that graph for these arrays; every dimension is open, text comes as object arrays of str."""
    types = [(str if array.dtype == object else array.dtype.type, (None,) * array.ndim) for array in arrays]
    return graph_of(build, *types)(*map(np.asarray, arrays))
