"""How a run is made: where it is kept, when it saves, logs and summarises (TF 2.15).

Owns the fields and their checks. Does not know what the estimator does with them. TF_CONFIG says which process of which
cluster this is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from estimator_serving.training.distribute.cluster import Cluster, cluster_of, read_tf_config
from estimator_serving.training.distribute.strategies import Replication
from estimator_serving.training.model_fn import argument_names

_UNSET: Any = object()

_DEFAULT_SAVE_CHECKPOINTS_SECS = 600

_REPLACEABLE = (
    "model_dir",
    "tf_random_seed",
    "save_summary_steps",
    "save_checkpoints_steps",
    "save_checkpoints_secs",
    "session_config",
    "keep_checkpoint_max",
    "keep_checkpoint_every_n_hours",
    "log_step_count_steps",
    "train_distribute",
    "device_fn",
    "protocol",
    "eval_distribute",
    "experimental_distribute",
    "experimental_max_worker_delay_secs",
    "session_creation_timeout_secs",
    "checkpoint_save_graph_def",
    "resume_input",
    "log",
)


@dataclass(frozen=True)
class RunConfig:
    """Settings of one estimator. `replace` returns a changed copy.

    Steps are counted in batches, `*_secs` in seconds, `keep_checkpoint_every_n_hours` in hours. Giving one of
    `save_checkpoints_steps` and `save_checkpoints_secs` sets the other to None; both None saves no checkpoint at all.
    `resume_input` is not TF's: with it a resumed training skips the first global_step batches of its input, which
    earlier calls have taken, and so sees the data that an unbroken training would see; without it the input starts
    again.
    `log` is not TF's: whether a run says on standard error what TensorFlow's did, and shows a progress bar on a
    terminal. A program that has set up logging itself sees neither: its set-up decides what becomes of the lines, which
    come from the logger `estimator_serving.training`.
    `train_distribute` says how the processes of TF_CONFIG's cluster, or of torchrun, train together: a strategy of
    training.distribute. `session_creation_timeout_secs` is how long they wait for each other at the start.
    `eval_distribute` changes nothing: one process evaluates.
    Fields about sessions, devices and protocols are kept for programs that pass them and change nothing here. Raises
    ValueError with TF's texts for values out of range.
    """

    model_dir: str | os.PathLike[str] | None = None
    tf_random_seed: int | None = None
    save_summary_steps: int | None = 100
    save_checkpoints_steps: int | None = _UNSET
    save_checkpoints_secs: float | None = _UNSET
    session_config: object = None
    keep_checkpoint_max: int | None = 5
    keep_checkpoint_every_n_hours: float = 10000
    log_step_count_steps: int | None = 100
    train_distribute: Replication | None = None
    device_fn: Callable[..., Any] | None = None
    protocol: str | None = None
    eval_distribute: Replication | None = None
    experimental_distribute: object = None
    experimental_max_worker_delay_secs: int | None = None
    session_creation_timeout_secs: int = 7200
    checkpoint_save_graph_def: bool = True
    resume_input: bool = False
    log: bool = True

    # What TF_CONFIG said when this was made: no arguments, and two configs are not compared by it.
    cluster_spec: dict[str, Any] = field(init=False, repr=False, compare=False)
    task_type: str = field(init=False, repr=False, compare=False)
    task_id: int = field(init=False, repr=False, compare=False)
    global_id_in_cluster: int | None = field(init=False, repr=False, compare=False)
    master: str = field(init=False, repr=False, compare=False)
    evaluation_master: str = field(init=False, repr=False, compare=False)
    is_chief: bool = field(init=False, repr=False, compare=False)
    num_worker_replicas: int = field(init=False, repr=False, compare=False)
    num_ps_replicas: int = field(init=False, repr=False, compare=False)
    service: Mapping[str, Any] | None = field(init=False, repr=False, compare=False)
    is_torchrun: bool = field(init=False, repr=False, compare=False)
    # All of it.
    cluster: Cluster = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        steps, seconds = self.save_checkpoints_steps, self.save_checkpoints_secs
        if steps is _UNSET and seconds is _UNSET:
            steps, seconds = None, _DEFAULT_SAVE_CHECKPOINTS_SECS
        elif steps is _UNSET:
            steps = None
        elif seconds is _UNSET:
            seconds = None
        elif steps is not None and seconds is not None:
            raise ValueError("`save_checkpoints_steps` and `save_checkpoints_secs` cannot be both set.")
        object.__setattr__(self, "save_checkpoints_steps", steps)
        object.__setattr__(self, "save_checkpoints_secs", seconds)
        tf_config = read_tf_config()
        path = None if self.model_dir is None else os.fspath(self.model_dir)
        if path == "":
            raise ValueError("model_dir should be non-empty.")
        from_environment = tf_config.get("model_dir")
        if from_environment == "":
            raise ValueError("model_dir in TF_CONFIG should be non-empty.")
        if path and from_environment and path != from_environment:
            raise ValueError(
                "`model_dir` provided in RunConfig construct, if set, must have the same value as the model_dir in "
                f'TF_CONFIG. model_dir: {path}, TF_CONFIG["model_dir"]: {from_environment}.'
            )
        object.__setattr__(self, "model_dir", path or from_environment)
        cluster = cluster_of(tf_config)
        told = asdict(cluster)
        told["cluster_spec"], told["global_id_in_cluster"] = told.pop("spec"), told.pop("global_id")
        vars(self).update(told, cluster=cluster)
        _check_fields(vars(self))

    def said(self) -> str:
        """The fields as TensorFlow's log names them."""
        return str({f"_{one.name}": getattr(self, one.name) for one in fields(self) if one.name != "cluster"})

    def replace(self, **changes: Any) -> RunConfig:
        """A copy with `changes`. Raises ValueError for a field that cannot be replaced."""
        for name in changes:
            if name not in _REPLACEABLE:
                raise ValueError(f"Replacing {name} is not supported. Allowed properties are {list(_REPLACEABLE)}.")
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.init}
        schedules = {"save_checkpoints_steps", "save_checkpoints_secs"}
        if len(schedules & changes.keys()) == 1:  # the one that is replaced clears the other
            values |= dict.fromkeys(schedules)
        replaced = RunConfig(**{**values, **changes})
        vars(replaced).update({one.name: getattr(self, one.name) for one in fields(self) if not one.init})
        return replaced


def _check_fields(given: dict[str, Any]) -> None:
    seed = given["tf_random_seed"]
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
        raise ValueError(f"tf_random_seed must be integer. Given: {seed!r}.")
    for name in ("save_summary_steps", "save_checkpoints_steps", "save_checkpoints_secs", "keep_checkpoint_max"):
        if given[name] is not None and given[name] < 0:
            raise ValueError(f"{name} should be >= 0. Given: {given[name]!r}.")
    for name in ("keep_checkpoint_every_n_hours", "log_step_count_steps", "session_creation_timeout_secs"):
        if given[name] is not None and given[name] <= 0:
            raise ValueError(f"{name} should be > 0. Given: {given[name]!r}.")
    device_fn = given["device_fn"]
    if device_fn is not None and not (callable(device_fn) and argument_names(device_fn) == {"op"}):
        raise ValueError(f"device_fn must be callable with exactly one argument 'op'. Given: {device_fn!r}.")
    if given["protocol"] not in (None, "grpc", "grpc+verbs"):
        raise ValueError(f"protocol should be grpc or grpc+verbs. Given: {given['protocol']!r}.")
    for name in ("train_distribute", "eval_distribute", "experimental_distribute"):
        _check_strategy(name, given[name])


def _check_strategy(name: str, given: object) -> None:
    if given is None:
        return
    if name == "experimental_distribute":
        raise ValueError("experimental_distribute is not supported: give the strategy as train_distribute.")
    if not isinstance(given, Replication):
        raise ValueError(
            f"{name} must be a strategy of training.distribute, MultiWorkerMirroredStrategy() for example. Given: "
            f"{given!r}."
        )
