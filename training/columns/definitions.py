"""What a column computes, as JSON: the identity that a checkpoint keeps and that a later run is compared with.

Owns the words for a difference between two definitions, and what a crossed feature's dtype adds to one. A definition
holds only what changes the transform's numbers: neither a parse default nor an embedding's dimension is in it. Each
kind of column writes its own (FeatureColumn.define). Knows nothing of ONNX or of sessions.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

Definition = dict[str, Any]
"""JSON-able, and equal for columns that compute the same. Each part with a `key` reads the feature of that name."""


def with_integers(definition: Any, keys: Container[str]) -> Any:
    """The definition in which the crossed features among `keys` are integers; without one they are text."""
    if isinstance(definition, Mapping):
        read = {name: with_integers(value, keys) for name, value in definition.items()}
        return read | {"dtype": "int64"} if read.get("kind") == "text" and read["key"] in keys else read
    return [with_integers(value, keys) for value in definition] if isinstance(definition, list) else definition


def difference(old: Definition, new: Definition) -> str:
    """What differs, in words: "boundaries was [0.0, 10.0] and is now [0.0, 20.0]"."""
    before, after = dict(_flat(old)), dict(_flat(new))
    paths = [path for path in {**before, **after} if before.get(path, _ABSENT) != after.get(path, _ABSENT)]
    return "; ".join(f"{path} was {_short(before, path)} and is now {_short(after, path)}" for path in paths[:3])


_ABSENT = object()
_TEXT_MAX = 80


def _flat(definition: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in definition.items():
        # "column" names our own wrapping, which no user wrote.
        path = prefix if name == "column" else f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _flat(value, path and f"{path}." if name != "column" else path)
        else:
            yield path, value


def _short(flat: Mapping[str, Any], path: str) -> str:
    text = repr(flat[path]) if path in flat else "absent"
    return text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}…"
