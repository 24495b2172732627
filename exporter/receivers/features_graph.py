"""Raw features as nodes of a graph: the inputs of a transform or a network, and outputs.

Owns how a raw feature becomes an input of the transform or of a network, how one is handed on as an output, and how ids
become text. What counts as nothing in a dense feature is decided by the transform's inputs, as in training. Knows
nothing of signatures, files or torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import spox.opset.ai.onnx.v21 as op
from spox import Var, inline

from estimator_serving.training.columns.inputs import Input, PaddedInput
from estimator_serving.training.columns.padding import Padded, is_within
from estimator_serving.training.forward_features import ForwardedFeature
from estimator_serving.wire import dtypes

RawFeatures = Mapping[str, Var | Padded]


def feed_transform(features: RawFeatures, inputs: Iterable[Input]) -> dict[str, Var]:
    """The transform's inputs, by name, from raw features.

    Raises ValueError naming a feature that the receiver does not give, or gives in a form the column cannot read.
    """
    fed: dict[str, Var] = {}
    for wanted in inputs:
        feature = _find(features, wanted.key)
        if isinstance(wanted, PaddedInput):
            values = feature.values if isinstance(feature, Padded) else feature
            element = np.dtype(wanted.element)
            # As in training: text for text, integers for ids, any number for weights and sequences.
            takes = {"U": "OSUT", "i": "iu", "f": "fiub"}[element.kind]
            if _element(values).kind not in takes:
                given = "string" if is_string(values) else dtypes.from_numpy(_element(values)).name
                raise ValueError(
                    f"Column dtype and receiver dtype must be compatible. key: {wanted.key}, "
                    f"column dtype: {wanted.dtype.name}, receiver dtype: {given}. "
                    "Declare the feature with the column's dtype in the feature_spec."
                )
            if _element(values).kind not in "OSUT" and _element(values) != element:
                # Before anything is dropped, as in training: a weight too small for float32 is 0.
                values = op.cast(values, to=element)
            padded = Padded(values, feature.lengths) if isinstance(feature, Padded) else wanted.pad(values)
            fed |= dict(zip(wanted.names, (padded.values, padded.lengths), strict=True))
            continue
        if isinstance(feature, Padded):
            raise ValueError(
                f"The numeric column {wanted.key!r} needs a FixedLenFeature, and the receiver gives a VarLenFeature; "
                "build its feature_spec with make_parse_example_spec."
            )
        if is_string(feature):
            raise ValueError(
                f"The numeric column {wanted.key!r} needs numbers, and the receiver gives text; declare it as float."
            )
        numbers = op.cast(feature, to=np.float32)
        if (feature.unwrap_tensor().shape or ())[1:] != wanted.shape:
            # 0 keeps the batch, which -1 could not infer for a batch of 0 rows.
            numbers = op.reshape(numbers, op.const(np.array([0, *wanted.shape], np.int64)))
        fed[wanted.key] = numbers
    return fed


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


def forward(features: RawFeatures, wanted: ForwardedFeature) -> Var:
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
    return op.where(is_within(feature), feature.values, op.const(np.array(wanted.default, element)))


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


def _find(features: RawFeatures, key: str) -> Var | Padded:
    if key not in features:
        raise ValueError(
            f"Feature {key} is not in features dictionary. "
            f"The serving input receiver gives {', '.join(sorted(features))}; "
            "build its feature_spec with make_parse_example_spec from the columns the model was trained with."
        )
    return features[key]


def _element(value: Var) -> np.dtype:
    return np.dtype(value.unwrap_tensor().dtype)


def is_string(value: Var) -> bool:
    return _element(value).kind in "OSUT"
