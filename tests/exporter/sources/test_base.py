"""The seam for libraries: its example works, and what sources share."""

import re

import numpy as np
import pytest
import spox
import spox.opset.ai.onnx.v21 as op

from estimator_serving.exporter import ExportOptions, build_parsing_serving_input_receiver_fn
from estimator_serving.exporter.other_models import draft_of_source
from estimator_serving.exporter.servable.draft import finish
from estimator_serving.exporter.servable.running import run_all
from estimator_serving.exporter.sources import base
from estimator_serving.exporter.sources.base import (
    MATRIX,
    ModelInput,
    as_floats,
    matrix_input,
    reason_of,
)
from estimator_serving.training import FixedLenFeature
from estimator_serving.wire import dtypes
from estimator_serving.wire.examples import encode_example, join_examples

EXAMPLE = re.search(r"^    class WeightsSource:\n(?:(?:        .*)?\n)+", base.__doc__, re.MULTILINE).group()


def weights_source(weights):
    names = {**vars(base), "np": np, "spox": spox, "op": op, "dtypes": dtypes}
    exec("if True:\n" + EXAMPLE, names)
    return names["WeightsSource"](weights)


def test_the_example_of_the_documentation_is_a_source():
    source = weights_source({"age": 0.5, "fare": -2.0})
    spec = {key: FixedLenFeature([], float) for key in ("fare", "age")}
    receiver = build_parsing_serving_input_receiver_fn(spec)()
    model = finish(draft_of_source(source, receiver, source.method, None), ExportOptions())
    assert set(model.metadata.signatures) == {"serving_default", "regression", "predict"}
    values, row_splits = join_examples([encode_example({"age": 4.0, "fare": 1.0})])
    feeds = {"input_example_tensor/values": values, "input_example_tensor/row_splits": row_splits}
    assert run_all(model.session, feeds) == {"predictions": np.float32([[0.0]])}


def test_a_source_refuses_through_the_exporter():
    source = weights_source({"age": 0.5, "fare": -2.0})
    receiver = build_parsing_serving_input_receiver_fn({"age": FixedLenFeature([], float)})()
    with pytest.raises(ValueError, match="The dictionary of weights was trained with the features age, fare, and"):
        draft_of_source(source, receiver, source.method, None)


FEATURES = {"u": dtypes.float32, "v": dtypes.int64}


@pytest.mark.parametrize(("names", "keys"), [(None, ("u", "v")), (["v", "u"], ("v", "u")), (["v"], ("v",))])
def test_a_matrix_has_the_order_of_training(names, keys):
    assert matrix_input(FEATURES, names, dtypes.float32, "It") == ModelInput(MATRIX, keys, dtypes.float32, True)


@pytest.mark.parametrize(
    ("features", "names", "text"),
    [
        (
            FEATURES,
            ["u", "w", "z"],
            "It was trained with the features u, w, z, and the receiver does not give w, z; it gives u, v. Let the "
            "receiver use the names of training.",
        ),
        (
            {**FEATURES, "word": dtypes.string},
            None,
            "It takes numbers, and the receiver gives text for word; encode text inside the model (a scikit-learn "
            "ColumnTransformer with named columns), or leave these features out.",
        ),
    ],
)
def test_features_that_make_no_matrix_are_refused(features, names, text):
    with pytest.raises(ValueError, match="^It ") as raised:
        matrix_input(features, names, dtypes.float32, "It")
    assert str(raised.value) == text


def test_text_that_the_model_does_not_read_is_no_fault():
    assert matrix_input({**FEATURES, "word": dtypes.string}, ["u"], dtypes.float32, "It").keys == ("u",)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("one\ntwo"), "ValueError: one"),
        (RuntimeError("  spaces  "), "RuntimeError: spaces"),
        (TypeError(), "TypeError: "),
        (ValueError("a" * 400), "ValueError: " + "a" * 300),
    ],
)
def test_the_reason_is_one_line(error, reason):
    assert reason_of(error) == reason


def test_numbers_as_floats():
    assert as_floats([1, 2]).tolist() == [[1.0], [2.0]]
    assert as_floats([[1, 2]]).shape == (1, 2)
    assert as_floats(np.zeros(0)).shape == (0, 1)
    assert as_floats([1]).dtype == np.float32
