#!/usr/bin/env bash
# onnxruntime 1.24.4: bytes in an object array reach a string tensor as the text of their literal, not as their bytes.
#
# Expected: b"a" arrives as the string a, or is refused. Seen: it arrives as the four characters b'a'.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.24.4 onnx==1.21.0 numpy==2.3.5
"$folder/venv/bin/python" - <<'PY'
import numpy as np
import onnx
import onnxruntime

model = onnx.parser.parse_model(
    '<ir_version: 8, opset_import: ["" : 17]> g (string[N] x) => (string[N] y) { y = Identity(x) }'
)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
(seen,) = session.run(None, {"x": np.array([b"a"], object)})
print("onnxruntime", onnxruntime.__version__, "Identity of b'a' gives", repr(seen[0]))
assert seen[0] == "b'a'", "The behaviour has changed."
PY
