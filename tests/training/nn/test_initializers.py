import math

import pytest
import torch

from estimator_serving.training import initializers


def test_initializers():
    generator = torch.Generator().manual_seed(0)
    kernel = initializers.glorot_uniform((300, 100), generator)
    assert kernel.abs().max() <= (6 / 400) ** 0.5
    assert kernel.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    table = initializers.truncated_normal(1.0, 0.5)((200, 200), generator)
    assert (table - 1).abs().max() <= 1.0
    assert table.std().item() == pytest.approx(0.5 * 0.88, rel=0.02)
    assert initializers.constant([1.0, 2.0])((3, 2), generator).tolist() == [[1.0, 2.0]] * 3
    assert initializers.zeros((), generator).shape == initializers.ones((), generator).shape == ()


@pytest.mark.parametrize(
    ("make", "variance", "limit"),
    [
        (initializers.glorot_uniform, 2 / 500, math.sqrt(6 / 500)),
        (initializers.glorot_normal, 2 / 500, 2 * math.sqrt(2 / 500) / 0.8796),
        (initializers.he_normal, 2 / 300, 2 * math.sqrt(2 / 300) / 0.8796),
        (initializers.he_uniform, 2 / 300, math.sqrt(6 / 300)),
        (initializers.lecun_normal, 1 / 300, 2 * math.sqrt(1 / 300) / 0.8796),
        (initializers.lecun_uniform, 1 / 300, math.sqrt(3 / 300)),
        (initializers.variance_scaling(1.0, "fan_out", "untruncated_normal"), 1 / 200, math.inf),
        (initializers.random_uniform(-0.1, 0.1), 0.04 / 12, 0.1),
    ],
)
def test_scaled_initializers(make, variance, limit):
    values = make((300, 200), torch.Generator().manual_seed(1))
    assert values.var().item() == pytest.approx(variance, rel=0.03)
    assert values.abs().max() <= limit * 1.0001
