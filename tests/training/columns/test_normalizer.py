"""normalizer_fn: what becomes part of the graph, and the sentence for what cannot."""

import functools
import math

import numpy as np
import pytest
import torch

from estimator_serving.training import feature_column as fc
from estimator_serving.training.columns import normalizer
from estimator_serving.training.columns.transform import build_transform

MEAN = torch.tensor([3.0, 4.0])


def scale(x, by=2.0):
    return x / by


def branch(x):
    return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.where(x > 10, torch.log1p(x.clamp(min=0)), torch.sqrt(torch.abs(x))),
        lambda x: (x - MEAN) / MEAN * np.float64(2.0) - 29.7,
        lambda x: x / x.norm(dim=1, keepdim=True).clamp(min=1),
        functools.partial(scale, by=3.0),
        torch.tanh,
        torch.nn.Sigmoid(),
    ],
)
def test_graph_gives_the_functions_numbers(function):
    x = np.array([[0.0, 1.0], [30.0, -2.0], [7.5, 80.0]], np.float32)
    (value,) = build_transform([fc.numeric_column("x", shape=2, normalizer_fn=function)])({"x": x}).values()
    np.testing.assert_allclose(value, function(torch.from_numpy(x)).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: torch.from_numpy(np.log(x.numpy() + 1)), "it leaves torch for numpy"),
        (lambda x: x / x.max().item(), "it takes a value out of a tensor with .item"),
        (branch, "or branches in Python on one"),
        (lambda x: x if bool((x[:, 0] > -1000).all()) else -x, "or branches in Python on one"),
        (lambda x: math.log(2) * float(x[0, 0]) + x, "it takes a value out of a tensor"),
        (lambda x: (x - x.mean()) / x.std(), "a row's result depends on the other rows of the batch"),
        (lambda x: x + torch.rand_like(x), "it gives different values for the same input"),
        (lambda x: x * len(x), "or on how many there are"),
        (lambda x: x.sum(dim=1), r"it turns the shape \[6, 2\] into \[6\]; each row must keep its 2 values"),
        (lambda x: np.log(x.numpy() + 90), "it returns a ndarray, not a torch tensor"),
        (lambda x: torch.special.bessel_j0(x), "torch could not"),
        (lambda x: x / undefined, "NameError"),  # noqa: F821
    ],
)
def test_refusals_name_the_function_and_the_reason(function, why):
    with pytest.raises(ValueError, match=why) as caught:
        build_transform([fc.numeric_column("age", shape=2, normalizer_fn=function)])
    text = str(caught.value)
    assert text.startswith(f"The normalizer_fn {function.__name__} ({__file__}:{function.__code__.co_firstlineno})")
    assert "numeric_column 'age' cannot become part of the model" in text
    assert "Write it with torch functions" in text


def test_a_lambda_made_anew_is_traced_once():
    def column(by):
        return fc.numeric_column("x", normalizer_fn=lambda x: x / by)

    assert normalizer.trace(column(2.0)) is normalizer.trace(column(2.0))
    assert normalizer.trace(column(3.0)) is not normalizer.trace(column(2.0))


def test_a_constants_values_are_in_the_definition():
    definitions = [
        normalizer.trace(fc.numeric_column("x", normalizer_fn=lambda x, m=mean: x - m)).definition
        for mean in (torch.tensor([1.0]), torch.tensor([2.0]))
    ]
    assert definitions[0] != definitions[1]
