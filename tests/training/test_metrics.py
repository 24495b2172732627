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
