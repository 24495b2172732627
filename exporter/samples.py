"""Sample Examples for a feature spec: what an export is verified with.

Owns the choice of values: words that the columns know and words they do not, numbers around zero and large ones,
defaults left out, lists of several lengths. The same spec and columns give the same Examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.examples import Feature, FeatureSpec, FixedLenFeature, encode_example_by_spec

LENGTH_MAX = 3
WORDS = ("", "a", "é", "out of vocabulary")


def sample_examples(spec: FeatureSpec, definitions: Mapping[str, Any], rows: int) -> list[bytes]:
    """`rows` serialized Examples of the spec, with the words that the columns' definitions name."""
    generator = np.random.default_rng(0)
    words = known_words(definitions)

    def features() -> dict[str, Any]:
        values = {key: _values(feature, words.get(key, ()), generator) for key, feature in spec.items()}
        return values | aligned_weights(values, spec, definitions, generator)

    return [encode_example_by_spec(features(), spec) for _ in range(rows)]


def known_words(definitions: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """What columns' definitions say a feature holds, by its key: the words of a vocabulary, the ids below a bound."""
    known: dict[str, tuple[Any, ...]] = {}
    for part in _parts(definitions):
        if "vocabulary_list" in part:
            known[part["key"]] = tuple(part["vocabulary_list"])
        elif part.get("kind") == "identity":
            known[part["key"]] = tuple(range(part["num_buckets"]))
    return known


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


def _values(feature: Feature, words: tuple[Any, ...], generator: np.random.Generator) -> list[Any] | None:
    if isinstance(feature, FixedLenFeature):
        if feature.default_value is not None and generator.random() < 0.25:
            return None
        count = int(np.prod(feature.shape, dtype=np.int64))
    else:
        count = int(generator.integers(0, LENGTH_MAX + 1))
    return [_value(feature.dtype, words, generator) for _ in range(count)]


def _value(dtype: DType, words: tuple[Any, ...], generator: np.random.Generator) -> Any:
    # An integer that no column knows may be out of an identity column's range.
    if words and (not dtype.is_string or generator.random() < 0.75):
        return words[generator.integers(len(words))]
    if dtype.is_string:
        return WORDS[generator.integers(len(WORDS))]
    if dtype.name == "int64":
        return int(generator.integers(-2, 50))
    return float(np.float32(generator.normal() * 10.0 ** generator.integers(-1, 3)))
