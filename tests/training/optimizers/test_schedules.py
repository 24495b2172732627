import goldens
import pytest
import torch

from estimator_serving.training import optimizers
from estimator_serving.training.optimizers import schedules

GOLDENS = goldens.read("functions.json")
CASES = GOLDENS["schedules"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.get("schedule") or case["function"])
def test_schedules_are_tensorflows(case):
    if "schedule" in case:
        schedule = getattr(optimizers.schedules, case["schedule"])(*case["arguments"], **case["extra"])
        found = [schedule(torch.tensor(step)) for step in GOLDENS["steps"]]
    else:
        function = getattr(schedules, case["function"])
        found = [function(*case["before"], step, *case["after"]) for step in GOLDENS["steps"]]
    for step, one, expected in zip(GOLDENS["steps"], found, case["values"], strict=True):
        assert one == pytest.approx(expected, rel=1e-5, abs=1e-8), step


@pytest.mark.parametrize(
    "learning_rate", [schedules.ExponentialDecay(0.5, 1, 0.5), lambda step: 0.5**step / 2, lambda: 0.0625, 0.0625]
)
def test_an_optimizer_takes_numbers_schedules_and_functions(learning_rate):
    assert optimizers.SGD(learning_rate).rate(3) == pytest.approx(0.0625)


def test_boundaries_and_values_must_fit():
    with pytest.raises(ValueError, match="The length of boundaries should be 1 less than the length of values"):
        schedules.PiecewiseConstantDecay([1], [0.1])
