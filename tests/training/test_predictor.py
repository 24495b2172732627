"""A trained model as a function, and predictions as arrays."""

import concurrent.futures

import numpy as np
import pytest
import torch
from xor import XOR, dnn, endless, rows

from estimator_serving import training
from estimator_serving.training import optimizers


def test_a_predictor_is_a_function_of_arrays(tmp_path):
    estimator = dnn(tmp_path).train(endless, steps=2)
    predictor = estimator.predictor()
    found = predictor({"a": XOR["a"].tolist(), "b": XOR["b"]})
    for row, expected in enumerate(estimator.predict(rows(2))):
        for key, value in expected.items():
            if value.dtype != object:
                np.testing.assert_allclose(found[key][row], value, rtol=1e-6)
    assert found["classes"].tolist() == [[str(i).encode()] for i in found["class_ids"][:, 0]]
    estimator.train(endless, steps=1)
    assert (predictor.global_step, estimator.predictor().global_step) == (2, 3)
    assert predictor.checkpoint_path == str(tmp_path / "model.ckpt-2")
    assert set(estimator.predictor(predict_keys="logits")(XOR)) == {"logits"}
    with pytest.raises(ValueError, match="^Feature b is not in features dictionary"):
        predictor({"a": XOR["a"]})


def test_a_predictor_of_one_tensor(tmp_path):
    def model_fn(features, labels, mode):
        loss = (features * training.get_variable("w", ())).mean()
        return training.EstimatorSpec(mode, features * 2, loss, optimizers.SGD(0.1).minimize(loss))

    estimator = training.Estimator(model_fn, tmp_path)
    with pytest.raises(ValueError, match="^Couldn't find trained model at"):
        estimator.predictor()
    estimator.train(lambda: (np.ones(2, np.float32), None), steps=1)
    assert estimator.predictor()([1.0, 2.0])["output"].tolist() == [2.0, 4.0]


def test_a_predictor_serves_threads(tmp_path):
    predictor = dnn(tmp_path).train(endless, steps=2).predictor()
    inputs = [{"a": np.float32([i]), "b": np.float32([-i])} for i in range(40)]
    expected = [predictor(one)["logits"].item() for one in inputs]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert [found["logits"].item() for found in pool.map(predictor, inputs)] == expected


def test_two_predictions_may_be_interleaved(tmp_path):
    estimator = dnn(tmp_path).train(endless, steps=2)
    pairs = zip(estimator.predict(rows(4)), estimator.predict(rows(4)), strict=True)
    assert all(left["logits"] == right["logits"] for left, right in pairs)


def test_predict_keys(tmp_path, caplog):
    estimator = dnn(tmp_path).train(endless, steps=2)
    assert set(next(estimator.predict(rows(2), predict_keys=["logits", "zz"]))) == {"logits"}
    assert "predict_keys ['zz'] name no prediction and are left out" in caplog.text
    assert set(next(estimator.predict(rows(2), predict_keys="classes"))) == {"classes"}
    with pytest.raises(ValueError, match=r"^Expected to run at least one output from .*, provided \['zz'\]\."):
        next(estimator.predict(rows(2), predict_keys=["zz"]))
    whole = next(estimator.predict(rows(2), yield_single_examples=False))
    assert whole["logits"].shape == (2, 1)


def test_what_a_caller_does_with_a_prediction_leaves_the_model_alone(tmp_path):
    """A baseline's prediction is its variable, once for each row."""
    estimator = training.BaselineRegressor(tmp_path).train(lambda: (XOR, np.ones(4)), steps=1)
    estimator.predictor()(XOR)["predictions"][:] = 9
    first, *others = (row["predictions"] for row in estimator.predict(rows(2)))
    first += 1
    bias = estimator.get_variable_value("baseline/bias").tolist()
    assert [row.tolist() for row in others] == [bias] * 3
    assert next(estimator.predict(rows(2)))["predictions"].tolist() == bias


def spec_of(predictions):
    def model_fn(features, mode):
        return training.EstimatorSpec(mode, predictions(features))

    return model_fn


def test_predictions_that_are_no_dict_or_no_batch(tmp_path):
    plain = training.Estimator(spec_of(lambda f: f["a"] * 2), tmp_path)
    assert list(plain.predict(rows(2))) == [0.0, 0.0, 2.0, 2.0]
    with pytest.raises(ValueError, match="predict_keys argument is not valid in case of non-dict predictions"):
        next(plain.predict(rows(2), predict_keys=["a"]))
    uneven = training.Estimator(spec_of(lambda f: {"a": f["a"], "b": torch.zeros(3)}), tmp_path)
    with pytest.raises(ValueError, match="Batch length of predictions should be same. b has different batch length"):
        next(uneven.predict(rows(2)))
    assert next(uneven.predict(rows(2), yield_single_examples=False))["b"].shape == (3,)
