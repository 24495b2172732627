#!/usr/bin/env bash
# onnxruntime 1.31.1 (CPU, x86-64): Max, Min, Sign, Clip, ReduceMax and ReduceMin of int64 misread numbers from 2**31 to
# 2**32 - 1.
#
# Expected: 2**31 for the larger of 2**31 and 3, as Greater and Where give it, and 1 for its sign, wherever it stands.
# Seen: 3, and -1, in a row with seven times 3; the number by itself is read rightly. ReduceMin errs for other rows.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.31.1 onnx==1.21.0 numpy==2.3.5
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import onnx
import onnxruntime

MODEL = """<ir_version: 8, opset_import: ["" : 18]>
g (int64[rows, columns] x) => (
  int64[rows, columns] max, int64[rows, columns] min, int64[rows, columns] sign, int64[rows, columns] clip,
  int64[rows, one] reduce_max, int64[rows, one] reduce_min, int64[rows, columns] where, int64[rows, one] top_k
)
<int64 three = {3}, int64 limit = {4294967296}, int64[1] axes = {1}, int64[1] count = {1}>
{
  max = Max (x, three)
  min = Min (x, three)
  sign = Sign (x)
  clip = Clip (x, three, limit)
  reduce_max = ReduceMax (x, axes)
  reduce_min = ReduceMin (x, axes)
  is_larger = Greater (x, three)
  where = Where (is_larger, x, three)
  top_k, place = TopK <axis = 1> (x, count)
}"""
content = onnx.parser.parse_model(MODEL).SerializeToString()
session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def run(*row):
    """What each output has first."""
    outputs = session.run(None, {"x": np.array([row], np.int64)})
    return {one.name: int(made[0, 0]) for one, made in zip(session.get_outputs(), outputs, strict=True)}


single, several = run(2**31), run(2**31, *[3] * 7)
print("onnxruntime", onnxruntime.__version__)
print("2**31:", single)
print("2**31 and seven times 3:", several)
right = {"max": 2**31, "min": 3, "sign": 1, "clip": 2**31, "reduce_max": 2**31, "reduce_min": 2**31}
right |= {"where": 2**31, "top_k": 2**31}
assert single == right, "The behaviour for one number has changed."
wrong = {"max": 3, "min": 2**31, "sign": -1, "clip": 3, "reduce_max": 3}
assert several == right | wrong | {"reduce_min": 3}, "The behaviour for several numbers has changed."
PY
