#!/usr/bin/env bash
# tensorflow 2.15.1 (x86-64): casting a float to uint32 gives another number at the end of a tensor than in front.
#
# Expected: equal elements of one tensor become equal elements, whatever the result is for a number that uint32 does not
# hold. Seen: NaN becomes 2147483648 in front, where several elements are cast at once, and 0 at the end.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow==2.15.1
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - <<'PY'
import tensorflow as tf

equal = tf.constant([float("nan")] * 19)
cast = tf.cast(equal, tf.uint32).numpy().tolist()
print("tensorflow", tf.__version__, "19 times NaN as uint32:", cast)
assert len(set(cast)) == 2, "The behaviour has changed, or this processor casts one element at a time."
PY
