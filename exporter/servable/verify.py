"""The comparison that an export has to pass: ONNX Runtime's numbers against the source model's.

Owns the comparison and its tolerance. Knows nothing of how either side was made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from estimator_serving.exporter.servable.options import DEFAULT_OPTIONS
from estimator_serving.training.arrays import Array


class ExportMismatch(RuntimeError):  # noqa: N818 - the name that users of the exporter know
    """The exported graph gives other numbers than the estimator; nothing was written."""


MODEL_FN_CAUSE = (
    "The usual cause is a model_fn, normalizer_fn or module that reads more than its arguments; make it a function of "
    "the features only."
)

# Outputs that follow from the best of several scores, and the scores that they follow from: a head's, by their names.
_CHOSEN = frozenset({"class_ids", "classes"})
_SCORES = "probabilities"
_NOISE_FACTOR = 8.0


def check_outputs(
    expected: Mapping[str, Array],
    actual: Mapping[str, Array],
    what: str,
    tolerance: float = DEFAULT_OPTIONS.tolerance,
    *,
    noise: Callable[[], Mapping[str, Array]] = dict,
    cause: str = MODEL_FN_CAUSE,
) -> None:
    """Compares outputs by name: text and integers exactly, numbers within tolerance · max(1, |x|), NaN equal to NaN.

    Classes are compared only in rows whose best two probabilities are further apart than the tolerance allows each of
    them to move: a tie has no class.

    Args:
        expected, actual: what the source model and the graph give.
        what: the rows, as the sentence calls them.
        tolerance: see above.
        noise: asked only where a number is further off. How far the source model's own outputs move, by name, when the
            numbers that it reads move by a rounding error: large where it sums large numbers that cancel each other.
            A graph may be off by several times that.
        cause: the sentence on why models of this kind are refused.

    Raises ExportMismatch naming the first output that differs, its row and both values.
    """
    for name, wanted in expected.items():
        got = actual[name]
        if wanted.shape != got.shape:
            raise ExportMismatch(_sentence(name, what, f"shape {list(wanted.shape)} became {list(got.shape)}", cause))
        differs = np.asarray(wanted != got)
        if wanted.dtype.kind in "fc":
            with np.errstate(invalid="ignore", over="ignore"):
                distance, allowed = np.abs(wanted - got), tolerance * np.maximum(1.0, np.abs(wanted))
                # An infinite tolerance would take any number for an infinity.
                differs &= ~(((distance <= allowed) & np.isfinite(wanted)) | (np.isnan(wanted) & np.isnan(got)))
                if differs.any() and (moved := noise().get(name)) is not None and len(moved) >= len(wanted):
                    differs &= ~(distance <= allowed + _NOISE_FACTOR * moved[: len(wanted)])
        elif differs.ndim and (tied := _ties(name, expected, tolerance)) is not None and len(tied) == len(differs):
            differs[tied] = False
        indices = np.argwhere(differs)
        if len(indices):
            index = tuple(indices[0])
            place = f"at {[int(i) for i in index]} {wanted[index]!r} became {got[index]!r}"
            difference = f"{place} ({len(indices)} of {wanted.size} values differ)"
            raise ExportMismatch(_sentence(name, what, difference, cause))


def _ties(name: str, expected: Mapping[str, Array], tolerance: float) -> Array | None:
    """The rows in which the best two scores do not decide; None for an output that does not follow from scores."""
    prefix, _, last = name.rpartition("/")
    scores = expected.get(f"{prefix}/{_SCORES}" if prefix else _SCORES)
    if last not in _CHOSEN or scores is None or scores.ndim != 2 or scores.shape[1] < 2:
        return None
    best = np.sort(scores, axis=1)
    tied: Array = best[:, -1] - best[:, -2] <= 2 * tolerance
    return tied


def _sentence(name: str, what: str, difference: str, cause: str) -> str:
    return (
        f"The exported graph does not agree with the model on {what}: output {name!r}, {difference}. "
        f"Nothing was written. {cause} Where sums differ only by their order or precision, "
        "allow more: ExportOptions(parity_tolerance={'CPUExecutionProvider': 1e-4})."
    )
