"""Features that come back among the predictions."""

import numpy as np
import pytest
import torch
from xor import XOR, dnn, endless, rows

from estimator_serving import training
from estimator_serving.training import forward_features


def predicted(model_dir, features, *arguments):
    estimator = forward_features(dnn(model_dir).train(endless, steps=1), *arguments)
    return list(estimator.predict(lambda: training.Dataset.from_tensor_slices({**XOR, **features}).batch(2)))


def test_numbers_and_words_come_back_beside_the_predictions(tmp_path):
    features = {"id": np.int64([7, 8, 9, 7]), "name": np.array(["é", "b", "é", ""], object)}
    found = predicted(tmp_path, features, ["id", "name"])
    assert [row["id"] for row in found] == [7, 8, 9, 7]
    assert [row["name"].decode() for row in found] == ["é", "b", "é", ""]
    assert {"logits", "probabilities"} < set(found[0])
    assert {"a", "b", "id", "name"} < set(predicted(tmp_path, features)[0])


def test_a_feature_with_any_number_of_values_is_filled_up(tmp_path):
    def ragged():
        yield {**XOR, "n/values": np.float32([[1, 2], [3, 0], [0, 0], [4, 0]]), "n/lengths": np.int64([2, 1, 0, 1])}

    estimator = dnn(tmp_path).train(endless, steps=1)
    found = forward_features(estimator, "n", {"n": -1}).predict(ragged)
    assert [row["n"].tolist() for row in found] == [[1, 2], [3, -1], [-1, -1], [4, -1]]
    with pytest.raises(ValueError, match=r"^Feature \(n\) should be a Tensor\..*sparse_default_values"):
        next(forward_features(estimator, "n").predict(ragged))


def test_evaluation_is_the_estimators(tmp_path):
    estimator = dnn(tmp_path).train(endless, steps=1)
    assert forward_features(estimator, "a").evaluate(rows(2)) == estimator.evaluate(rows(2))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((3,), TypeError, "keys should be either a string or a list of strings. Given: <class 'int'>"),
        (([3],), TypeError, r"All items in the given keys list should be a string. Given: \[3\]"),
        ((["a"], {"z": 0}), ValueError, r"sparse_default_values has the keys \['z'\], which are not forwarded"),
        (("z",), ValueError, r"keys should be feature names. Given: z, and the features are \['a', 'b'\]"),
        (("logits",), ValueError, r"Cannot forward feature key \(logits\). Since it does exist in predictions"),
    ],
)
def test_misuse_is_refused(arguments, error, text, tmp_path):
    features = {"logits": XOR["a"]} if arguments == ("logits",) else {}
    with pytest.raises(error, match=f"^{text}"):
        predicted(tmp_path, features, *arguments)


def test_predictions_and_features_have_names(tmp_path):
    def model_fn(features, mode):
        given = features if isinstance(features, torch.Tensor) else features["a"]
        return training.EstimatorSpec(mode, given if isinstance(features, dict | training.Features) else {"x": given})

    estimator = forward_features(training.Estimator(model_fn, tmp_path), "a")
    with pytest.raises(ValueError, match="^Predictions should be a dict to be able to forward features"):
        next(estimator.predict(rows(2)))
    with pytest.raises(ValueError, match="^Features should be a dict to be able to forward them"):
        next(estimator.predict(lambda: np.ones(2, np.float32)))
