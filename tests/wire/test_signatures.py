"""Signatures <-> metadata_props."""

import json

import pytest

from estimator_serving.wire import dtypes
from estimator_serving.wire.examples import FixedLenFeature, VarLenFeature
from estimator_serving.wire.signatures import (
    CLASSIFY_METHOD,
    Metadata,
    Signature,
    SignatureError,
    TensorInfo,
    from_properties,
    to_properties,
)

CLASSIFY = Signature(
    {"inputs": TensorInfo("input_example_tensor:0", dtypes.string, (-1,))},
    {"scores": TensorInfo("probabilities:0", dtypes.float32, (-1, 2)), "any": TensorInfo("any", dtypes.int64, None)},
    CLASSIFY_METHOD,
)
METADATA = Metadata(
    {"serving_default": CLASSIFY, "classification": CLASSIFY},
    {"age": FixedLenFeature([1], float, [float("inf")]), "class": VarLenFeature(str)},
)


def test_round_trip():
    assert from_properties(to_properties(METADATA)) == METADATA
    assert from_properties(to_properties(Metadata({}))) == Metadata({})


def test_the_property_is_json_of_tensorflows_message():
    signature = json.loads(to_properties(METADATA)["signature_def"])["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/classify"
    assert signature["inputs"]["inputs"] == {
        "name": "input_example_tensor:0",
        "dtype": "DT_STRING",
        "tensor_shape": {"dim": [{"size": "-1"}]},
    }


def test_equal_metadata_are_equal_text():
    reordered = Metadata(dict(reversed(METADATA.signatures.items())), METADATA.feature_spec)
    assert to_properties(reordered) == to_properties(METADATA)


def test_a_model_without_the_property_has_no_signatures():
    assert from_properties({"author": "somebody"}) is None


@pytest.mark.parametrize(
    "properties",
    [
        {"signature_def": "{"},
        {"signature_def": "[1]"},
        {"signature_def": '{"x": {"inputs": {"a": {"dtype": "DT_FLOTE"}}}}'},
        {"signature_def": '{"x": {"inputs": {"a": {"dtype": "DT_VARIANT"}}}}'},
        {"signature_def": "{}", "example_parser_configuration": '{"feature_map": {"a": {}}}'},
    ],
)
def test_broken_metadata_are_refused(properties):
    with pytest.raises(SignatureError, match="export the model again"):
        from_properties(properties)


def test_names_of_graph_values():
    info = TensorInfo("input_example_tensor:0", dtypes.string, (-1,))
    assert info.value_name == "input_example_tensor"
    assert info.ragged_names == ("input_example_tensor/values", "input_example_tensor/row_splits")
    assert TensorInfo("x", dtypes.float32, ()).value_name == "x"
