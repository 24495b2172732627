"""Recurrent networks on sequence columns: RNNClassifier and RNNEstimator (TF 2.15).

Owns the layers between columns and logits, and TF's names for them: those of Keras' cells, which TensorFlow uses here.
The head knows what the logits mean.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from estimator_serving.training.canned.common import check_feature_dict, classifier_head, listed, replayed
from estimator_serving.training.columns.base import FeatureColumn
from estimator_serving.training.columns.layers import input_layer, sequence_input_layer
from estimator_serving.training.estimator import Estimator
from estimator_serving.training.heads import Head
from estimator_serving.training.heads.base import WeightColumn
from estimator_serving.training.model_fn import EstimatorSpec, ModeKeys, ModelFn
from estimator_serving.training.nn import initializers, layers, summaries
from estimator_serving.training.nn.losses import Reduction
from estimator_serving.training.nn.rnn import MultiRNNCell, Recurrence, RNNCell, weight
from estimator_serving.training.nn.variables import variable_scope
from estimator_serving.training.optimizers import Optimizer, OptimizerLike, get_optimizer
from estimator_serving.training.run_config import RunConfig

USE_DEFAULT = "use_default"
_LEARNING_RATE, _CLIP_NORM = 0.05, 5.0
"""Of an optimizer that is given by name."""


class RNNClassifier(Estimator):
    """A classifier of sequences: sequence columns → a recurrent layer for each of `units` → logits of the last step.

    `cell_type` is 'simple_rnn', 'lstm' or 'gru'. `context_feature_columns` are dense columns of the whole row, which
    every step sees. `rnn_cell_fn` instead of `units` and `cell_type` is a function that returns a cell of
    `nn.rnn_cell`. An optimizer given by name has learning rate 0.05 and clips each gradient's length at 5.
    `n_classes`, `weight_column`, `label_vocabulary` and `loss_reduction` are as in DNNClassifier.
    Raises ValueError as TF 2.15 does, and for return_sequences=True: there is one prediction for each row.
    """

    def __init__(
        self,
        sequence_feature_columns: Iterable[FeatureColumn],
        context_feature_columns: Iterable[FeatureColumn] | None = None,
        units: Sequence[int] | int | None = None,
        cell_type: str = USE_DEFAULT,
        rnn_cell_fn: Callable[[], Any] | None = None,
        return_sequences: bool = False,
        model_dir: str | os.PathLike[str] | None = None,
        n_classes: int = 2,
        weight_column: WeightColumn = None,
        label_vocabulary: Sequence[str] | None = None,
        optimizer: OptimizerLike = "Adagrad",
        loss_reduction: str = Reduction.SUM_OVER_BATCH_SIZE,
        sequence_mask: str = "sequence_mask",
        config: RunConfig | None = None,
    ) -> None:
        del sequence_mask  # the feature that says which steps count, where every step has a prediction
        head = classifier_head(n_classes, weight_column, label_vocabulary, loss_reduction)
        network = _network(
            sequence_feature_columns, context_feature_columns, units, cell_type, rnn_cell_fn, return_sequences
        )
        model_fn = _model_fn(head, network, optimizer)
        if rnn_cell_fn is None:  # a cell of the user's may do something else in every step
            model_fn = replayed(model_fn, [optimizer], weight_column)
        super().__init__(model_fn, model_dir, config)


class RNNEstimator(Estimator):
    """Recurrent layers as in RNNClassifier under a head of your choice."""

    def __init__(
        self,
        head: Head,
        sequence_feature_columns: Iterable[FeatureColumn],
        context_feature_columns: Iterable[FeatureColumn] | None = None,
        units: Sequence[int] | int | None = None,
        cell_type: str = USE_DEFAULT,
        rnn_cell_fn: Callable[[], Any] | None = None,
        return_sequences: bool = False,
        model_dir: str | os.PathLike[str] | None = None,
        optimizer: OptimizerLike = "Adagrad",
        config: RunConfig | None = None,
    ) -> None:
        network = _network(
            sequence_feature_columns, context_feature_columns, units, cell_type, rnn_cell_fn, return_sequences
        )
        super().__init__(_model_fn(head, network, optimizer), model_dir, config)


def _model_fn(head: Head, network: RecurrentNetwork, optimizer: OptimizerLike) -> ModelFn:
    def model_fn(features: Mapping[str, Any], labels: Any, mode: str) -> EstimatorSpec:
        check_feature_dict(features)
        made: Optimizer | None = None
        if mode == ModeKeys.TRAIN:
            made = get_optimizer(optimizer, _LEARNING_RATE)
            if isinstance(optimizer, str):
                made.clipnorm = _CLIP_NORM
        logits = network.logits(features, head.logits_dimension)
        return head.create_estimator_spec(features, mode, logits, labels, optimizer=made)

    return model_fn


# -- the network ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecurrentNetwork:
    """The layers between sequence columns and logits.

    Attributes:
        sequence_feature_columns: read at every step.
        context_feature_columns: of the whole row; every step sees them.
        cell_fn: makes new cells for each call of model_fn.
        scope: of the cells' variables.
    """

    sequence_feature_columns: tuple[FeatureColumn, ...]
    context_feature_columns: tuple[FeatureColumn, ...]
    cell_fn: Callable[[], Any]
    scope: str

    def logits(self, features: Mapping[str, Any], units: int) -> Tensor:
        """Logits f32 [B, units] of the features, from the last step's output, which is 0 for a row without steps.

        Raises ValueError for columns that are no sequences, and for features that do not fit them.
        """
        steps, lengths = sequence_input_layer(features, self.sequence_feature_columns, scope="sequence_features")
        summaries.histogram("sequence_length", lengths)
        if self.context_feature_columns:
            context = input_layer(features, self.context_feature_columns, scope="dense_features")
            steps = torch.cat([steps, context.unsqueeze(1).expand(-1, steps.shape[1], -1)], -1)
        with variable_scope("rnn_model"):
            with variable_scope(self.scope):
                _, state = self.cell_fn().unroll(steps, lengths)
            while isinstance(state, tuple):  # of the last layer, and of an LSTM its h
                state = state[-1]
            return layers.dense(state, units, name="logits")


def _network(
    sequence_feature_columns: Iterable[FeatureColumn],
    context_feature_columns: Iterable[FeatureColumn] | None,
    units: Sequence[int] | int | None,
    cell_type: str,
    rnn_cell_fn: Callable[[], Any] | None,
    return_sequences: bool,
) -> RecurrentNetwork:
    if return_sequences:
        raise ValueError(
            "return_sequences=True is not here: a row has one prediction, from its last step. For a prediction at "
            "every step write a model_fn with sequence_input_layer and nn.dynamic_rnn, and compute the loss there."
        )
    scope = "rnn"
    if rnn_cell_fn is not None:
        if units or cell_type != USE_DEFAULT:
            raise ValueError("units and cell_type must not be specified when using rnn_cell_fn")
    else:
        kind = "simple_rnn" if cell_type == USE_DEFAULT else cell_type
        if kind not in _KERAS_CELLS:
            raise ValueError(
                "`cell_type` should be a class producing a RNN cell, or a string specifying the cell type. Supported "
                f"strings are: {[*_KERAS_CELLS]}. Give a cell of nn.rnn_cell by rnn_cell_fn."
            )
        if not units:
            raise ValueError("Give units, the width of each recurrent layer, for example units=[32, 16].")
        if isinstance(units, int):
            scope, units = kind, [units]
        widths = tuple(units)

        def rnn_cell_fn() -> Any:
            cells = [_KERAS_CELLS[kind](each) for each in widths]
            return cells[0] if len(cells) == 1 else _StackedCells(cells)

    columns = listed(sequence_feature_columns), listed(context_feature_columns)
    return RecurrentNetwork(*columns, rnn_cell_fn, scope)


class _StackedCells(MultiRNNCell):
    """Layers one above the other, under Keras' names: `stacked_rnn_cells/gru_cell`, `…/gru_cell_1`."""

    scope = "stacked_rnn_cells"
    numbered = ""


class _SimpleCell(RNNCell):
    base_name = "simple_rnn_cell"

    def __init__(self, units: int) -> None:
        super().__init__(units, torch.tanh, None, None)

    def recurrence(self, width: int) -> Recurrence:
        bias = weight("bias", (self.units,), initializers.zeros)
        return Recurrence("RNN", *_kernels(width, self.units, 1), bias, torch.tanh)


class _LongShortTermCell(_SimpleCell):
    """The gates are i, f, c, o in the variables; the bias of f starts at 1."""

    base_name = "lstm_cell"

    def recurrence(self, width: int) -> Recurrence:
        n = self.units
        kernels = _kernels(width, n, 4)
        bias = weight("bias", (4 * n,), initializers.constant([0.0] * n + [1.0] * n + [0.0] * 2 * n))
        order = torch.arange(4 * n).reshape(4, n)[[0, 3, 1, 2]].reshape(-1)
        return Recurrence("LSTM", kernels[0][:, order], kernels[1][:, order], bias[order], torch.tanh)


class _GatedCell(_SimpleCell):
    """The reset gate acts behind the product, so there are two biases."""

    base_name = "gru_cell"

    def recurrence(self, width: int) -> Recurrence:
        kernels = _kernels(width, self.units, 3)
        bias, recurrent_bias = weight("bias", (2, 3 * self.units), initializers.zeros)
        return Recurrence("GRU", *kernels, bias, torch.tanh, recurrent_bias)


_KERAS_CELLS = {"simple_rnn": _SimpleCell, "lstm": _LongShortTermCell, "gru": _GatedCell}


def _kernels(width: int, units: int, gates: int) -> tuple[Tensor, Tensor]:
    kernel = weight("kernel", (width, gates * units))
    return kernel, weight("recurrent_kernel", (units, gates * units), initializers.orthogonal())
