import goldens
import numpy as np
import pytest
import torch

from estimator_serving.training import losses

CASES = goldens.read("functions.json")["losses"]


def tensors(arguments):
    return {key: torch.tensor(v) if isinstance(v, list) else v for key, v in arguments.items()}


def identity(case):
    return f"{case['function']}-{np.ndim(case['weights'])}-{case['reduction']}"


@pytest.mark.parametrize("case", CASES, ids=identity)
def test_losses_are_tensorflows(case):
    arguments = tensors(case["arguments"])
    if case["weights"] is not None:
        arguments |= tensors({"weights": case["weights"]})
    if case["reduction"] is not None:
        arguments["reduction"] = case["reduction"]
    goldens.assert_near(getattr(losses, case["function"])(**arguments), case["value"])


@pytest.mark.parametrize("reduction", losses.Reduction.all())
def test_without_losses_or_weights_the_loss_is_zero(reduction):
    found = losses.compute_weighted_loss(torch.zeros(0, 1), None, reduction)
    assert found.shape == (0, 1) if reduction == "none" else found.item() == 0
    assert losses.compute_weighted_loss(torch.ones(2, 1), torch.zeros(2, 1), reduction).sum() == 0


def test_logits_of_sequences():
    logits, labels = torch.randn(2, 3, 4), torch.tensor([[0, 1, 2], [3, 0, 1]])
    found = losses.sparse_softmax_cross_entropy(labels, logits, reduction="none")
    expected = [[-torch.log_softmax(logits[i, j], 0)[labels[i, j]] for j in range(3)] for i in range(2)]
    goldens.assert_near(found, expected)


def test_the_full_poisson_loss_of_a_negative_count_is_nan_as_in_tensorflow():
    found = losses.log_poisson_loss(torch.tensor([-1.0, 0.0, 1.0]), torch.zeros(3), compute_full_loss=True)
    np.testing.assert_array_equal(found, [np.nan, 1.0, 1.0])


B3, B4 = torch.zeros(3), torch.zeros(4)
LOGITS = torch.zeros(3, 2)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: losses.mean_squared_error(B3, torch.zeros(3, 1)), r"Shapes \(3, 1\) and \(3,\) are incompatible"),
        (lambda: losses.absolute_difference(None, B3), "Argument `labels` must not be None"),
        (lambda: losses.cosine_distance(B3, B3), "You must specify argument `axis`"),
        (lambda: losses.huber_loss(B3, B3, weights=B4), "weights can not be broadcast to values. values.rank=1"),
        (
            lambda: losses.hinge_loss(LOGITS, LOGITS, weights=B3),
            "weights can not be broadcast to values. values.rank=2",
        ),
        (lambda: losses.log_loss(B3, B3, reduction="max"), "Invalid Reduction Key max"),
        (lambda: losses.sparse_softmax_cross_entropy(B3, LOGITS), "Labels dtype should be integer. Instead got"),
        (
            lambda: losses.sparse_softmax_cross_entropy(torch.tensor([0, 1, 2]), LOGITS),
            r"Received a label value of 2 which is outside the valid range of \[0, 2\)",
        ),
        (
            lambda: losses.sparse_softmax_cross_entropy(torch.tensor([0, -100, 1]), LOGITS),
            "Received a label value of -100",
        ),
        (
            lambda: losses.sparse_softmax_cross_entropy(LOGITS.long(), LOGITS),
            r"Shapes \(3, 2\) and \(3,\) are incompatible",
        ),
    ],
)
def test_misuse_is_refused(call, text):
    with pytest.raises(ValueError, match=f"^{text}"):
        call()
