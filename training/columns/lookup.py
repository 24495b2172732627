"""Rows of a table, combined over the ids of a batch: what embeddings and linear models compute in the network.

Owns the arithmetic of combiners, in torch. Whose table it is, is the caller's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from estimator_serving.training.nn.variables import gather_rows

COMBINERS = ("mean", "sqrtn", "sum")


def check_combiner(combiner: str) -> None:
    if combiner not in COMBINERS:
        raise ValueError(f"combiner must be one of 'mean', 'sqrtn' or 'sum', got {combiner}")


def look_up(
    table: Tensor,
    ids: Tensor,
    weights: Tensor | None = None,
    *,
    combiner: str,
    max_norm: float | None = None,
    prunes: bool = True,
) -> Tensor:
    """The rows of `table` at `ids` [batch, k], -1 for nothing, combined to [batch, dim]; zeros where a row has none.

    `weights` [batch, k] multiply them. Where `prunes` is true, an id whose weight is not positive counts as nothing.
    """
    if weights is not None and prunes:
        ids = torch.where(weights > 0, ids, -1)
    rows = clip(gather_rows(table, ids), max_norm)
    if weights is not None:
        weights = weights * (ids >= 0)
        total = (rows * weights.unsqueeze(-1)).sum(dim=1)
        if combiner == "sum":
            return total
        if combiner == "mean":
            divisor = weights.sum(dim=1, keepdim=True)
        else:
            divisor = weights.square().sum(dim=1, keepdim=True).sqrt()
        return total / torch.where(divisor == 0, 1.0, divisor)
    if not torch.compiler.is_exporting() and ids.shape[1] == 1:
        # The same number without the five small operators below; the exported graph takes any width.
        return rows.squeeze(1)
    total = rows.sum(dim=1)
    if combiner == "sum":
        return total
    count = (ids >= 0).sum(dim=1, keepdim=True).clamp(min=1).to(total.dtype)
    return total / (count.sqrt() if combiner == "sqrtn" else count)


def clip(rows: Tensor, max_norm: float | None) -> Tensor:
    """The vectors [..., dim], scaled down where one is longer than `max_norm`."""
    return rows if max_norm is None else rows * (max_norm / rows.norm(dim=-1, keepdim=True).clamp(min=max_norm))
