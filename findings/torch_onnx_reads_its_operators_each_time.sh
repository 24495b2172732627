#!/usr/bin/env bash
# torch 2.13.0 with onnxscript 0.7.2: torch.onnx.export reads the source of all its operators again for each export.
#
# Expected: the first export of a process reads the 500 operators that torch can translate, later ones find them.
# Seen: each export reads them all, which takes about 0.8 s of a core, two thirds of the export of a small layer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6 onnx==1.23.2 onnxscript==0.7.2
"$folder/venv/bin/python" -W ignore - <<'PY'
import inspect
import logging
import time

import onnxscript
import torch

logging.disable(logging.WARNING)
read, getsource = [], inspect.getsource
inspect.getsource = lambda thing: read.append(thing) or getsource(thing)
print("torch", torch.__version__, "onnxscript", onnxscript.__version__)
counts = []
for number in range(3):
    read.clear()
    began_s = time.process_time()
    torch.onnx.export(torch.nn.Linear(3, 2), (torch.ones(4, 3),), dynamo=True, verbose=False)
    counts.append(len(read))
    print(f"export {number}: {counts[-1]} sources read, {time.process_time() - began_s:.2f} s of processor time")
assert min(counts) > 300, "Later exports read fewer sources."
PY
