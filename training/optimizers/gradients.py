"""TensorFlow's clips, for gradients between `compute_gradients` and `apply_gradients` and for any other tensor.

    pairs = optimizer.compute_gradients(loss)
    gradients, variables = zip(*pairs)
    gradients, _ = clip_by_global_norm(gradients, 5.0)
    train_op = optimizer.apply_gradients(zip(gradients, variables))

A gradient may be dense, sparse by rows (COO), or None, which stays None. Owns the formulas; does not know optimizers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

Gradients = Sequence[Tensor | None]
"""One for each parameter: dense, sparse by rows (COO), or None if the loss does not depend on the parameter."""


def global_norm(t_list: Iterable[Tensor | None]) -> Tensor:
    """The length of all tensors together, f32 scalar; 0 without any."""
    norms = [_norm(t) for t in t_list if t is not None]
    return torch.stack(norms).norm() if norms else torch.zeros(())


def clip_by_global_norm(
    t_list: Iterable[Tensor | None], clip_norm: float, use_norm: Tensor | None = None
) -> tuple[list[Tensor | None], Tensor]:
    """The tensors, all scaled by clip_norm / norm if their common length `norm` is above clip_norm, and that length.

    `use_norm` is the length where it is known already. A length that is not finite makes every entry NaN (TF 2.15).
    """
    summed = coalesced([*t_list])
    norm = global_norm(summed) if use_norm is None else use_norm
    scale = clip_norm / norm.clamp(min=clip_norm) + (norm - norm)
    return [None if t is None else t * scale for t in summed], norm


def clip_by_norm(t: Tensor, clip_norm: float, axes: Sequence[int] | None = None) -> Tensor:
    """The tensor, scaled to the length clip_norm if it is longer. With `axes` lengths are taken along these."""
    (summed,) = coalesced([t])
    assert summed is not None
    norm = _norm(summed) if axes is None else summed.norm(dim=[*axes], keepdim=True)
    return summed * (clip_norm / norm.clamp(min=clip_norm))


def clip_by_value(t: Tensor, clip_value_min: float, clip_value_max: float) -> Tensor:
    """The tensor with each entry between the two bounds; of a sparse one, each entry that is there."""
    if not t.is_sparse:
        return t.clamp(clip_value_min, clip_value_max)
    t = t.coalesce()
    values = t.values().clamp(clip_value_min, clip_value_max)
    made: Tensor = torch.sparse_coo_tensor(t.indices(), values, t.shape, is_coalesced=True, check_invariants=False)
    return made


def coalesced(gradients: Gradients) -> list[Tensor | None]:
    """The same gradients; a row that was looked up twice has one, the sum."""
    return [g.coalesce() if g is not None and g.is_sparse else g for g in gradients]


def _norm(gradient: Tensor) -> Tensor:
    norm: Tensor = (gradient.values() if gradient.is_sparse else gradient).norm()
    return norm
