#!/usr/bin/env bash
# onnxruntime 1.24.4: ArgMax over a negative axis of a tensor without rows keeps the reduced dimension.
#
# Expected: shape [0] for ArgMax(axis=-1, keepdims=0) of shape [0, 3], as for axis=1. Seen: shape [0, 3].
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.24.4 onnx==1.21.0 numpy==2.3.5
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import onnx
import onnxruntime


def shape_of(axis, rows):
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3] x) => (int64[M] y) '
        f"{{ y = ArgMax<axis = {axis}, keepdims = 0>(x) }}"
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"x": np.zeros((rows, 3), np.float32)})[0].shape)


shapes = {(axis, rows): shape_of(axis, rows) for axis in (1, -1) for rows in (2, 0)}
print("onnxruntime", onnxruntime.__version__, "shape of ArgMax by (axis, rows):", shapes)
assert shapes[1, 2] == shapes[-1, 2] == [2]
assert shapes[1, 0] == [0]
assert shapes[-1, 0] == [0, 3], "The behaviour has changed."
PY
