#!/usr/bin/env bash
# xgboost-cpu 3.2.0 with pandas 3.1.1: a saved model holds the names of text categories cut where they are not ASCII.
#
# Expected: the names é, "a b", ü and z as 8 bytes of UTF-8, cut at 2, 5 and 7. Seen: the offsets count characters (1, 4,
# 5, 6), and the bytes end after 6, so the last name is gone and the others are cut in the middle of a character.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check xgboost-cpu==3.2.0 pandas==3.1.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import json

import pandas as pd
import xgboost

NAMES = ["é", "a b", "ü", "z"]
rows = pd.DataFrame({"c": pd.Categorical.from_codes([0, 1, 2, 3] * 25, NAMES)})
data = xgboost.DMatrix(rows, label=[0, 1, 2, 3] * 25, enable_categorical=True)
saved = json.loads(bytes(xgboost.train({"max_depth": 2}, data, 2).save_raw("json")))
(column,) = saved["learner"]["gradient_booster"]["model"]["cats"]["enc"]
offsets, content = column["offsets"], bytes(value & 255 for value in column["values"])
print("xgboost", xgboost.__version__, "pandas", pd.__version__)
print("offsets", offsets, "bytes", content, "expected", "".join(NAMES).encode())
assert (offsets, content) == ([0, 1, 4, 5, 6], "éa b".encode() + b"\xc3"), "What is saved has changed."
PY
