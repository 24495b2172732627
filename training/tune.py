"""tune: search the hyperparameters of an estimator with Optuna, stopping early what does not look good.

The theory. A trial is one run of train_and_evaluate in a model_dir of its own. Each of its evaluations reports the
metric to the study, and the pruner says whether the trial is worth more steps; if not, the training ends after that
checkpoint as it does at the request of a hook. The study lies in a storage, by default a file beside the model_dirs, so
that the same command goes on where it was, and several processes may work on one study at the same time.

A trial that runs holds a lock on its directory, which the system lets go when the process dies, however it dies. So a
trial that begins recognises those of dead processes at once: they are recorded as failed, and their parameters
are tried once more, in the same model_dir, where the training goes on from its last checkpoint.

A second lock, on the directory of the search, is held while a study is made and while a trial begins: from the count of
the trials until the new one holds its own lock. So processes that start together make one study, and no more than
n_trials. Processes on machines that share no directory have the storage alone.

Owns the search. Does not know what the parameters mean. Optuna is the extra `tune` and is imported when tune is called.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from estimator_serving.training.estimator import Estimator
from estimator_serving.training.run_config import RunConfig
from estimator_serving.training.train_and_evaluate import EvalSpec, TrainSpec, train_and_evaluate

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger("estimator_serving.training")

Keep = Literal["all", "best", "none"]
Build = Callable[["optuna.Trial", RunConfig], Estimator]
TrainSpecs = TrainSpec | Callable[["optuna.Trial"], TrainSpec]
EvalSpecs = EvalSpec | Callable[["optuna.Trial"], EvalSpec]

_DIRECTORY, _TRIES = "model_dir", "tries"
_TRIES_MAX = 3
_DIED = "its process died"
_HEARTBEAT_S = 60


@dataclass(frozen=True)
class TrialRow:
    """One trial: its number, its state (complete, pruned, failed or running), the metric of its last evaluation, the
    step of that evaluation, its parameters, its model_dir (None if it was removed), and why it failed."""

    number: int
    state: str
    value: float | None
    step: int | None
    params: Mapping[str, Any]
    model_dir: str | None
    error: str = ""


@dataclass(frozen=True)
class TuneResult:
    """What a search found. `str()` of it is a table of the trials, the best first.

    Attributes:
        best_params: the parameters of the best complete trial.
        best_value: the metric of its last evaluation.
        best_model_dir: its model_dir, None if it was not kept.
        trials: all trials, the best first.
        study: the optuna.Study.
    """

    best_params: Mapping[str, Any]
    best_value: float
    best_model_dir: str | None
    trials: Sequence[TrialRow]
    study: Any

    def __str__(self) -> str:
        names = sorted({name for trial in self.trials for name in trial.params})
        head = ["trial", "state", str(self.study.user_attrs.get("metric", "value")), "step", *names]
        rows = [head] + [
            [
                str(trial.number),
                trial.state,
                "" if trial.value is None else f"{trial.value:.6g}",
                "" if trial.step is None else str(trial.step),
                *(
                    f"{value:.4g}" if isinstance(value, float) else str(value)
                    for value in (trial.params.get(name, "") for name in names)
                ),
            ]
            for trial in self.trials
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(lines)


def tune(
    build: Build,
    train_spec: TrainSpecs,
    eval_spec: EvalSpecs,
    *,
    directory: str | os.PathLike[str],
    metric: str = "loss",
    direction: Literal["minimize", "maximize"] = "minimize",
    n_trials: int = 20,
    timeout_s: float | None = None,
    storage: Any = None,
    study_name: str = "tune",
    config: RunConfig | None = None,
    sampler: Any = None,
    pruner: Any = None,
    keep_model_dirs: Keep = "best",
    seed: int | None = None,
) -> TuneResult:
    """Search for the parameters with the best `metric` of the last evaluation. Prints a table, and returns it.

    Args:
        build: a function of the trial and a RunConfig that returns an Estimator. It asks the trial for parameters
            (`trial.suggest_float("rate", 1e-4, 1e-1, log=True)`) and gives the config, which has the trial's model_dir,
            to the estimator.
        train_spec, eval_spec: as for train_and_evaluate, or functions of the trial that return them. The evaluations
            on the way are what trials are pruned by: give EvalSpec `every_steps`, or save checkpoints often with a
            throttle_secs of 0.
        directory: where the trials' model_dirs lie, and the study's file.
        metric, direction: which metric of the evaluation is searched for, and whether less or more of it is better.
        n_trials: how many trials the study is to have in the end. Those of earlier calls count, unless their process
            died.
        timeout_s: no trial begins after so many seconds.
        storage: where the study lies: a URL of a database, a path that ends in .log or .journal (Optuna's journal), or
            an Optuna storage; by default `<directory>/study.db`, an SQLite file.
        study_name: the study in the storage.
        config: what the trials' configs are like, apart from their model_dir.
        sampler, pruner: Optuna's; by default TPESampler, and HyperbandPruner over the steps.
        keep_model_dirs: which model_dirs are left: of the best trial, of all or of none. A trial that failed keeps its
            directory unless it is "none".
        seed: of the default sampler. It draws from the seed and the number of the trial, so that each of several
            processes draws other parameters. Those of one process are the same in every search.

    A trial that raises an Exception is recorded as failed, and the search goes on.

    Raises:
        ModuleNotFoundError: Optuna is not installed.
        ValueError: the evaluation has no such metric, the study in the storage has another direction or metric, or an
            argument is out of range.
        RuntimeError: all trials failed, or other processes are still at work on the first that could be complete.
    """
    try:
        import optuna
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "tune searches with Optuna, which is not installed: pip install 'estimator-serving[tune]'."
        ) from None
    config = config or RunConfig()
    check_arguments(direction, n_trials, keep_model_dirs, config)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    search = _Search(build, train_spec, eval_spec, folder, metric, direction, config, keep_model_dirs, pruner)
    with held(folder):
        study = load_study(storage_of(storage, folder), study_name, metric, direction)
    study.sampler = sampler or optuna.samplers.TPESampler()
    search.seed = seed if sampler is None else None
    until_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
    while time.monotonic() < until_s:
        with search.at_work, search.beginning:
            search.beginning.enter_context(held(folder))
            search.free_dead_trials(study)
            if len(counted_trials(study)) >= n_trials:
                break
            study.optimize(search.run, n_trials=1, catch=(Exception,))
        if search.refusal is not None:
            raise search.refusal
        search.tidy(study)
    result = search.result(study)
    print(result)
    return result


@dataclass
class _Search:
    """One call of tune: how a trial is run, and what is left of it."""

    build: Build
    train_spec: TrainSpecs
    eval_spec: EvalSpecs
    folder: Path
    metric: str
    direction: str
    config: RunConfig
    keep: Keep
    pruner: Any
    seed: int | None = None
    beginning: ExitStack = field(default_factory=ExitStack)
    """Has the lock on the search's directory until the trial that begins has its own."""
    at_work: ExitStack = field(default_factory=ExitStack)
    """Has the trial's lock until its result is in the study."""
    refusal: ValueError | None = None
    """What no other trial could do better; it ends the search."""

    def run(self, trial: optuna.Trial) -> float:
        """Train and evaluate one trial; the metric of its last evaluation. Raises optuna.TrialPruned."""
        import optuna

        try:
            return self._run(trial)
        except optuna.TrialPruned:
            raise
        except Exception as error:
            trial.set_user_attr("error", f"{type(error).__name__}: {error}")
            raise

    def _run(self, trial: optuna.Trial) -> float:
        import optuna

        name = trial.user_attrs.get(_DIRECTORY) or f"trial_{trial.number:04d}"
        trial.set_user_attr(_DIRECTORY, name)
        model_dir = self.folder / name
        if self.seed is not None:
            drawn = np.random.SeedSequence((self.seed, trial.number)).generate_state(1)
            trial.study.sampler = optuna.samplers.TPESampler(seed=int(drawn[0]))
        self.at_work.enter_context(held(model_dir))
        self.beginning.close()
        estimator = self.build(trial, self.config.replace(model_dir=str(model_dir)))
        if not isinstance(estimator, Estimator):
            self.refusal = ValueError(
                f"build must return an Estimator. It returned {type(estimator).__name__}: return the estimator "
                "that it makes."
            )
            raise self.refusal
        train_spec = self.train_spec if isinstance(self.train_spec, TrainSpec) else self.train_spec(trial)
        eval_spec = self.eval_spec if isinstance(self.eval_spec, EvalSpec) else self.eval_spec(trial)
        trial.study.pruner = self.pruner or hyperband(train_spec, eval_spec, estimator.config)
        is_pruned = False

        def report(metrics: Mapping[str, Any]) -> bool:
            nonlocal is_pruned
            value, step = self._value(metrics), int(metrics["global_step"])
            trial.report(value, step)
            is_pruned = trial.should_prune()
            return is_pruned

        metrics, _ = train_and_evaluate(estimator, train_spec, replace(eval_spec, on_evaluation=report))
        if is_pruned:
            raise optuna.TrialPruned
        if metrics is None:  # a process that died had finished the training
            metrics = estimator.evaluate(eval_spec.input_fn, eval_spec.steps, name=eval_spec.name)
            report(metrics)
        return self._value(metrics)

    def _value(self, metrics: Mapping[str, Any]) -> float:
        if self.metric not in metrics:
            self.refusal = ValueError(
                f"The evaluation has no metric {self.metric!r}. It has {sorted(metrics)}: give tune one of these as "
                "metric, or add it with add_metrics."
            )
            raise self.refusal
        return float(metrics[self.metric])

    def free_dead_trials(self, study: optuna.Study) -> None:
        """Record the trials of dead processes as failed, and queue their parameters again."""
        from optuna.trial import Trial, TrialState

        def running() -> list[Any]:
            return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

        names = {trial.number: trial.user_attrs.get(_DIRECTORY) for trial in running()}
        unheld = {number for number, name in names.items() if name is not None and _is_dead(self.folder / name)}
        # Some may have ended meanwhile: a process that lives lets go of a trial when the study has its result.
        for trial in running() if unheld else ():
            if trial.number not in unheld:
                continue
            name = trial.user_attrs[_DIRECTORY]
            tries = int(trial.user_attrs.get(_TRIES, 1))
            Trial(study, trial._trial_id).set_user_attr("error", _DIED)
            study.tell(trial.number, state=TrialState.FAIL)
            said = "its parameters are tried again" if tries < _TRIES_MAX else f"it has failed {tries} times"
            logger.warning("The process of trial %d died: the trial is recorded as failed, and %s.", trial.number, said)
            if tries < _TRIES_MAX:
                study.enqueue_trial(trial.params, user_attrs={_DIRECTORY: name, _TRIES: tries + 1})

    def tidy(self, study: optuna.Study) -> None:
        """Remove the model_dirs of finished trials that are not to be kept."""
        if self.keep == "all":
            return
        best = _best(study)
        kept = {best.user_attrs.get(_DIRECTORY)} if best is not None and self.keep == "best" else set()
        for trial in study.get_trials(deepcopy=False):
            name = trial.user_attrs.get(_DIRECTORY)
            has_failed = trial.state.name == "FAIL" and self.keep != "none"
            if trial.state.is_finished() and name and name not in kept and not has_failed:
                path = self.folder / name
                if path.is_dir() and _is_dead(path):
                    shutil.rmtree(path, ignore_errors=True)

    def result(self, study: optuna.Study) -> TuneResult:
        """Raises RuntimeError if no trial is complete."""
        trials = study.get_trials(deepcopy=False)
        best = _best(study)
        if best is None and any(trial.state.name == "RUNNING" for trial in trials):
            raise RuntimeError(
                f"No trial of the study {study.study_name!r} is complete yet; other processes are at work on the last "
                "ones. Start the same command again when they have ended: it shows the result."
            )
        if best is None:
            failed = [trial for trial in trials if trial.state.name == "FAIL"]
            last = failed[-1].user_attrs.get("error", "see the log") if failed else "none ran"
            raise RuntimeError(
                f"None of the {len(trials)} trials of the study {study.study_name!r} is complete, "
                f"{len(failed)} failed. The last error: {last}. Mend it, and start the same command with a larger "
                "n_trials or another study_name."
            )
        sign = 1 if self.direction == "minimize" else -1
        places = {"COMPLETE": 0, "PRUNED": 1, "RUNNING": 2, "WAITING": 3, "FAIL": 4}

        def place(trial: Any) -> tuple[int, float, int]:
            value = _last_value(trial)
            return places[trial.state.name], math.inf if value is None else sign * value, trial.number

        rows = []
        for trial in sorted(trials, key=place):
            path = self.folder / trial.user_attrs.get(_DIRECTORY, "")
            kept = str(path) if _DIRECTORY in trial.user_attrs and path.is_dir() else None
            state = {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())
            error = str(trial.user_attrs.get("error", ""))
            value = _last_value(trial)
            rows.append(TrialRow(trial.number, state, value, trial.last_step, trial.params, kept, error))
        assert best.value is not None
        best_dir = self.folder / best.user_attrs[_DIRECTORY]
        return TuneResult(best.params, best.value, str(best_dir) if best_dir.is_dir() else None, tuple(rows), study)


def check_arguments(direction: str, n_trials: int, keep: str, config: RunConfig) -> None:
    if direction not in ("minimize", "maximize"):
        raise ValueError(f"direction must be 'minimize' or 'maximize', got {direction!r}.")
    if keep not in ("all", "best", "none"):
        raise ValueError(f"keep_model_dirs must be 'all', 'best' or 'none', got {keep!r}.")
    if n_trials < 1:
        raise ValueError(f"n_trials must be at least 1, got {n_trials}.")
    if config.model_dir is not None:
        raise ValueError("The config of tune must have no model_dir: every trial gets its own below `directory`.")
    if config.cluster_spec or config.is_torchrun:
        raise ValueError(
            "tune trains each trial in one process. Start it without TF_CONFIG and torchrun, in as many processes as "
            "you like with the same directory: they share the study."
        )


def storage_of(given: Any, folder: Path) -> Any:
    """An Optuna storage of what tune was given."""
    import optuna

    if given is not None and not isinstance(given, str | os.PathLike):
        return given
    text = f"sqlite:///{(folder / 'study.db').resolve()}" if given is None else os.fspath(given)
    if "://" in text:
        import warnings

        with warnings.catch_warnings():
            # The heartbeat, by which processes on other machines are known to be alive, is called experimental.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.storages.RDBStorage(
                text,
                heartbeat_interval=_HEARTBEAT_S,
                grace_period=2 * _HEARTBEAT_S,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(
                    max_retry=_TRIES_MAX - 1
                ),
            )
    if Path(text).suffix not in (".log", ".journal"):
        raise ValueError(
            f"The storage {text!r} is neither the URL of a database, such as sqlite:///study.db, nor a file whose name "
            "ends in .log or .journal."
        )
    from optuna.storages.journal import JournalFileBackend

    return optuna.storages.JournalStorage(JournalFileBackend(text))


def load_study(storage: Any, name: str, metric: str, direction: Literal["minimize", "maximize"]) -> optuna.Study:
    """The study, made if the storage lacks it. Raises ValueError for one of another direction or metric."""
    import optuna

    study = optuna.create_study(storage=storage, study_name=name, direction=direction, load_if_exists=True)
    stored = study.direction.name.lower()
    if stored != direction:
        raise ValueError(
            f"The study {name!r} in the storage is to {stored} its metric, and tune was called to {direction} it. Give "
            f"direction={stored!r} to go on with it, or another study_name or storage."
        )
    known = study.user_attrs.get("metric")
    if known is None:
        study.set_user_attr("metric", metric)
    elif known != metric:
        raise ValueError(
            f"The study {name!r} in the storage searches for the metric {known!r}, tune was called with {metric!r}. "
            f"Give metric={known!r} to go on with it, or another study_name or storage."
        )
    return study


def hyperband(train_spec: TrainSpec, eval_spec: EvalSpec, config: RunConfig) -> Any:
    """Hyperband over the steps of a trial: from those to its first evaluation up to max_steps."""
    import optuna

    if train_spec.max_steps is None:
        return optuna.pruners.HyperbandPruner()
    first = eval_spec.every_steps or config.save_checkpoints_steps or max(train_spec.max_steps // 10, 1)
    return optuna.pruners.HyperbandPruner(min(first, train_spec.max_steps), train_spec.max_steps)


def counted_trials(study: optuna.Study) -> list[Any]:
    """The trials that count: those that ended, and those at work in another process; not those whose process died."""
    states = ("COMPLETE", "PRUNED", "RUNNING")
    trials = study.get_trials(deepcopy=False)
    return [
        trial
        for trial in trials
        if trial.state.name in states or (trial.state.name == "FAIL" and trial.user_attrs.get("error") != _DIED)
    ]


def _best(study: optuna.Study) -> Any:
    """The best complete trial, None if there is none."""
    try:
        return study.best_trial
    except ValueError:
        return None


def _last_value(trial: Any) -> float | None:
    if trial.value is not None:
        return float(trial.value)
    return trial.intermediate_values[trial.last_step] if trial.last_step is not None else None


@contextmanager
def held(model_dir: Path) -> Iterator[None]:
    """Hold the lock of a directory: a trial is at work in this model_dir, or begins in this search."""
    model_dir.mkdir(parents=True, exist_ok=True)
    with open(model_dir / _LOCK, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


_LOCK = ".trial.lock"


def _is_dead(model_dir: Path) -> bool:
    """Whether no process holds a model_dir that is there. One that is not there may be another machine's."""
    try:
        with open(model_dir / _LOCK) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
