#!/usr/bin/env bash
# tritonclient 2.73.0 and kserve 0.21.0: their gRPC modules cannot be imported in one process.
#
# Both register messages of the Open Inference Protocol under the same names in protobuf's default pool.
# Expected: two clients of one protocol work side by side. Seen: whichever comes second raises TypeError.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check 'tritonclient[grpc]==2.73.0' kserve==0.21.0
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib import metadata

import tritonclient.grpc

try:
    import kserve.protocol.grpc.grpc_predict_v2_pb2
    seen = "both were imported"
except TypeError as error:
    seen = "TypeError: " + str(error).splitlines()[0]
print("tritonclient", metadata.version("tritonclient"), "then kserve", metadata.version("kserve"), "gives", seen)
assert seen.startswith("TypeError"), "The behaviour has changed."
PY
