from functools import partial

import numpy as np
import pytest
import torch

from estimator_serving import training
from estimator_serving.training import (
    BinaryClassHead,
    LogisticRegressionHead,
    ModeKeys,
    MultiClassHead,
    MultiHead,
    MultiLabelHead,
    PoissonRegressionHead,
    RegressionHead,
)
from estimator_serving.training import feature_column as fc
from estimator_serving.training.heads import contrib, multi_hot

LOGITS = torch.tensor([[45.0], [-41.0], [0.5], [0.0]])
LABELS = torch.tensor([1, 1, 0, 1])
WEIGHTS = torch.tensor([1.0, 0.5, 0.0, 2.0])
X, Z, W = LOGITS[:, 0].double().numpy(), LABELS.numpy(), WEIGHTS.double().numpy()
CROSS_ENTROPY = np.maximum(X, 0) - X * Z + np.log1p(np.exp(-np.abs(X)))

MULTI_LOGITS = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [5.0, -1.0, 2.0], [1.0, 1.0, 4.0]])
MULTI_LABELS = torch.tensor([2, 0, 1, 2])
EXPONENTIALS = np.exp(MULTI_LOGITS.double().numpy())
PROBABILITIES = EXPONENTIALS / EXPONENTIALS.sum(1, keepdims=True)
MULTI_CROSS_ENTROPY = -np.log(PROBABILITIES[np.arange(4), MULTI_LABELS.numpy()])

HEADS = {
    "binary": (lambda **k: BinaryClassHead(**k), LOGITS, LABELS, CROSS_ENTROPY),
    "multi": (lambda **k: MultiClassHead(3, **k), MULTI_LOGITS, MULTI_LABELS, MULTI_CROSS_ENTROPY),
}


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "auto", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", HEADS)
def test_loss(kind, weighted, reduction):
    make, logits, labels, each = HEADS[kind]
    head = make(loss_reduction=reduction, weight_column="w" if weighted else None)
    total = (each * (W if weighted else 1)).sum()
    expected = total if reduction == "sum" else total / 4
    assert head.loss(labels, logits, {"w": WEIGHTS}).item() == pytest.approx(expected, rel=1e-5)
    assert head.loss(labels[:, None], logits, {"w": WEIGHTS[:, None]}).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", HEADS)
def test_average_loss_divides_by_the_weights(kind, weighted):
    make, logits, labels, each = HEADS[kind]
    head = make(weight_column="w" if weighted else None)
    weights = W if weighted else np.ones(4)
    found = head.metrics(labels, logits, {"w": WEIGHTS})["average_loss"].result()
    assert found == pytest.approx((each * weights).sum() / weights.sum(), rel=1e-5)


def values(found):
    return {key: metric.result() for key, metric in found.items()}


def test_binary_metrics():
    found = values(BinaryClassHead(thresholds=[0.25, 0.7]).metrics(LABELS, LOGITS))
    logistic = 1 / (1 + np.exp(-X))
    assert found == pytest.approx(
        {
            "average_loss": CROSS_ENTROPY.mean(),
            "accuracy": 1 / 4,
            "precision": 1 / 2,
            "recall": 1 / 3,
            "prediction/mean": logistic.mean(),
            "label/mean": 3 / 4,
            "accuracy_baseline": 3 / 4,
            "auc": 1 / 3,
            "auc_precision_recall": found["auc_precision_recall"],
            "accuracy/positive_threshold_0.25": 2 / 4,
            "precision/positive_threshold_0.25": 2 / 3,
            "recall/positive_threshold_0.25": 2 / 3,
            "accuracy/positive_threshold_0.7": 2 / 4,
            "precision/positive_threshold_0.7": 1,
            "recall/positive_threshold_0.7": 1 / 3,
        },
        rel=1e-5,
    )


def test_weights_of_zero_make_every_metric_zero():
    found = values(BinaryClassHead(weight_column="w").metrics(LABELS, LOGITS, {"w": torch.zeros(4)}))
    assert set(found.values()) == {0.0}


def test_soft_labels_count_as_positive():
    found = values(BinaryClassHead().metrics(torch.full((4,), 0.3), LOGITS))
    assert (found["accuracy"], found["auc"], found["precision"]) == (0, 0, 1)
    assert found["label/mean"] == pytest.approx(0.3)


def test_multi_class_metrics_and_names():
    found = values(MultiClassHead(3, name="colour").metrics(MULTI_LABELS, MULTI_LOGITS))
    assert found == pytest.approx({"average_loss/colour": MULTI_CROSS_ENTROPY.mean(), "accuracy/colour": 3 / 4})


def test_regularization_is_added_and_reported():
    head = BinaryClassHead()
    extra = [torch.tensor(1.5), torch.tensor(0.5)]
    plain = head.loss(LABELS, LOGITS).item()
    assert head.loss(LABELS, LOGITS, regularization_losses=extra).item() == pytest.approx(plain + 2.0)
    assert head.metrics(LABELS, LOGITS, regularization_losses=extra)["regularization_loss"].result() == 2.0


def test_binary_predictions():
    found = BinaryClassHead(label_vocabulary=["no", "yes"]).predictions(LOGITS)
    logistic = 1 / (1 + np.exp(-LOGITS.numpy()))
    np.testing.assert_allclose(found["logistic"], logistic, rtol=1e-5)
    np.testing.assert_allclose(found["probabilities"], np.hstack([1 - logistic, logistic]), rtol=1e-5, atol=1e-7)
    assert found["class_ids"].tolist() == [[1], [0], [1], [0]]
    assert found["classes"].numpy().tolist() == [[b"yes"], [b"no"], [b"yes"], [b"no"]]
    assert found["all_classes"].numpy().tolist() == [[b"no", b"yes"]] * 4
    dtypes = {key: found[key].dtype for key in ("logits", "class_ids", "all_class_ids")}
    assert dtypes == {"logits": torch.float32, "class_ids": torch.int64, "all_class_ids": torch.int32}
    assert set(BinaryClassHead().predictions(LOGITS, ["logits", "classes"])) == {"logits", "classes"}


def test_multi_class_predictions():
    found = MultiClassHead(3).predictions(MULTI_LOGITS)
    np.testing.assert_allclose(found["probabilities"], PROBABILITIES, rtol=1e-5)
    assert found["class_ids"].tolist() == [[2], [0], [0], [2]]
    assert found["classes"].numpy()[0, 0] == b"2"
    assert found["all_class_ids"].tolist() == [[0, 1, 2]] * 4


@pytest.mark.parametrize(
    ("head", "logits", "keys"),
    [
        (BinaryClassHead(), LOGITS, {"serving_default", "classification", "regression", "predict"}),
        (MultiClassHead(3), MULTI_LOGITS, {"serving_default", "classification", "predict"}),
    ],
)
def test_export_outputs(head, logits, keys):
    outputs = head.create_estimator_spec({}, ModeKeys.PREDICT, logits).export_outputs
    assert set(outputs) == keys
    classify = outputs["serving_default"]
    assert outputs["classification"] is classify
    assert classify.scores.shape == classify.classes.shape == (4, max(2, logits.shape[1]))
    assert set(outputs["predict"].outputs) == set(head.predictions(logits))


def test_label_vocabulary():
    head = MultiClassHead(3, label_vocabulary=["a", "b", "c"])
    words = np.array(["c", b"a", "b", "c"], object)
    assert head.loss(words, MULTI_LOGITS).item() == pytest.approx(MULTI_CROSS_ENTROPY.mean(), rel=1e-5)
    with pytest.raises(ValueError, match="^Labels must be >= 0; the batch holds -1"):
        head.loss(np.array(["c", "a", "b", "zz"], object), MULTI_LOGITS)


def test_own_loss_fn_and_normalised_weights():
    def squared(labels, logits, features):
        return (labels - logits).square() * features["scale"]

    column = fc.numeric_column("w", normalizer_fn=lambda w: w * 2)
    head = BinaryClassHead(loss_fn=squared, weight_column=column)
    found = head.loss(LABELS, LOGITS, {"scale": 3.0, "w": WEIGHTS}).item()
    assert found == pytest.approx(((Z - X) ** 2 * 3 * W * 2).mean())


HOT = torch.tensor([[1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 1]])


def ragged(*rows):
    labels = np.empty(len(rows), object)
    labels[:] = rows
    return labels


@pytest.mark.parametrize(
    ("labels", "vocabulary"),
    [
        (HOT, None),
        (HOT.bool(), None),
        (HOT.float(), None),
        (ragged([0, 2], [1], [], np.int64([2])), None),
        (torch.sparse_coo_tensor([[0, 0, 1, 3], [0, 1, 0, 0]], [0, 2, 1, 2], (4, 2), check_invariants=True), None),
        (ragged(["a", "c"], [b"b"], [], ["c"]), ["a", "b", "c"]),
        (np.array([["a", "c"], ["b", ""], ["", ""], ["", "c"]], object), ["a", "b", "c"]),
        (torch.from_numpy(multi_hot(np.array([[2, 0], [1, -1], [-1, -1], [2, -1]]), 3)), None),
    ],
)
def test_multi_label_labels_in_every_form(labels, vocabulary):
    head = MultiLabelHead(3, label_vocabulary=vocabulary)
    assert head.loss(labels, MULTI_LOGITS) == MultiLabelHead(3).loss(HOT, MULTI_LOGITS)


def test_one_word_an_example_is_a_label_too():
    head = MultiLabelHead(2, label_vocabulary=["a", "b"])
    logits = torch.tensor([[1.0, -1.0], [0.5, 2.0]])
    assert head.loss(np.array(["a", ""], object), logits) == head.loss(ragged(["a"], []), logits)


def test_a_link_changes_predictions_and_not_the_loss():
    plain, linked = RegressionHead(), RegressionHead(inverse_link_fn=torch.exp)
    assert plain.loss(LABELS, LOGITS) == linked.loss(LABELS, LOGITS)
    assert set(plain.predictions(LOGITS)) == {"predictions"}
    assert linked.predictions(LOGITS)["predictions"].equal(LOGITS.exp())
    assert linked.metrics(LABELS, LOGITS)["prediction/mean"].result() == pytest.approx(float(LOGITS.exp().mean()))


def test_a_loss_fn_gives_a_loss_for_each_dimension():
    head = RegressionHead(3, loss_fn=lambda labels, logits: (labels - logits).abs())
    assert head.loss(HOT, MULTI_LOGITS).item() == pytest.approx(float((HOT - MULTI_LOGITS).abs().mean()))


def test_contrib_names_take_the_weight_column_first():
    assert contrib.regression_head("w", 2).logits_dimension == 2
    assert contrib.poisson_regression_head("w", 2).logits_dimension == 2
    assert contrib.multi_class_head is MultiClassHead


@pytest.mark.parametrize(
    ("head", "logits", "keys"),
    [
        (RegressionHead(), LOGITS, {"serving_default", "regression", "predict"}),
        (PoissonRegressionHead(), LOGITS, {"serving_default", "regression", "predict"}),
        (MultiLabelHead(3), MULTI_LOGITS, {"serving_default", "classification", "predict"}),
    ],
)
def test_export_outputs_of_other_heads(head, logits, keys):
    outputs = head.create_estimator_spec({}, ModeKeys.PREDICT, logits).export_outputs
    assert set(outputs) == keys


NAMED = [RegressionHead(name="a"), RegressionHead(name="b", loss_reduction="sum")]
HEADS_A_B = MultiHead([RegressionHead(name="a"), BinaryClassHead(name="b")])


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: RegressionHead(0), r"Invalid label_dimension 0\."),
        (
            lambda: RegressionHead(2).loss(LABELS, HOT[:, :2].float()),
            "Mismatched label shape. Expected labels dimension=2",
        ),
        (lambda: RegressionHead().loss(np.array(["x"] * 4, object), LOGITS), "Labels must be numbers"),
        (lambda: RegressionHead().loss(None, LOGITS), "You must provide a labels Tensor. Given: None"),
        (
            lambda: RegressionHead(2, "w").loss(HOT[:, :2], MULTI_LOGITS[:, :2], {"w": torch.ones(4, 3)}),
            r"weights shape must be \[D0, D1, ... DN\], \[D0, D1, ... DN, 1\] or \[D0, D1, ... DN, logits_dimension\]",
        ),
        (
            lambda: RegressionHead(2, loss_fn=lambda labels, logits: (labels - logits).sum(1)).loss(
                HOT[:, :2], MULTI_LOGITS[:, :2]
            ),
            r"loss_fn must return Tensor of shape \[D0, D1, ... DN, 2\]",
        ),
        (lambda: LogisticRegressionHead().loss(LABELS * 1.5, LOGITS), r"Labels must be in range \[0, 1\]"),
        (lambda: BinaryClassHead().loss(ragged([0], [1, 1], [], [0]), LOGITS), "SparseTensor labels are not supported"),
        (lambda: BinaryClassHead().loss(LOGITS.to_sparse_coo(), LOGITS), "SparseTensor labels are not supported"),
        (lambda: MultiLabelHead(1), "n_classes must be > 1 for multi-label classification. Given: 1"),
        (lambda: MultiLabelHead(3, thresholds=[1.0]), r"thresholds must be in \(0, 1\) range. Given: 1.0"),
        (lambda: MultiLabelHead(3, label_vocabulary="abc"), "label_vocabulary must be a list or tuple. Given type"),
        (
            lambda: MultiLabelHead(3, label_vocabulary=["a"]),
            r"Length of label_vocabulary must be n_classes \(3\). Given: 1",
        ),
        (
            lambda: MultiLabelHead(3, classes_for_class_based_metrics=["a"]),
            "label_vocabulary must be provided when classes_for_class_based_metrics are strings",
        ),
        (
            lambda: MultiLabelHead(2, label_vocabulary=["a", "b"], classes_for_class_based_metrics=["c"]),
            "'c' in classes_for_class_based_metrics is not in label_vocabulary",
        ),
        (
            lambda: MultiLabelHead(3, classes_for_class_based_metrics=[3]),
            r"All classes_for_class_based_metrics must be in range \[0, 2\]. Given: 3",
        ),
        (
            lambda: MultiLabelHead(3).loss(HOT * 2, MULTI_LOGITS),
            "labels must be an integer indicator Tensor with values in",
        ),
        (
            lambda: MultiLabelHead(3).loss(HOT[:, :2], MULTI_LOGITS),
            "Mismatched label shape. Expected labels dimension=3",
        ),
        (
            lambda: MultiLabelHead(3).loss(ragged([0], [3], [], []), MULTI_LOGITS),
            r"labels must be an integer SparseTensor with values in \[0, 3\)",
        ),
        (lambda: MultiLabelHead(3).loss(ragged([0.5], [], [], []), MULTI_LOGITS), "Labels dtype should be integer"),
        (lambda: MultiLabelHead(3).loss(ragged(["a"], [], [], []), MULTI_LOGITS), "Labels are strings"),
        (
            lambda: MultiLabelHead(2, label_vocabulary=["a", "b"]).loss(ragged(["c"], [], [], []), MULTI_LOGITS[:, :2]),
            "Labels must be >= 0: label_vocabulary lacks 'c'",
        ),
        (
            lambda: MultiLabelHead(2, label_vocabulary=["a", "b"]).loss(HOT[:, :2], MULTI_LOGITS[:, :2]),
            "Labels must be strings when label_vocabulary is given",
        ),
        (lambda: MultiHead([]), r"Must specify heads. Given: \[\]"),
        (lambda: MultiHead([RegressionHead()]), r"All given heads must have name specified. Given: "),
        (
            lambda: MultiHead(NAMED[:1], [1.0, 2.0]),
            r"heads and head_weights must have the same size. Given len\(heads\): 1. Given len\(head_weights\): 2\.",
        ),
        (
            lambda: MultiHead(NAMED).loss({"a": LABELS, "b": LABELS}, torch.zeros(4, 2)),
            "The loss_reduction must be the same for different heads. Given: ",
        ),
        (lambda: HEADS_A_B.loss(LABELS, torch.zeros(4, 2)), "labels must be a dict. Given: "),
        (lambda: HEADS_A_B.loss({"a": LABELS}, torch.zeros(4, 2)), r"labels has missing values for head\(s\): \['b'\]"),
        (lambda: HEADS_A_B.predictions({"a": LOGITS}), r"logits has missing values for head\(s\): \['b'\]"),
        (
            lambda: HEADS_A_B.predictions(torch.zeros(4, 3)),
            r"Could not split logits of shape \(4, 3\) among the heads with individual logits dimensions: \[1, 1\]",
        ),
    ],
)
def test_misuse_of_the_other_heads_is_refused(call, text):
    with pytest.raises(ValueError, match=f"^{text}"):
        call()


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum"])
@pytest.mark.parametrize(
    "make", [BinaryClassHead, partial(MultiClassHead, 3), RegressionHead, partial(MultiLabelHead, 3)]
)
def test_a_batch_without_rows_has_a_loss_of_zero(make, reduction):
    """A filter may leave nothing of one; its mean would be NaN, and end the training."""
    head = make(loss_reduction=reduction)
    dimension = 3 if isinstance(head, MultiLabelHead) else 1
    labels = torch.zeros(0, dimension, dtype=torch.int64)
    assert head.loss(labels, torch.zeros(0, head.logits_dimension)).item() == 0


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: BinaryClassHead(thresholds=(0.0,)), ValueError, r"thresholds not in \(0, 1\): \(\(0.0,\),\)\."),
        (lambda: BinaryClassHead(loss_reduction="none"), ValueError, "Invalid loss_reduction: none"),
        (lambda: BinaryClassHead(label_vocabulary="ab"), ValueError, "label_vocabulary should be a list or a tuple"),
        (
            lambda: BinaryClassHead(loss_fn=lambda logits: logits),
            ValueError,
            r"loss_fn must contain argument: labels. Given arguments: \('logits',\)",
        ),
        (lambda: MultiClassHead(2), ValueError, "n_classes must be > 2: 2."),
        (
            lambda: MultiClassHead(3, label_vocabulary=["a"]),
            ValueError,
            '"label_vocabulary" does not have "n_classes" items',
        ),
        (lambda: BinaryClassHead().loss(None, LOGITS), ValueError, "You must provide a labels Tensor. Given: None"),
        (
            lambda: BinaryClassHead().loss(torch.zeros(4, 3), LOGITS),
            ValueError,
            "Mismatched label shape. Expected labels dimension=1.  Received 3. Suggested Fix",
        ),
        (lambda: BinaryClassHead().loss(LABELS[:3], LOGITS), ValueError, "labels shape must be"),
        (lambda: BinaryClassHead().loss(LABELS * 1.5, LOGITS), ValueError, "Labels must be <= n_classes - 1"),
        (lambda: MultiClassHead(3).loss(MULTI_LABELS - 1, MULTI_LOGITS), ValueError, "Labels must be >= 0"),
        (
            lambda: MultiClassHead(3).loss(MULTI_LABELS.float(), MULTI_LOGITS),
            ValueError,
            "Labels dtype should be integer. Instead got torch.float32",
        ),
        (
            lambda: BinaryClassHead().loss(LABELS, MULTI_LOGITS),
            ValueError,
            r"logits shape must be \[D0, D1, ... DN, logits_dimension\], got \(4, 3\)",
        ),
        (lambda: BinaryClassHead().loss(np.array(["a"] * 4, object), LOGITS), ValueError, "Labels are strings"),
        (
            lambda: BinaryClassHead(label_vocabulary=["a", "b"]).loss(LABELS, LOGITS),
            ValueError,
            "Labels must be strings when label_vocabulary is given",
        ),
        (
            lambda: BinaryClassHead(weight_column=3).loss(LABELS, LOGITS, {}),
            TypeError,
            "Weight column must be either a string or NumericColumn. Given type: <class 'int'>",
        ),
        (
            lambda: BinaryClassHead(weight_column="w").loss(LABELS, LOGITS, {}),
            ValueError,
            "Feature w is not in features dictionary",
        ),
        (
            lambda: BinaryClassHead(weight_column="w").loss(LABELS, LOGITS, {"w": torch.ones(4, 2)}),
            ValueError,
            "weights shape must be",
        ),
        (
            lambda: BinaryClassHead().predictions(LOGITS, ["zz"]),
            ValueError,
            "Prediction key must be in PredictionKeys, given: zz",
        ),
        (
            lambda: BinaryClassHead().create_estimator_spec({}, ModeKeys.TRAIN, LOGITS, LABELS),
            ValueError,
            "train_op_fn and optimizer cannot both be None",
        ),
        (lambda: training.DNNClassifier([], [], n_classes=1), ValueError, "n_classes must be > 2: 1."),
        (lambda: training.LinearClassifier([]), ValueError, "feature_columns must not be empty"),
    ],
)
def test_misuse_is_refused_with_tensorflows_words(call, error, text):
    with pytest.raises(error, match=f"^{text}"):
        call()
