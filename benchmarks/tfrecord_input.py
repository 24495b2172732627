"""Reading, shuffling and parsing Examples from TFRecord, and training from them, against TensorFlow's tf.data.

    taskset -c 0 python benchmarks/tfrecord_input.py --tensorflow-python /path/to/python/with/tensorflow

Both sides call make_batched_features_dataset on the same files, with its defaults (shuffle in a buffer of 10,000 rows,
repeat), batch 128, on Examples of five features: two floats, an int64, a text, and a label. Each side runs in a process
of its own on one core; the two take turns, and the best of all turns counts for each, in rows a second of wall time and
of processor time. With --gib the files are that large together, and the growth of the reader's memory is shown. The
command fails if a budget is broken in processor time, or the memory grows; wall time also counts what else the machine
does, and is only shown.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

BATCH = 128
BUDGETS = {"read": 2.0, "train": 1.5}  # at least this many times TensorFlow's rows a second
WORDS = ["red", "green", "blue", "black", "white"]

SIDE = """
import os, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import json, tensorflow as tf
tf.get_logger().setLevel("ERROR")
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
pattern, turns, rows, steps = sys.argv[1], *map(int, sys.argv[2:])
F = tf.io.FixedLenFeature
types = {"a": tf.float32, "b": tf.float32, "n": tf.int64, "w": tf.string, "y": tf.int64}
spec = {key: F([1], dtype) for key, dtype in types.items()}
def make():
    return tf.data.experimental.make_batched_features_dataset(pattern, 128, spec, label_key="y")
fc = tf.feature_column
words = fc.categorical_column_with_vocabulary_list("w", ["red", "green", "blue", "black", "white"])
numbers = [fc.numeric_column("a"), fc.numeric_column("b"), fc.numeric_column("n", dtype=tf.int64)]
columns = [*numbers, fc.indicator_column(words)]
session = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
config = tf.estimator.RunConfig(session_config=session, save_checkpoints_steps=10**9)
estimator = tf.estimator.DNNClassifier([32, 16], columns, config=config)
for line in sys.stdin:
    kind = line.strip()
    if kind == "read":
        batches = iter(make())
        next(batches)
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(rows // 128):
            next(batches)
        count = rows // 128 * 128
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    else:
        marks = []
        class Clock(tf.estimator.SessionRunHook):
            def after_run(self, context, values):
                marks.append((time.perf_counter(), time.process_time()))
        estimator.train(make, steps=steps, hooks=[Clock()])
        start = len(marks) // 5
        wall, cpu = (last - first for last, first in zip(marks[-1], marks[start]))
        count = (len(marks) - 1 - start) * 128
    print(json.dumps([count / wall, count / cpu]), flush=True)
"""


def write(folder: Path, rows: int, files: int) -> None:
    """The files of `rows` Examples together."""
    from estimator_serving.wire.examples import encode_example
    from estimator_serving.wire.records import write_records

    random = np.random.default_rng(0)
    examples = [
        encode_example(
            {
                "a": [float(random.normal())],
                "b": [float(random.normal())],
                "n": [int(random.integers(100))],
                "w": [WORDS[int(random.integers(5))]],
                "y": [int(random.integers(2))],
            }
        )
        for _ in range(min(rows, 20_000))
    ]
    for file in range(files):
        write_records(folder / f"part-{file}.tfrecord", (examples[row % len(examples)] for row in range(rows // files)))


def ours(pattern: str, rows: int, steps: int) -> Callable[[str], tuple[float, float]]:
    """Measures a kind: rows a second of wall time and of processor time."""
    import torch

    from estimator_serving import training
    from estimator_serving.training import feature_column as fc

    torch.set_num_threads(1)
    spec = {
        "a": training.FixedLenFeature((1,), training.float32),
        "b": training.FixedLenFeature((1,), training.float32),
        "n": training.FixedLenFeature((1,), training.int64),
        "w": training.FixedLenFeature((1,), training.string),
        "y": training.FixedLenFeature((1,), training.int64),
    }

    def make() -> training.Dataset:
        return training.make_batched_features_dataset(pattern, BATCH, spec, label_key="y")

    words = fc.indicator_column(fc.categorical_column_with_vocabulary_list("w", WORDS))
    columns = [fc.numeric_column("a"), fc.numeric_column("b"), fc.numeric_column("n", dtype="int64"), words]
    config = training.RunConfig(save_checkpoints_steps=10**9, log=False)
    estimator = training.DNNClassifier([32, 16], columns, model_dir=tempfile.mkdtemp(), config=config)

    def measure(kind: str) -> tuple[float, float]:
        if kind == "read":
            batches = iter(make())
            next(batches)
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(rows // BATCH):
                next(batches)
            count = rows // BATCH * BATCH
            return count / (time.perf_counter() - wall), count / (time.process_time() - cpu)
        marks: list[tuple[float, float]] = []

        class Clock(training.SessionRunHook):
            def after_run(self, run_context: object, run_values: object) -> None:
                marks.append((time.perf_counter(), time.process_time()))

        estimator.train(make, steps=steps, hooks=[Clock()])
        start = len(marks) // 5
        count = (len(marks) - 1 - start) * BATCH
        return count / (marks[-1][0] - marks[start][0]), count / (marks[-1][1] - marks[start][1])

    return measure


def show_memory(gib: float) -> None:
    """Reads files of this size once, and prints the memory at the start and at the end."""
    from estimator_serving import training

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), int(gib * 2**30 / 100), 4)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        spec = {
            "a": training.FixedLenFeature((1,), training.float32),
            "w": training.FixedLenFeature((1,), training.string),
        }
        pattern = f"{folder}/*.tfrecord"
        dataset = training.make_batched_features_dataset(pattern, 1024, spec, num_epochs=1)
        start, began, rows = 0, time.perf_counter(), 0
        for number, batch in enumerate(dataset):
            rows += len(batch["a"])
            if number == 100:
                start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        end = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds = time.perf_counter() - began
        print(
            f"{size / 2**30:.2f} GiB, {rows} rows in {seconds:.0f} s: peak {start // 1024} MiB after 100 batches, ",
            end="",
        )
        print(f"{end // 1024} MiB at the end")
        if end - start > 64 * 1024:
            sys.exit("The memory grew by more than 64 MiB.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tensorflow-python", help="a Python that has TensorFlow 2.15")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--gib", type=float, default=0, help="show the memory over files of this size instead")
    chosen = parser.parse_args()
    if chosen.gib:
        show_memory(chosen.gib)
        return
    if not chosen.tensorflow_python:
        parser.error("give --tensorflow-python, or --gib")
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), 200_000, 4)
        pattern = f"{folder}/*.tfrecord"
        numbers = [str(chosen.turns), str(chosen.rows), str(chosen.steps)]
        command = [chosen.tensorflow_python, "-c", SIDE, pattern, *numbers]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment["CUDA_VISIBLE_DEVICES"] = ""
        measure = ours(pattern, chosen.rows, chosen.steps)
        broken = []
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        ) as tensorflow:
            assert tensorflow.stdin
            assert tensorflow.stdout
            for kind, budget in BUDGETS.items():
                own, theirs = [], []
                for _ in range(chosen.turns):
                    own.append(measure(kind))
                    tensorflow.stdin.write(f"{kind}\n")
                    tensorflow.stdin.flush()
                    theirs.append(json.loads(tensorflow.stdout.readline()))
                for clock, name in enumerate(("wall", "processor")):
                    best, other = max(turn[clock] for turn in own), max(turn[clock] for turn in theirs)
                    print(f"{kind}, {name} time: {best:,.0f} rows/s, TensorFlow {other:,.0f}: {best / other:.2f} times")
                    if name == "processor" and best / other < budget:
                        broken.append(f"{kind} ({name} time) is {best / other:.2f} times, below {budget}")
            tensorflow.stdin.close()
        if broken:
            sys.exit("; ".join(broken))


if __name__ == "__main__":
    main()
