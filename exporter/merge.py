"""Receiver ▸ transform ▸ network: three graphs become one.

Owns how raw features reach the transform's inputs and the network's, and how ids become text. Knows nothing of
signatures, files or torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import spox.opset.ai.onnx.v21 as op
from spox import Tensor, Var, inline

from estimator_serving.exporter.receivers import Padded
from estimator_serving.training.definitions import Input, PaddedInput, SequenceInput, WeightInput
from estimator_serving.wire import dtypes

Features = Mapping[str, Var | Padded]


def feed_transform(features: Features, inputs: Iterable[Input]) -> dict[str, Var]:
    """The transform's inputs, by name, from raw features.

    Raises ValueError naming a feature that the receiver does not give, or gives in a form the column cannot read.
    """
    fed: dict[str, Var] = {}
    for wanted in inputs:
        feature = _find(features, wanted.key)
        if isinstance(wanted, PaddedInput):
            padded = feature if isinstance(feature, Padded) else _pad(feature, wanted)
            _check_dtype(wanted, padded.values)
            is_number = isinstance(wanted, WeightInput | SequenceInput)
            values = op.cast(padded.values, to=np.float32) if is_number else padded.values
            fed |= dict(zip(wanted.names, (values, padded.lengths), strict=True))
        else:
            fed[wanted.names[0]] = _numeric(wanted.key, feature)
    return fed


def _pad(feature: Var, wanted: PaddedInput) -> Padded:
    if wanted.blank is None:
        return pad_whole(feature)
    pad = pad_sequence if isinstance(wanted, SequenceInput) else pad_dense
    return pad(feature, wanted.blank)


def direct_feature(features: Features, key: str) -> Var:
    """A feature that model_fn reads itself, as float32, int64 or bool. Raises ValueError as feed_transform does."""
    feature = _find(features, key)
    if isinstance(feature, Padded):
        raise ValueError(
            f"model_fn reads the feature {key!r} itself, and the receiver gives it as a VarLenFeature; "
            "declare it as a FixedLenFeature, or read it through a feature column."
        )
    return feature


def pad_dense(values: Var, blank: str | float) -> Padded:
    """A dense feature, [batch] or [batch, k], as a padded one: what equals `blank` is dropped, the rest moves up.

    Source: TF 2.15 feature columns, dense categorical input.
    """
    rows = _as_matrix(values)
    nothing = op.const(blank) if _is_string(rows) else op.const(_element(rows).type(blank))
    kept = op.cast(op.not_(op.equal(rows, nothing)), to=np.int64)
    lengths = op.reduce_sum(kept, op.const(np.array([1], np.int64)), keepdims=False)
    # Sorting by `kept`, first come first, moves what is kept to the front without changing its order.
    width = _width(rows)
    countdown = op.sub(width, op.range(op.const(np.int64(0)), op.squeeze(width), op.const(np.int64(1))))
    order = op.top_k(op.mul(kept, countdown), width, axis=1)[1]
    return Padded(op.gather_elements(rows, order, axis=1), lengths)


def pad_whole(values: Var) -> Padded:
    """A dense feature, [batch] or [batch, k], as a padded one in which everything is a value."""
    rows = _as_matrix(values)
    return Padded(rows, op.expand(_width(rows), op.shape(rows, end=1)))


def pad_sequence(values: Var, blank: str | float) -> Padded:
    """A dense feature, [batch] or [batch, k], as a padded one: what equals `blank` is dropped at a row's end alone."""
    rows = _as_matrix(values)
    kept = op.cast(op.not_(op.equal(rows, op.const(_element(rows).type(blank)))), to=np.int64)
    places = op.range(
        op.const(np.int64(1)), op.add(op.squeeze(_width(rows)), op.const(np.int64(1))), op.const(np.int64(1))
    )
    # A column of zeros in front: the largest of no numbers is none.
    last = op.pad(op.mul(kept, places), op.const(np.array([0, 1, 0, 0], np.int64)))
    return Padded(rows, op.reduce_max(last, op.const(np.array([1], np.int64)), keepdims=False))


def _width(rows: Var) -> Var:
    return op.shape(rows, start=1, end=2)


def look_up_text(ids: Var, vocabulary: tuple[str, ...]) -> Var:
    """The entries of a vocabulary behind int64 ids, same shape."""
    return op.gather(op.const(np.array(vocabulary, dtype=str)), ids)


def run_graph(model: onnx.ModelProto, feeds: Mapping[str, Var]) -> dict[str, Var]:
    """The outputs of a graph for these inputs, by name; inputs it does not have are left aside."""
    names = [value.name for value in model.graph.input]
    return dict(inline(model)(**{name: feeds[name] for name in names}))


def _find(features: Features, key: str) -> Var | Padded:
    if key not in features:
        raise ValueError(
            f"Feature {key} is not in features dictionary. "
            f"The serving input receiver gives {', '.join(sorted(features))}; "
            "build its feature_spec with make_parse_example_spec from the columns the model was trained with."
        )
    return features[key]


def _numeric(key: str, feature: Var | Padded) -> Var:
    if isinstance(feature, Padded):
        raise ValueError(
            f"The numeric column {key!r} needs a FixedLenFeature, and the receiver gives a VarLenFeature; "
            "build its feature_spec with make_parse_example_spec."
        )
    if _is_string(feature):
        raise ValueError(f"The numeric column {key!r} needs numbers, and the receiver gives text; declare it as float.")
    return op.cast(_as_matrix(feature), to=np.float32)


def _check_dtype(wanted: PaddedInput, values: Var) -> None:
    if _is_string(values) != wanted.dtype.is_string:
        given = "string" if _is_string(values) else dtypes.from_numpy(_element(values)).name
        raise ValueError(
            f"Column dtype and receiver dtype must be compatible. key: {wanted.key}, "
            f"column dtype: {wanted.dtype.name}, receiver dtype: {given}. "
            "Declare the feature with the column's dtype in the feature_spec."
        )


def _as_matrix(values: Var) -> Var:
    rank = len(_tensor(values).shape or ())
    return op.unsqueeze(values, op.const(np.array([1], np.int64))) if rank == 1 else values


def _tensor(value: Var) -> Tensor:
    return value.unwrap_tensor()


def _element(value: Var) -> np.dtype:
    return np.dtype(_tensor(value).dtype)


def _is_string(value: Var) -> bool:
    return _element(value).kind in "OSUT"
