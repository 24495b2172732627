#!/usr/bin/env bash
# onnxruntime 1.31.1 (CPU): ReduceSum and ReduceProd of int64 compute in double precision.
#
# Expected: 2**53 + 1 for the sum of [2**53, 1], as int64 holds it, and as Add of the two gives it; a product that passes
# 2**63 wraps around, as Mul does; 1.24.4 does both. Seen: 2**53, and the product stops at 2**63 - 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.31.1 onnx==1.21.0 numpy==2.3.5
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import onnx
import onnxruntime

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
g (int64[2] x) => (int64 sum, int64 product, int64[1] added, int64[1] multiplied)
<int64[1] zero = {0}, int64[1] one = {1}, int64[1] axes = {0}>
{
  sum = ReduceSum <keepdims = 0> (x, axes)
  product = ReduceProd <keepdims = 0, axes = [0]> (x)
  first = Gather (x, zero)
  second = Gather (x, one)
  added = Add (first, second)
  multiplied = Mul (first, second)
}"""
content = onnx.parser.parse_model(MODEL).SerializeToString()
session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def run(*values):
    return [int(output.reshape(-1)[0]) for output in session.run(None, {"x": np.array(values, np.int64)})]


total, _, added, _ = run(2**53, 1)
_, product, _, multiplied = run(2**40, 2**30)
print("onnxruntime", onnxruntime.__version__)
print("sum of 2**53 and 1: ReduceSum", total, "Add", added)
print("product of 2**40 and 2**30: ReduceProd", product, "Mul", multiplied)
assert (total, added) == (2**53, 2**53 + 1), "The behaviour of ReduceSum has changed."
assert (product, multiplied) == (2**63 - 1, 0), "The behaviour of ReduceProd has changed."
PY
