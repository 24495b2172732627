"""Text: hashes, numbers as text.

Owns where ONNX writes numbers in another way than TensorFlow; what it cannot write the same is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from estimator_serving.exporter.sources.saved_model.builder import onnx_type
from estimator_serving.exporter.sources.saved_model.graph import Node
from estimator_serving.exporter.sources.saved_model.lower.elementwise import elementwise
from estimator_serving.exporter.sources.saved_model.lowering import BOOL, INT64, Lowered, Lowering, lowers
from estimator_serving.exporter.sources.saved_model.values import Flat, Tensor, Value
from estimator_serving.ops import DOMAIN

_STRING = np.dtype(object)


@lowers("AsString")
def _as_string(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    dtype = np.dtype(inputs[0].dtype)  # type: ignore[union-attr]
    one = context.builder.one
    if any(node.has(name) and node.text(name, "") for name in ("fill",)) or node.integer("width", -1) != -1:
        raise node.refuse("it fills up to a width")
    if dtype == BOOL:
        words = [context.builder.constant(np.array(word, object)) for word in (b"true", b"false")]
        return elementwise(context, node, inputs, _STRING, lambda x: one("Where", x, *words))
    if dtype.kind not in "iu":
        raise node.refuse(f"ONNX writes numbers of {dtype} differently; hash or look up whole numbers")
    return elementwise(context, node, inputs, _STRING, lambda x: one("Cast", x, to=onnx_type(_STRING)), _fold_string)


def _fold_string(array: Any) -> Any:
    made = np.empty(array.shape, object)
    made[...] = np.vectorize(lambda number: str(int(number)).encode(), otypes=[object])(array) if array.size else made
    return made


@lowers("StringToHashBucketFast")
def _hash(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    buckets, one = node.integer("num_buckets"), context.builder.one
    rank = inputs[0].rank if isinstance(inputs[0], Tensor) else 2

    def emit(x: str) -> str:
        # The op's result is described as a matrix.
        matrix = x if rank == 2 else one("Reshape", x, context.int64(1, -1))
        hashed = context.builder.node("Fingerprint64", [matrix], domain=DOMAIN)[0]
        bucket = one("Mod", hashed, context.scalar(buckets, np.dtype(np.uint64)))
        ids = one("Cast", bucket, to=onnx_type(INT64))
        return ids if rank == 2 else one("Reshape", ids, one("Shape", x), allowzero=1)

    made = elementwise(context, node, inputs, INT64, emit)
    grid = made.grid if isinstance(made, Flat) else made
    if isinstance(grid, Tensor):
        grid.low, grid.high = 0, buckets - 1
    return made
