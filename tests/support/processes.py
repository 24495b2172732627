"""Starts several processes of one training, each with its TF_CONFIG, and collects what they return or raise.

They are forked from a server that has imported training already, so that a start takes a fraction of a second.
"""

import contextlib
import json
import multiprocessing
import os
import time
import traceback

from served import free_ports

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["estimator_serving.training", "estimator_serving.exporter", "trained_together"])


def tf_configs(workers=1, ps=0, evaluator=False):
    """One TF_CONFIG for each task: the chief, the workers, parameter servers, the evaluator."""
    cluster = {"chief": [f"127.0.0.1:{free_ports(1)[0]}"], "worker": [f"127.0.0.1:{40000 + i}" for i in range(workers)]}
    if ps:
        cluster["ps"] = [f"127.0.0.1:{50000 + i}" for i in range(ps)]
    tasks = [(job, index) for job in cluster for index in range(len(cluster[job]))]
    tasks += [("evaluator", 0)] * evaluator
    return [
        {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": job, "index": index}})} for job, index in tasks
    ]


def torchrun_environments(count=2):
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_ports(1)[0])}
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


class Processes:
    """`work(*given)` in one process for each environment."""

    def __init__(self, environments, work, *given):
        self.started = [self._start(environment, work, given) for environment in environments]

    def _start(self, environment, work, given):
        receiving, sending = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=_run, args=(sending, environment, work, given), daemon=True)
        process.start()
        sending.close()
        return process, receiving

    def process(self, number):
        return self.started[number][0]

    def results(self, timeout_s=60):
        """What each returned; a raised error as 'ValueError: text'; None of one that was killed."""
        until_s = time.monotonic() + timeout_s
        found = []
        for process, receiving in self.started:
            if not receiving.poll(max(0.0, until_s - time.monotonic())):
                self.kill()
                raise AssertionError(f"{process.name} does not end; so far {found}")
            try:
                found.append(receiving.recv())
            except EOFError:
                found.append(None)
        for process, _ in self.started:
            process.join(timeout=max(1.0, until_s - time.monotonic()))
        return found

    def kill(self):
        for process, _ in self.started:
            process.kill()
            process.join()


def _run(sending, environment, work, given):
    os.environ.update(environment)
    with contextlib.suppress(BrokenPipeError):
        try:
            sending.send(work(*given))
        except BaseException as error:
            if os.environ.get("SHOW"):
                traceback.print_exc()
            sending.send(f"{type(error).__name__}: {error}")
