"""Receiver x export outputs -> signatures: TensorFlow's key rules, and their way through a model's properties."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator_serving.exporter.servable.signature_defs import (
    CLASSIFICATION,
    EVALUATION,
    PREDICTION,
    REGRESSION,
    TRAINING,
    ExportedOutput,
    SignatureInputs,
    build_signatures,
)
from estimator_serving.wire import dtypes
from estimator_serving.wire.signatures import Metadata, TensorInfo, from_properties, to_properties

EXAMPLES = TensorInfo("input_example_tensor:0", dtypes.string, (-1,))
X = TensorInfo("x:0", dtypes.float32, (-1, 2))
SCORES = TensorInfo("probabilities:0", dtypes.float32, (-1, 2))
CLASSES = TensorInfo("all_classes:0", dtypes.string, (-1, 2))
IDS = TensorInfo("class_ids:0", dtypes.int64, (-1, 1))

CLASSIFY = ExportedOutput(CLASSIFICATION, {"classes": CLASSES, "scores": SCORES})
REGRESS = ExportedOutput(REGRESSION, {"outputs": SCORES})
PREDICT = ExportedOutput(PREDICTION, {"probabilities": SCORES, "class_ids": IDS})
BINARY = {"serving_default": CLASSIFY, "classification": CLASSIFY, "regression": REGRESS, "predict": PREDICT}

OF_EXAMPLES = SignatureInputs({"examples": EXAMPLES}, True)
OF_TENSORS = SignatureInputs({"x": X}, False)


def table(inputs, outputs):
    """Method, input aliases and output aliases by key."""
    return {
        key: (one.method_name.rpartition("/")[2], *one.inputs, set(one.outputs))
        for key, one in build_signatures(inputs, outputs).items()
    }


def test_examples_feed_every_kind():
    """As saved_model_cli shows them for TF 2.15's BinaryClassHead."""
    assert table(OF_EXAMPLES, BINARY) == {
        "serving_default": ("classify", "inputs", {"classes", "scores"}),
        "classification": ("classify", "inputs", {"classes", "scores"}),
        "regression": ("regress", "inputs", {"outputs"}),
        "predict": ("predict", "examples", {"probabilities", "class_ids"}),
    }


def test_tensors_feed_predict_only_and_the_default_answers_it():
    assert table(OF_TENSORS, BINARY) == {
        "predict": ("predict", "x", {"probabilities", "class_ids"}),
        "serving_default": ("predict", "x", {"probabilities", "class_ids"}),
    }


def test_without_a_predict_output_the_default_keeps_its_own_tensors():
    assert table(OF_TENSORS, {"serving_default": REGRESS, "regression": REGRESS}) == {
        "serving_default": ("predict", "x", {"outputs"})
    }


def test_outputs_that_nothing_can_feed_leave_no_signature():
    assert build_signatures(OF_TENSORS, {"classification": CLASSIFY}) == {}
    assert build_signatures(OF_EXAMPLES, {}) == {}


def test_a_default_that_predicts_stays_as_it_is():
    outputs = {"serving_default": PREDICT, "other": ExportedOutput(PREDICTION, {"y": SCORES})}
    assert table(OF_TENSORS, outputs)["serving_default"] == ("predict", "x", {"probabilities", "class_ids"})


def test_several_tensors_keep_their_aliases():
    inputs = SignatureInputs({"x": X, "word": TensorInfo("w:0", dtypes.string, (-1,))}, False)
    assert set(build_signatures(inputs, BINARY)["predict"].inputs) == {"x", "word"}


@pytest.mark.parametrize(
    ("kind", "method"),
    [(TRAINING, "tensorflow/supervised/training"), (EVALUATION, "tensorflow/supervised/eval")],
)
def test_supervised_kinds_take_what_the_receiver_has(kind, method):
    outputs = {"train": ExportedOutput(kind, {"loss": TensorInfo("loss:0", dtypes.float32, ())})}
    (signature,) = build_signatures(OF_TENSORS, outputs).values()
    assert (signature.method_name, set(signature.inputs)) == (method, {"x"})


def test_an_alternative_has_the_signatures_that_tensors_can_feed():
    inputs = SignatureInputs({"examples": EXAMPLES}, True, {"single": {"x": X}})
    found = table(inputs, BINARY)
    assert set(found) == {*BINARY, "single:predict", "single:serving_default"}
    assert found["single:serving_default"] == ("predict", "x", {"probabilities", "class_ids"})
    assert found["serving_default"][0] == "classify"


# -- any signatures ---------------------------------------------------------------------------------------------------


ALIASES = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=4)
INFOS = st.builds(
    lambda name, dtype, shape: TensorInfo(f"{name}:0", dtype, shape),
    ALIASES,
    st.sampled_from([dtypes.float32, dtypes.int64, dtypes.string, dtypes.int32, dtypes.as_dtype("bool")]),
    st.none() | st.lists(st.integers(-1, 9), max_size=3).map(tuple),
)
TENSORS = st.dictionaries(ALIASES, INFOS, min_size=1, max_size=3)
KINDS = st.sampled_from([CLASSIFICATION, REGRESSION, PREDICTION])
KEYS = st.sampled_from(["serving_default", "predict", "classification", "a/b", "é"])
OUTPUTS = st.dictionaries(KEYS, st.builds(ExportedOutput, KINDS, TENSORS), max_size=4)


@st.composite
def sent(draw):
    are_examples = draw(st.booleans())
    tensors = {"examples": EXAMPLES} if are_examples else draw(TENSORS)
    return SignatureInputs(tensors, are_examples, draw(st.dictionaries(st.sampled_from(["single", "raw"]), TENSORS)))


@settings(max_examples=40)
@given(sent(), OUTPUTS)
def test_signatures_survive_a_models_properties(inputs, outputs):
    signatures = build_signatures(inputs, outputs)
    properties = to_properties(Metadata(signatures))
    read = from_properties(properties)
    assert read.signatures == signatures
    assert to_properties(read) == properties


@settings(max_examples=40)
@given(sent(), OUTPUTS)
def test_the_key_rules_hold_for_any_outputs(inputs, outputs):
    signatures = build_signatures(inputs, outputs)
    groups = {"": inputs.tensors} | {f"{name}:": tensors for name, tensors in inputs.alternatives.items()}
    for prefix, tensors in groups.items():
        assert (f"{prefix}serving_default" in signatures) == ("serving_default" in outputs)
        for key, output in outputs.items():
            signature = signatures.get(prefix + key)
            if inputs.are_examples and not prefix:
                assert signature.outputs == output.tensors
                assert signature.method_name == output.kind.method_name
            elif output.kind is PREDICTION:
                assert (signature.outputs, signature.inputs) == (output.tensors, tensors)
            else:
                assert signature is None or key == "serving_default"
    assert all(key.startswith(tuple(groups)) for key in signatures)
