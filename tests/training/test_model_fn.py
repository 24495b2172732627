import functools

import numpy as np
import pytest
import torch

from estimator_serving.training import (
    ClassificationOutput,
    EstimatorSpec,
    ModeKeys,
    PredictOutput,
    RegressionOutput,
    SessionRunHook,
    StringPrediction,
    metrics,
)
from estimator_serving.training.model_fn import check_model_fn

ONE = torch.ones(2, 1)
LOSS = torch.tensor(1.0)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"mode": ModeKeys.TRAIN}, ValueError, "Missing train_op"),
        ({"mode": ModeKeys.EVAL}, ValueError, "Missing loss"),
        ({"mode": ModeKeys.PREDICT}, ValueError, "Missing predictions"),
        ({"mode": ModeKeys.EVAL, "loss": ONE}, ValueError, r"Loss must be scalar, given: a tensor of shape \(2, 1\)"),
        ({"mode": ModeKeys.EVAL, "loss": 1.0}, TypeError, "loss must be Tensor, given: 1.0"),
        (
            {"mode": ModeKeys.TRAIN, "loss": LOSS, "train_op": 3},
            TypeError,
            "train_op must be Operation or Tensor, given: 3",
        ),
        ({"mode": ModeKeys.PREDICT, "predictions": 3}, TypeError, "predictions must be Tensor"),
        ({"mode": ModeKeys.PREDICT, "predictions": {"a": 3}}, TypeError, r"predictions\[a\] must be Tensor"),
        ({"mode": ModeKeys.EVAL, "loss": LOSS, "eval_metric_ops": 3}, TypeError, "eval_metric_ops must be a dict"),
        (
            {"mode": ModeKeys.EVAL, "loss": LOSS, "eval_metric_ops": {"a": 3}},
            TypeError,
            r"Values of eval_metric_ops must be \(metric_value, update_op\) tuples, given: 3 for key: a",
        ),
        (
            {"mode": ModeKeys.EVAL, "loss": LOSS, "evaluation_hooks": [3]},
            TypeError,
            "All hooks must be SessionRunHook instances, given: 3",
        ),
        (
            {"mode": ModeKeys.EVAL, "loss": LOSS, "scaffold": 3},
            TypeError,
            "scaffold must be tf.train.Scaffold. Given: 3",
        ),
        (
            {"mode": ModeKeys.PREDICT, "predictions": ONE, "export_outputs": 3},
            TypeError,
            "`export_outputs` must be dict, received: 3",
        ),
        (
            {"mode": ModeKeys.PREDICT, "predictions": ONE, "export_outputs": {"a": ONE}},
            TypeError,
            "Values in `export_outputs` must be ExportOutput objects",
        ),
        (
            {
                "mode": ModeKeys.PREDICT,
                "predictions": ONE,
                "export_outputs": {"a": PredictOutput(ONE), "b": PredictOutput(ONE)},
            },
            ValueError,
            "Multiple `export_outputs` were provided, but none of them are specified as the default",
        ),
    ],
)
def test_a_wrong_spec_is_refused(arguments, error, text):
    with pytest.raises(error, match=f"^{text}"):
        EstimatorSpec(**arguments)


def test_what_a_spec_fills_in():
    spec = EstimatorSpec(ModeKeys.PREDICT, predictions=ONE)
    assert spec.export_outputs["serving_default"].outputs["output"] is ONE
    spec = EstimatorSpec(ModeKeys.PREDICT, {"a": ONE}, export_outputs={"mine": PredictOutput({("head", "a"): ONE})})
    assert spec.export_outputs["serving_default"] is spec.export_outputs["mine"]
    assert set(spec.export_outputs["mine"].outputs) == {"head/a"}
    hook = SessionRunHook()
    spec = EstimatorSpec(
        ModeKeys.EVAL, loss=torch.ones(1), evaluation_hooks=[hook], eval_metric_ops={"m": metrics.mean(ONE)}
    )
    assert spec.loss.shape == ()
    assert spec.evaluation_hooks == (hook,)
    assert spec.predictions == {}
    assert spec._replace(predictions={"a": ONE}).predictions["a"] is ONE
    with pytest.raises(TypeError, match="^loss must be Tensor"):
        spec._replace(loss=3)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: ClassificationOutput(), "Cannot create a ClassificationOutput with empty scores and classes"),
        (lambda: ClassificationOutput(scores=ONE.long()), "Classification scores must be a float32 Tensor"),
        (lambda: ClassificationOutput(classes=ONE), "Classification classes must be strings"),
        (lambda: RegressionOutput(ONE.long()), "Regression output value must be a float32 Tensor"),
        (lambda: PredictOutput({3: ONE}), "Prediction output key must be a string"),
        (lambda: PredictOutput({"a": 3}), "Prediction output value must be a Tensor"),
    ],
)
def test_a_wrong_export_output_is_refused(call, text):
    with pytest.raises(ValueError, match=f"^{text}"):
        call()


def test_string_predictions_are_bytes():
    prediction = StringPrediction(torch.tensor([[1], [0]]), ("é", "b"))
    assert prediction.numpy().tolist() == [[b"b"], ["é".encode()]]
    assert prediction.shape == (2, 1)
    assert prediction.numpy().dtype == np.dtype(object)


class Bound:
    def model_fn(self, features, labels):
        return features, labels


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (Bound().model_fn, {"features", "labels"}),
        (functools.partial(lambda extra, features, mode: (extra, features, mode), 3), {"features", "mode"}),
    ],
)
def test_model_fn_arguments_go_by_name(function, names):
    assert check_model_fn(function, None) == names


@pytest.mark.parametrize(
    ("function", "params", "text"),
    [
        (None, None, "model_fn must be provided to Estimator"),
        (lambda labels: labels, None, r"model_fn \(.*\) must include features argument"),
        (lambda features, foo: (features, foo), None, r"model_fn \(.*\) has following not expected args: \['foo'\]"),
        (lambda features: features, {"a": 1}, r"model_fn \(.*\) does not include params argument, but params"),
    ],
)
def test_wrong_model_fns_are_refused(function, params, text):
    with pytest.raises(ValueError, match=f"^{text}"):
        check_model_fn(function, params)
