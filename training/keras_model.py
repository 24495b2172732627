"""A compiled Keras model as an Estimator: `model_to_estimator`.

Owns the model_fn of a Keras model: its variables in the estimator's store, its compiled loss, metrics and optimizer.
Needs Keras 3 on the torch backend, which is imported when a model comes. Does not know checkpoints or the loop.

The Keras model is a description here. Its variables live in the estimator's store, like those of every model_fn, and a
call of the model takes them from there (keras.StatelessScope); the variables of the object itself never change.

Source: TF 2.15 estimator, keras_lib (names and error texts).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from estimator_serving.training.checkpoints.checkpoint import (
    checkpoint_file,
    read_checkpoint,
    write_checkpoint,
)
from estimator_serving.training.estimator import Estimator
from estimator_serving.training.model_fn import (
    DEFAULT_SERVING_KEY,
    EstimatorSpec,
    ExportOutput,
    ModeKeys,
    PredictOutput,
    argument_names,
)
from estimator_serving.training.nn.metrics import Metric
from estimator_serving.training.nn.variables import VariableStore, current_store
from estimator_serving.training.optimizers.base import Gradients, Optimizer, TrainOp
from estimator_serving.training.run_config import RunConfig

_WEIGHTS = "sample_weights"
_SEEDS = re.compile(r"seed_generator(_\d+)?")


class MissingKeysError(KeyError):
    """A KeyError whose text is shown as it is, with its lines."""

    def __str__(self) -> str:
        return str(self.args[0])


def model_to_estimator(
    keras_model: Any = None,
    keras_model_path: str | os.PathLike[str] | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    model_dir: str | os.PathLike[str] | None = None,
    config: RunConfig | None = None,
    checkpoint_format: str | None = None,
    metric_names_map: Mapping[str, str] | None = None,
    export_outputs: Mapping[str, Callable[[Any], ExportOutput]] | None = None,
) -> Estimator:
    """An Estimator that trains, evaluates, predicts and exports a compiled Keras 3 model.

    Args:
        keras_model: a Sequential, Functional or subclassed model, compiled. Training starts from its weights and the
            state of its optimizer; the object keeps its own.
        keras_model_path: a `.keras` or `.h5` file to load instead.
        custom_objects: the classes and functions that the file names.
        model_dir, config: as for Estimator. `model_dir/keras` gets the weights to start from.
        checkpoint_format: `checkpoint` or `saver`; both give the one format there is.
        metric_names_map: the name of a compiled metric -> the name that `evaluate` gives it; all of them.
        export_outputs: the name of an output -> a class of export outputs, which becomes a signature of that name.

    Features are a dict by the names of the model's inputs, or one tensor; the only feature of a model with one input
    may have any name. `{"features": …, "sample_weights": …}` gives weights; where a model has several inputs,
    `sample_weights` stands beside them. Labels are one tensor, or a dict by the names of the outputs. Predictions are
    named as the output layers are.

    Raises:
        ValueError: no model or both, one that is not compiled, Keras on another backend, an unknown
            checkpoint_format.
        ModuleNotFoundError: Keras is not installed (the extra `keras`).
    """
    if keras_model is None and keras_model_path is None:
        raise ValueError("Either `keras_model` or `keras_model_path` needs to be provided.")
    if keras_model is not None and keras_model_path is not None:
        raise ValueError("Please specity either `keras_model` or `keras_model_path`, but not both.")
    if checkpoint_format not in (None, "checkpoint", "saver"):
        raise ValueError(f'Checkpoint format must be one of "checkpoint" or "saver". Got {checkpoint_format}')
    keras = keras_on_torch()
    if keras_model_path is not None:
        keras_model = keras.models.load_model(keras_model_path, custom_objects=dict(custom_objects or {}))
    if not getattr(keras_model, "compiled", False) or keras_model.optimizer is None:
        raise ValueError(
            "The given keras model has not been compiled yet. Please compile the model with `model.compile()` "
            "before calling `model_to_estimator()`."
        )
    model_fn = KerasModelFn(keras_model, metric_names_map, export_outputs)
    estimator = Estimator(model_fn, model_dir=model_dir, config=config)
    if keras_model.built:
        model_fn.start_from(Path(estimator.model_dir) / "keras" / "keras_model.ckpt", estimator.config.is_chief)
    return estimator


def keras_on_torch() -> Any:
    """The package `keras`. Raises ValueError unless it runs on the torch backend, ModuleNotFoundError without it."""
    try:
        import keras
    except ModuleNotFoundError as error:
        if error.name == "keras":
            raise ModuleNotFoundError(
                "Keras is not installed: pip install 'estimator-serving[keras]'.", name="keras"
            ) from error
        # Keras imports its backend, by default TensorFlow, before it can be asked which one it is.
        raise ValueError(
            f"Keras cannot be imported without {error.name}; start the process with KERAS_BACKEND=torch."
        ) from error
    if keras.backend.backend() != "torch":
        raise ValueError(
            f"Keras runs on the backend {keras.backend.backend()!r}; start the process with KERAS_BACKEND=torch."
        )
    return keras


class KerasModelFn:
    """The model_fn of a Keras model, `model`."""

    def __init__(
        self,
        model: Any,
        metric_names_map: Mapping[str, str] | None,
        export_outputs: Mapping[str, Callable[[Any], ExportOutput]] | None,
    ) -> None:
        self.model = model
        self._metric_names_map = metric_names_map
        self._export_outputs = export_outputs or {}
        self._start: Mapping[str, Tensor] = {}
        self._names: dict[str, Any] = {}

    def start_from(self, prefix: Path, is_chief: bool) -> None:
        """Take first values from the checkpoint of that prefix; write the model's there if there is none."""
        self._start = {name: _copy_of(variable.value) for name, variable in self._named().items()}
        if checkpoint_file(str(prefix)) is not None:
            kept = read_checkpoint(prefix).values
            self._start = {name: kept.get(name, value) for name, value in self._start.items()}
        elif is_chief:
            prefix.parent.mkdir(parents=True, exist_ok=True)
            write_checkpoint(str(prefix), self._start, None, ())

    def __call__(self, features: Any, labels: Any, mode: str) -> EstimatorSpec:
        import keras

        store = current_store()
        with keras.device("cpu"):
            inputs, weights = self.called_with(features)
            if not self.model.built:
                with torch.no_grad():
                    self.model(inputs, training=False)
            variables = self._variables(store)
            with _stateless(variables.values()) as scope:
                made = self.model(inputs, training=store.training_mode)
                predictions = named_outputs(self.model, made)
                if mode == ModeKeys.PREDICT:
                    return EstimatorSpec(mode, predictions=predictions, export_outputs=self._exported(predictions))
                targets = _like_outputs(labels, made, predictions, False)
                weights = _like_outputs(weights, made, predictions, True)
                # The compiled loss with the layers' own; Keras raises ValueError where there is none.
                compute = self.model.compute_loss
                flag = {"training": store.training_mode} if "training" in argument_names(compute) else {}
                loss: Tensor = compute(x=inputs, y=targets, y_pred=made, sample_weight=weights, **flag)
                changed = {name: scope.get_current_value(variable) for name, (variable, _) in variables.items()}
            if mode == ModeKeys.EVAL:
                metrics = self._metrics(targets, made, weights)
                return EstimatorSpec(mode, predictions=predictions, loss=loss, eval_metric_ops=metrics)
            for name, (_, value) in variables.items():
                if not isinstance(value, torch.nn.Parameter) and changed[name] is not value:
                    store.pending_updates.append(partial(value.copy_, changed[name].detach()))
            optimizer = _KerasOptimizer(self.model.optimizer, variables, self.model.trainable_variables)
            train_op = optimizer.minimize(loss)
        return EstimatorSpec(mode, predictions=predictions, loss=loss, train_op=train_op)

    @contextmanager
    def values_of(self, store: VariableStore) -> Iterator[None]:
        """Inside, the model's variables have the values of the store, which a call of the model_fn has made."""
        import keras

        with keras.device("cpu"), _stateless(self._variables(store).values()):
            yield

    # -- the model's structure ----------------------------------------------------------------------------------------

    def _named(self) -> dict[str, Any]:
        """The model's variables by the names that the store gives them.

        They are the paths of Keras without the model's own name. Keras numbers the layers of a process, so the same
        program has `dense_7` where it had `dense` before; such numbers start anew here, and a checkpoint fits again.
        """
        if not self._names:
            automatic = {layer.name for layer in self.model._flatten_layers() if _is_automatic(layer)}
            numbers: dict[str, Iterator[int]] = {}
            known: dict[str, str] = {}

            def renumbered(part: str) -> str:
                if (part in automatic or _SEEDS.fullmatch(part)) and part not in known:
                    known[part] = _numbered(part.rstrip("0123456789").rstrip("_"), numbers)
                return known.get(part, part)

            taken: dict[str, Iterator[int]] = {}
            for variable in self.model.variables:
                path = variable.path.removeprefix(f"{self.model.name}/")
                name = "/".join(renumbered(part) for part in (path if "/" in path else variable.path).split("/"))
                self._names[_numbered(name, taken)] = variable
        return self._names

    def _variables(self, store: VariableStore) -> dict[str, tuple[Any, Tensor]]:
        """The model's variables and the store's, by name."""
        trainable = {id(variable) for variable in self.model.trainable_variables}
        found = {}
        for name, variable in self._named().items():
            first = self._start.get(name)
            value = variable.value if first is None else first
            found[name] = (
                variable,
                store.find_or_create(
                    name,
                    tuple(variable.shape),
                    initializer=partial(_copy_of, value),
                    trainable=id(variable) in trainable,
                    dtype=value.dtype,
                ),
            )
        return found

    def called_with(self, features: Any) -> tuple[Any, Any]:
        """What the model is called with, and the weights of its loss.

        `features` are tensors, or values of a graph. The weights are in {"features": …, "sample_weights": …}, or
        beside the features.
        """
        names = [one.name for one in getattr(self.model, "inputs", None) or ()]
        if not isinstance(features, Mapping) or _WEIGHTS not in features or _WEIGHTS in names:
            return self._inputs(features), None
        if set(features) == {"features", _WEIGHTS}:
            return self._inputs(features["features"]), features[_WEIGHTS]
        others = {key: features[key] for key in features if key != _WEIGHTS}
        return self._inputs(others), features[_WEIGHTS]

    def _inputs(self, features: Any) -> Any:
        if not isinstance(features, Mapping):
            return features
        if not getattr(self.model, "inputs", None):
            return {key: features[key] for key in features}
        taken = getattr(self.model, "input", None)
        if isinstance(taken, Mapping):
            _check_keys(features, "features", "inputs", taken)
            return {key: features[key] for key in taken}
        names = [one.name for one in self.model.inputs]
        if len(names) == len(features) == 1:
            names = list(features)
        _check_keys(features, "features", "inputs", names)
        ordered = [features[name] for name in names]
        return ordered if len(ordered) > 1 else ordered[0]

    def _exported(self, predictions: Mapping[str, Tensor]) -> dict[str, ExportOutput]:
        outputs: dict[str, ExportOutput] = {DEFAULT_SERVING_KEY: PredictOutput(predictions)}
        if missed := set(self._export_outputs) - set(predictions):
            raise MissingKeysError(
                f"The list passed into {list(predictions)} does not cover requested {dict(self._export_outputs)} keys "
                f"defined in the keras model.\n\tExpected keys: {set(self._export_outputs)}\n\t{list(predictions)} "
                f"keys: {set(predictions)}\n\tMissed keys: {missed}"
            )
        return outputs | {key: make(predictions[key]) for key, make in self._export_outputs.items()}

    # -- loss and metrics ---------------------------------------------------------------------------------------------

    def _metrics(self, targets: Any, made: Any, weights: Any) -> dict[str, Metric]:
        """The compiled metrics of one batch, by name."""
        compiled = next((one for one in self.model.metrics if one.name == "compile_metrics"), None)
        if compiled is None:
            return {}
        if not compiled.built:
            compiled.build(targets, made)
        variables = compiled.variables
        zeros = torch.cat([torch.zeros(one.shape, dtype=torch.float64).reshape(-1) for one in variables])

        def update(state: Tensor) -> Tensor:
            with _restored(variables, state) as scope:
                compiled.update_state(targets, made, weights)
            values = [scope.get_current_value(one) for one in variables]
            return torch.cat([value.detach().to(torch.float64).reshape(-1) for value in values])

        def finish(name: str, state: Any) -> Any:
            with _restored(variables, torch.as_tensor(state)):
                return compiled.result()[name]

        # All metrics have one state, which is updated once for all of them.
        update = lru_cache(1)(update)
        state = update(zeros)
        with _restored(variables, state):
            names = list(compiled.result())
        shown = self._shown_names(names)
        return {shown[name]: _KerasMetric(state, partial(finish, name), update=update) for name in names}

    def _shown_names(self, names: Sequence[str]) -> Mapping[str, str]:
        given = self._metric_names_map
        if not given:
            return {name: name for name in names}
        if unknown := set(names) - set(given):
            raise ValueError(
                f'Invalid `metric_names_map`. The following keras model metric names:"{list(unknown)}" do not exist in '
                "the `metric_names_map` dictionary"
            )
        if extra := set(given) - set(names):
            raise ValueError(
                "Invalid `metric_names_map`. There are unexpected keys in the `metric_names_map` dictionary. Expected "
                f"keys: {names}, Received: {list(extra)}"
            )
        return given


@dataclass(frozen=True, slots=True)
class _KerasMetric(Metric):
    """A metric whose batches do not add up by themselves: `update` takes the state before this batch to that after.

    The numbers are then those of Keras, also of a metric that keeps a maximum.
    """

    update: Callable[[Tensor], Tensor] = field(kw_only=True)

    def __add__(self, other: Metric) -> Metric:
        assert isinstance(other, _KerasMetric)
        return _KerasMetric(other.update(self.state), self.finish, self.draw, update=other.update)


class _KerasOptimizer(Optimizer):
    """A Keras optimizer, whose variables are slots: `training/Adam/dense/kernel/momentum`."""

    default_name = "Keras"
    constants: ClassVar[tuple[str, ...]] = ()

    def __init__(self, optimizer: Any, variables: Mapping[str, tuple[Any, Tensor]], trained: Sequence[Any]) -> None:
        super().__init__(lambda: 0.0, name=type(optimizer).__name__)
        if not optimizer.built:
            optimizer.build(list(trained))
        self._keras = optimizer
        by_id = {id(variable): (name, value) for name, (variable, value) in variables.items()}
        self.weights = [by_id[id(variable)][1] for variable in trained]
        # Keras names a slot `<path of the variable with _>_<slot>`; the longest path that fits is the variable's.
        paths = {f"{variable.path}/".replace("/", "_"): by_id[id(variable)][0] for variable in trained}
        taken: dict[str, Iterator[int]] = {}
        self._slots: list[tuple[str, Any]] = []
        for variable in optimizer.variables:
            slot = variable.path.partition("/")[2]
            owner = max((path for path in paths if slot.startswith(path)), key=len, default="")
            name = f"{paths[owner]}/{slot.removeprefix(owner)}" if owner else slot
            self._slots.append((_numbered(f"training/{self.name}/{name}", taken), variable))

    def minimize(self, loss: Tensor, global_step: object = None, var_list: Iterable[Tensor] | None = None) -> TrainOp:
        op = super().minimize(self._keras.scale_loss(loss), var_list=self.weights if var_list is None else var_list)
        if not op.is_inert:
            self._values(op.store)
        return op

    def _values(self, store: VariableStore) -> list[Tensor]:
        return [
            store.slot(name, tuple(variable.shape), partial(_copy_of, variable.value)) for name, variable in self._slots
        ]

    def apply(self, plan: Any, gradients: Gradients, step: int, store: VariableStore) -> None:
        import keras

        slots = self._values(store)
        given = [
            value * store.rate_scale if store.rate_scale != 1 and name.endswith("/learning_rate") else value
            for (name, _), value in zip(self._slots, slots, strict=True)
        ]
        with keras.device("cpu"):
            weights, values = self._keras.stateless_apply(given, list(gradients), self.weights)
        for old, before, new in (
            *zip(self.weights, self.weights, weights, strict=True),
            *zip(slots, given, values, strict=True),
        ):
            if new is not before:
                old.copy_(new)


def named_outputs(model: Any, made: Any) -> dict[str, Any]:
    """What a Keras model gives, by name: the keys of a dict, else the names of the output layers, else output_1, …"""
    if isinstance(made, Mapping):
        return {str(name): one for name, one in made.items()}
    values = list(made) if isinstance(made, list | tuple) else [made]
    names = list(getattr(model, "output_names", None) or ())
    if not names and getattr(model, "outputs", None):
        names = [one._keras_history.operation.name for one in model.outputs]
    if len(names) != len(values):
        names = [f"output_{number}" for number in range(1, len(values) + 1)]
    taken: dict[str, Iterator[int]] = {}
    return {_numbered(name, taken): value for name, value in zip(names, values, strict=True)}


def _like_outputs(given: Any, made: Any, names: Iterable[str], is_weight: bool) -> Any:
    """Labels or weights in the structure of what the model gives."""
    if not isinstance(given, Mapping):
        return given
    names = list(names)
    if len(names) == len(given) == 1:
        given = dict(zip(names, given.values(), strict=True))
    if not is_weight:
        _check_keys(given, "labels", "outputs", names)
    if isinstance(made, Mapping):
        return {key: given.get(str(key)) for key in made}
    ordered = [given.get(name) for name in names]
    return ordered if isinstance(made, list | tuple) else ordered[0]


def _check_keys(given: Mapping[str, Any], what: str, of: str, wanted: Iterable[str]) -> None:
    if missed := set(wanted) - set(given):
        raise MissingKeysError(
            f"The dictionary passed into {what} does not cover requested {of} keys defined in the keras model."
            f"\n\tExpected keys: {set(wanted)}\n\t{what} keys: {set(given)}\n\tMissed keys: {missed}"
        )


def _is_automatic(layer: Any) -> bool:
    """Whether Keras made the layer's name of its class, with a number."""
    words = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", re.sub(r"\W+", "", type(layer).__name__))
    snake = re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()
    return re.fullmatch(rf"{re.escape(snake)}(_\d+)?", layer.name) is not None


def _numbered(name: str, taken: dict[str, Iterator[int]]) -> str:
    """`name`, and `name_1`, `name_2`, … where it comes again."""
    number = next(taken.setdefault(name, count()))
    return f"{name}_{number}" if number else name


def _copy_of(value: Tensor, *_: Any) -> Tensor:
    """A first value that is known: what is given to make another one is not needed."""
    return value.detach().cpu().clone()


def _stateless(pairs: Iterable[tuple[Any, Tensor]]) -> Any:
    """A scope in which Keras variables have other values."""
    import keras

    return keras.StatelessScope(state_mapping=list(pairs), collect_losses=True)


@contextmanager
def _restored(variables: Sequence[Any], state: Tensor) -> Iterator[Any]:
    """Inside, the variables of metrics have the values that stand one after the other in `state`."""
    import keras

    pieces = torch.split(state, [int(np.prod(one.shape)) for one in variables])
    values = [piece.reshape(tuple(one.shape)).clone() for piece, one in zip(pieces, variables, strict=True)]
    with keras.device("cpu"), _stateless(zip(variables, values, strict=True)) as scope:
        yield scope
