"""The Estimator: trains, evaluates and predicts with a model_fn, and keeps its checkpoints in model_dir.

Owns the three loops and what they share: restoring, calling model_fn, choosing a checkpoint. Does not know columns,
heads or file formats. Behaviour and error texts: TF 2.15 estimator.
"""

from __future__ import annotations

import copy
import itertools
import logging
import os
import secrets
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from estimator_serving.training.arrays import as_tensors
from estimator_serving.training.checkpoints.checkpoint import (
    SUFFIX,
    Checkpoint,
    Checkpoints,
    latest_checkpoint,
    read_checkpoint,
    step_of,
)
from estimator_serving.training.checkpoints.warm_start import WarmStart, WarmStartFrom, settings_of
from estimator_serving.training.columns.features import Features, TransformRecorder
from estimator_serving.training.columns.transform import Transform
from estimator_serving.training.data.inputs import call_input_fn, empty_batch, prepared_batches
from estimator_serving.training.data.statistics import watch
from estimator_serving.training.distribute.cluster import EVALUATOR, PS
from estimator_serving.training.errors import CheckpointError, NanLossDuringTrainingError, NotFoundError
from estimator_serving.training.hooks.base import (
    CheckpointSaverHook,
    CheckpointSaverListener,
    LoggingTensorHook,
    Run,
    SessionRunArgs,
    SessionRunContext,
    SessionRunHook,
    SessionRunValues,
    StepCounterHook,
    StopAtStepHook,
    SummarySaverHook,
    check_all,
    check_hooks,
    closing_hooks,
)
from estimator_serving.training.loop import figures
from estimator_serving.training.loop.replay import replaying
from estimator_serving.training.model_fn import EstimatorSpec, ModeKeys, ModelFn, check_model_fn
from estimator_serving.training.nn.metrics import Metric
from estimator_serving.training.nn.summaries import EventWriter
from estimator_serving.training.nn.variables import GLOBAL_STEP, SLOTS, VariableStore
from estimator_serving.training.predictor import Predictor, arrays, as_keys, examples, selected, warn_of_unknown
from estimator_serving.training.run_config import RunConfig

logger = logging.getLogger("estimator_serving.training")

InputFn = Callable[..., Any]
Batch = tuple[Any, Any]


class Estimator:
    """Trains and runs the model that `model_fn` describes.

    `model_fn(features, labels, mode, params, config)` may leave out any argument but `features`; it is called once a
    batch and returns an EstimatorSpec. `params` are handed through. `model_dir` holds checkpoints and events: the
    argument, else the config's, else a new temporary directory. Raises ValueError as TF 2.15 does.

    `warm_start_from` says what the variables start from as long as model_dir holds no checkpoint: a checkpoint or a
    model_dir, whose trainable variables are taken, or WarmStartSettings. train, evaluate and predict use it; steps are
    counted from 0 and optimizers start anew. CheckpointError where it does not fit the model.

    With `config.tf_random_seed` two trainings of the same program give the same numbers: it fixes initial weights,
    Dataset.shuffle and dropout, and torch's global generator while train and evaluate run (which is put back after).
    What is drawn in a step depends on the seed and global_step alone, so a resumed training draws what an unbroken one
    does. The input starts again on resume, as in TF, in the same order; with `config.resume_input` it goes on where
    the checkpoint's steps left it, and the whole loss curve is that of an unbroken training. numpy's and Python's
    global generators are the program's own.
    """

    def __init__(
        self,
        model_fn: ModelFn,
        model_dir: str | os.PathLike[str] | None = None,
        config: RunConfig | None = None,
        params: Mapping[str, Any] | None = None,
        warm_start_from: WarmStartFrom | None = None,
    ) -> None:
        _check_not_overridden(type(self))
        self._config = _with_model_dir(config, model_dir)
        self._argument_names = check_model_fn(model_fn, params)
        self._model_fn = model_fn
        self._params = copy.deepcopy(dict(params or {}))
        self._cached: tuple[tuple[str, int], TrainedModel] | None = None
        self._warm_start = settings_of(warm_start_from)

    @property
    def model_dir(self) -> str:
        directory = self._config.model_dir
        assert directory is not None
        return os.fspath(directory)

    @property
    def config(self) -> RunConfig:
        """A copy of the configuration."""
        return copy.deepcopy(self._config)

    @property
    def params(self) -> dict[str, Any]:
        """A copy of the parameters."""
        return copy.deepcopy(self._params)

    @property
    def model_fn(self) -> Callable[..., EstimatorSpec]:
        """The model_fn with `params` filled in: a function of features, labels, mode and config."""

        def bound(features: Any, labels: Any, mode: str, config: RunConfig) -> EstimatorSpec:
            return self._model_fn(**self._arguments(features, labels, mode, config))

        return bound

    def with_model_fn(self, model_fn: ModelFn) -> Estimator:
        """This estimator, its params, config and model_dir, with another model_fn. Raises ValueError as the
        constructor does."""
        other = copy.copy(self)
        other._argument_names = check_model_fn(model_fn, self._params)
        other._model_fn = model_fn
        other._cached = None
        return other

    # -- train --------------------------------------------------------------------------------------------------------

    def train(
        self,
        input_fn: InputFn,
        hooks: Sequence[SessionRunHook] | None = None,
        steps: int | None = None,
        max_steps: int | None = None,
        saving_listeners: Sequence[CheckpointSaverListener] | None = None,
    ) -> Estimator:
        """Train on the batches of `input_fn`, going on from the newest checkpoint in model_dir.

        `steps` more steps, or until global_step is `max_steps`, or with neither until the input ends. Errors in
        model_fn, hooks or input leave the last periodic checkpoint as it is, write no final one and skip the hooks'
        `end`.

        Raises:
            ValueError: steps and max_steps together or not above 0, an unusable input_fn, a checkpoint that is damaged
                or does not fit the model (CheckpointError); nothing has been written then.
            NanLossDuringTrainingError: the loss is NaN; the step was not taken.
        """
        _check_task(self._config)
        stop = _stop_hooks(steps, max_steps)
        hooks = check_hooks(hooks)
        listeners = check_all(
            saving_listeners,
            CheckpointSaverListener,
            "saving_listeners must be a list of CheckpointSaverListener, given: {}",
        )
        newest = self.latest_checkpoint()
        if max_steps is not None and newest is not None and step_of(newest) >= max_steps:
            logger.info("Skipping training since max_steps has already saved.")
            return self
        store, recorder = self._restored(newest)
        run = Run(store, recorder, self._config)
        with self._random_numbers(), closing(EventWriter(self.model_dir)) as writer:
            self._train(run, self._call_input_fn(input_fn, ModeKeys.TRAIN), writer, [*hooks, *stop], listeners)
        return self

    def _train(
        self,
        run: Run,
        made: Any,
        writer: EventWriter,
        hooks: Sequence[SessionRunHook],
        listeners: Sequence[CheckpointSaverListener],
    ) -> None:
        skipped = run.global_step if self._config.resume_input else 0
        with closing(self._batches(made, ModeKeys.TRAIN, run.recorder, skipped)) as batches:
            first = next(batches, None)
            built = self._built(run, first or empty_batch(made, run.recorder), is_real=first is not None)
            if first is None:
                logger.warning(_NO_STEPS, "" if built is not None else _NOTHING_SAVED)
            if built is None:
                return
            hooks = self._training_hooks(hooks, built, writer, listeners)
            # Only now: of a model that was refused above, the directory keeps what it had.
            watched = watch(_with_first(first, batches), self.model_dir)
            with closing_hooks(hooks), closing(watched):
                self._run_training(run, watched, hooks)

    def _built(self, run: Run, batch: Batch | None, *, is_real: bool) -> EstimatorSpec | None:
        """model_fn's first spec, which makes or restores every variable.

        A model that does not fit its checkpoint stops here, before anything is written. The first step calls again: a
        hook may set variables between the two, and what a module counted here (nn.BatchNorm's averages) is taken back.
        A batch without rows is worth a try: not every model_fn takes one.
        """
        if batch is None:
            return None
        try:
            self._seed_step(run.store)
            run.first_spec = self._call_model_fn(run.store, *_as_tensors(batch), ModeKeys.TRAIN)
        except CheckpointError:
            raise
        except Exception:
            if is_real:
                raise
            return None
        run.store.rewind_modules()
        return run.first_spec

    def _run_training(self, run: Run, batches: Iterator[Batch], hooks: Sequence[SessionRunHook]) -> None:
        store = run.store
        context = SessionRunContext(run)
        call = replaying(self._model_fn, partial(self._call_model_fn, store, mode=ModeKeys.TRAIN), store)
        _begin(hooks, run)
        while not run.stop_requested:
            requests = [hook.before_run(context) for hook in hooks]
            batch = next(batches, None)
            if batch is None:
                break
            self._seed_step(store)
            spec = run.spec = call(*batch)
            assert spec.loss is not None
            assert spec.train_op is not None
            loss = run.loss = spec.loss.item()
            if loss != loss:
                logger.error("Model diverged with loss = NaN.")
                raise NanLossDuringTrainingError
            if store.summaries is not None:
                store.summaries["loss"] = loss
            spec.train_op.run()
            store.run_pending_updates()
            for hook, request in zip(hooks, requests, strict=True):
                hook.after_run(context, _NOTHING if request is None else _values(run, request))

        for hook in hooks:
            hook.end(run)
        if run.spec is not None:
            logger.info("Loss for final step: %s.", run.loss)

    def _training_hooks(
        self,
        hooks: Sequence[SessionRunHook],
        spec: EstimatorSpec,
        writer: EventWriter,
        listeners: Sequence[CheckpointSaverListener],
    ) -> list[SessionRunHook]:
        """The caller's, the spec's and the loop's own, in TF's order."""
        config = self._config
        every = config.log_step_count_steps
        logging_hooks = [LoggingTensorHook({"loss": "loss", "step": GLOBAL_STEP}, every_n_iter=every)] if every else []
        given = [*hooks, *logging_hooks, *(spec.training_hooks or ())]
        chief = list(spec.training_chief_hooks or ())
        savers = self._saver_hooks([*given, *chief], listeners)
        counters = [StepCounterHook(every, summary_writer=writer)] if every else []
        summary_steps = config.save_summary_steps
        summarisers = [SummarySaverHook(summary_steps, summary_writer=writer)] if summary_steps else []
        return [*given, *savers, *chief, *counters, *summarisers]

    def _saver_hooks(
        self, given: Sequence[SessionRunHook], listeners: Sequence[CheckpointSaverListener]
    ) -> list[SessionRunHook]:
        """The default checkpoint hook, unless there is one already or the config wants none."""
        for hook in given:
            if isinstance(hook, CheckpointSaverHook):
                hook.add_listeners(listeners)
                return []
        config = self._config
        if not config.save_checkpoints_steps and not config.save_checkpoints_secs:
            if listeners:
                raise ValueError(
                    "There should be a CheckpointSaverHook to use saving_listeners. Please set one of the "
                    "RunConfig.save_checkpoints_steps or RunConfig.save_checkpoints_secs."
                )
            return []
        saver = Checkpoints(
            self.model_dir,
            keep_max=config.keep_checkpoint_max,
            keep_every_n_hours=config.keep_checkpoint_every_n_hours,
        )
        return [
            CheckpointSaverHook(
                None,
                save_secs=config.save_checkpoints_secs,
                save_steps=config.save_checkpoints_steps,
                saver=saver,
                listeners=listeners,
            )
        ]

    # -- evaluate -----------------------------------------------------------------------------------------------------

    def evaluate(
        self,
        input_fn: InputFn,
        steps: int | None = None,
        hooks: Sequence[SessionRunHook] | None = None,
        checkpoint_path: str | None = None,
        name: str | None = None,
    ) -> dict[str, Any]:
        """The metrics of `steps` batches (all with None) as np.float32, with `loss` and `global_step` (np.int64).

        `loss` is the mean of the batches' losses. `checkpoint_path` defaults to the newest one; without any the
        model is evaluated as initialised, with a log line. The result also goes to eval_dir(name), for TensorBoard.
        Raises ValueError for steps not above 0, for a bad checkpoint_path, for metrics named loss or global_step.
        """
        if steps is not None and steps <= 0:
            raise ValueError(f"Must specify steps > 0, given: {steps}")
        hooks = check_hooks(hooks)
        return self.evaluate_model(self._model(checkpoint_path, "evaluate"), input_fn, steps, hooks, name)

    def evaluate_model(
        self,
        model: TrainedModel,
        input_fn: InputFn,
        steps: int | None = None,
        hooks: Sequence[SessionRunHook] = (),
        name: str | None = None,
    ) -> dict[str, Any]:
        """As `evaluate`, of a model that `load` gave, or of the one in training (InMemoryEvaluatorHook)."""
        run = Run(model.store, model.recorder(), self._config)
        with self._random_numbers(), torch.no_grad():
            made = self._call_input_fn(input_fn, ModeKeys.EVAL)
            with closing(self._batches(made, ModeKeys.EVAL, run.recorder)) as batches:
                specs = _run_batches(run, model, itertools.islice(batches, steps), ModeKeys.EVAL, hooks)
                totals, losses = _add_up(specs)
            if not losses:
                totals = self._totals_of_nothing(model, made)
        results: dict[str, Any] = {key: totals[key].result() for key in sorted(totals)}
        results["loss"] = np.float32(np.mean(losses) if losses else 0.0)
        results[GLOBAL_STEP] = np.int64(model.global_step)
        said = ", ".join(f"{key} = {value}" for key, value in results.items() if np.ndim(value) == 0)
        logger.info("Saving dict for global step %d: %s", model.global_step, said)
        self._write_evaluation(results | figures.pictures(totals, results), model, name)
        return results

    def _totals_of_nothing(self, model: TrainedModel, made: Any) -> dict[str, Metric]:
        """The metrics of no example, which are 0 in TF; none where only a batch would tell which there are."""
        batch = empty_batch(made, model.recorder())
        try:
            if batch is not None:
                features, labels = _as_tensors(batch)
                spec = model.call(features, ModeKeys.EVAL, labels)
                logger.warning("Evaluation saw no batch, so its metrics are those of no example. %s", _IS_EMPTY)
                return dict(spec.eval_metric_ops or {})
        except CheckpointError:
            raise
        except Exception as error:
            # Not every model_fn takes a batch without rows.
            logger.debug("model_fn did not take a batch without rows: %s", error)
        logger.warning("Evaluation saw no batch, so it reports no metric but a loss of 0. %s", _IS_EMPTY)
        return {}

    def _write_evaluation(self, results: Mapping[str, Any], model: TrainedModel, name: str | None) -> None:
        values = {key: value for key, value in results.items() if key != GLOBAL_STEP}
        if model.checkpoint_path is not None:
            values["checkpoint_path"] = model.checkpoint_path
        with closing(EventWriter(self.eval_dir(name))) as writer:
            writer.add_metrics(values, model.global_step)

    # -- predict ------------------------------------------------------------------------------------------------------

    def predict(
        self,
        input_fn: InputFn,
        predict_keys: str | Sequence[str] | None = None,
        hooks: Sequence[SessionRunHook] | None = None,
        checkpoint_path: str | None = None,
        yield_single_examples: bool = True,
    ) -> Iterator[Any]:
        """Predictions, one example at a time: a dict of arrays without the batch axis (an array if model_fn gives one).

        Strings are bytes. `predict_keys` keeps some keys. With yield_single_examples=False whole batches are yielded.
        Nothing happens before the first `next`; the model of a checkpoint is kept, so a second call rebuilds nothing
        (for a service, see `predictor`).
        Raises ValueError for predict_keys that name no prediction and for predictions of different lengths.
        """
        hooks = check_hooks(hooks)
        model = self._model(checkpoint_path, "predict")
        wanted = as_keys(predict_keys)
        run = Run(model.store, model.recorder(), self._config)
        with self._random_numbers():
            made = self._call_input_fn(input_fn, ModeKeys.PREDICT)
        with closing(self._batches(made, ModeKeys.PREDICT, run.recorder)) as batches:
            for spec in _run_batches(run, model, batches, ModeKeys.PREDICT, hooks):
                predictions = arrays(selected(spec.predictions, wanted))
                if spec is run.first_spec:
                    warn_of_unknown(spec.predictions, wanted)
                if yield_single_examples:
                    yield from examples(predictions)
                else:
                    yield predictions

    def predictor(
        self, checkpoint_path: str | None = None, predict_keys: str | Sequence[str] | None = None
    ) -> Predictor:
        """The model of a checkpoint as a function of a dict of arrays, safe to call from several threads.

        What tf.contrib.predictor.from_estimator was. Raises ValueError if nothing has been trained, CheckpointError if
        the checkpoint cannot be used.
        """
        return Predictor(self.load(checkpoint_path), predict_keys)

    # -- what has been trained ----------------------------------------------------------------------------------------

    def latest_checkpoint(self) -> str | None:
        """`<model_dir>/model.ckpt-<step>` of the newest checkpoint, None before training."""
        return latest_checkpoint(self.model_dir)

    def get_variable_names(self) -> list[str]:
        """Names of all variables in the newest checkpoint. ValueError before training."""
        return sorted(self._newest_checkpoint().values)

    def get_variable_value(self, name: str) -> np.ndarray:
        """The value of a variable in the newest checkpoint. ValueError before training, NotFoundError for an unknown
        name."""
        values = self._newest_checkpoint().values
        if name not in values:
            raise NotFoundError(f"Key {name} not found in checkpoint. It holds {sorted(values)}.")
        return values[name].numpy()

    def eval_dir(self, name: str | None = None) -> str:
        """Where evaluate(name=name) writes its events."""
        return str(Path(self.model_dir) / (f"eval_{name}" if name else "eval"))

    def load(self, checkpoint_path: str | None = None) -> TrainedModel:
        """The model of a checkpoint, the newest by default, with its variables and transform; frozen and kept.

        Before training that is the whole checkpoint of warm_start_from, whichever variables it takes (as TF exports
        it). Raises ValueError if nothing has been trained, CheckpointError if the checkpoint cannot be used.
        """
        path = checkpoint_path or self.latest_checkpoint()
        if path is None and self._warm_start is not None and self._warm_start.keeps_names_and_rows:
            path = self._warm_start.checkpoint_path
        if path is None:
            raise ValueError(
                f"Couldn't find trained model at {self.model_dir}. Call train first, or pass checkpoint_path."
                f"{'' if self._warm_start is None else _ONE_STEP}"
            )
        return self._loaded(path)

    def export_saved_model(
        self,
        export_dir_base: str | os.PathLike[str],
        serving_input_receiver_fn: Callable[[], Any],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        checkpoint_path: str | None = None,
        experimental_mode: str = ModeKeys.PREDICT,
        options: Any = None,
    ) -> str:
        """Write a servable to `<export_dir_base>/<unix seconds>` and return that path. See exporter.export."""
        # The one arrow upwards: users of the API look for export here, and training works without the exporter.
        from estimator_serving.exporter import export

        del as_text  # a SavedModel's alone
        return export.export_saved_model(
            self, export_dir_base, serving_input_receiver_fn, assets_extra, checkpoint_path, experimental_mode, options
        )

    def experimental_export_all_saved_models(
        self,
        export_dir_base: str | os.PathLike[str],
        input_receiver_fn_map: Mapping[str, Callable[[], Any]],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        checkpoint_path: str | None = None,
    ) -> str:
        """Write one servable with a graph for every mode of `input_receiver_fn_map`. See exporter.export."""
        from estimator_serving.exporter import export

        del as_text
        return export.export_all_saved_models(
            self, export_dir_base, input_receiver_fn_map, assets_extra, checkpoint_path
        )

    def _newest_checkpoint(self) -> Checkpoint:
        path = self.latest_checkpoint()
        if path is None:
            raise ValueError(f"Could not find trained model in model_dir: {self.model_dir}. Call train first.")
        return read_checkpoint(path)

    def _model(self, checkpoint_path: str | None, purpose: str) -> TrainedModel:
        """The trained model, or one with initial values if there is none (as TF)."""
        path = checkpoint_path or self.latest_checkpoint()
        if path is not None:
            return self._loaded(path)
        logger.info(
            "Could not find trained model in model_dir: %s, running initialization to %s.", self.model_dir, purpose
        )
        key = _UNTRAINED if self._warm_start is None else _version(self._warm_start.checkpoint_path, "warm start from ")
        if self._cached is None or self._cached[0] != key:
            self._cached = (key, TrainedModel(self, self._new_store(frozen=True), None, None))
        return self._cached[1]

    def _loaded(self, path: str) -> TrainedModel:
        key = _version(path)
        if self._cached is None or self._cached[0] != key:
            checkpoint = read_checkpoint(path)
            values = {k: v for k, v in checkpoint.values.items() if not k.startswith(SLOTS)}
            store = VariableStore(seed=self._seed(), values=values, source=checkpoint.path, frozen=True)
            transform = None if checkpoint.transform is None else Transform.from_bytes(checkpoint.transform)
            self._cached = (key, TrainedModel(self, store, transform, checkpoint.path))
        return self._cached[1]

    # -- what the loops share -----------------------------------------------------------------------------------------

    def _restored(self, path: str | None) -> tuple[VariableStore, TransformRecorder]:
        if path is None:
            return self._new_store(), TransformRecorder(None)
        if self._warm_start is not None:
            logger.info("model_dir has a checkpoint, so warm_start_from is not looked at.")
        checkpoint = read_checkpoint(path)
        logger.info("Restoring parameters from %s", path)
        transform = None if checkpoint.transform is None else Transform.from_bytes(checkpoint.transform)
        store = VariableStore(seed=self._seed(), values=checkpoint.values, source=checkpoint.path)
        return store, TransformRecorder(transform)

    def _new_store(self, *, frozen: bool = False) -> VariableStore:
        """A model's without a checkpoint. Raises CheckpointError where warm_start_from cannot be used."""
        start = None if self._warm_start is None else WarmStart(self._warm_start)
        return VariableStore(seed=self._seed(), start=start, frozen=frozen)

    def _seed(self) -> int:
        seed = self._config.tf_random_seed
        return secrets.randbits(31) if seed is None else seed

    @contextmanager
    def _random_numbers(self) -> Iterator[None]:
        """torch's global generator follows the config's seed inside, and is put back after."""
        seed = self._config.tf_random_seed
        if seed is None:
            yield
            return
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield

    def _call_input_fn(self, input_fn: InputFn, mode: str) -> Any:
        return call_input_fn(input_fn, mode=mode, params=self.params, config=self.config)

    def _batches(self, made: Any, mode: str, recorder: TransformRecorder, skip: int = 0) -> Generator[Batch]:
        for batch in prepared_batches(made, mode, recorder, skip):
            yield _as_tensors(batch)

    def _seed_step(self, store: VariableStore) -> None:
        """For modules and functions of torch that draw from its own generator."""
        if self._config.tf_random_seed is not None:
            torch.default_generator.manual_seed(store.step_seed)

    def _call_model_fn(self, store: VariableStore, features: Any, labels: Any, mode: str) -> EstimatorSpec:
        with store.activate(training=mode == ModeKeys.TRAIN):
            spec = self._model_fn(**self._arguments(features, labels, mode, self._config))
        if not isinstance(spec, EstimatorSpec):
            raise ValueError(f"model_fn should return an EstimatorSpec. It returned {type(spec).__name__}.")
        store.complete_start()
        return spec

    def _arguments(self, features: Any, labels: Any, mode: str, config: RunConfig) -> dict[str, Any]:
        names = self._argument_names
        if labels is not None and "labels" not in names:
            raise ValueError("model_fn does not take labels, but input_fn returns labels.")
        available = {"features": features, "labels": labels, "mode": mode, "params": self._params, "config": config}
        return {name: available[name] for name in names}


class TrainedModel:
    """A checkpoint as a function: variables and transform of one step, never changed.

    `store` holds the variables (an nn.Module), `transform` the checkpoint's transform or None, `checkpoint_path` and
    `global_step` say which checkpoint it is (None and 0 for initial values).
    """

    def __init__(
        self, estimator: Estimator, store: VariableStore, transform: Transform | None, checkpoint_path: str | None
    ) -> None:
        self._estimator = estimator
        self.store = store
        self.transform = transform
        self.checkpoint_path = checkpoint_path
        self._lock = threading.RLock()

    @property
    def global_step(self) -> int:
        return self.store.global_step

    @property
    def model_fn(self) -> ModelFn:
        """The function as the user wrote it, for messages that name it."""
        return self._estimator._model_fn

    def recorder(self) -> TransformRecorder:
        """A fresh recorder that knows the checkpoint's transform and refuses columns it does not have."""
        return TransformRecorder(self.transform)

    def call(self, features: Any, mode: str = ModeKeys.PREDICT, labels: Any = None) -> EstimatorSpec:
        """What model_fn returns for a batch, without gradients. Threads take turns.

        Can be traced by torch.export once it has been called eagerly, for that makes the variables: put `store` into
        the traced module and pass Features.traced.
        """
        with self._lock:
            return self._estimator._call_model_fn(self.store, features, labels, mode)


# -- loops over a trained model ---------------------------------------------------------------------------------------


def _run_batches(
    run: Run, model: TrainedModel, batches: Iterator[Batch], mode: str, hooks: Sequence[SessionRunHook]
) -> Iterator[EstimatorSpec]:
    """The spec of each batch, with the hooks' life cycle around it.

    The first call makes the variables and tells the model's own hooks. With hooks the first batch is then run again,
    since they may set variables before it.
    """
    context = SessionRunContext(run)
    first = next(batches, None)
    if first is not None:
        run.first_spec = model.call(first[0], mode, first[1])
        batches = itertools.chain([first], batches)
    hooks = [*hooks, *_own_hooks(run.first_spec, mode)]
    ready = None if hooks else run.first_spec
    with closing_hooks(hooks):
        _begin(hooks, run)
        while not run.stop_requested:
            requests = [hook.before_run(context) for hook in hooks]
            batch = next(batches, None)
            if batch is None:
                break
            spec = run.spec = ready or model.call(batch[0], mode, batch[1])
            ready = None
            run.loss = float("nan") if spec.loss is None else spec.loss.item()
            yield spec
            for hook, request in zip(hooks, requests, strict=True):
                hook.after_run(context, _NOTHING if request is None else _values(run, request))
        for hook in hooks:
            hook.end(run)


def _own_hooks(spec: EstimatorSpec | None, mode: str) -> Iterable[SessionRunHook]:
    if spec is None:
        return ()
    return (spec.evaluation_hooks if mode == ModeKeys.EVAL else spec.prediction_hooks) or ()


def _add_up(specs: Iterable[EstimatorSpec]) -> tuple[dict[str, Metric], list[float]]:
    """The sum of each metric, and the loss of each batch."""
    totals: dict[str, Metric] = {}
    losses: list[float] = []
    for spec in specs:
        metrics = spec.eval_metric_ops or {}
        for reserved in ("loss", GLOBAL_STEP):
            if reserved in metrics:
                raise ValueError(_RESERVED_METRIC.format(reserved))
        assert spec.loss is not None
        losses.append(spec.loss.item())
        for key, metric in metrics.items():
            totals[key] = totals[key] + metric if key in totals else metric
    return totals, losses


def _begin(hooks: Iterable[SessionRunHook], run: Run) -> None:
    hooks = tuple(hooks)
    for hook in hooks:
        hook.begin()
    for hook in hooks:
        hook.after_create_session(run, None)


_NOTHING = SessionRunValues()


def _values(run: Run, request: SessionRunArgs) -> SessionRunValues:
    return SessionRunValues(run.fetch(request.fetches))


def _with_first(first: Batch | None, batches: Iterator[Batch]) -> Generator[Batch]:
    if first is not None:
        yield first
    yield from batches


def _as_tensors(batch: Batch) -> Batch:
    features, labels = batch
    return features if isinstance(features, Features) else as_tensors(features), as_tensors(labels)


# -- checks -----------------------------------------------------------------------------------------------------------

_RESERVED_METRIC = (
    'Metric with name "{}" is not allowed, because Estimator already defines a default metric with the same name. '
    "Give it another key in eval_metric_ops."
)


_IS_EMPTY = "Perhaps input is empty or misspecified."
_NO_STEPS = "Training with estimator made no steps. Perhaps input is empty or misspecified.%s"
_NOTHING_SAVED = (
    " No checkpoint was written either: only a batch tells what the model is made of. A Dataset tells without one."
)
_UNTRAINED = ("", 0)
"""The key of the model without a checkpoint."""
_ONE_STEP = (
    " Variables that warm_start_from renames, or moves by vocabularies, stand in no checkpoint as the model has them "
    "before the first step of training."
)


def _version(path: str, purpose: str = "") -> tuple[str, int]:
    """A key for what is read from a checkpoint: a program that starts over in its directory writes a step again."""
    file = Path(path.removesuffix(SUFFIX) + SUFFIX)
    return f"{purpose}{path}", file.stat().st_mtime_ns if file.exists() else 0


def _check_task(config: RunConfig) -> None:
    """Only a chief or worker trains, and as long as it is the only one."""
    if config.task_type in (EVALUATOR, PS):
        raise ValueError(
            "Train has been called wrong configuration. Please use tf.estimator.train_and_evaluate which calls proper "
            f"API according to given configuration. Current configuration: {config}."
        )
    if config.num_worker_replicas > 1:
        raise ValueError(
            f"TF_CONFIG names a cluster of {config.num_worker_replicas} workers, and training runs in one process "
            "only. Unset TF_CONFIG, or remove its 'cluster'."
        )


def _stop_hooks(steps: int | None, max_steps: int | None) -> list[SessionRunHook]:
    if steps is not None and max_steps is not None:
        raise ValueError("Can not provide both steps and max_steps.")
    if steps is not None and steps <= 0:
        raise ValueError(f"Must specify steps > 0, given: {steps}")
    if max_steps is not None and max_steps <= 0:
        raise ValueError(f"Must specify max_steps > 0, given: {max_steps}")
    return [] if steps is None and max_steps is None else [StopAtStepHook(steps, max_steps)]


def _with_model_dir(config: RunConfig | None, model_dir: str | os.PathLike[str] | None) -> RunConfig:
    if config is not None and not isinstance(config, RunConfig):
        raise ValueError(f"config must be an instance of `RunConfig`, but provided {config}.")
    config = copy.deepcopy(config) if config is not None else RunConfig()
    given = os.fspath(model_dir) if model_dir else None
    if given and config.model_dir and given != config.model_dir:
        raise ValueError(
            "`model_dir` are set both in constructor and `RunConfig`, but with different values. In constructor: "
            f"'{given}', in `RunConfig`: '{config.model_dir}'. Set one of the two."
        )
    directory = given or config.model_dir
    if directory is None:
        directory = tempfile.mkdtemp()
        logger.warning("Using temporary folder as model directory: %s", directory)
    schedule = {
        "save_checkpoints_steps": config.save_checkpoints_steps,
        "save_checkpoints_secs": config.save_checkpoints_secs,
    }
    return config.replace(model_dir=directory, **schedule)


def _check_not_overridden(kind: type) -> None:
    """A subclass adds a constructor; one that changes train or predict would be bypassed by what calls them here."""
    own = {name for name in vars(Estimator) if not name.startswith("__")}
    below = [parent for parent in kind.__mro__ if issubclass(parent, Estimator) and parent is not Estimator]
    overridden = sorted(own & {name for parent in below for name in vars(parent)})
    if overridden:
        raise ValueError(
            f"Subclasses of Estimator cannot override members of Estimator. {kind} does override {overridden}. "
            "Put the change into model_fn or a hook."
        )
