"""RequireTrue: the assertions of imported models."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from estimator_serving import ops


@pytest.mark.parametrize("values", [True, [], [True, True], [[True], [True]]])
def test_what_is_true_passes(load, values):
    node = helper.make_node("RequireTrue", ["values"], ["zero"], domain=ops.DOMAIN, message="")
    made = load([node], {"values": (TensorProto.BOOL, None)}).run(None, {"values": np.array(values, bool)})[0]
    assert (made.shape, made.item()) == ((), 0)


@pytest.mark.parametrize("values", [False, [True, False]])
def test_what_is_false_is_refused_with_its_message(load, values):
    node = helper.make_node("RequireTrue", ["values"], ["zero"], domain=ops.DOMAIN, message="[x is too large]")
    session = load([node], {"values": (TensorProto.BOOL, None)})
    with pytest.raises(Exception, match=r"assertion failed: \[x is too large\]"):
        session.run(None, {"values": np.array(values, bool)})
