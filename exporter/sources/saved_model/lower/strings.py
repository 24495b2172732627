"""Text: hashes, numbers as text.

Owns where ONNX writes numbers in another way than TensorFlow: floats and widths go through an op of this project's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from estimator_serving.exporter.sources.builder import onnx_type
from estimator_serving.exporter.sources.saved_model.graph import Node
from estimator_serving.exporter.sources.saved_model.lower.elementwise import cast, elementwise, grid_of
from estimator_serving.exporter.sources.saved_model.lower.parsing import padded_feature
from estimator_serving.exporter.sources.saved_model.lowering import BOOL, INT64, Lowered, Lowering, lowers
from estimator_serving.exporter.sources.saved_model.values import Tensor, Value
from estimator_serving.ops import DOMAIN

_STRING = np.dtype(object)


@lowers("AsString")
def _as_string(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    dtype = np.dtype(inputs[0].dtype)  # type: ignore[union-attr]
    one = context.builder.one
    if dtype == BOOL:
        words = [context.builder.constant(np.array(word, object)) for word in (b"true", b"false")]
        return elementwise(context, node, inputs, _STRING, lambda x: one("Where", x, *words))
    if dtype.kind not in "iuf" and dtype.name != "bfloat16":
        raise node.refuse(f"it writes {dtype}")
    fill, width = node.text("fill", ""), node.integer("width", -1)
    if dtype.kind in "iu" and width < 0 and not fill:
        return elementwise(context, node, inputs, _STRING, lambda x: one("Cast", x, to=onnx_type(_STRING)), _digits)
    wide = INT64 if dtype.kind in "iu" else np.dtype(np.float64)
    if dtype == np.uint64:
        raise node.refuse("it fills uint64 up to a width")
    notation = "g" if node.flag("shortest", False) else "e" if node.flag("scientific", False) else "f"
    attributes: dict[str, Any] = {
        "notation": "d" if wide == INT64 else notation,
        "precision": node.integer("precision", -1),
        "width": width,
        "fill": fill,
    }

    def emit(x: str) -> str:
        number = cast(context, x, dtype, wide)
        return context.builder.node("FormatNumbers", [number], domain=DOMAIN, **attributes)[0]

    return elementwise(context, node, inputs, _STRING, emit)


def _digits(array: Any) -> Any:
    made = np.empty(array.shape, object)
    if array.size:
        made[...] = np.vectorize(lambda number: str(int(number)).encode(), otypes=[object])(array)
    return made


@lowers("StringToHashBucketFast", "StringToHashBucketStrong")
def _hash(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    buckets, one = node.integer("num_buckets"), context.builder.one
    rank = inputs[0].rank if isinstance(inputs[0], Tensor) else 2
    attributes: dict[str, Any] = {}
    if node.op == "StringToHashBucketStrong":
        attributes["key"] = [int(np.int64(np.uint64(number % (1 << 64)))) for number in node.integers("key")]
    op_type = "SipHash64" if attributes else "Fingerprint64"

    def emit(x: str) -> str:
        # The op's result is described as a matrix.
        matrix = x if rank == 2 else one("Reshape", x, context.int64(1, -1))
        hashed = context.builder.node(op_type, [matrix], domain=DOMAIN, **attributes)[0]
        bucket = one("Mod", hashed, context.scalar(buckets, np.dtype(np.uint64)))
        ids = one("Cast", bucket, to=onnx_type(INT64))
        return ids if rank == 2 else one("Reshape", ids, one("Shape", x), allowzero=1)

    made = elementwise(context, node, inputs, INT64, emit)
    grid = grid_of(made)
    if grid is not None:
        grid.low, grid.high = 0, buckets - 1
    return made


@lowers("StringLower")
def _lower_text(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    if node.text("encoding", ""):
        raise node.refuse("it treats text as Unicode; only A to Z are converted")

    def fold(array: Any) -> Any:
        return np.vectorize(bytes.lower, otypes=[object])(array) if array.size else array

    return elementwise(
        context, node, inputs, _STRING, lambda x: context.builder.node("LowerText", [x], domain=DOMAIN)[0], fold
    )


@lowers("StaticRegexReplace")
def _replace(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    """One class of ASCII characters, as Keras strips punctuation."""
    characters = _characters(node.text("pattern"))
    rewrite = node.text("rewrite", "")
    if characters is None or "\\" in rewrite or not node.flag("replace_global", True):
        raise node.refuse(f"its pattern is {node.text('pattern')!r}; only a class of ASCII characters is converted")

    def emit(x: str) -> str:
        return context.builder.node(
            "ReplaceCharacters", [x], domain=DOMAIN, characters=characters, replacement=rewrite
        )[0]

    return elementwise(context, node, inputs, _STRING, emit)


def _characters(pattern: str) -> str | None:
    """What `[...]` stands for; None for a pattern of another kind."""
    if not (pattern.startswith("[") and pattern.endswith("]")) or not pattern.isascii() or pattern.startswith("[^"):
        return None
    found: list[str] = []
    rest = list(pattern[1:-1])
    is_range = False
    while rest:
        one = rest.pop(0)
        if one == "\\":
            if not rest or rest[0].isalnum():
                return None
            one = rest.pop(0)
        elif one == "-" and found and rest and not is_range:
            is_range = True
            continue
        elif one in "[]":
            return None
        found.extend(map(chr, range(ord(found[-1]) + 1, ord(one) + 1))) if is_range else found.append(one)
        is_range = False
    return "".join(sorted(set(found))) or None


@lowers("StringSplitV2")
def _split(context: Lowering, node: Node, inputs: list[Value]) -> Lowered:
    """Words between white space, as a sparse feature of the batch."""
    texts = context.dense(inputs[0], node)
    separator = context.array(inputs[1], node, "separator").ravel()
    if separator.size != 1 or separator[0] or node.integer("maxsplit", -1) != -1 or texts.rank != 1:
        raise node.refuse("it splits at something else than white space")
    words, lengths = context.builder.node("SplitWords", [texts.name], outputs=2, domain=DOMAIN)
    rows = texts.shape[0]
    grid, counts = context.written(words, _STRING, [rows, None]), context.written(lengths, INT64, [rows], low=0)
    return padded_feature(context, grid, counts)
