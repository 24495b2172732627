"""Sample requests for a receiver: what an export is verified with, and what stands in its warmup file.

Owns the choice of values: words that the columns know and words they do not, ids within their range, numbers around
zero and large ones, defaults left out, lists of several lengths. The same receiver and columns give the same samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator_serving.exporter.receivers.receivers import ReceiverTensor, ServingInputReceiver
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.examples import encode_example_by_spec, join_examples
from estimator_serving.wire.features import (
    Feature,
    FeatureSpec,
    FixedLenFeature,
    FixedLenSequenceFeature,
    RaggedFeature,
    SparseFeature,
    VarLenFeature,
    example_dtypes,
)

Array = npt.NDArray[Any]

LENGTH_MAX = 3
WORDS = ("", "a", "é", "out of vocabulary")


def sample_inputs(receiver: ServingInputReceiver, definitions: Mapping[str, Any], rows: int) -> dict[str, Array]:
    """`rows` rows for every receiver tensor, by alias; text as object arrays of bytes."""
    return {alias: _tensor(tensor, definitions, rows) for alias, tensor in receiver.receiver_tensors.items()}


def graph_feeds(receiver: ServingInputReceiver, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """What a session of the exported graph is fed for these inputs."""
    feeds: dict[str, Array] = {}
    for alias, tensor in receiver.receiver_tensors.items():
        array = inputs[alias]
        if tensor.feature_spec is not None:
            feeds |= dict(zip(tensor.info.ragged_names, join_examples(array.tolist()), strict=True))
        else:
            feeds[tensor.info.value_name] = _as_text(array) if tensor.info.dtype.is_string else array
    return feeds


def sample_examples(spec: FeatureSpec, definitions: Mapping[str, Any], rows: int) -> list[bytes]:
    """`rows` serialized Examples of the spec, with the values that the columns know."""
    generator = np.random.default_rng(0)
    known = known_values(definitions)

    def features() -> dict[str, Any]:
        values = {key: _values(feature, known.get(key, ()), generator) for key, feature in spec.items()}
        values |= equal_sequences(spec, definitions, known, generator)
        return values | aligned_weights(values, spec, definitions, generator)

    carried = _carried(spec)
    return [encode_example_by_spec(_carry(features(), spec), carried) for _ in range(rows)]


def _carried(spec: FeatureSpec) -> dict[str, Feature]:
    """The lists that Examples of a spec hold, by their own keys: a sparse feature has several."""
    lists: dict[str, Feature] = {key: VarLenFeature(dtype) for key, dtype in example_dtypes(spec).items()}
    return lists | {key: feature for key, feature in spec.items() if isinstance(feature, FixedLenFeature)}


def _carry(values: Mapping[str, Any], spec: FeatureSpec) -> dict[str, Any]:
    """The same values under the keys that carry them, places in order for sparse ones."""
    carried: dict[str, Any] = {}
    for key, value in values.items():
        match spec[key]:
            case SparseFeature() as sparse:
                carried[sparse.value_key] = value
                carried |= {index: list(range(len(value))) for index in sparse.index_keys}
            case RaggedFeature() as ragged:
                carried[ragged.value_key or key] = value
            case _:
                carried[key] = value
    return carried


class Everything(tuple[Any, ...]):
    """Known values beside which there are no others."""

    __slots__ = ()


def known_values(definitions: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """What columns' definitions say a feature holds, by its key: the words of a vocabulary, the ids below a bound."""
    known: dict[str, tuple[Any, ...]] = {}
    for part in _parts(definitions):
        if "vocabulary_list" in part:
            known[part["key"]] = (Everything if "is_label" in part else tuple)(part["vocabulary_list"])
        elif part.get("kind") == "identity":
            known[part["key"]] = tuple(range(part["num_buckets"]))
    return known


def equal_sequences(
    spec: FeatureSpec, definitions: Mapping[str, Any], words: Mapping[str, Any], generator: np.random.Generator
) -> dict[str, list[Any]]:
    """The sequences of a row, by feature key: layers that stand side by side need as many steps of each."""
    columns = _sequence_columns(definitions)
    if not columns:
        return {}
    steps = int(generator.integers(0, LENGTH_MAX + 1))
    return {
        column["key"]: [
            _value(spec[column["key"]].dtype, words.get(column["key"], ()), generator)
            for _ in range(steps * int(np.prod(column.get("shape", ()), dtype=np.int64)))
        ]
        for column in columns
        if column["key"] in spec
    }


def _sequence_columns(definitions: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [output["column"] for output in definitions.values() if output.get("use") == "step_count"]


def _sequence_keys(definitions: Mapping[str, Any]) -> set[str]:
    return {column["key"] for column in _sequence_columns(definitions)}


def aligned_weights(
    values: Mapping[str, Any], spec: FeatureSpec, definitions: Mapping[str, Any], generator: np.random.Generator
) -> dict[str, list[float]]:
    """One weight for each id of every weighted column, by feature key."""
    weights: dict[str, list[float]] = {}
    for part in _parts(definitions):
        if part.get("kind") == "weighted" and part["weight"]["key"] in spec:
            key = part["weight"]["key"]
            count = _count_ids(part["categorical"], values)
            weights[key] = [_value(spec[key].dtype, (), generator) for _ in range(count)]
    return weights


def _count_ids(definition: Mapping[str, Any], values: Mapping[str, Any]) -> int:
    if definition["kind"] == "crossed":
        return int(np.prod([_count_ids(key, values) for key in definition["keys"]], dtype=np.int64))
    if definition["kind"] == "bucketized":
        return int(np.prod(definition["source"]["shape"], dtype=np.int64))
    return len(values[definition["key"]] or ())


def _parts(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
        for one in value.values():
            yield from _parts(one)
    elif isinstance(value, Iterable) and not isinstance(value, str):
        for one in value:
            yield from _parts(one)


def _tensor(tensor: ReceiverTensor, definitions: Mapping[str, Any], rows: int) -> Array:
    name = tensor.info.value_name
    known = known_values(definitions)
    if tensor.feature_spec is not None:
        return _objects(sample_examples(tensor.feature_spec, definitions, rows))
    # Seeded by the name, so that two tensors differ.
    generator = np.random.default_rng(list(name.encode()))
    shape = (rows, *(LENGTH_MAX if dim < 0 else dim for dim in (tensor.info.shape or ())[1:]))
    # Raw text '' is no value, and layers that stand side by side need as many steps of every sequence.
    words = tuple(w for w in WORDS if w) if name in _sequence_keys(definitions) else WORDS
    values = [_value(tensor.info.dtype, known.get(name, ()), generator, words) for _ in range(int(np.prod(shape)))]
    if tensor.info.dtype.is_string:
        return _objects([value.encode() for value in values]).reshape(shape)
    return np.array(values, np.float64).astype(tensor.info.dtype.numpy).reshape(shape)


def _objects(values: list[bytes]) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _as_text(array: Array) -> Array:
    """ONNX Runtime's binding takes str alone."""
    return _objects([value.decode() for value in array.ravel().tolist()]).reshape(array.shape)


def _values(feature: Feature, known: tuple[Any, ...], generator: np.random.Generator) -> list[Any] | None:
    if isinstance(feature, FixedLenFeature):
        if feature.default_value is not None and generator.random() < 0.25:
            return None
        count = int(np.prod(feature.shape, dtype=np.int64))
    else:
        count = int(generator.integers(0, LENGTH_MAX + 1))
        if isinstance(feature, FixedLenSequenceFeature):
            count *= int(np.prod(feature.shape, dtype=np.int64))
    return [_value(feature.dtype, known, generator) for _ in range(count)]


def _value(dtype: DType, known: tuple[Any, ...], generator: np.random.Generator, words: tuple[str, ...] = WORDS) -> Any:
    is_one = not dtype.is_string or isinstance(known, Everything)
    if known and (is_one or generator.random() < 0.75):
        return known[generator.integers(len(known))]
    if dtype.is_string:
        return words[generator.integers(len(words))]
    if dtype.name == "bool":
        return bool(generator.integers(2))
    if dtype.numpy.kind in "iu":
        return int(generator.integers(0 if dtype.numpy.kind == "u" else -2, 50))
    return float(np.float32(generator.normal() * 10.0 ** generator.integers(-1, 3)))
