"""Four rows of XOR, estimators that learn them, and what a test looks at afterwards."""

from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from estimator_serving import training
from estimator_serving.training import feature_column as fc

XOR = {"a": np.array([0, 0, 1, 1], np.float32), "b": np.array([0, 1, 0, 1], np.float32)}
XOR_LABELS = np.array([0, 1, 1, 0])


def rows(count, features=XOR, labels=XOR_LABELS):
    """`count` batches of 2 rows."""
    return lambda: training.Dataset.from_tensor_slices((features, labels)).repeat(-(-count // 2)).batch(2)


def endless():
    return training.Dataset.from_tensor_slices((XOR, XOR_LABELS)).repeat().batch(2)


def no_rows():
    return training.Dataset.from_tensor_slices((XOR, XOR_LABELS)).map(lambda x, y: (x, y)).repeat(0).batch(2)


def dnn(model_dir, **arguments):
    config = training.RunConfig(tf_random_seed=7, save_checkpoints_steps=2, log_step_count_steps=2)
    columns = [fc.numeric_column("a"), fc.numeric_column("b")]
    arguments = {"hidden_units": [4], "feature_columns": columns, **arguments}
    return training.DNNClassifier(**arguments, model_dir=model_dir, config=config)


class Watch(training.SessionRunHook):
    """Writes down the losses and the order of calls."""

    def __init__(self, name="hook", log=None):
        self.losses = []
        self.log = [] if log is None else log
        self.name = name

    def begin(self):
        self.log.append(f"{self.name}.begin")

    def after_create_session(self, session, coord):
        self.log.append(f"{self.name}.after_create_session")

    def before_run(self, run_context):
        self.log.append(f"{self.name}.before_run")
        return training.SessionRunArgs({"loss": "loss", "step": "global_step"})

    def after_run(self, run_context, run_values):
        self.log.append(f"{self.name}.after_run")
        self.losses.append(float(run_values.results["loss"]))

    def end(self, session):
        self.log.append(f"{self.name}.end")


def files(directory):
    return {path.name: path.read_bytes() for path in Path(directory).iterdir() if path.is_file()}


def events(directory):
    """tag -> steps, and the last simple value of each tag."""
    found = {}
    for path in Path(directory).glob("events.out.tfevents.*"):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(event.step)
    return found
