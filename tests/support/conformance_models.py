"""The models that the conformance tests ask, as ONNX text, and how they become version directories. Knows no server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.parser

from estimator_serving.wire import dtypes
from estimator_serving.wire.examples import FixedLenFeature, VarLenFeature
from estimator_serving.wire.signatures import (
    CLASSIFY_METHOD,
    PREDICT_METHOD,
    REGRESS_METHOD,
    Metadata,
    Signature,
    TensorInfo,
    to_properties,
)

HEAD = '<ir_version: 8, opset_import: ["" : 17, "estimator.ops" : 1]>\n'
VERSION = 123

HALF_PLUS_TWO = """g (float[] x) => (float[] y) <float half = {0.5}, float two = {2.0}>
{ z = Mul(x, half)  y = Add(z, two) }"""

TWO_INPUTS = """g (float[N] a, int64[N] b) => (float[N] total, int64[N] twice)
{ c = Cast<to=1>(b)  total = Add(a, c)  twice = Add(b, b) }"""

MATRIX = """g (float[N,3] x) => (float[N,2] y) <float[3,2] w = {1, 2, 3, 4, 5, 6}> { y = MatMul(x, w) }"""

TEXT = """g (string[] s) => (string[] same, string[] raw_bytes, float[] score) <float[2] odd = {1.5, 2.5}>
{ same = Identity(s)  raw_bytes = Identity(s)  score = Identity(odd) }"""

SCALAR = """g (float[N] x) => (float y) { y = ReduceSum<keepdims=0>(x) }"""

NOT_FINITE = """g (float[N] x) => (float[N] y) { y = Log(x) }"""

TYPES = {
    "f": "float", "d": "double", "h": "float16", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "u8": "uint8", "u32": "uint32", "u64": "uint64", "b": "bool", "s": "string",
}  # fmt: skip
EVERY_TYPE = "g ({inputs}) => ({outputs}) {{ {nodes} }}".format(
    inputs=", ".join(f"{kind}[N] {alias}" for alias, kind in TYPES.items()),
    outputs=", ".join(f"{kind}[N] {alias}_out" for alias, kind in TYPES.items()),
    nodes=" ".join(f"{alias}_out = Identity({alias})" for alias in TYPES),
)
BFLOAT16 = "g (bfloat16[N] x, float[N] a) => (bfloat16[N] y, float[N] b) { y = Identity(x) b = Neg(a) }"
UINT16 = "g (uint16[N] x) => (uint16[N] y) { y = Identity(x) }"

EXAMPLES = """g (uint8[n] "input_example_tensor/values", int64[m] "input_example_tensor/row_splits")
=> (float[N,2] scores, string[N,2] classes, float[N,1] total, int64[N] lengths, int64[N,2] ids, float[1,2] pair,
    float[1,1] alone, float[N] flat)
<int64[1,2] both = {0, 1}, string[2] vocabulary = {"no", "yes"}, float[1,2] one_row = {1, 2}, float[1,1] one = {1},
 int64[1] last = {1}>
{
  x, y, tags, lengths = estimator.ops.ParseExample <
    kinds = [0, 0, 1], dtypes = [1, 1, 7], ranks = [1, 1, 0], dims = [1, 1],
    key_0 = "x", key_1 = "y", key_2 = "tags", default_1 = float[1] {0.5}
  > ("input_example_tensor/values", "input_example_tensor/row_splits")
  scores = Concat<axis = 1>(x, y)
  total = Add(x, y)
  shape = Shape(scores)
  ids = Expand(both, shape)
  classes = Gather(vocabulary, ids)
  pair = Identity(one_row)
  alone = Identity(one)
  flat = Squeeze(x, last)
}"""

# The model of the examples in the Open Inference Protocol.
MYMODEL = """g (uint32[N,2] input0, bool[M] input1) => (float[N,2] output0, bool[M] output1)
{ output0 = Cast<to = 1>(input0)  output1 = Not(input1) }"""

_EXAMPLES_INFO = TensorInfo("input_example_tensor:0", dtypes.string, (-1,))
_SCORES = TensorInfo("scores:0", dtypes.float32, (-1, 2))
_CLASSES = TensorInfo("classes:0", dtypes.string, (-1, 2))
_TOTAL = TensorInfo("total:0", dtypes.float32, (-1, 1))
_LENGTHS = TensorInfo("lengths:0", dtypes.int64, (-1,))
_IDS = TensorInfo("ids:0", dtypes.int64, (-1, 2))
_PAIR = TensorInfo("pair:0", dtypes.float32, (1, 2))
_ALONE = TensorInfo("alone:0", dtypes.float32, (1, 1))
_FLAT = TensorInfo("flat:0", dtypes.float32, (-1,))

_TWO = Signature(
    {"a": TensorInfo("a:0", dtypes.float32, (-1,)), "b": TensorInfo("b:0", dtypes.int64, (-1,))},
    {"total": TensorInfo("total:0", dtypes.float32, (-1,)), "twice": TensorInfo("twice:0", dtypes.int64, (-1,))},
    PREDICT_METHOD,
    {"b": np.array([5], np.int64)},
)


def _classifies(**outputs: TensorInfo) -> Signature:
    return Signature({"inputs": _EXAMPLES_INFO}, outputs, CLASSIFY_METHOD)


def _regresses(outputs: TensorInfo) -> Signature:
    return Signature({"inputs": _EXAMPLES_INFO}, {"outputs": outputs}, REGRESS_METHOD)


_CLASSIFICATION = Signature({"inputs": _EXAMPLES_INFO}, {"classes": _CLASSES, "scores": _SCORES}, CLASSIFY_METHOD)
EXAMPLES_METADATA = Metadata(
    {
        "serving_default": _CLASSIFICATION,
        "scores_only": _classifies(scores=_SCORES),
        "classes_only": _classifies(classes=_CLASSES),
        "many": _classifies(scores=_SCORES, classes=_CLASSES, total=_TOTAL),
        "flat_scores": _classifies(scores=_LENGTHS),
        "integer_scores": _classifies(scores=_IDS),
        "number_classes": _classifies(classes=_SCORES),
        "fixed_scores": _classifies(scores=_PAIR),
        "uneven": _classifies(classes=_CLASSES, scores=_TOTAL),
        "two_inputs": Signature(
            {"inputs": _EXAMPLES_INFO, "more": _EXAMPLES_INFO}, {"scores": _SCORES}, CLASSIFY_METHOD
        ),
        "regression": _regresses(_TOTAL),
        "flat_regression": _regresses(_FLAT),
        "wide_regression": _regresses(_SCORES),
        "integer_regression": _regresses(_LENGTHS),
        "fixed_regression": _regresses(_ALONE),
        "predict": Signature({"examples": _EXAMPLES_INFO}, {"total": _TOTAL, "lengths": _LENGTHS}, PREDICT_METHOD),
    },
    {
        "x": FixedLenFeature((1,), dtypes.float32),
        "y": FixedLenFeature((1,), dtypes.float32, [0.5]),
        "tags": VarLenFeature(dtypes.string),
    },
)

MODELS = {
    "half": (HALF_PLUS_TWO, None),
    "two": (TWO_INPUTS, None),
    "matrix": (MATRIX, None),
    "text": (TEXT, None),
    "scalar": (SCALAR, None),
    "log": (NOT_FINITE, None),
    "types": (EVERY_TYPE, None),
    "uint16": (UINT16, None),
    "mymodel": (MYMODEL, None),
    "bfloat16": (BFLOAT16, None),
    "defaults": (TWO_INPUTS, Metadata({"serving_default": _TWO})),
    "examples": (EXAMPLES, EXAMPLES_METADATA),
    "examples_unknown": (EXAMPLES, Metadata(EXAMPLES_METADATA.signatures)),
}


def write_model(base_path: Path, version: int, text: str, metadata: Metadata | None = None) -> None:
    model = onnx.parser.parse_model(HEAD + text)
    for key, value in (to_properties(metadata) if metadata else {}).items():
        model.metadata_props.add(key=key, value=value)
    directory = base_path / str(version)
    directory.mkdir(parents=True)
    (directory / "model.onnx").write_bytes(model.SerializeToString())
