"""Rows of tables by ids, with the gradients that TensorFlow's lookups have.

Owns the gather and its gradient. Does not know columns, layers or variables: a table is a tensor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


def gather_rows(table: Tensor, ids: Tensor) -> Tensor:
    """Rows of `table` f32 [rows, dim] at `ids` int64 [*]: f32 [*, dim], zeros where ids < 0.

    The gradient of `table` is sparse and holds only the rows with ids >= 0. So Adagrad, Ftrl and SGD leave the other
    rows untouched, as TensorFlow does (TF 2.15). It is dense if the optimizer has set `takes_whole_gradient` on the
    table, because a dense gradient then gives the same result faster.
    """
    if not (torch.is_grad_enabled() and table.requires_grad):
        return _gather(table, ids)
    sparse = not getattr(table, "takes_whole_gradient", False)
    if not torch.equal(ids, ids.clamp(min=0)):
        rows: Tensor = _GatherRows.apply(table, ids, sparse)  # type: ignore[no-untyped-call]
        return rows
    # The same in C++; with ids < 0 it would count row 0 as looked up.
    return functional.embedding(ids, table, sparse=sparse)


def _gather(table: Tensor, ids: Tensor) -> Tensor:
    rows = functional.embedding(ids.clamp(min=0), table)
    return rows * (ids >= 0).unsqueeze(-1)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor, sparse: bool) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.rows = table.shape[0]
        ctx.sparse = sparse
        return _gather(table, ids)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (ids,) = ctx.saved_tensors
        # The gradient leaves the padding index out. It may be any number but -1, which means that there is none.
        padding = ctx.rows
        present = ids.masked_fill(ids < 0, padding)
        aten = torch.ops.aten
        backward = aten.embedding_sparse_backward if ctx.sparse else aten.embedding_dense_backward
        return backward(gradient, present, ctx.rows, padding, False), None, None
