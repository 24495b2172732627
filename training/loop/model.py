"""Model: a model_fn with all that it is called with, and the random numbers of a run.

Owns how model_fn and input_fn are called. Does not know steps, checkpoints or hooks.
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from estimator_serving.training.arrays import as_tensors
from estimator_serving.training.columns.features import Features, TransformRecorder
from estimator_serving.training.data.inputs import InputContext, call_input_fn, prepared_batches
from estimator_serving.training.model_fn import EstimatorSpec, ModeKeys, ModelFn, check_model_fn
from estimator_serving.training.nn.variables import VariableStore
from estimator_serving.training.run_config import RunConfig

InputFn = Callable[..., Any]
Batch = tuple[Any, Any]


@dataclass(frozen=True, eq=False)
class Model:
    """What an estimator is made of.

    Attributes:
        model_fn: the function as the user wrote it.
        argument_names: which of features, labels, mode, params and config it takes.
        params: handed through to it; a dict, or an object with attributes (HParams).
        config: the estimator's configuration.
        made_with: what the estimator was made with, in words (hyperparameters.py).
    """

    model_fn: ModelFn
    argument_names: frozenset[str]
    params: Any
    config: RunConfig
    made_with: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model_fn: ModelFn,
        params: Any,
        config: RunConfig,
        made_with: Mapping[str, Any] | None = None,
    ) -> Model:
        """Raises ValueError as TF does for arguments that model_fn lacks or has too many."""
        given = copy.deepcopy(dict(params or {}) if params is None or isinstance(params, Mapping) else params)
        return cls(model_fn, check_model_fn(model_fn, params), given, config, made_with or {})

    def apply(self, features: Any, labels: Any, mode: str, config: RunConfig) -> EstimatorSpec:
        """model_fn with `params` filled in."""
        if labels is not None and "labels" not in self.argument_names:
            raise ValueError("model_fn does not take labels, but input_fn returns labels.")
        given = {"features": features, "labels": labels, "mode": mode, "params": self.params, "config": config}
        return self.model_fn(**{name: given[name] for name in self.argument_names})

    def call(self, store: VariableStore, features: Any, labels: Any, mode: str) -> EstimatorSpec:
        """What model_fn returns for a batch, on the variables of `store`, which it makes in the first call."""
        with store.activate(training=mode == ModeKeys.TRAIN):
            spec = self.apply(features, labels, mode, self.config)
        if not isinstance(spec, EstimatorSpec):
            raise ValueError(f"model_fn should return an EstimatorSpec. It returned {type(spec).__name__}.")
        store.first_values.complete()
        return spec

    def call_input_fn(self, input_fn: InputFn, mode: str, context: InputContext | None = None) -> Any:
        """What input_fn returns. It gets copies of params and config, and is told of one process without `context`."""
        params, config = copy.deepcopy(self.params), copy.deepcopy(self.config)
        return call_input_fn(input_fn, mode=mode, params=params, config=config, input_context=context)

    # -- random numbers -----------------------------------------------------------------------------------------------

    def new_seed(self) -> int:
        """The config's seed, or a random one."""
        seed = self.config.tf_random_seed
        return secrets.randbits(31) if seed is None else seed

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """torch's global generator follows the config's seed inside, and is put back after."""
        seed = self.config.tf_random_seed
        if seed is None:
            yield
            return
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield

    def seed_step(self, store: VariableStore) -> None:
        """For modules and functions of torch that draw from its global generator."""
        if self.config.tf_random_seed is not None:
            torch.default_generator.manual_seed(store.step_seed)


@contextmanager
def batches_of(made: Any, mode: str, recorder: TransformRecorder, skip: int = 0) -> Iterator[Iterator[Batch]]:
    """The batches of what input_fn returned, ready for model_fn, without the first `skip`. Closed on the way out."""
    with closing(prepared_batches(made, mode, recorder, skip)) as prepared:
        yield map(to_tensors, prepared)


def to_tensors(batch: Batch) -> Batch:
    """The batch as model_fn gets it: Features read themselves, numbers of other kinds become tensors."""
    features, labels = batch
    return features if isinstance(features, Features) else as_tensors(features), as_tensors(labels)
