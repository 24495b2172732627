"""A small training that hooks watch, and the lines it logs."""

import numpy as np

from estimator_serving import training
from estimator_serving.training import feature_column as fc


def input_fn():
    return training.Dataset.from_tensor_slices(({"x": np.arange(4.0)}, np.array([0, 1, 1, 0]))).repeat().batch(2)


def train(tmp_path, *given, steps=5, **settings):
    """Train with a config that logs no loss and writes no summaries, unless `settings` of RunConfig say otherwise."""
    quiet = {"log_step_count_steps": None, "save_summary_steps": None, "save_checkpoints_steps": 100}
    config = training.RunConfig(**quiet | settings)
    estimator = training.LinearClassifier([fc.numeric_column("x")], tmp_path, config=config)
    return estimator.train(input_fn, steps=steps, hooks=given)


def lines(caplog):
    return [record.message for record in caplog.records if record.name == "estimator_serving.training"]
