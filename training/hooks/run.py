"""Run: the state of a train, evaluate or predict call, which hooks find where TensorFlow had a session.

Owns what can be read by name during a run. The loop fills it and hooks read it, so it lives in the lower of the two
rooms. Does not know who runs the steps.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from estimator_serving.training.nn.variables import GLOBAL_STEP, VariableStore

if TYPE_CHECKING:
    from estimator_serving.training.columns.features import TransformRecorder
    from estimator_serving.training.model_fn import EstimatorSpec
    from estimator_serving.training.run_config import RunConfig


@dataclass(eq=False)
class Run:
    """The train, evaluate or predict call that is going on.

    Attributes:
        store: the model's variables, optimizer slots and global_step.
        recorder: the transform of its columns.
        config: the estimator's configuration.
        spec: what model_fn returned in the last step, None before the first.
        batch: the features and labels of the last step of an evaluation or prediction.
        first_spec: what it returned when it made the variables, before the first step.
        loss: the last step's, nan before it and in predict. Under several processes the mean of theirs.
        forward_flops: multiplications and additions of model_fn with the first batch of this training, or of the one
            that it goes on from (threads.py); None if unknown.
        last_step: the global_step this run is to end at, None where only the end of the input tells.
        stop_requested: whether the run ends after this step.
        on_chief: calls a function in the chief and returns its result in every process (Strategy.on_chief). A hook
            may call it if it runs in every process and calls it in the same steps.
    """

    store: VariableStore
    recorder: TransformRecorder
    config: RunConfig
    spec: EstimatorSpec | None = None
    batch: tuple[Any, Any] = (None, None)
    first_spec: EstimatorSpec | None = None
    loss: float = math.nan
    forward_flops: int | None = None
    last_step: int | None = None
    stop_requested: bool = False
    on_chief: Callable[[Callable[[], Any]], Any] = operator.call

    @property
    def global_step(self) -> int:
        """Steps taken so far, those of earlier runs included."""
        return self.store.global_step

    @property
    def transform_bytes(self) -> bytes | None:
        transform = self.recorder.transform
        return None if transform is None else transform.model_bytes

    def run(self, fetches: Any, feed_dict: None = None) -> Any:
        """`fetch` under the name a session had. Raises ValueError for a feed_dict: there are no placeholders."""
        refuse_feed(feed_dict)
        return self.fetch(fetches)

    def fetch(self, what: Any) -> Any:
        """The current value of a name, a variable, or a dict, list or tuple of them.

        Names: 'loss', 'global_step', a prediction key, a variable's full name. A tensor must be the loss or a variable:
        model_fn makes new tensors in every step, so others are found by their name among the predictions.

        Raises ValueError for anything else.
        """
        if isinstance(what, Mapping):
            return {key: self.fetch(value) for key, value in what.items()}
        if isinstance(what, list | tuple):
            return type(what)(self.fetch(value) for value in what)
        if not isinstance(what, str):
            if any(spec is not None and what is spec.loss for spec in (self.spec, self.first_spec)):
                return np.float32(self.loss)
            if any(what is variable for variable in self.store.trainable_variables.values()):
                return what.detach().numpy().copy()
            raise ValueError(
                f"A hook asked for a {type(what).__name__} that exists in one step only. "
                "Ask by name: 'loss', 'global_step', a prediction key or a variable's full name."
            )
        if what == "loss":
            return np.float32(self.loss)
        if what == GLOBAL_STEP:
            return self.global_step
        predictions = self.spec.predictions if self.spec is not None else None
        if isinstance(predictions, Mapping) and what in predictions:
            value = predictions[what]
            return value.detach().numpy().copy() if isinstance(value, Tensor) else value.numpy()
        try:
            return self.store.get(what).detach().numpy().copy()
        except KeyError:
            raise ValueError(
                f"{what!r} is neither 'loss', 'global_step', a prediction nor a variable of this model. Return it "
                "among the predictions of model_fn to look at it in a hook."
            ) from None


def refuse_feed(feed_dict: object) -> None:
    """Raises ValueError for a feed_dict that is not empty."""
    if feed_dict:
        raise ValueError(
            f"feed_dict is not supported, given: {feed_dict!r}. There is no graph with placeholders: let input_fn "
            "return the values, or set a variable through run_context.session.store."
        )
