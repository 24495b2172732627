"""Several heads over one network: their losses added up, everything else side by side (TF 2.15).

Owns how logits, labels and results are shared out among the heads. Does not know what a head computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from estimator_serving.training.heads.base import Head
from estimator_serving.training.model_fn import DEFAULT_SERVING_KEY, ExportOutput, Prediction, PredictOutput
from estimator_serving.training.nn.metrics import Metric, mean


class MultiHead(Head):
    """Each of `heads` on its own part of the logits and its own labels, `labels[head.name]`.

    Logits are a dict of tensors by head name, or one tensor [B, sum of their dimensions] that is split in the order of
    the heads. The loss is the sum of the heads' losses, each times its number in `head_weights`. Prediction keys are
    tuples (head name, key); metric keys end in `/<head name>`, with `loss/<head name>` beside each head's own.

    Raises ValueError without heads, for a head without a name, and for head_weights of another length; when the loss is
    computed, for heads that differ in loss_reduction.
    """

    def __init__(self, heads: Sequence[Head], head_weights: Sequence[float] | None = None) -> None:
        if not heads:
            raise ValueError(f"Must specify heads. Given: {heads}")
        if head_weights and len(head_weights) != len(heads):
            raise ValueError(
                "heads and head_weights must have the same size. "
                f"Given len(heads): {len(heads)}. Given len(head_weights): {len(head_weights)}."
            )
        for head in heads:
            if head.name is None:
                raise ValueError(f"All given heads must have name specified. Given: {head}")
        self._names = [str(head.name) for head in heads]
        self.name = "_".join(self._names)
        self.loss_reduction = heads[0].loss_reduction
        self.logits_dimension = sum(head.logits_dimension for head in heads)
        self._heads = tuple(heads)
        self._weights = tuple(head_weights or (1.0,) * len(heads))

    def predictions(self, logits: Any, keys: Sequence[str] | None = None) -> dict[tuple[str, str], Prediction]:
        """(head name, key) -> prediction of every head. With `keys` only these predictions of each head."""
        parts = self._split(logits)
        return {
            (name, key): value
            for name, head in zip(self._names, self._heads, strict=True)
            for key, value in head.predictions(parts[name], keys).items()
        }

    def export_outputs(self, predictions: Mapping[Any, Prediction]) -> dict[str, ExportOutput]:
        """serving_default (the first head's), predict (all predictions as `head/key`), and for each head `head` (its
        default) and `head/<signature>`."""
        found: dict[str, ExportOutput] = {}
        for name, head in zip(self._names, self._heads, strict=True):
            own = head.export_outputs({key: value for (of, key), value in predictions.items() if of == name})
            found.setdefault(DEFAULT_SERVING_KEY, own[DEFAULT_SERVING_KEY])
            # First in the dict: the tensors of a graph are named after the predict outputs that come first.
            found.setdefault("predict", PredictOutput(predictions))
            found[name] = own.pop(DEFAULT_SERVING_KEY)
            found.update({f"{name}/{key}": output for key, output in own.items()})
        return found

    def _training_loss(self, labels: Any, logits: Any, features: Mapping[str, Any] | None) -> Tensor:
        losses = self._losses(labels, logits, features)
        return torch.stack([loss * weight for loss, weight in zip(losses, self._weights, strict=True)]).sum()

    def _batch_metrics(self, labels: Any, logits: Any, features: Mapping[str, Any] | None) -> dict[str, Metric]:
        losses = self._losses(labels, logits, features)
        parts = self._split(logits)
        found = {f"loss/{name}": mean(loss) for name, loss in zip(self._names, losses, strict=True)}
        for name, head in zip(self._names, self._heads, strict=True):
            found.update(head.metrics(labels[name], parts[name], features))
        return found

    def _losses(self, labels: Any, logits: Any, features: Mapping[str, Any] | None) -> list[Tensor]:
        reductions = [head.loss_reduction for head in self._heads]
        if len(set(reductions)) > 1:
            raise ValueError(f"The loss_reduction must be the same for different heads. Given: {reductions}")
        if not isinstance(labels, Mapping):
            raise ValueError(f"labels must be a dict. Given: {labels}. Let input_fn return one array a head.")
        missing = sorted(set(self._names) - set(labels))
        if missing:
            raise ValueError(f"labels has missing values for head(s): {missing}. It has {sorted(labels)}.")
        parts = self._split(logits)
        return [
            head.loss(labels[name], parts[name], features) for name, head in zip(self._names, self._heads, strict=True)
        ]

    def _split(self, logits: Any) -> Mapping[str, Tensor]:
        if isinstance(logits, Mapping):
            missing = sorted(set(self._names) - set(logits))
            if missing:
                raise ValueError(f"logits has missing values for head(s): {missing}. It has {sorted(logits)}.")
            return logits
        sizes = [head.logits_dimension for head in self._heads]
        if logits.shape[-1] != sum(sizes):
            raise ValueError(
                f"Could not split logits of shape {tuple(logits.shape)} among the heads with individual logits "
                f"dimensions: {sizes}. The last dimension of the logits tensor should equal {sum(sizes)} but is "
                f"{logits.shape[-1]}."
            )
        return dict(zip(self._names, logits.split(sizes, dim=-1), strict=True))
