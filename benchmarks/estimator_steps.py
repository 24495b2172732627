"""Training steps per second: DNNClassifier here against TensorFlow 2.15's, in one run.

    python benchmarks/estimator_steps.py --tensorflow-python /path/to/an/environment/with/tensorflow/bin/python

Both sides train hidden_units [64, 32] on the same synthetic Titanic-like columns, batch 32, input pipeline and default
hooks included, one thread each, pinned to one core. TensorFlow runs in another process. The sides take turns, and every
round has its ratio, the lowest of which counts; on a busy machine look at the ratio by processor time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

BUDGET = 1.5
ROWS = 2207
BATCH = 32
WARM_UP_STEPS = 500
STEPS = 2500


def titanic_like():
    random = np.random.default_rng(0)
    features = {
        "age": random.uniform(1, 80, ROWS).astype(np.float32),
        "fare": random.lognormal(3, 1, ROWS).astype(np.float32),
        "sibsp": random.integers(0, 5, ROWS).astype(np.float32),
        "parch": random.integers(0, 5, ROWS).astype(np.float32),
        "gender": random.choice(["male", "female"], ROWS),
        "class": random.choice(["1st", "2nd", "3rd"], ROWS),
        "embarked": random.choice(list("SCQB"), ROWS),
    }
    return features, random.integers(0, 2, ROWS)


def columns(fc):
    age = fc.numeric_column("age")
    words = fc.categorical_column_with_vocabulary_list
    return [
        age,
        fc.numeric_column("fare"),
        fc.numeric_column("sibsp"),
        fc.numeric_column("parch"),
        fc.bucketized_column(age, [10, 20, 30, 40, 50, 60]),
        fc.indicator_column(words("gender", ["male", "female"])),
        fc.indicator_column(words("class", ["1st", "2nd", "3rd"])),
        fc.embedding_column(fc.categorical_column_with_hash_bucket("embarked", 10), 4),
    ]


def stopwatch(base):
    class Stopwatch(base):
        steps = 0

        def after_run(self, run_context, run_values):
            self.steps += 1
            if self.steps == WARM_UP_STEPS:
                self.started_s = time.perf_counter(), time.process_time()
            if self.steps == WARM_UP_STEPS + STEPS:
                now_s = time.perf_counter(), time.process_time()
                print(*(STEPS / (now - start) for now, start in zip(now_s, self.started_s, strict=True)))

    return Stopwatch()


def measure_ours(optimizer):
    import torch

    from estimator_serving import training

    torch.set_num_threads(1)
    features, labels = titanic_like()
    features = {key: value.astype(object) if value.dtype.kind == "U" else value for key, value in features.items()}
    model_dir = tempfile.mkdtemp()
    estimator = training.DNNClassifier([64, 32], columns(training.feature_column), model_dir, optimizer=optimizer)
    estimator.train(
        lambda: training.Dataset.from_tensor_slices((features, labels)).shuffle(ROWS).repeat().batch(BATCH),
        steps=WARM_UP_STEPS + STEPS,
        hooks=[stopwatch(training.SessionRunHook)],
    )


def measure_tensorflow(optimizer):
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    features, labels = titanic_like()
    one_thread = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    estimator = tf.estimator.DNNClassifier(
        [64, 32],
        columns(tf.feature_column),
        tempfile.mkdtemp(),
        optimizer=optimizer,
        config=tf.estimator.RunConfig(session_config=one_thread),
    )
    estimator.train(
        lambda: tf.data.Dataset.from_tensor_slices((features, labels)).shuffle(ROWS).repeat().batch(BATCH),
        steps=WARM_UP_STEPS + STEPS,
        hooks=[stopwatch(tf.estimator.SessionRunHook)],
    )


SIDES = {"ours": measure_ours, "tensorflow": measure_tensorflow}


def run_side(python, side, optimizer):
    """Steps per second, and per second of processor time, of one fresh process."""
    command = [python, __file__, "--side", side, "--optimizer", optimizer]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side} failed with {python}:\n{done.stderr[-2000:]}")
    return tuple(map(float, done.stdout.split()[-2:]))


def pin_to_one_core():
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tensorflow-python", help="a Python that has tensorflow 2.15")
    parser.add_argument("--optimizer", default="Adagrad", choices=["Adagrad", "Adam", "Ftrl", "SGD"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    pin_to_one_core()
    if arguments.side:
        SIDES[arguments.side](arguments.optimizer)
        return
    pythons = {"ours": sys.executable}
    if arguments.tensorflow_python:
        pythons["tensorflow"] = arguments.tensorflow_python
    ratios = []
    for _ in range(arguments.rounds):
        rates = {side: run_side(python, side, arguments.optimizer) for side, python in pythons.items()}
        for side, (wall, processor) in rates.items():
            cost = f"{1e6 / wall:6.0f} µs a step  {1e6 / processor:6.0f} µs of processor time"
            print(f"{side:>10}  {wall:7.0f} steps/s  {cost}")
        if "tensorflow" in rates:
            ratios.append([ours / theirs for ours, theirs in zip(rates["ours"], rates["tensorflow"], strict=True)])
            print("     ratio  {:7.2f}  by processor time {:.2f}".format(*ratios[-1]), flush=True)
    if ratios:
        lowest, by_processor = map(min, zip(*ratios, strict=True))
        verdict = "met" if lowest >= BUDGET else "not met"
        print(f"    lowest  {lowest:7.2f}  (budget >= {BUDGET}: {verdict}; by processor time {by_processor:.2f})")


if __name__ == "__main__":
    main()
