"""One version: what a request may ask of its signatures."""

from __future__ import annotations

import numpy as np
from servables import servable_of

from estimator_serving.serving.models.loader import open_servable
from estimator_serving.serving.request import Request
from estimator_serving.wire import dtypes
from estimator_serving.wire.signatures import Signature, TensorInfo


def ask(loaded, outputs=(), **inputs):
    return loaded.run(Request("serving_default", inputs, outputs))


def test_outputs_that_are_asked_for(write_model):
    directory = write_model(1, "g (float[N] x) => (float[N] a, float[N] b) {{ a = Neg(x) b = Abs(x) }}")
    loaded = open_servable("m", 1, directory, intra_op_threads=1)
    assert ask(loaded, ("b",), x=np.ones(1, np.float32)).keys() == {"b"}
    assert ask(loaded, x=np.ones(1, np.float32)).keys() == {"a", "b"}


def test_what_its_signatures_share():
    def signature(dtype):
        return Signature({"s": TensorInfo("s:0", dtype, None)}, {}, "")

    signatures = {"a": signature(dtypes.string), "b": signature(dtypes.string), "c": signature(dtypes.int64)}
    loaded = servable_of(signatures, None, ["s/values", "s/row_splits", "s"])
    assert loaded.can_run_together("a", "b")
    assert not loaded.can_run_together("a", "c")
    assert loaded.takes_examples("a", "s")
    assert not loaded.takes_examples("c", "s")
