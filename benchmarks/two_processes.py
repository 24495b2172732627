"""Batches a second of a compute-bound DNN (4 × 1024, batch 256 in each process) in one process and in two.

Each process has one torch thread, so the two need two idle cores. Runs take turns, and the best of each counts. On a
busy machine the wall time says little; the CPU time of a process for a step, which is what a step takes on a core that
nobody else uses, is printed beside it:

    .venv/bin/python benchmarks/two_processes.py
"""

import argparse
import json
import multiprocessing
import os
import socket
import sys
import tempfile
import time

import numpy as np
import torch

from estimator_serving import training
from estimator_serving.training import feature_column as fc

WIDTH, ROWS = 1024, 256


def train(environment, steps, sending):
    """Sends the wall seconds and the CPU seconds of a step, without the first ones."""
    os.environ.pop("TF_CONFIG", None)
    os.environ.update(environment)
    torch.set_num_threads(1)
    data = {"x": np.random.default_rng(1).normal(size=(ROWS, 64)).astype(np.float32)}, np.arange(ROWS) % 10

    def input_fn():
        return training.Dataset.from_tensor_slices(data).repeat().batch(ROWS)

    times = []

    class Times(training.SessionRunHook):
        def after_run(self, run_context, run_values):
            times.append((time.perf_counter(), time.process_time()))

    strategy = training.distribute.MultiWorkerMirroredStrategy()
    config = training.RunConfig(
        train_distribute=strategy, save_checkpoints_secs=None, save_summary_steps=None, log=False
    )
    columns = [fc.numeric_column("x", shape=(64,))]
    made = training.DNNClassifier(
        [WIDTH] * 4, columns, tempfile.mkdtemp(), n_classes=10, optimizer=training.optimizers.SGD(0.01), config=config
    )
    made.train(input_fn, steps=steps + 5, hooks=[Times()])
    sending.send(np.median(np.diff(times[5:], axis=0), axis=0))


def seconds_a_step(environments, steps):
    receiving, sending = multiprocessing.Pipe(duplex=False)
    started = [multiprocessing.Process(target=train, args=(env, steps, sending)) for env in environments]
    for process in started:
        process.start()
    times = [receiving.recv() for _ in started]
    for process in started:
        process.join()
    return np.max(times, axis=0)


def environments_of_two():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        cluster = {"chief": [f"127.0.0.1:{free.getsockname()[1]}"], "worker": ["127.0.0.1:1"]}
    tasks = [{"type": "chief", "index": 0}, {"type": "worker", "index": 0}]
    return [{"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})} for task in tasks]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    one = two = np.full(2, np.inf)
    for _ in range(given.runs):
        one = np.minimum(one, seconds_a_step([{}], given.steps))
        two = np.minimum(two, seconds_a_step(environments_of_two(), given.steps))
        for name, a, b in zip(("wall", "CPU"), one * 1e3, two * 1e3, strict=True):
            print(f"{name}: one process {a:.0f} ms a step, two {b:.0f} ms: {2 * a / b:.2f} x the batches a second")
    return 0 if 2 * one[0] / two[0] >= 1.6 else 1


if __name__ == "__main__":
    sys.exit(main())
