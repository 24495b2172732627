"""What a model was trained on, in numbers: a fingerprint and per-feature statistics of the first rows.

Owns watching the batches on their way to the model, and the file `training_data.json` beside the checkpoints. Until
10,000 rows have passed, it looks at every feature of every batch and keeps the arrays (about 60 µs for a batch of 7
features); after that it compares a number for each batch. The end of training costs one pass over those rows. Does not
know columns or models.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from estimator_serving.training.arrays import Array, as_array
from estimator_serving.training.aside import replacing
from estimator_serving.training.columns.features import Features

FILE = "training_data.json"
ROWS_MAX = 10_000
_TOP_VALUES = 10
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)

Batch = tuple[Any, Any]


def watch(batches: Iterable[Batch], directory: str | os.PathLike[str]) -> Generator[Batch]:
    """The batches as they are; when this is closed, the statistics of the first 10,000 rows lie in `directory`.

    Nothing is written for batches whose features are no mapping.
    """
    seen: list[Mapping[str, Any]] = []
    rows = 0
    try:
        for features, labels in batches:
            if rows < ROWS_MAX and isinstance(features, Mapping) and features:
                seen.append({**_arrays(features), **({} if labels is None else _arrays({"label": labels}))})
                rows += max(map(len, seen[-1].values()), default=0)
            yield features, labels
    finally:
        if seen:
            text = json.dumps(describe(seen), indent=1, sort_keys=True) + "\n"
            folder = Path(directory)
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / FILE) as aside:
                aside.write_text(text)


def read_statistics(checkpoint_path: str) -> dict[str, Any] | None:
    """The statistics beside a checkpoint; None if there are none that can be read."""
    try:
        found: dict[str, Any] = json.loads((Path(checkpoint_path).parent / FILE).read_text())
    except (OSError, ValueError):
        return None
    return found


def describe(batches: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The fingerprint of these rows, their number, and the statistics of every feature, ready for JSON."""
    joined = {key: _joined([batch[key] for batch in batches if key in batch]) for key in sorted(batches[0])}
    features = {key: values[:ROWS_MAX] for key, values in joined.items()}
    rows = max((len(values) for values in features.values()), default=0)
    digest = hashlib.sha256()
    for key, values in features.items():
        digest.update(f"{key} {values.dtype} {values.shape} ".encode())
        if values.dtype == object:
            digest.update(json.dumps(values.tolist(), ensure_ascii=False).encode(errors="surrogateescape"))
        else:
            digest.update(np.ascontiguousarray(values).tobytes())
    return {
        "fingerprint": f"sha256:{digest.hexdigest()}",
        "rows": rows,
        "features": {
            key: _describe_words(values) if values.dtype == object else _describe_numbers(values.ravel())
            for key, values in features.items()
        },
    }


def _arrays(features: Mapping[str, Any]) -> dict[str, Array]:
    """The features as numpy arrays; nested mappings and single values are left out."""
    raw = features.raw if isinstance(features, Features) else features
    arrays = {str(key): as_array(value, str(key)) for key, value in raw.items() if not isinstance(value, Mapping)}
    return {key: array for key, array in arrays.items() if array.ndim}


def _joined(parts: list[Array]) -> Array:
    """The rows of all parts. If their widths differ, each row becomes a list of values."""
    if len({part.shape[1:] for part in parts}) == 1:
        return np.concatenate(parts)
    rows = np.empty(sum(map(len, parts)), object)
    rows[:] = [row.ravel().tolist() for part in parts for row in part]
    return rows


def _describe_words(values: Array) -> dict[str, Any]:
    words = [one for row in values.ravel().tolist() for one in (row if isinstance(row, list) else [row])]
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
    """Nine digits: enough to tell float32 values apart, and too few to show the order of a sum."""
    return float(f"{float(value):.9g}")
