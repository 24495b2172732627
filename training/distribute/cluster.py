"""TF_CONFIG or torchrun: which process of which cluster this is (TF 2.15's rules and texts).

Owns reading the environment. Does not know how the tasks of a cluster work together: see strategy.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CHIEF, MASTER, WORKER, PS, EVALUATOR = "chief", "master", "worker", "ps", "evaluator"
_TORCHRUN = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
_NOTE = "Note that these values may be coming from the TF_CONFIG environment variable."


@dataclass(frozen=True)
class Cluster:
    """Which process of which cluster this is.

    Attributes:
        spec: job -> addresses; empty without a cluster, and for an evaluator, which is not part of one.
        task_type, task_id: which of them this process is.
        is_chief: whether it writes checkpoints.
        num_worker_replicas: the chief and the workers; 0 for an evaluator.
        num_ps_replicas: parameter servers.
        master, evaluation_master: addresses as TensorFlow writes them, '' where there is one process.
        global_id: chief first, then workers, parameter servers last; None for an evaluator.
        service: what TF_CONFIG says under that name.
        is_torchrun: whether torchrun started this process; `spec` is empty then.
    """

    spec: Mapping[str, Any] = field(default_factory=dict)
    task_type: str = WORKER
    task_id: int = 0
    is_chief: bool = True
    num_worker_replicas: int = 1
    num_ps_replicas: int = 0
    master: str = ""
    evaluation_master: str = ""
    global_id: int | None = 0
    service: Mapping[str, Any] | None = None
    is_torchrun: bool = False

    @property
    def chief_address(self) -> tuple[str, int]:
        """Where the processes of a training meet."""
        if self.is_torchrun:
            return os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        address = str((self.spec.get(CHIEF) or self.spec[MASTER])[0])
        host, _, port = address.rpartition(":")
        if not port.isdigit():
            raise ValueError(f"TF_CONFIG gives the chief the address {address!r}; it must be host:port.")
        return host, int(port)

    @property
    def training_names(self) -> list[str]:
        """A name for each process that trains, by rank: the chief, then the workers."""
        if self.is_torchrun:
            return [f"Rank {rank}" for rank in range(self.num_worker_replicas)]
        tasks = [
            (job, number, address)
            for job in (CHIEF, MASTER, WORKER)
            for number, address in enumerate(self.spec.get(job, ()))
        ]
        return [f"Rank {rank} ({job} {number}, {address})" for rank, (job, number, address) in enumerate(tasks)]


def read_tf_config() -> dict[str, Any]:
    """TF_CONFIG's JSON, {} where it is not set. Raises ValueError for text that is none."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        parsed = json.loads(text) if text.strip() else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"TF_CONFIG is not JSON ({error}). Correct it, or unset it to run in one process.") from error
    if not isinstance(parsed, dict):
        raise ValueError(f"TF_CONFIG holds {text[:80]!r}, and must be a JSON object. Correct it, or unset it.")
    return parsed


def cluster_of(tf_config: Mapping[str, Any]) -> Cluster:
    """The process that TF_CONFIG describes. Raises ValueError and TypeError with TF 2.15's texts."""
    service = tf_config.get("service")
    if service is not None and not isinstance(service, dict):
        raise TypeError(f'If "service" is set in TF_CONFIG, it must be a dict. Given {type(service)}')
    master = tf_config.get("session_master")
    evaluation_master = tf_config.get("eval_session_master", "")
    jobs, task = tf_config.get("cluster") or {}, tf_config.get("task") or {}
    if not jobs:
        if task.get("type", WORKER) != WORKER:
            raise ValueError('If "cluster" is not set in TF_CONFIG, task type must be WORKER.')
        if int(task.get("index", 0)) != 0:
            raise ValueError('If "cluster" is not set in TF_CONFIG, task index must be 0.')
        if os.environ.keys() >= _TORCHRUN and int(os.environ["WORLD_SIZE"]) > 1:
            rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
            task = (WORKER, rank - 1, False) if rank else (CHIEF, 0, True)
            return Cluster({}, *task, count, global_id=rank, service=service, is_torchrun=True)
        return Cluster(master=master or "", evaluation_master=evaluation_master, service=service)
    _check_chief_and_task(jobs, task)
    kind, number = task["type"], int(task["index"])
    if kind == EVALUATOR:
        if MASTER in jobs:
            raise ValueError("If `master` node exists in `cluster`, task_type `evaluator` is not supported.")
        return Cluster({}, kind, number, False, 0, 0, global_id=None, service=service)
    if kind not in jobs:
        raise ValueError(f"{kind} is not a valid task_type in the cluster_spec:\n{jobs}\n\n{_NOTE}")
    if number >= len(jobs[kind]):
        raise ValueError(
            f"{number} is not a valid task_id for task_type {kind} in the cluster_spec:\n{jobs}\n\n{_NOTE}"
        )
    counts = {job: len(hosts) for job, hosts in jobs.items()}
    # The number of the process, counted over the chief, the workers, other jobs by name, and parameter servers.
    first = [job for job in (CHIEF, MASTER, WORKER) if job in counts]
    in_order = [*first, *sorted(counts.keys() - {*first, PS}), PS]
    global_id = number + sum(counts[job] for job in in_order[: in_order.index(kind)])
    address = "" if sum(counts.values()) == 1 else f"grpc://{jobs[kind][number]}"
    return Cluster(
        jobs,
        kind,
        number,
        is_chief=kind in (CHIEF, MASTER),
        num_worker_replicas=1 + counts.get(WORKER, 0),
        num_ps_replicas=counts.get(PS, 0),
        master=address if master is None else master,
        evaluation_master=evaluation_master,
        global_id=global_id,
        service=service,
    )


def _check_chief_and_task(jobs: Mapping[str, Any], task: Mapping[str, Any]) -> None:
    """A cluster has one chief, and TF_CONFIG names a task."""
    if MASTER in jobs and CHIEF in jobs:
        raise ValueError("If `master` node exists in `cluster`, job `chief` is not supported.")
    chief = MASTER if MASTER in jobs else CHIEF
    if not jobs.get(chief):
        raise ValueError('If "cluster" is set in TF_CONFIG, it must have one "chief" node.')
    if len(jobs[chief]) > 1:
        raise ValueError(f'The "cluster" in TF_CONFIG must have only one "{chief}" node.')
    if not task.get("type"):
        raise ValueError('If "cluster" is set in TF_CONFIG, task type must be set.')
    if task.get("index") is None:
        raise ValueError('If "cluster" is set in TF_CONFIG, task index must be set.')
    if int(task["index"]) < 0:
        raise ValueError("Task index must be non-negative number.")
