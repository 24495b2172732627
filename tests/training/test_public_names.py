"""Every public name of TF 2.15's Estimator API that training has stands where a program looks, and is called alike."""

import operator
import sys
from pathlib import Path

import goldens
import pytest

from estimator_serving import training

sys.path.insert(0, str(Path(__file__).parent / "goldens"))
import make_signatures

SIGNATURES = goldens.read("signatures.json")
# A tool of TensorFlow's own.
ELSEWHERE = {"export.EvalOutput"}
# Names without a signature, and one that a program is given and never makes.
OWN = {"ModeKeys", "NanLossDuringTrainingError", "SessionRunContext"}
# float32 by the name it has on the wire.
SAME = {"float": "float32"}


@pytest.mark.parametrize("name", sorted(SIGNATURES.keys() - ELSEWHERE - OWN))
def test_arguments_and_defaults_are_tensorflows(name):
    """Arguments of our own stand behind TensorFlow's, with a default; where it has none we may."""
    ours = make_signatures.arguments(operator.attrgetter(name)(training))
    expected = SIGNATURES[name]
    for (theirs, *default), (argument, *own) in zip(expected, ours, strict=False):
        assert argument == theirs
        assert [SAME.get(text, text) for text in own] == default or not default
    assert len(ours) >= len(expected)
    assert all(len(added) == 2 for added in ours[len(expected) :])


@pytest.mark.parametrize("name", [*sorted(OWN), "inputs.numpy_input_fn", "inputs.pandas_input_fn"])
def test_other_names_are_there(name):
    assert operator.attrgetter(name)(training)


def test_an_unknown_name_of_export_is_refused():
    assert "build_raw_serving_input_receiver_fn" in dir(training.export)
    with pytest.raises(AttributeError, match="has no attribute 'zz'"):
        training.export.zz  # noqa: B018


def test_public_names_are_there_and_sorted_out():
    assert all(hasattr(training, name) for name in training.__all__)
    assert len(set(training.__all__)) == len(training.__all__)
