"""Inputs that `estimator-serving compare` makes up: Examples of a feature spec, and tensors of a signature.

Owns the choice of values. The first rows hold one edge value each, with usual values in all other features; then come
rows of random values. The same spec, words and seed give the same rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator_serving.serving.models.model_files import MODEL_FILE
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.features import FeatureSpec, FixedLenFeature, example_dtypes
from estimator_serving.wire.onnx_model import read_model
from estimator_serving.wire.pb import tensorflow_pb
from estimator_serving.wire.signatures import Signature

EDGE_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, math.inf, -math.inf, math.nan)
EDGE_INTS = (0, 1, -1, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63))
EDGE_WORDS = (b"", b" ", b"a", "é".encode(), b"out of vocabulary", b"\x00", b"\xff\xfe", b"w" * 1000)
WORDS_MAX = 1000
WORD_BYTES_MAX = 1000
LIST_LENGTHS = (0, 1, 2, 5)


def words_of(directory: Path) -> list[bytes]:
    """Words that a servable knows: those in its graph's look-ups, and the lines of its vocabulary files."""
    words = dict.fromkeys(read_model(directory / MODEL_FILE).words)
    for file in sorted((directory / "assets").glob("*")):
        with open(file, "rb") as stream:
            lines = (line.rstrip(b"\r\n") for line in itertools.islice(stream, WORDS_MAX))
            words |= dict.fromkeys(line for line in lines if len(line) <= WORD_BYTES_MAX)
    return list(words)[:WORDS_MAX]


def examples(spec: FeatureSpec, words: Sequence[bytes], count: int, seed: int = 0) -> list[bytes]:
    """`count` serialized Examples. Lists vary in length, and optional features are missing now and then."""
    generator = np.random.default_rng(seed)
    dtypes = example_dtypes(spec)
    lengths = {
        key: math.prod(feature.shape) if isinstance(feature, FixedLenFeature) else None for key, feature in spec.items()
    }
    required = {key for key, one in spec.items() if isinstance(one, FixedLenFeature) and one.default_value is None}

    def row() -> dict[str, list[Any]]:
        values: dict[str, list[Any]] = {}
        for key, dtype in dtypes.items():
            if key not in required and generator.random() < 0.1:
                continue
            length = lengths.get(key)
            size = int(generator.choice(LIST_LENGTHS)) if length is None else length
            values[key] = [_value(dtype, words, generator) for _ in range(size)]
        return values

    def edges() -> Iterator[dict[str, list[Any]]]:
        yield {key: values for key, values in row().items() if key in required}
        for key, dtype in dtypes.items():
            for edge in EDGE_WORDS if dtype.is_string else EDGE_INTS if dtype.numpy.kind == "i" else EDGE_FLOATS:
                length = lengths.get(key)
                yield row() | {key: [edge] * (1 if length is None else length)}

    rows = itertools.islice(itertools.chain(edges(), iter(row, None)), count)
    serialized = []
    for values in rows:
        example = tensorflow_pb.Example()
        for key, elements in values.items():
            feature, dtype = example.features.feature[key], dtypes[key]
            numbers = feature.int64_list if dtype.numpy.kind == "i" else feature.float_list
            (feature.bytes_list if dtype.is_string else numbers).value.extend(elements)
        serialized.append(example.SerializeToString(deterministic=True))
    return serialized


def tensors(signature: Signature, words: Sequence[bytes], count: int, seed: int = 0) -> dict[str, npt.NDArray[Any]]:
    """`count` rows for every input of a signature of tensors; unknown inner dimensions become 3.

    Raises ValueError for an input without a known rank.
    """
    generator = np.random.default_rng(seed)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for alias, info in signature.inputs.items():
        if info.shape is None:
            raise ValueError(
                f"The input {alias} has no known rank, so no rows can be made up; choose other signatures."
            )
        shape = (count, *(3 if length < 0 else length for length in info.shape[1:]))
        values = [_value(info.dtype, words, generator) for _ in range(math.prod(shape))]
        array = np.empty(len(values), object)
        array[:] = values
        if not info.dtype.is_string:
            array = array.astype(info.dtype.numpy)
        elif not all(_is_utf8(value) for value in values):
            array[:] = [value if _is_utf8(value) else b"word" for value in values]
        arrays[alias] = array.reshape(shape)
    return arrays


def _value(dtype: DType, words: Sequence[bytes], generator: np.random.Generator) -> Any:
    if dtype.is_string:
        known = words if words and generator.random() < 0.7 else EDGE_WORDS
        return known[int(generator.integers(len(known)))]
    if dtype.name == "bool":
        return bool(generator.integers(2))
    if dtype.numpy.kind in "iu":
        return int(generator.integers(0, 100))
    return float(np.float32(generator.normal() * 10.0 ** generator.integers(-1, 3)))


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
