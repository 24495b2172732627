"""Small steps are computed on one thread, larger ones on as many as torch has; the choice follows from shapes."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

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
    with pytest.raises(RuntimeError, match="disk"), threads.enough_for(0):
        raise RuntimeError("the disk is full")
    assert torch.get_num_threads() == 2


def test_the_threads_come_back_after_two_trainings_at_once(two_threads):
    with ThreadPoolExecutor(1) as pool, ExitStack() as first, ExitStack() as second:
        first.enter_context(threads.enough_for(0))
        pool.submit(second.enter_context, threads.enough_for(0)).result()
        assert pool.submit(torch.get_num_threads).result() == 1
        first.close()
        assert torch.get_num_threads() == 2
        assert pool.submit(torch.get_num_threads).result() == 1
        pool.submit(second.close).result()
        assert pool.submit(torch.get_num_threads).result() == 2


def test_a_large_training_beside_a_small_one_has_all_threads(two_threads):
    with threads.enough_for(0), ThreadPoolExecutor(1) as pool, ExitStack() as large:
        pool.submit(large.enter_context, threads.enough_for(10**9)).result()
        assert pool.submit(torch.get_num_threads).result() == 2
        pool.submit(large.close).result()
    assert torch.get_num_threads() == 2


def test_a_training_that_goes_on_with_a_short_batch_keeps_its_threads(tmp_path, two_threads):
    assert threads_of_training(tmp_path, 1024, 64) == ([2] * 3, 2)
    assert threads_of_training(tmp_path, 1024, 4) == ([2] * 3, 2)
    assert threads_of_training(tmp_path / "new", 1024, 4) == ([1] * 3, 2)


def test_a_training_that_goes_on_with_a_larger_batch_size_chooses_anew(tmp_path, two_threads):
    assert threads_of_training(tmp_path, 1024, 4) == ([1] * 3, 2)
    assert threads_of_training(tmp_path, 1024, 64) == ([2] * 3, 2)
