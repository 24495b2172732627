#!/usr/bin/env bash
# tensorflow 2.15.1: the Example parser keeps only the first piece of a packed list that comes in two pieces.
#
# Protobuf lets a packed field come in several pieces and says that a reader concatenates them.
# Expected: parse_example returns the values of both pieces, as the generated class does. Seen: those of the first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow==2.15.1
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" -W ignore - 2>/dev/null <<'PY'
import tensorflow as tf


def field(number, content):
    return bytes([number << 3 | 2, len(content)]) + content


pieces = field(1, bytes([1, 2])) + field(1, bytes([3]))  # Int64List.value, packed: 1, 2, then 3
feature = field(3, pieces)  # Feature.int64_list
entry = field(1, b"x") + field(2, feature)
serialized = field(1, field(1, entry))  # Example.features, Features.feature
by_protobuf = list(tf.train.Example.FromString(serialized).features.feature["x"].int64_list.value)
parsed = tf.io.parse_example([serialized], {"x": tf.io.VarLenFeature(tf.int64)})["x"].values.numpy().tolist()
print("tensorflow", tf.__version__, "protobuf reads", by_protobuf, "and parse_example reads", parsed)
assert by_protobuf == [1, 2, 3]
assert parsed == [1, 2], "The behaviour has changed."
PY
