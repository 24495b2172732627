"""The Estimator: trains, evaluates and predicts with a model_fn, and keeps its checkpoints in model_dir.

Owns the public calls and the checks of their arguments. The work is the loop's. Does not know columns, heads or file
formats. Behaviour and error texts: TF 2.15 estimator.
"""

from __future__ import annotations

import copy
import functools
import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from estimator_serving.training.checkpoints.checkpoint import step_of
from estimator_serving.training.checkpoints.fit import CheckpointFit
from estimator_serving.training.checkpoints.warm_start import WarmStartFrom, settings_of
from estimator_serving.training.distribute.cluster import EVALUATOR, PS
from estimator_serving.training.distribute.processes import connect
from estimator_serving.training.distribute.strategy import OneProcess, Result, Strategy
from estimator_serving.training.errors import NotFoundError
from estimator_serving.training.hooks.base import SessionRunHook, check_all, check_hooks
from estimator_serving.training.hooks.run import Run
from estimator_serving.training.hooks.saving import CheckpointSaverListener
from estimator_serving.training.hooks.showing import shown
from estimator_serving.training.hooks.stopping import StopAtStepHook
from estimator_serving.training.hparams import HParams
from estimator_serving.training.loop import evaluation, hyperparameters, training
from estimator_serving.training.loop.checkpoint_fit import compare_checkpoint
from estimator_serving.training.loop.model import InputFn, Model, batches_of
from estimator_serving.training.loop.trained_model import TrainedModel, TrainedModels
from estimator_serving.training.model_fn import EstimatorSpec, ModeKeys, ModelFn
from estimator_serving.training.predictor import Predictor, arrays, as_keys, examples, selected, warn_of_unknown
from estimator_serving.training.run_config import RunConfig

__all__ = ["Estimator", "TrainedModel"]

logger = logging.getLogger("estimator_serving.training")

Method = TypeVar("Method", bound=Callable[..., Any])


def _showing(method: Method) -> Method:
    """The method of an estimator, whose log lines are shown if its config says so."""

    @functools.wraps(method)
    def call(self: Estimator, *args: Any, **kwargs: Any) -> Any:
        with shown(self._model.config.log):
            return method(self, *args, **kwargs)

    return cast(Method, call)


class _TensorFlow1Names:
    def export_savedmodel(self: Any, *arguments: Any, strip_default_attrs: bool = False, **named: Any) -> str:
        """export_saved_model under TensorFlow 1's name; `strip_default_attrs` changes nothing."""
        made: str = self.export_saved_model(*arguments, **named)
        return made


class Estimator(_TensorFlow1Names):
    """Trains and runs the model that `model_fn` describes.

    `model_fn(features, labels, mode, params, config)` may leave out any argument but `features`; it is called once a
    batch and returns an EstimatorSpec. `params` are handed through. `model_dir` holds checkpoints and events: the
    argument, else the config's, else a new temporary directory. Raises ValueError as TF 2.15 does.

    `warm_start_from` says what the variables start from as long as model_dir holds no checkpoint: a checkpoint or a
    model_dir, whose trainable variables are taken, or WarmStartSettings. train, evaluate and predict use it; steps are
    counted from 0 and optimizers start anew. CheckpointError where it does not fit the model.

    With `config.tf_random_seed` two trainings of the same program give the same numbers: it fixes initial weights,
    Dataset.shuffle and dropout, and torch's global generator while train and evaluate run (which is put back after).
    What is drawn in a step depends only on the seed and global_step, so a resumed training draws what an unbroken one
    does. The input starts again on resume, as in TF, in the same order; with `config.resume_input` it goes on where
    the checkpoint's steps left it, and the whole loss curve is that of an unbroken training. numpy's and Python's
    global generators are the program's own.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        hyperparameters.remember_arguments(cls)

    def __init__(
        self,
        model_fn: ModelFn,
        model_dir: str | os.PathLike[str] | None = None,
        config: RunConfig | None = None,
        params: Mapping[str, Any] | HParams | None = None,
        warm_start_from: WarmStartFrom | None = None,
    ) -> None:
        _refuse_overrides(type(self))
        if config is not None and not isinstance(config, RunConfig):
            raise ValueError(f"config must be an instance of `RunConfig`, but provided {config}.")
        config = config or RunConfig()
        with shown(config.log):
            made_with = hyperparameters.describe(self, model_fn)
            self._model = Model.of(model_fn, params, _with_model_dir(config, model_dir), made_with)
            logger.info("Using config: %s", self._model.config.said())
        self._warm_start = settings_of(warm_start_from)
        self._trained = TrainedModels(self._model, self._warm_start)
        self._strategy: Strategy | None = None
        """What trains, where it is not what RunConfig and TF_CONFIG say."""

    @property
    def model_dir(self) -> str:
        return self._trained.directory

    @property
    def config(self) -> RunConfig:
        """A copy of the configuration."""
        return copy.deepcopy(self._model.config)

    @property
    def params(self) -> Any:
        """A copy of the parameters."""
        return copy.deepcopy(self._model.params)

    @property
    def model_fn(self) -> Callable[..., EstimatorSpec]:
        """The model_fn with `params` filled in: a function of features, labels, mode and config."""
        return self._model.apply

    def with_model_fn(self, model_fn: ModelFn) -> Estimator:
        """This estimator, its params, config and model_dir, with another model_fn. Raises ValueError as the
        constructor does."""
        other = copy.copy(self)
        other._model = Model.of(model_fn, self._model.params, self._model.config, self._model.made_with)
        other._trained = TrainedModels(other._model, self._warm_start)
        return other

    def in_this_process(self) -> Estimator:
        """This estimator for work that the process does by itself while the others of its training wait."""
        alone = copy.copy(self)
        alone._strategy = OneProcess()
        return alone

    def on_chief(self, work: Callable[[], Result]) -> Result:
        """Call `work` in the chief of the training only, and return its result in every process."""
        return self._connected().on_chief(work)

    # -- train --------------------------------------------------------------------------------------------------------

    @_showing
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
                or does not fit the model (CheckpointError), another training at work in model_dir
                (FailedPreconditionError); nothing has been written then.
            NanLossDuringTrainingError: the loss is NaN; the step was not taken.
        """
        config = self._model.config
        if config.task_type in (EVALUATOR, PS):
            raise ValueError(
                "Train has been called wrong configuration. Please use training.train_and_evaluate which calls "
                f"proper API according to given configuration. Current configuration: {config}."
            )
        if steps is not None and max_steps is not None:
            raise ValueError("Can not provide both steps and max_steps.")
        if steps is not None and steps <= 0:
            raise ValueError(f"Must specify steps > 0, given: {steps}")
        if max_steps is not None and max_steps <= 0:
            raise ValueError(f"Must specify max_steps > 0, given: {max_steps}")
        hooks = check_hooks(hooks)
        listeners = check_all(
            saving_listeners,
            CheckpointSaverListener,
            "saving_listeners must be a list of CheckpointSaverListener, given: {}",
        )
        strategy = self._connected()
        try:
            newest, seed = strategy.on_chief(lambda: (self.latest_checkpoint(), self._model.new_seed()))
            if max_steps is not None and newest is not None and step_of(newest) >= max_steps:
                logger.info("Skipping training since max_steps has already saved.")
                return self
            stop = [] if steps is None and max_steps is None else [StopAtStepHook(steps, max_steps)]
            run = self._trained.begin_run(newest, seed)
            training.train(self._model, run, input_fn, [*hooks, *stop], listeners, strategy)
        except BaseException as error:
            strategy.leave(error)
            raise
        return self

    def _connected(self) -> Strategy:
        """The strategy of trainings, connected to the other processes."""
        if self._strategy is not None:
            return self._strategy
        config = self._model.config
        return connect(config.cluster, config.train_distribute, config.session_creation_timeout_secs)

    # -- evaluate -----------------------------------------------------------------------------------------------------

    @_showing
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
        model = self._trained.load_or_initialize(checkpoint_path, "evaluate")
        return self.evaluate_model(model, input_fn, steps, hooks, name)

    def evaluate_model(
        self,
        model: TrainedModel,
        input_fn: InputFn,
        steps: int | None = None,
        hooks: Sequence[SessionRunHook] = (),
        name: str | None = None,
    ) -> dict[str, Any]:
        """As `evaluate`, of a model that `load` gave, or of the one in training (InMemoryEvaluatorHook)."""
        config = self._model.config
        is_writer = config.is_chief or config.task_type == EVALUATOR
        writes = is_writer if self._strategy is None else self._strategy.is_chief
        return evaluation.evaluate(self._model, model, input_fn, steps, hooks, self.eval_dir(name) if writes else None)

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
        with shown(self._model.config.log):
            model = self._trained.load_or_initialize(checkpoint_path, "predict")
        wanted = as_keys(predict_keys)
        run = Run(model.store, model.recorder(), self._model.config)
        with self._model.seeded():
            made = self._model.call_input_fn(input_fn, ModeKeys.PREDICT)
        with batches_of(made, ModeKeys.PREDICT, run.recorder) as batches:
            for spec in evaluation.run(run, model, batches, ModeKeys.PREDICT, hooks):
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
        return self._trained.latest_checkpoint()

    def get_variable_names(self) -> list[str]:
        """Names of all variables in the newest checkpoint. ValueError before training."""
        return sorted(self._trained.read_newest().values)

    def get_variable_value(self, name: str) -> np.ndarray:
        """The value of a variable in the newest checkpoint. ValueError before training, NotFoundError for an unknown
        name."""
        values = self._trained.read_newest().values
        if name not in values:
            raise NotFoundError(f"Key {name} not found in checkpoint. It holds {sorted(values)}.")
        return values[name].numpy()

    def eval_dir(self, name: str | None = None) -> str:
        """Where evaluate(name=name) writes its events."""
        return str(Path(self.model_dir) / (f"eval_{name}" if name else "eval"))

    def load(self, checkpoint_path: str | None = None) -> TrainedModel:
        """The model of a checkpoint, the newest by default, with its variables and transform; frozen and kept.

        Before training it is the whole checkpoint of warm_start_from, whichever variables that takes (as in TF's
        export). If variables are renamed or follow vocabularies, it is the model that `evaluate` uses. Raises
        ValueError if nothing has been trained, CheckpointError if the checkpoint cannot be used.
        """
        return self._trained.load(checkpoint_path)

    def checkpoint_fit(self, checkpoint_path: str | os.PathLike[str], input_fn: InputFn | None = None) -> CheckpointFit:
        """Compare a checkpoint with this model: what the model takes, lacks and leaves. Trains and writes nothing.

        Calls model_fn for training with the first batch of `input_fn`. Without an input_fn, it calls model_fn with a
        batch without rows. If that fails, it calls it for a prediction, and then the slots are not known.

        Raises CheckpointError if the checkpoint cannot be read, ValueError if model_fn needs a batch with rows.
        """
        return compare_checkpoint(self._model, checkpoint_path, input_fn)

    @_showing
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

        del as_text  # only a SavedModel has a text form
        given = (assets_extra, checkpoint_path, experimental_mode, options)
        return self.on_chief(
            lambda: export.export_saved_model(self, export_dir_base, serving_input_receiver_fn, *given)
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

        given = (input_receiver_fn_map, assets_extra, checkpoint_path)
        return self.on_chief(lambda: export.export_all_saved_models(self, export_dir_base, *given))


def _refuse_overrides(kind: type) -> None:
    # A subclass adds a constructor; one that changes train or predict would be bypassed by what calls them here.
    own = {name for name in vars(Estimator) if not name.startswith("__")}
    below = [parent for parent in kind.__mro__ if issubclass(parent, Estimator) and parent is not Estimator]
    overridden = sorted(own & {name for parent in below for name in vars(parent)})
    if overridden:
        raise ValueError(
            f"Subclasses of Estimator cannot override members of Estimator. {kind} does override "
            f"{overridden}. Put the change into model_fn or a hook."
        )


def _with_model_dir(config: RunConfig, model_dir: str | os.PathLike[str] | None) -> RunConfig:
    """A copy of the config whose model_dir is the argument, else its own, else a new temporary directory."""
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
    return copy.deepcopy(config).replace(model_dir=directory, **schedule)
