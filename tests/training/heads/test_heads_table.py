"""Each head x weights x reduction against TensorFlow 2.15's heads (goldens/make_head_goldens.py)."""

import goldens
import numpy as np
import pytest
import torch

from estimator_serving import training
from estimator_serving.training import ModeKeys
from estimator_serving.training.model_fn import StringPrediction

GOLDENS = goldens.read("heads.json")


def labels_of(labels):
    array = np.array(labels)
    if array.dtype.kind == "U":
        return array.astype(object)
    return torch.from_numpy(array.astype(np.float32) if array.dtype.kind == "f" else array)


def assert_predictions(found, expected):
    joined = {"/".join(key) if isinstance(key, tuple) else key: value for key, value in found.items()}
    assert set(joined) == set(expected)
    for key, value in joined.items():
        if isinstance(value, StringPrediction):
            assert [[word.decode() for word in row] for row in value.numpy()] == expected[key], key
        else:
            goldens.assert_near(value, expected[key], key)


def assert_metrics(batch, expected):
    assert set(batch) == set(expected)
    for key, metric in batch.items():
        goldens.assert_near((metric + metric).result(), expected[key], key)


@pytest.mark.parametrize(
    "case",
    GOLDENS["heads"],
    ids=lambda case: f"{case['name']}-{np.shape(case['weights'])}-{case['reduction']}",
)
def test_a_head_gives_what_tensorflows_gives(case):
    column = None if case["weights"] is None else "w"
    make = getattr(training, case["head"])
    head = make(**case["arguments"], weight_column=column, loss_reduction=case["reduction"])
    logits, labels = torch.tensor(case["logits"]), labels_of(case["labels"])
    features = {} if column is None else {"w": torch.tensor(case["weights"])}
    goldens.assert_near(head.loss(labels, logits, features).item(), case["loss"])
    assert_metrics(head.metrics(labels, logits, features), case["metrics"])
    assert_predictions(head.predictions(logits), case["predictions"])


def multi_head(**common):
    heads = [
        training.MultiClassHead(3, weight_column="w", name="h1", **common),
        training.RegressionHead(2, weight_column="w", name="h2", **common),
    ]
    return training.MultiHead(heads, [1.0, 0.5])


@pytest.mark.parametrize("split", [False, True])
def test_several_heads_give_what_tensorflows_give(split):
    case = GOLDENS["multi_head"]
    logits = torch.tensor(case["logits"])
    given = {"h1": logits[:, :3], "h2": logits[:, 3:]} if split else logits
    labels = {name: labels_of(one) for name, one in zip(("h1", "h2"), case["labels"], strict=True)}
    features = {"w": torch.tensor(case["weights"])}
    goldens.assert_near(multi_head().loss(labels, given, features).item(), case["loss"])
    assert_metrics(multi_head().metrics(labels, given, features), case["metrics"])
    assert_predictions(multi_head().predictions(given), case["predictions"])


def test_the_signatures_of_several_heads():
    spec = multi_head().create_estimator_spec({}, ModeKeys.PREDICT, torch.zeros(2, 5))
    outputs = spec.export_outputs
    assert set(outputs) == {
        *("serving_default", "predict", "h1", "h1/classification", "h1/predict"),
        *("h2", "h2/regression", "h2/predict"),
    }
    assert outputs["serving_default"] is outputs["h1"] is outputs["h1/classification"]
    assert set(outputs["predict"].outputs) == {"h2/predictions"} | {
        f"h1/{key}" for key in ("logits", "probabilities", "class_ids", "classes", "all_class_ids", "all_classes")
    }


def test_regularization_of_several_heads_is_counted_once():
    logits, labels = torch.zeros(2, 5), {"h1": torch.tensor([0, 1]), "h2": torch.zeros(2, 2)}
    features, extra = {"w": torch.ones(2)}, [torch.tensor(0.25), torch.tensor(0.5)]
    plain = multi_head().loss(labels, logits, features)
    assert multi_head().loss(labels, logits, features, regularization_losses=extra) == plain + 0.75
    found = multi_head().metrics(labels, logits, features, regularization_losses=extra)
    assert found["regularization_loss/h1_h2"].result() == 0.75
