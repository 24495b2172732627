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

from estimator_serving.exporter.receivers.padding import Padded
from estimator_serving.training.columns.definitions import Input, NumericInput, PaddedInput, SequenceInput, WeightInput
from estimator_serving.training.forward_features import ForwardedFeature
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
            fed[wanted.names[0]] = _numeric(wanted, feature)
    return fed


def _pad(feature: Var, wanted: PaddedInput) -> Padded:
    if wanted.blank is None:
        return pad_whole(feature)
    pad = pad_sequence if isinstance(wanted, SequenceInput) else pad_dense
    return pad(feature, wanted.blank)


def direct_feature(feature: Var | Padded) -> Var | None:
    """A feature that model_fn may read itself: a number as float32, int64 or bool, as training gives it.

    None for text and for padded features, which never enter a network directly.
    """
    if isinstance(feature, Padded) or is_string(feature):
        return None
    kind = _element(feature).kind
    return feature if kind == "b" else op.cast(feature, to=np.dtype(np.int64 if kind in "iu" else np.float32))


def count_rows(feature: Var | Padded) -> Var:
    """int64 zeros, as many as the feature has rows: a network's input where it reads no feature itself."""
    batch = op.shape(feature.lengths if isinstance(feature, Padded) else feature, start=0, end=1)
    return op.expand(op.const(np.int64(0)), batch)


def pad_dense(values: Var, blank: str | float) -> Padded:
    """A dense feature, [batch] or [batch, k], as a padded one: what equals `blank` (a NaN: is one) is dropped, the rest
    moves up.

    Source: TF 2.15 feature columns, dense categorical input.
    """
    rows = as_matrix(values)
    if blank != blank:
        dropped = op.isnan(rows)
    else:
        dropped = op.equal(rows, op.const(blank) if is_string(rows) else op.const(_element(rows).type(blank)))
    kept = op.cast(op.not_(dropped), to=np.int64)
    lengths = op.reduce_sum(kept, op.const(np.array([1], np.int64)), keepdims=False)
    # Sorting by `kept`, first come first, moves what is kept to the front without changing its order.
    width = _width(rows)
    countdown = op.sub(width, op.range(op.const(np.int64(0)), op.squeeze(width), op.const(np.int64(1))))
    order = op.top_k(op.mul(kept, countdown), width, axis=1)[1]
    return Padded(op.gather_elements(rows, order, axis=1), lengths)


def pad_whole(values: Var) -> Padded:
    """A dense feature, [batch] or [batch, k], as a padded one in which everything is a value."""
    rows = as_matrix(values)
    return Padded(rows, op.expand(_width(rows), op.shape(rows, end=1)))


def pad_sequence(values: Var, blank: str | float) -> Padded:
    """A dense feature, [batch] or [batch, k], as a padded one: what equals `blank` is dropped at a row's end alone."""
    rows = as_matrix(values)
    kept = op.cast(op.not_(op.equal(rows, op.const(_element(rows).type(blank)))), to=np.int64)
    places = op.range(
        op.const(np.int64(1)), op.add(op.squeeze(_width(rows)), op.const(np.int64(1))), op.const(np.int64(1))
    )
    # A column of zeros in front: the largest of no numbers is none.
    last = op.pad(op.mul(kept, places), op.const(np.array([0, 1, 0, 0], np.int64)))
    return Padded(rows, op.reduce_max(last, op.const(np.array([1], np.int64)), keepdims=False))


def _width(rows: Var) -> Var:
    return op.shape(rows, start=1, end=2)


def forward(features: Features, wanted: ForwardedFeature) -> Var:
    """A feature as an output: dense as it is, a padded one [batch, k] with its default behind each row's values.

    Raises ValueError where the receiver does not give the feature, or gives it padded and there is no default.
    """
    feature = _find(features, wanted.key)
    if not isinstance(feature, Padded):
        return op.identity(feature)
    if wanted.default is None:
        raise ValueError(
            f"Feature ({wanted.key}) should be a Tensor. Please use `keys` argument of forward_features to filter "
            f"unwanted features, or add key to argument `sparse_default_values`."
        )
    element = str if is_string(feature.values) else _element(feature.values).type
    width = op.squeeze(op.shape(feature.values, start=1))
    places = op.range(op.const(np.int64(0)), width, op.const(np.int64(1)))
    kept = op.less(places, op.unsqueeze(feature.lengths, op.const(np.array([1], np.int64))))
    return op.where(kept, feature.values, op.const(np.array(wanted.default, element)))


def look_up_text(ids: Var, vocabulary: tuple[str, ...]) -> Var:
    """The entries of a vocabulary behind int64 ids, same shape."""
    return op.gather(op.const(np.array(vocabulary, dtype=str)), ids)


def run_graph(model: onnx.ModelProto, feeds: Mapping[str, Var]) -> dict[str, Var]:
    """The outputs of a graph for these inputs, by name; inputs it does not have are left aside."""
    names = [value.name for value in model.graph.input]
    # spox cannot inline a graph that hands an input on as an output.
    passed = {value.name: feeds[value.name] for value in model.graph.output if value.name in names}
    if not passed:
        return dict(inline(model)(**{name: feeds[name] for name in names}))
    computing = onnx.ModelProto()
    computing.CopyFrom(model)
    outputs = [value for value in model.graph.output if value.name not in passed]
    del computing.graph.output[:]
    computing.graph.output.extend(outputs)
    return passed | (run_graph(computing, feeds) if outputs else {})


def _find(features: Features, key: str) -> Var | Padded:
    if key not in features:
        raise ValueError(
            f"Feature {key} is not in features dictionary. "
            f"The serving input receiver gives {', '.join(sorted(features))}; "
            "build its feature_spec with make_parse_example_spec from the columns the model was trained with."
        )
    return features[key]


def _numeric(wanted: NumericInput, feature: Var | Padded) -> Var:
    key = wanted.key
    if isinstance(feature, Padded):
        raise ValueError(
            f"The numeric column {key!r} needs a FixedLenFeature, and the receiver gives a VarLenFeature; "
            "build its feature_spec with make_parse_example_spec."
        )
    if is_string(feature):
        raise ValueError(f"The numeric column {key!r} needs numbers, and the receiver gives text; declare it as float.")
    numbers = op.cast(feature, to=np.float32)
    if (_tensor(feature).shape or ())[1:] == wanted.shape:
        return numbers
    # 0 keeps the batch, which -1 could not infer for a batch of 0 rows.
    return op.reshape(numbers, op.const(np.array([0, *wanted.shape], np.int64)))


def _check_dtype(wanted: PaddedInput, values: Var) -> None:
    if is_string(values) != wanted.dtype.is_string:
        given = "string" if is_string(values) else dtypes.from_numpy(_element(values)).name
        raise ValueError(
            f"Column dtype and receiver dtype must be compatible. key: {wanted.key}, "
            f"column dtype: {wanted.dtype.name}, receiver dtype: {given}. "
            "Declare the feature with the column's dtype in the feature_spec."
        )


def as_matrix(values: Var) -> Var:
    """[batch] as [batch, 1], [batch, i, j, …] as [batch, i · j · …], a batch of 0 rows too."""
    return op.flatten(values, axis=1)


def _tensor(value: Var) -> Tensor:
    return value.unwrap_tensor()


def _element(value: Var) -> np.dtype:
    return np.dtype(_tensor(value).dtype)


def is_string(value: Var) -> bool:
    return _element(value).kind in "OSUT"
