"""What a model was trained on, in numbers: a fingerprint and per-feature statistics of the first rows.

Owns watching the batches on their way to the model, and the file `training_data.json` beside the checkpoints. Costs a
reference a batch while training, one pass over at most 10,000 rows at its end. Knows nothing of columns or models.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from estimator_serving.training.arrays import Array, as_array
from estimator_serving.training.columns.features import Features

FILE = "training_data.json"
ROWS_MAX = 10_000
_TOP_VALUES = 10
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)

Batch = tuple[Any, Any]


def watch(batches: Generator[Batch], directory: str | os.PathLike[str]) -> Generator[Batch]:
    """The batches as they are; when they are closed, the statistics of the first 10,000 rows lie in `directory`.

    Nothing is written for batches whose features are no mapping.
    """
    seen: list[Mapping[str, Any]] = []
    rows = 0
    with closing(batches):
        try:
            for features, labels in batches:
                if rows < ROWS_MAX and isinstance(features, Mapping) and features:
                    seen.append({**_arrays(features), **({} if labels is None else _arrays({"label": labels}))})
                    rows += max(map(len, seen[-1].values()), default=0)
                yield features, labels
        finally:
            if seen:
                _write(Path(directory), describe(seen))


def read_statistics(checkpoint_path: str) -> dict[str, Any] | None:
    """The statistics beside a checkpoint, None where there are none that can be read."""
    try:
        found: dict[str, Any] = json.loads((Path(checkpoint_path).parent / FILE).read_text())
    except (OSError, ValueError):
        return None
    return found


def describe(batches: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The fingerprint of these rows, how many they are, and the statistics of every feature, JSON-able."""
    joined = {key: _joined([batch[key] for batch in batches if key in batch]) for key in sorted(batches[0])}
    features = {key: values[:ROWS_MAX] for key, values in joined.items()}
    rows = max((len(values) for values in features.values()), default=0)
    return {
        "fingerprint": _fingerprint(features),
        "rows": rows,
        "features": {key: _describe(values) for key, values in features.items()},
    }


def _arrays(features: Mapping[str, Any]) -> dict[str, Array]:
    """Numpy arrays of whatever features are; what is no array (a nested mapping) is left out."""
    raw = features.raw if isinstance(features, Features) else features
    arrays = {str(key): as_array(value, str(key)) for key, value in raw.items() if not isinstance(value, Mapping)}
    return {key: array for key, array in arrays.items() if array.ndim}


def _joined(parts: list[Array]) -> Array:
    """All values, a row for a row; rows of several widths become lists of values."""
    if len({part.shape[1:] for part in parts}) == 1:
        return np.concatenate(parts)
    rows = np.empty(sum(map(len, parts)), object)
    rows[:] = [row.ravel().tolist() for part in parts for row in part]
    return rows


def _fingerprint(features: Mapping[str, Array]) -> str:
    digest = hashlib.sha256()
    for key, values in features.items():
        digest.update(f"{key} {values.dtype} {values.shape} ".encode())
        if values.dtype == object:
            digest.update(json.dumps(values.tolist(), ensure_ascii=False).encode())
        else:
            digest.update(np.ascontiguousarray(values).tobytes())
    return f"sha256:{digest.hexdigest()}"


def _describe(values: Array) -> dict[str, Any]:
    if values.dtype == object:
        return _describe_words(_flat(values))
    return _describe_numbers(values.ravel())


def _flat(values: Array) -> list[Any]:
    listed = values.ravel().tolist()
    return [one for row in listed for one in (row if isinstance(row, list) else [row])]


def _describe_words(words: list[Any]) -> dict[str, Any]:
    counts = Counter(str(word) for word in words if word != "")
    top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_TOP_VALUES]
    present = counts.total()
    return {"count": present, "missing": len(words) - present, "distinct": len(counts), "top": dict(top)}


def _describe_numbers(values: Array) -> dict[str, Any]:
    numbers = values.astype(np.float64)
    numbers = numbers[np.isfinite(numbers)]
    described: dict[str, Any] = {"count": len(numbers), "missing": len(values) - len(numbers)}
    if not len(numbers):
        return described
    quantiles = np.quantile(numbers, _QUANTILES)
    return described | {
        "mean": _short(numbers.mean()),
        "std": _short(numbers.std()),
        "quantiles": {str(at): _short(value) for at, value in zip(_QUANTILES, quantiles, strict=True)},
    }


def _short(value: Any) -> float:
    """Nine digits: what float32 tells apart, and no trace of the order of a sum."""
    return float(f"{float(value):.9g}")


def _write(directory: Path, statistics: Mapping[str, Any]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    aside = directory / f".{FILE}.{os.getpid()}.tmp"
    aside.write_text(json.dumps(statistics, indent=1, sort_keys=True) + "\n")
    aside.replace(directory / FILE)
