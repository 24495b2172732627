import goldens
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.training import metrics

LABELS = torch.tensor([0, 1, 1, 0, 1, 0])
SCORES = torch.tensor([0.1, 0.8, 0.6, 0.6, 0.9, 0.2])
WEIGHTS = torch.tensor([1.0, 2.0, 0.0, 1.0, 0.5, 3.0])


def exact_auc(labels, scores, weights):
    """Weighted share of (positive, negative) pairs in order; ties count half."""
    pairs = wins = 0.0
    for y, p, w in zip(labels, scores, weights, strict=True):
        for z, q, v in zip(labels, scores, weights, strict=True):
            if y and not z:
                pairs += w * v
                wins += w * v * (float(p > q) + 0.5 * float(p == q))
    return wins / pairs


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_auc_of_well_separated_scores_is_exact(weights):
    found = metrics.auc(LABELS, SCORES, weights).result()
    expected = exact_auc(LABELS, SCORES, torch.ones(6) if weights is None else weights)
    assert found == pytest.approx(float(expected), rel=1e-6)


def test_auc_of_one_class():
    assert metrics.auc(torch.ones(3), SCORES[:3]).result() == 0
    assert metrics.auc(torch.ones(3), SCORES[:3], curve="PR").result() == pytest.approx(1)


def test_buckets_are_computed_in_float32():
    # 3/199 as float32 is a little more than 3/199: times 199 it is 3 in float32, and above 3 in float64.
    state = metrics.auc(torch.ones(1), torch.tensor([3 / 199])).state
    assert int(state[0].argmax()) == 2


@pytest.mark.parametrize("scores", [[1.5], [-0.1], [float("nan")]])
def test_auc_takes_probabilities(scores):
    with pytest.raises(ValueError, match=r"auc takes predictions in \[0, 1\]"):
        metrics.auc(torch.ones(1), torch.tensor(scores))


def test_auc_has_two_curves():
    with pytest.raises(ValueError, match="curve must be 'ROC' or 'PR', got 'XX'"):
        metrics.auc(LABELS, SCORES, curve="XX")


def test_undefined_shares_are_zero():
    nothing = torch.zeros(3)
    assert metrics.precision(torch.ones(3), nothing).result() == 0
    assert metrics.recall(nothing, torch.ones(3)).result() == 0
    assert metrics.mean(torch.ones(3), nothing).result() == 0


def test_mean_broadcasts_its_weights():
    values = torch.tensor([[1.0, 3.0], [5.0, 7.0]])
    assert metrics.mean(values, torch.tensor([[1.0], [0.5]])).result() == pytest.approx((4 + 6) / 3)


FUNCTIONS = {
    "mean": lambda _, p, w: metrics.mean(p, w),
    "accuracy": lambda y, p, w: metrics.accuracy(y, p > 0.5, w),
    "precision": metrics.precision,
    "recall": metrics.recall,
    "baseline": lambda y, _, w: metrics.larger_class_share(y, w),
    "auc": metrics.auc,
    "auc_pr": lambda y, p, w: metrics.auc(y, p, w, curve="PR"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@given(data=st.data())
def test_states_add_up_over_batches(name, data):
    size = data.draw(st.integers(2, 12))
    draw = lambda strategy: torch.tensor(data.draw(st.lists(strategy, min_size=size, max_size=size)))  # noqa: E731
    labels, scores = draw(st.integers(0, 1)), draw(st.floats(0, 1, width=32))
    weights = draw(st.floats(0, 4, width=16))
    cut = data.draw(st.integers(1, size - 1))
    make = FUNCTIONS[name]
    whole = make(labels, scores, weights)
    parts = make(labels[:cut], scores[:cut], weights[:cut]) + make(labels[cut:], scores[cut:], weights[cut:])
    assert parts.result() == pytest.approx(whole.result(), rel=1e-6, abs=1e-9)
    assert isinstance(whole.result(), np.float32)


GOLDENS = goldens.read("functions.json")["metrics"]


@pytest.mark.parametrize("case", GOLDENS, ids=lambda case: f"{case['function']}-{case['weights'] is not None}")
def test_metrics_are_tensorflows(case):
    total = None
    for i in range(2):
        arguments = {key: torch.tensor(values[i]) for key, values in case["batches"].items()}
        if case["weights"] is not None:
            arguments["weights"] = torch.tensor(case["weights"][i])
        one = getattr(metrics, case["function"])(**arguments, **case["arguments"])
        total = one if total is None else total + one
    goldens.assert_near(total.result(), case["value"])


def test_a_confusion_matrix_and_what_is_read_off_it():
    labels, predictions = torch.tensor([0, 1, 1, 2]), torch.tensor([[0], [1], [2], [2]])
    weights = torch.tensor([1.0, 2.0, 1.0, 0.5])
    matrix = metrics.confusion_matrix(labels, predictions, 4, weights).result()
    assert matrix.tolist() == [[1, 0, 0, 0], [0, 2, 1, 0], [0, 0, 0.5, 0], [0, 0, 0, 0]]
    recalls = metrics.recall_per_class(labels, predictions, 4, weights).result()
    precisions = metrics.precision_per_class(labels, predictions, 4, weights).result()
    np.testing.assert_allclose(recalls, [1, 2 / 3, 1, 0])
    np.testing.assert_allclose(precisions, [1, 1, 1 / 3, 0], rtol=1e-6)


def test_padded_labels_are_no_labels():
    scores = torch.tensor([[0.9, 0.5, 0.1], [0.2, 0.3, 0.4]])
    labels = torch.tensor([[0, -1], [0, 2]])
    assert metrics.recall_at_k(labels, scores, 1).result() == pytest.approx(2 / 3)
    assert metrics.recall_at_top_k(labels, torch.tensor([[0], [2]])).result() == pytest.approx(2 / 3)
    assert metrics.precision_at_top_k(labels, torch.tensor([[0], [2]])).result() == 1


def test_weights_that_are_one_number():
    assert metrics.precision(LABELS, SCORES, 2.0).result() == metrics.precision(LABELS, SCORES).result()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: metrics.accuracy(LABELS, SCORES[:3]), r"Shapes \(3,\) and \(6,\) are incompatible"),
        (lambda: metrics.mean(SCORES, WEIGHTS[:3]), "weights can not be broadcast to values"),
        (lambda: metrics.mean_iou(LABELS, LABELS, 1), r"`labels` out of bound: class ids must be in \[0, 1\)"),
        (lambda: metrics.auc(LABELS, SCORES, num_thresholds=1), "Argument `num_thresholds` must be an integer > 1"),
        (lambda: metrics.auc(LABELS, SCORES, summation_method="x"), "Invalid summation_method: x"),
        (lambda: metrics.sensitivity_at_specificity(LABELS, SCORES, 2.0), "`specificity` must be in the range"),
        (lambda: metrics.specificity_at_sensitivity(LABELS, SCORES, -1), "`sensitivity` must be in the range"),
        (lambda: metrics.recall_at_k(LABELS, SCORES.reshape(6, 1), 2), "k must be from 1 to the number of classes"),
    ],
)
def test_misuse_is_refused(call, text):
    with pytest.raises(ValueError, match=f"^{text}"):
        call()
