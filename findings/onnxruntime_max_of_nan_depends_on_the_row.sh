#!/usr/bin/env bash
# onnxruntime 1.31.1 (CPU): whether ReduceMax notices a NaN depends on where the row lies in memory.
#
# Expected: NaN for every row that holds one, as numpy, torch and TensorFlow have it, or for none; equal rows have equal
# maxima in either case. Seen, for four equal rows of 7 numbers: a NaN in place 0 makes the maximum of the first row NaN
# and is overlooked in the other three; one in place 1 only that of the second row, and so on; behind place 3, a NaN is
# always overlooked. ReduceMin is the same.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.31.1 onnx==1.21.0 numpy==2.3.5
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import onnx
import onnxruntime

model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
g (float[N,M] x) => (float[N] y) <int64[1] axis = {1}> { y = ReduceMax <keepdims = 0> (x, axis) }""")
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def maxima(place):
    rows = np.tile(np.arange(7, dtype=np.float32), (4, 1))
    rows[:, place] = np.nan
    return session.run(None, {"x": rows})[0].tolist()


print("onnxruntime", onnxruntime.__version__)
for place in range(7):
    found = maxima(place)
    print(f"four equal rows, NaN in place {place}: {found}")
    assert np.isnan(found).tolist() == [row == place for row in range(4)], "The behaviour has changed."
PY
