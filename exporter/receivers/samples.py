"""Samples: made-up rows for a receiver, with which an export is verified and which its warmup file holds.

Owns the choice of values: words that the columns know and words they do not, ids within their range, numbers around
zero and large ones, features with a default left out now and then, lists of several lengths. The same receiver and
columns give the same samples. Knows nothing of networks or files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from estimator_serving.exporter.receivers.receivers import ServingInputReceiver
from estimator_serving.training.arrays import Array
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

LENGTH_MAX = 3
WORDS = ("", "a", "é", "out of vocabulary")
_MANY = 10_000
T = TypeVar("T")


def accepted_inputs(
    receiver: ServingInputReceiver,
    definitions: Sequence[Mapping[str, Any]],
    rows: int,
    model: Callable[[dict[str, Array]], T],
) -> tuple[dict[str, Array], T]:
    """The first sample rows that a model does not refuse, and what it gives for them.

    The definitions are tried in turn. Then all numbers that the last ones do not describe are 0 and 1, first the whole
    ones: an embedding of ten rows refuses the id 11. Raises what the model raised for the first rows.
    """
    dtypes = {one.info.value_name: one.info.dtype for one in receiver.receiver_tensors.values()}
    for one in receiver.receiver_tensors.values():
        dtypes |= {key: feature.dtype for key, feature in (one.feature_spec or {}).items()}
    tried = list(definitions)
    for kinds in ("iu", "iuf"):
        small = [key for key, dtype in dtypes.items() if not dtype.is_string and dtype.numpy.kind in kinds]
        tried.append({key: {"kind": "identity", "key": key, "num_buckets": 2} for key in small} | {**definitions[-1]})
    errors = []
    for known in tried:
        inputs = sample_inputs(receiver, known, rows)
        try:
            return inputs, model(inputs)
        except Exception as error:
            errors.append(error)
    raise errors[0]


def sample_inputs(receiver: ServingInputReceiver, definitions: Mapping[str, Any], rows: int) -> dict[str, Array]:
    """`rows` rows for every receiver tensor, by alias; text as object arrays of bytes.

    `definitions` are those of a transform: what its columns say of the features.
    """
    known = known_values(definitions)
    sequence_keys = {column["key"] for column in _sequence_columns(definitions)}
    inputs: dict[str, Array] = {}
    for alias, tensor in receiver.receiver_tensors.items():
        if tensor.feature_spec is not None:
            inputs[alias] = _objects(sample_examples(tensor.feature_spec, definitions, rows))
            continue
        name, dtype = tensor.info.value_name, tensor.info.dtype
        # Seeded by the name, so that two tensors differ.
        generator = np.random.default_rng(list(name.encode()))
        shape = (rows, *(LENGTH_MAX if dim < 0 else dim for dim in (tensor.info.shape or ())[1:]))
        # Raw text '' is no value, and layers that stand side by side need as many steps of every sequence.
        words = tuple(w for w in WORDS if w) if name in sequence_keys else WORDS
        values = _values(dtype, known.get(name, ()), generator, int(np.prod(shape)), words)
        if dtype.is_string:
            inputs[alias] = _objects([value.encode() for value in values]).reshape(shape)
        else:
            inputs[alias] = np.array(values, np.float64).astype(dtype.numpy).reshape(shape)
    return inputs


def graph_feeds(receiver: ServingInputReceiver, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """What a session of the exported graph is fed for these inputs."""
    feeds: dict[str, Array] = {}
    for alias, tensor in receiver.receiver_tensors.items():
        array = inputs[alias]
        if tensor.feature_spec is not None:
            feeds |= dict(zip(tensor.info.ragged_names, join_examples(array.tolist()), strict=True))
        elif tensor.info.dtype.is_string:
            # ONNX Runtime's Python binding takes text as str and not as bytes.
            words = [value.decode() for value in array.ravel().tolist()]
            feeds[tensor.info.value_name] = _objects(words).reshape(array.shape)
        else:
            feeds[tensor.info.value_name] = array
    return feeds


def sample_examples(spec: FeatureSpec, definitions: Mapping[str, Any], rows: int) -> list[bytes]:
    """`rows` serialized Examples of the spec, with the values that the columns know."""
    generator = np.random.default_rng(0)
    known = known_values(definitions)
    # The lists that an Example holds, by their own keys: those of a sparse feature are several.
    lists: dict[str, Feature] = {key: VarLenFeature(dtype) for key, dtype in example_dtypes(spec).items()}
    lists |= {key: feature for key, feature in spec.items() if isinstance(feature, FixedLenFeature)}
    examples = []
    for _ in range(rows):
        values: dict[str, list[Any] | None] = {}
        for key, feature in spec.items():
            if isinstance(feature, FixedLenFeature):
                is_left_out = feature.default_value is not None and generator.random() < 0.25
                count = int(np.prod(feature.shape, dtype=np.int64))
            else:
                is_left_out, count = False, int(generator.integers(0, LENGTH_MAX + 1))
                if isinstance(feature, FixedLenSequenceFeature):
                    count *= int(np.prod(feature.shape, dtype=np.int64))
            made = _values(feature.dtype, known.get(key, ()), generator, 0 if is_left_out else count)
            values[key] = None if is_left_out else made
        values |= equal_sequences(spec, definitions, known, generator)
        values |= aligned_weights(values, spec, definitions, generator)
        example: dict[str, Any] = {}
        for key, value in values.items():
            match spec[key]:
                case SparseFeature() as sparse:
                    example[sparse.value_key] = value
                    example |= {index: list(range(len(value or ()))) for index in sparse.index_keys}
                case RaggedFeature() as ragged:
                    example[ragged.value_key or key] = value
                case _:
                    example[key] = value
        examples.append(encode_example_by_spec(example, lists))
    return examples


class AllValues(tuple[Any, ...]):
    """Known values that are all a feature may hold, as the words of a label's vocabulary are."""

    __slots__ = ()


def known_values(definitions: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """What columns' definitions say a feature holds, by its key: the words of a vocabulary, the ids below a bound."""
    known: dict[str, tuple[Any, ...]] = {}
    for part in _parts(definitions):
        if "vocabulary_list" in part:
            known[part["key"]] = (AllValues if "is_label" in part else tuple)(part["vocabulary_list"])
        elif part.get("kind") == "identity":
            known[part["key"]] = tuple(range(part["num_buckets"]))
    return known


def equal_sequences(
    spec: FeatureSpec, definitions: Mapping[str, Any], words: Mapping[str, Any], generator: np.random.Generator
) -> dict[str, list[Any]]:
    """The sequences of a row, by feature key, all of one length: layers that read several side by side need that."""
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


def _objects(values: Sequence[bytes | str]) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _values(
    dtype: DType, known: tuple[Any, ...], generator: np.random.Generator, count: int, words: tuple[str, ...] = WORDS
) -> list[Any]:
    """`count` values; the many numbers of images are drawn at once."""
    if dtype.is_string or count < _MANY:
        return [_value(dtype, known, generator, words) for _ in range(count)]
    if known:
        return [known[index] for index in generator.integers(len(known), size=count)]
    if dtype.name == "bool":
        return list(generator.integers(2, size=count) > 0)
    if dtype.numpy.kind in "iu":
        return list(generator.integers(0 if dtype.numpy.kind == "u" else -2, 50, size=count).tolist())
    numbers: Array = generator.normal(size=count) * 10.0 ** generator.integers(-1, 3, size=count)
    return list(numbers.astype(np.float32).tolist())


def _value(dtype: DType, known: tuple[Any, ...], generator: np.random.Generator, words: tuple[str, ...] = WORDS) -> Any:
    is_one = not dtype.is_string or isinstance(known, AllValues)
    if known and (is_one or generator.random() < 0.75):
        return known[generator.integers(len(known))]
    if dtype.is_string:
        return words[generator.integers(len(words))]
    if dtype.name == "bool":
        return bool(generator.integers(2))
    if dtype.numpy.kind in "iu":
        return int(generator.integers(0 if dtype.numpy.kind == "u" else -2, 50))
    return float(np.float32(generator.normal() * 10.0 ** generator.integers(-1, 3)))
