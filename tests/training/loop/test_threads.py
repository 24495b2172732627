"""Small steps are computed on one thread, larger ones on as many as torch has; the choice follows from shapes."""

import numpy as np
import pytest
import torch

from estimator_serving import training
from estimator_serving.training import feature_column as fc
from estimator_serving.training.loop import threads

ROWS, STEPS, WIDTH, UNITS = 4, 5, 3, 8


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("module", "shape", "flops"),
    [
        (torch.nn.Linear(WIDTH, UNITS), (ROWS, WIDTH), 2 * ROWS * WIDTH * UNITS),
        (torch.nn.Conv1d(WIDTH, UNITS, 1), (ROWS, WIDTH, STEPS), 2 * ROWS * STEPS * WIDTH * UNITS),
        (torch.nn.ReLU(), (ROWS, WIDTH), 0),
    ],
    ids=["linear", "convolution", "no products"],
)
def test_flops_are_those_of_the_products(module, shape, flops):
    with threads.Flops() as counted:
        module(torch.ones(shape))
    assert counted.total == flops


def threads_of_training(tmp_path, units, rows):
    """How many threads torch has at each step, and afterwards."""
    data = {"x": np.ones((rows, 64), np.float32)}, np.zeros(rows, np.int64)
    seen = []

    class Note(training.SessionRunHook):
        def after_run(self, run_context, run_values):
            seen.append(torch.get_num_threads())

    classifier = training.DNNClassifier([units], [fc.numeric_column("x", shape=(64,))], tmp_path)
    classifier.train(lambda: training.Dataset.from_tensor_slices(data).batch(rows).repeat(3), hooks=[Note()])
    return seen, torch.get_num_threads()


@pytest.mark.parametrize(("units", "expected"), [(10, 1), (1024, 2)])
def test_a_training_has_the_threads_that_its_steps_are_worth(tmp_path, two_threads, units, expected):
    assert threads_of_training(tmp_path, units, 64) == ([expected] * 3, 2)


def test_the_threads_come_back_after_an_error(two_threads):
    with pytest.raises(RuntimeError, match="disk"), threads.enough_for(threads.Flops()):
        raise RuntimeError("the disk is full")
    assert torch.get_num_threads() == 2
