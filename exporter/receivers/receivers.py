"""Serving input receivers: the part of the exported graph that turns what a client sends into raw features.

Owns the tensors clients send and the features made of them, as spox values, and TensorFlow's checks of both. Knows
nothing of columns, networks or files.
Source: TF 2.15 estimator, export.ServingInputReceiver and its builders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import spox.opset.ai.onnx.v21 as op
from spox import Tensor, Var, argument

from estimator_serving.exporter.receivers.row_splits import pad_rows, splits_of_rows
from estimator_serving.training.columns import onnx_ops
from estimator_serving.training.columns.padding import Padded
from estimator_serving.wire import dtypes
from estimator_serving.wire.features import (
    FeatureSpec,
    FixedLenFeature,
    FixedLenSequenceFeature,
    RaggedFeature,
    SparseFeature,
    VarLenFeature,
    tensors_of,
)
from estimator_serving.wire.signatures import EXAMPLES_TENSOR, TensorInfo

EXAMPLES_KEY = "examples"
SINGLE_FEATURE_KEY = "feature"
SINGLE_RECEIVER_KEY = "input"
SINGLE_LABEL_KEY = "label"


@dataclass(eq=False, repr=False)
class ReceiverTensor:
    """One tensor a client sends; `placeholder` makes it.

    It enters the graph as one input of its name, or, once `parse_example` reads it, as the ragged bytes of serialized
    Examples.

    Attributes:
        info: what signatures say of it.
        feature_spec: the features parsed from it; None where it is not parsed.
        parsed: what was made of them, by key.
    """

    info: TensorInfo
    feature_spec: FeatureSpec | None = None
    parsed: dict[str, Var | Padded] = field(default_factory=dict)

    @cached_property
    def var(self) -> Var:
        """The tensor in the graph. Raises ValueError where it is parsed as Examples."""
        if self.feature_spec is not None:
            raise ValueError(_READ_TWICE.format(self.info.value_name))
        shape = None if self.info.shape is None else tuple(None if dim < 0 else dim for dim in self.info.shape)
        return argument(Tensor(str if self.info.dtype.is_string else self.info.dtype.numpy, shape))

    @cached_property
    def _ragged(self) -> tuple[Var, Var]:
        return argument(Tensor(np.uint8, ("bytes",))), argument(Tensor(np.int64, ("batch+1",)))

    @property
    def inputs(self) -> dict[str, Var]:
        """The graph inputs that carry it, by their names."""
        if self.feature_spec is None:
            return {self.info.value_name: self.var}
        return dict(zip(self.info.ragged_names, self._ragged, strict=True))

    def parse(self, spec: FeatureSpec) -> tuple[Var, Var]:
        """The bytes and row splits of Examples, of which `spec` is read from now on."""
        if not self.info.dtype.is_string or self.info.shape is None or len(self.info.shape) != 1:
            raise ValueError(
                f"parse_example takes a string tensor [batch] of serialized Examples; {self.info.value_name} is "
                f"{self.info.dtype.name} {self.info.shape}. Make it with placeholder(str, [None], name)."
            )
        if "var" in self.__dict__:
            raise ValueError(_READ_TWICE.format(self.info.value_name))
        self.feature_spec = {**(self.feature_spec or {}), **spec}
        return self._ragged


_READ_TWICE = (
    "The receiver tensor {} is read as serialized Examples and as text; give the two a placeholder each, or read one."
)

FeatureValue = Var | Padded | ReceiverTensor


def placeholder(dtype: Any, shape: Iterable[int | None], name: str) -> ReceiverTensor:
    """A tensor that clients send, for a receiver made by hand.

    Args:
        dtype: any form `as_dtype` takes: float, int, str, "float32", np.int32, …
        shape: the batch first; None (or -1) where a length is open.
        name: its name in the graph and in the signatures' TensorInfo.

    It can stand in `features` as it is; in a computation use its `.var` with the operators of `spox.opset.ai.onnx`.
    Raises ValueError for a scalar, which has no batch.
    """
    dims = tuple(-1 if dim is None else int(dim) for dim in shape)
    if not dims:
        raise ValueError(f"The placeholder {name} is a scalar; the first dimension is the batch, so give at least one.")
    return ReceiverTensor(TensorInfo(f"{name}:0", dtypes.as_dtype(dtype), dims))


def parse_example(serialized: ReceiverTensor, spec: FeatureSpec) -> dict[str, Var | Padded]:
    """The features of serialized Examples, parsed inside the graph.

    Args:
        serialized: a placeholder of str [None].
        spec: features by key; others in the Examples are skipped.

    Returns:
        A FixedLenFeature as [batch, *shape], a FixedLenSequenceFeature as [batch, k, *shape], the others as Padded: a
        SparseFeature without its indices within the row, as columns read it, a RaggedFeature of one level.

    Raises ValueError for an empty spec, for a tensor that is not string [batch], and for a RaggedFeature of more
    levels, which no column reads. Source: TF 2.15, tf.io.parse_example.
    """
    if not spec:
        raise ValueError(
            "The feature_spec is empty, so there is nothing to parse; pass make_parse_example_spec(feature_columns)."
        )
    parsed = onnx_ops.parse_example(*serialized.parse(spec), spec)
    features: dict[str, Var | Padded] = {}
    for key, feature in spec.items():
        match feature:
            case FixedLenFeature() | FixedLenSequenceFeature():
                features[key] = parsed[key]
            case VarLenFeature():
                features[key] = Padded(parsed[f"{key}/values"], parsed[f"{key}/lengths"])
            case SparseFeature():
                rows = op.gather(parsed[f"{key}/indices"], op.const(np.int64(0)), axis=1)
                batch = op.gather(parsed[f"{key}/dense_shape"], op.const(np.array([0], np.int64)))
                features[key] = pad_rows(parsed[f"{key}/values"], splits_of_rows(rows, batch))
            case RaggedFeature():
                if feature.ragged_rank != 1:
                    raise ValueError(
                        f"The RaggedFeature {key} has {feature.ragged_rank} levels, and features of columns have one; "
                        "declare it without partitions."
                    )
                _, splits = tensors_of(key, feature)
                features[key] = pad_rows(parsed[f"{key}/values"], op.cast(parsed[splits.name], to=np.int64))
    serialized.parsed |= features
    return features


class ServingInputReceiver:
    """What clients send, and the features made of it.

    Args:
        features: by key, what model_fn reads: placeholders, results of `parse_example`, or spox values computed of
            them. A single one gets the key `feature`.
        receiver_tensors: placeholders by alias, what clients send. A single one gets the alias `input`.
        receiver_tensors_alternatives: name -> further groups by alias: values on the way from the receiver tensors to
            the features, that clients may send instead. Each group makes signatures `<name>:<key>`. Rows of any number
            of values come as one tensor, filled up with '' in text, -1 in integers and NaN in floats.

    Attributes:
        feature_values: the features by key, also where model_fn takes a bare tensor.
        is_bare: whether model_fn takes one tensor instead of a mapping.

    Raises ValueError with TF's texts. Source: TF 2.15 estimator, export.ServingInputReceiver.
    """

    is_bare = False

    def __init__(
        self, features: Any, receiver_tensors: Any, receiver_tensors_alternatives: Mapping[str, Any] | None = None
    ) -> None:
        self.feature_values: Mapping[str, Var | Padded] = _checked_features(features, SINGLE_FEATURE_KEY)
        self.features: Any = self.feature_values
        if receiver_tensors is None or (isinstance(receiver_tensors, Mapping) and not receiver_tensors):
            raise ValueError("receiver_tensors must be defined. Give the receiver at least one that clients send.")
        self.receiver_tensors: dict[str, ReceiverTensor] = _by_alias(
            receiver_tensors, "receiver_tensor", ReceiverTensor
        )
        alternatives = {} if receiver_tensors_alternatives is None else receiver_tensors_alternatives
        if not isinstance(alternatives, Mapping):
            raise ValueError(
                f"receiver_tensors_alternatives must be a dict: {alternatives}. Write {{name: {{alias: tensor}}}}."
            )
        self.receiver_tensors_alternatives: dict[str, dict[str, FeatureValue]] = {
            name: _by_alias(group, "receiver_tensors_alternative", FeatureValue) for name, group in alternatives.items()
        }

    def source_of(self, value: Var | Padded, key: Any) -> str:
        """How clients call a value that they send as it is; its own key where it is computed of what they send."""
        for tensor in self.receiver_tensors.values():
            sent = tensor.parsed or {tensor.info.value_name: tensor.var}
            for name, one in sent.items():
                if one is value:
                    return name
        return str(key)

    @property
    def graph_inputs(self) -> dict[str, Var]:
        """Every graph input of every receiver tensor, by name."""
        return {name: var for tensor in self.receiver_tensors.values() for name, var in tensor.inputs.items()}

    @property
    def feature_spec(self) -> FeatureSpec | None:
        """The features of the serialized Examples, None unless exactly one receiver tensor is parsed."""
        specs = [one.feature_spec for one in self.receiver_tensors.values() if one.feature_spec is not None]
        return specs[0] if len(specs) == 1 else None

    @property
    def takes_examples(self) -> bool:
        """Whether clients send only serialized Examples, which classify and regress need."""
        return self.feature_spec is not None and len(self.receiver_tensors) == 1


class TensorServingInputReceiver(ServingInputReceiver):
    """A receiver whose one feature reaches model_fn as a bare tensor instead of a mapping.

    Raises ValueError with TF's texts. Source: TF 2.15 estimator, export.TensorServingInputReceiver.
    """

    is_bare = True

    def __init__(
        self, features: Any, receiver_tensors: Any, receiver_tensors_alternatives: Mapping[str, Any] | None = None
    ) -> None:
        if features is None:
            raise ValueError("features must be defined. Give the receiver the tensor that model_fn takes.")
        if isinstance(features, Padded) or not isinstance(features, FeatureValue):
            raise ValueError(
                "feature must be a Tensor, SparseTensor, or RaggedTensor. TensorServingInputReceiver takes one dense "
                f"tensor, given: {features!r}; use ServingInputReceiver for several."
            )
        super().__init__(features, receiver_tensors, receiver_tensors_alternatives)
        self.features = self.feature_values[SINGLE_FEATURE_KEY]


class SupervisedInputReceiver(ServingInputReceiver):
    """Features and labels that clients send, for exports of training and evaluation.

    `labels` is a placeholder (or a value computed of one), or several by key.
    Raises ValueError with TF's texts. Source: TF 2.15 estimator, export.SupervisedInputReceiver.
    """

    def __init__(self, features: Any, labels: Any, receiver_tensors: Any) -> None:
        super().__init__(features, receiver_tensors)
        self.is_bare = not isinstance(features, Mapping)
        self.labels = _checked_features(labels, SINGLE_LABEL_KEY, "label")
        self.has_one_label = not isinstance(labels, Mapping)


ServingInputReceiverFn = Callable[[], ServingInputReceiver]


def make_receiver(receiver_fn: ServingInputReceiverFn) -> ServingInputReceiver:
    """What `receiver_fn` makes. Raises TypeError for what is not a function, such as the feature spec itself."""
    if not callable(receiver_fn):
        raise TypeError(
            f"serving_input_receiver_fn must be a function that makes the receiver; got {type(receiver_fn).__name__}. "
            "Pass build_parsing_serving_input_receiver_fn(feature_spec)."
        )
    return receiver_fn()


def build_parsing_serving_input_receiver_fn(
    feature_spec: FeatureSpec, default_batch_size: int | None = None
) -> ServingInputReceiverFn:
    """A receiver of serialized tf.Examples.

    Args:
        feature_spec: features by key, as `make_parse_example_spec` gives them.
        default_batch_size: the batch size signatures declare; None leaves it open.

    Returns:
        A function without arguments that makes the receiver: string[batch] under the alias `examples`, in the graph
        `input_example_tensor/values` uint8[n] and `input_example_tensor/row_splits` int64[batch + 1].

    Raises ValueError for an empty spec. Source: TF 2.15 estimator, export.build_parsing_serving_input_receiver_fn.
    """
    if not feature_spec:
        raise ValueError(
            "The feature_spec is empty, so there is nothing to parse; pass make_parse_example_spec(feature_columns)."
        )
    spec = dict(feature_spec)

    def serving_input_receiver_fn() -> ServingInputReceiver:
        serialized = placeholder(str, [default_batch_size], EXAMPLES_TENSOR)
        return ServingInputReceiver(parse_example(serialized, spec), {EXAMPLES_KEY: serialized})

    return serving_input_receiver_fn


def build_raw_serving_input_receiver_fn(
    features: Mapping[str, Any], default_batch_size: int | None = None
) -> ServingInputReceiverFn:
    """A receiver of the features themselves, one tensor each, under their keys.

    Args:
        features: arrays (numpy or torch) or placeholders by key, of which dtype and shape count: [batch, ...].
        default_batch_size: the batch size signatures declare; None leaves it open.

    In text '' and in categorical ids -1 mean nothing, so that rows of several lengths fit one tensor. Raises ValueError
    for no feature and for one without a batch dimension.
    Source: TF 2.15 estimator, export.build_raw_serving_input_receiver_fn.
    """
    templates = _templates(features, default_batch_size)

    def serving_input_receiver_fn() -> ServingInputReceiver:
        made = _placeholders(templates)
        return ServingInputReceiver(made, made)

    return serving_input_receiver_fn


def build_raw_supervised_input_receiver_fn(
    features: Any, labels: Any, default_batch_size: int | None = None
) -> Callable[[], SupervisedInputReceiver]:
    """A receiver of features and labels, one tensor each, for exports of training and evaluation.

    A single array of features gets the key `input`, a single array of labels `label`. The rest as in
    build_raw_serving_input_receiver_fn. Raises ValueError where both have a key.
    Source: TF 2.15 estimator, experimental.build_raw_supervised_input_receiver_fn.
    """
    named = features if isinstance(features, Mapping) else {SINGLE_RECEIVER_KEY: features}
    named_labels = labels if isinstance(labels, Mapping) else {SINGLE_LABEL_KEY: labels}
    if overlapping := set(named) & set(named_labels):
        raise ValueError(
            f"Features and labels must have distinct keys. Found overlapping keys: {overlapping}. Rename one of them."
        )
    templates, label_templates = _templates(named, default_batch_size), _templates(named_labels, default_batch_size)

    def supervised_input_receiver_fn() -> SupervisedInputReceiver:
        made, made_labels = _placeholders(templates), _placeholders(label_templates)
        labels_given: Any = made_labels if isinstance(labels, Mapping) else made_labels[SINGLE_LABEL_KEY]
        return SupervisedInputReceiver(made, labels_given, made | made_labels)

    return supervised_input_receiver_fn


def _templates(features: Mapping[str, Any], batch_size: int | None) -> dict[str, TensorInfo]:
    if not features:
        raise ValueError("features must be defined. Give at least one array, by its key.")
    templates = {}
    for key, value in features.items():
        if isinstance(value, ReceiverTensor):
            dtype, shape = value.info.dtype, value.info.shape or ()
        else:
            array = value if hasattr(value, "dtype") else np.asarray(value)
            # A torch tensor's dtype is none of numpy's.
            is_numpy = isinstance(array.dtype, np.dtype)
            dtype = dtypes.from_numpy(array.dtype) if is_numpy else dtypes.as_dtype(array.dtype)
            shape = tuple(array.shape)
        if not shape:
            raise ValueError(
                f"The feature {key} is a scalar; raw features are [batch, ...], so give it a batch dimension."
            )
        templates[key] = TensorInfo(f"{key}:0", dtype, (-1 if batch_size is None else batch_size, *shape[1:]))
    return templates


def _placeholders(templates: Mapping[str, TensorInfo]) -> dict[str, ReceiverTensor]:
    return {key: ReceiverTensor(info) for key, info in templates.items()}


# -- TensorFlow's checks ----------------------------------------------------------------------------------------------


def _checked_features(features: Any, single_key: str, label: str = "feature") -> dict[Any, Var | Padded]:
    if features is None or (isinstance(features, Mapping) and not features):
        raise ValueError(f"{label}s must be defined. Give the receiver at least one {label}, by its key.")
    named = features if isinstance(features, Mapping) else {single_key: features}
    for key, value in named.items():
        if not isinstance(key, str | int):
            raise ValueError(f"{label} keys must be strings or ints: {key}.")
        if not isinstance(value, FeatureValue):
            raise ValueError(f"{label} {key} must be a Tensor, SparseTensor, or RaggedTensor. {_WHAT_TENSORS_ARE}")
    return {key: value.var if isinstance(value, ReceiverTensor) else value for key, value in named.items()}


def _by_alias(tensors: Any, what: str, kinds: Any) -> dict[str, Any]:
    """The tensors by alias, a single one under TensorFlow's; every one of them is checked."""
    named = tensors if isinstance(tensors, Mapping) else {SINGLE_RECEIVER_KEY: tensors}
    for key, value in named.items():
        if not isinstance(key, str):
            raise ValueError(f"{what} keys must be strings: {key}.")
        if not isinstance(value, kinds):
            raise ValueError(f"{what} {key} must be a Tensor, SparseTensor, or RaggedTensor. {_WHAT_TENSORS_ARE}")
    return dict(named)


_WHAT_TENSORS_ARE = (
    "Give a placeholder(dtype, shape, name), what parse_example(placeholder, spec) returns, or a spox value."
)
