"""What classify, regress and predict give for a model without a head.

Owns the outputs that are made of what a model of another library gives: their names, the graph nodes that compute them,
and the numbers that they are checked against. A trained estimator's heads do the same in `training/heads`.
Source: TF 2.15 estimator, the predictions of BinaryClassHead, MultiClassHead and RegressionHead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import spox.opset.ai.onnx.v21 as op
from spox import Var

from estimator_serving.exporter.receivers.features_graph import look_up_text
from estimator_serving.exporter.servable.signature_defs import CLASSIFICATION, PREDICTION, REGRESSION, Kind
from estimator_serving.exporter.sources.base import (
    CLASS_IDS,
    CLASSIFY,
    PREDICT,
    PREDICTIONS,
    PROBABILITIES,
    REGRESS,
)
from estimator_serving.training.arrays import Array
from estimator_serving.training.columns.padding import as_matrix
from estimator_serving.wire.signatures import (
    CLASSIFY_CLASSES,
    CLASSIFY_SCORES,
    DEFAULT_SIGNATURE_KEY,
    REGRESS_OUTPUTS,
)


@dataclass(frozen=True)
class ModelOutputs:
    """The outputs of a servable.

    Attributes:
        values: by name.
        signatures: by key: kind, and names of values by alias.
        expected: what the model itself gives for the sample rows, by name of a value.
    """

    values: Mapping[str, Var]
    signatures: Mapping[str, tuple[Kind, Mapping[str, str]]]
    expected: Mapping[str, Array]


def predict_outputs(got: Mapping[str, Var], answered: Mapping[str, Array]) -> ModelOutputs:
    """All outputs as they are.

    Args, here and below:
        got: the converted graph's outputs by name.
        answered: what the model itself gives for the sample rows, by the same names.
    """
    prediction = (PREDICTION, {name: name for name in got})
    return ModelOutputs(got, {DEFAULT_SIGNATURE_KEY: prediction, PREDICT: prediction}, answered)


def regress_outputs(got: Mapping[str, Var], answered: Mapping[str, Array]) -> ModelOutputs:
    """`predictions` float32 [batch, d], and the other outputs as they are.

    Raises ValueError where the model gives several outputs and none is called `predictions`.
    """
    name = _only(got, PREDICTIONS, REGRESS)
    values = {key: var for key, var in got.items() if key != name}
    values[PREDICTIONS] = as_matrix(op.cast(got[name], to=np.float32))
    expected = answered[name].astype(np.float32)
    regression = (REGRESSION, {REGRESS_OUTPUTS: PREDICTIONS})
    signatures = {
        DEFAULT_SIGNATURE_KEY: regression,
        "regression": regression,
        PREDICT: (PREDICTION, {alias: alias for alias in values}),
    }
    return ModelOutputs(values, signatures, {PREDICTIONS: expected.reshape(len(expected), -1)})


def classify_outputs(
    got: Mapping[str, Var], answered: Mapping[str, Array], labels: Sequence[str] | None
) -> ModelOutputs:
    """`probabilities` float32 [batch, n], the best class and all classes, as ids and as words; for two classes
    `logistic`, the second one's probability, too. Other outputs stay as they are.

    Args:
        labels: the words for the classes; None for '0', '1', …

    A model that gives one number a row has two classes, and the number is the second one's probability. The best class
    is the model's own `class_ids`, or that of the largest probability.

    Raises ValueError where the model gives several outputs and none is called `probabilities`, and for labels of
    another number than there are classes.
    """
    name = _only(got, PROBABILITIES, CLASSIFY)
    expected = answered[name].astype(np.float32)
    expected = expected.reshape(len(expected), -1)
    scores = as_matrix(op.cast(got[name], to=np.float32))
    if expected.shape[1] == 1:
        expected = np.concatenate([1 - expected, expected], axis=1)
        scores = op.concat([op.sub(op.const(np.float32(1)), scores), scores], axis=1)
    count = expected.shape[1]
    words = tuple(map(str, range(count) if labels is None else labels))
    if len(words) != count:
        raise ValueError(
            f"label_vocabulary names {len(words)} classes, and the model gives {count} scores a row; name each class."
        )
    ids = got[CLASS_IDS] if CLASS_IDS in got else op.arg_max(scores, axis=1, keepdims=True)
    all_ids = op.expand(op.const(np.arange(count, dtype=np.int64)[None]), op.shape(scores))
    values = {
        **{key: var for key, var in got.items() if key not in (name, CLASS_IDS, "label")},
        PROBABILITIES: scores,
        CLASS_IDS: ids,
        "classes": look_up_text(ids, words),
        "all_class_ids": op.cast(all_ids, to=np.int32),
        "all_classes": look_up_text(all_ids, words),
    }
    classification = (CLASSIFICATION, {CLASSIFY_CLASSES: "all_classes", CLASSIFY_SCORES: PROBABILITIES})
    signatures: dict[str, tuple[Kind, Mapping[str, str]]] = {
        DEFAULT_SIGNATURE_KEY: classification,
        "classification": classification,
    }
    if count == 2:
        values["logistic"] = op.slice(scores, *(op.const(np.array([at], np.int64)) for at in (1, 2, 1)))
        signatures["regression"] = (REGRESSION, {REGRESS_OUTPUTS: "logistic"})
    signatures[PREDICT] = (PREDICTION, {alias: alias for alias in values})
    known = {CLASS_IDS: answered[CLASS_IDS]} if CLASS_IDS in answered else {}
    return ModelOutputs(values, signatures, {PROBABILITIES: expected, **known})


def _only(got: Mapping[str, Var], preferred: str, method: str) -> str:
    """The output that a method is about."""
    if preferred in got:
        return preferred
    if len(got) != 1:
        raise ValueError(
            f"The model gives {', '.join(got)}, and {method} is about one of them; call it {preferred!r}, or give the "
            "model one output."
        )
    return next(iter(got))
