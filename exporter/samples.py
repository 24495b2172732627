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
        return {key: _values(feature, words.get(key, ()), generator) for key, feature in spec.items()}

    return [encode_example_by_spec(features(), spec) for _ in range(rows)]


def known_words(definitions: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The vocabularies in columns' definitions, by feature key."""
    return {part["key"]: tuple(part["vocabulary_list"]) for part in _parts(definitions) if "vocabulary_list" in part}


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
    if words and generator.random() < 0.75:
        return words[generator.integers(len(words))]
    if dtype.is_string:
        return WORDS[generator.integers(len(WORDS))]
    if dtype.name == "int64":
        return int(generator.integers(-2, 50))
    return float(np.float32(generator.normal() * 10.0 ** generator.integers(-1, 3)))
