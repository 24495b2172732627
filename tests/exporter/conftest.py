"""Trained estimators and their networks, made once for all tests of the exporter."""

import copy

import pytest
from small_estimators import train_steps

from estimator_serving.exporter import network

_trace = network.Network.to_onnx


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A function from kind to an estimator trained for a few steps."""
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = train_steps(kind, tmp_path_factory.mktemp("model"))
        return made[kind]

    return get


@pytest.fixture(scope="session", autouse=True)
def _one_trace_a_network():
    """Tracing takes a while, and what stands in front of a network has no part in it: receivers share its graph."""
    traces = {}

    def to_onnx(self, sample):
        caller = self._caller
        shapes = tuple((one.dtype, one.ndim) for one in sample)
        key = (caller.model, caller.mode, caller.arguments.is_bare, self.input_names, self._outputs, shapes)
        if key not in traces:
            traces[key] = _trace(self, sample)
        # A copy: its weights are taken out of it.
        return copy.deepcopy(traces[key])

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(network.Network, "to_onnx", to_onnx)
        yield


@pytest.fixture
def traced_anew(monkeypatch):
    """For tests of the tracing itself."""
    monkeypatch.setattr(network.Network, "to_onnx", _trace)
