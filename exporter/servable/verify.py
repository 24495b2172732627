"""The comparison that an export has to pass: ONNX Runtime's numbers against the source model's.

Owns the comparison and its tolerance. Knows nothing of how either side was made.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from estimator_serving.exporter.servable.options import DEFAULT_OPTIONS
from estimator_serving.training.arrays import Array


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
        differs = np.asarray(wanted != got)
        if wanted.dtype.kind in "fc":
            with np.errstate(invalid="ignore", over="ignore"):
                near = np.abs(wanted - got) <= tolerance * np.maximum(1.0, np.abs(wanted))
            # An infinite tolerance would take any number for an infinity.
            differs &= ~((near & np.isfinite(wanted)) | (np.isnan(wanted) & np.isnan(got)))
        indices = np.argwhere(differs)
        if len(indices):
            index = tuple(indices[0])
            place = f"at {[int(i) for i in index]} {wanted[index]!r} became {got[index]!r}"
            raise ExportMismatch(_sentence(name, what, f"{place} ({len(indices)} of {wanted.size} values differ)"))


def _sentence(name: str, what: str, difference: str) -> str:
    return (
        f"The exported graph does not agree with the estimator on {what}: output {name!r}, {difference}. "
        "Nothing was written. The usual cause is a model_fn, normalizer_fn or module that reads more than its "
        "arguments; make it a function of the features only. Where sums differ only by their order or precision, "
        "allow more: ExportOptions(parity_tolerance={'CPUExecutionProvider': 1e-4})."
    )
