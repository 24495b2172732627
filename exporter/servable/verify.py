"""The proof of an export: ONNX Runtime's numbers against torch's.

Owns the comparison and its tolerance. Knows nothing of how either side was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator_serving.exporter.servable.options import DEFAULT_OPTIONS

Array = npt.NDArray[Any]


class ExportMismatch(RuntimeError):  # noqa: N818 - the name that users of the exporter know
    """The exported graph gives other numbers than the estimator; nothing was written."""


def check_outputs(
    expected: Mapping[str, Array],
    actual: Mapping[str, Array],
    what: str,
    tolerance: float = DEFAULT_OPTIONS.tolerance,
) -> None:
    """Compares outputs by name: text and integers exactly, numbers within tolerance · max(1, |x|), NaN equal to NaN.

    Raises ExportMismatch naming the first output that differs, its row and both values.
    """
    for name, wanted in expected.items():
        got = actual[name]
        if wanted.shape != got.shape:
            raise ExportMismatch(_sentence(name, what, f"shape {list(wanted.shape)} became {list(got.shape)}"))
        differs = np.argwhere(_differences(wanted, got, tolerance))
        if len(differs):
            index = tuple(differs[0])
            place = f"at {[int(i) for i in index]} {wanted[index]!r} became {got[index]!r}"
            raise ExportMismatch(_sentence(name, what, f"{place} ({len(differs)} of {wanted.size} values differ)"))


def _differences(wanted: Array, got: Array, tolerance: float) -> Array:
    if wanted.dtype.kind not in "fc":
        return np.asarray(wanted != got)
    with np.errstate(invalid="ignore"):
        near = np.abs(wanted - got) <= tolerance * np.maximum(1.0, np.abs(wanted))
    same = (wanted == got) | (np.isnan(wanted) & np.isnan(got))
    return np.asarray(~(near | same))


def _sentence(name: str, what: str, difference: str) -> str:
    return (
        f"The exported graph does not agree with the estimator on {what}: output {name!r}, {difference}. "
        "Nothing was written. The usual cause is a model_fn, normalizer_fn or module that reads more than its "
        "arguments; make it a function of the features alone. Where sums differ by their order or precision alone, "
        "allow more: ExportOptions(parity_tolerance={'CPUExecutionProvider': 1e-4})."
    )
