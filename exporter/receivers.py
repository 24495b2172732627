"""Serving input receivers: the part of the exported graph that turns what a client sends into raw features.

Owns the receiver's inputs and their features, as spox values. Knows nothing of columns, networks or files.
Source: TF 2.15 estimator, export.ServingInputReceiver and its builders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from spox import Tensor, Var, argument

from estimator_serving.training.onnx_ops import parse_example
from estimator_serving.wire import dtypes
from estimator_serving.wire.examples import FeatureSpec, VarLenFeature
from estimator_serving.wire.signatures import EXAMPLES_TENSOR, TensorInfo

EXAMPLES_KEY = "examples"


@dataclass(frozen=True)
class Padded:
    """A feature with any number of values a row.

    Attributes:
        values: [batch, k], padded behind each row's values.
        lengths: int64[batch], how many of them count.
    """

    values: Var
    lengths: Var


@dataclass(frozen=True)
class ReceiverTensor:
    """One tensor a client sends.

    Attributes:
        info: what signatures say of it.
        inputs: the graph inputs that carry it, by their names.
    """

    info: TensorInfo
    inputs: Mapping[str, Var]


@dataclass(frozen=True)
class ServingInputReceiver:
    """What clients send, and the features made of it.

    Attributes:
        features: raw features by key: [batch, ...] values, or Padded ones.
        receiver_tensors: what clients send, by alias.
        feature_spec: the features of the serialized Examples, where Examples are what clients send.

    Raises ValueError where one of the two is missing.
    """

    features: Mapping[str, Var | Padded]
    receiver_tensors: Mapping[str, ReceiverTensor]
    feature_spec: FeatureSpec | None = None

    def __post_init__(self) -> None:
        if not self.features:
            raise ValueError("features must be defined. Give the receiver at least one feature, by its key.")
        if not self.receiver_tensors:
            raise ValueError("receiver_tensors must be defined. Give the receiver at least one that clients send.")

    @property
    def graph_inputs(self) -> dict[str, Var]:
        """Every graph input of every receiver tensor, by name."""
        return {name: var for tensor in self.receiver_tensors.values() for name, var in tensor.inputs.items()}

    @property
    def takes_examples(self) -> bool:
        """Whether clients send serialized Examples and nothing else, which classify and regress need."""
        return self.feature_spec is not None and len(self.receiver_tensors) == 1


ServingInputReceiverFn = Callable[[], ServingInputReceiver]


def build_parsing_serving_input_receiver_fn(
    feature_spec: FeatureSpec, default_batch_size: int | None = None
) -> ServingInputReceiverFn:
    """A receiver of serialized tf.Examples.

    Args:
        feature_spec: FixedLenFeature and VarLenFeature by key, as `make_parse_example_spec` gives them.
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
        batch = -1 if default_batch_size is None else default_batch_size
        info = TensorInfo(f"{EXAMPLES_TENSOR}:0", dtypes.string, (batch,))
        values_name, splits_name = info.ragged_names
        values, splits = argument(Tensor(np.uint8, ("bytes",))), argument(Tensor(np.int64, ("batch+1",)))
        tensor = ReceiverTensor(info, {values_name: values, splits_name: splits})
        return ServingInputReceiver(_parse(spec, values, splits), {EXAMPLES_KEY: tensor}, spec)

    return serving_input_receiver_fn


def _parse(spec: FeatureSpec, values: Var, row_splits: Var) -> dict[str, Var | Padded]:
    parsed = parse_example(values, row_splits, spec)

    def feature(key: str) -> Var | Padded:
        is_padded = isinstance(spec[key], VarLenFeature)
        return Padded(parsed[f"{key}/values"], parsed[f"{key}/lengths"]) if is_padded else parsed[key]

    return {key: feature(key) for key in spec}
