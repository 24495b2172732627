#!/usr/bin/env bash
# tensorflow 2.15.1: a crossed column gives other ids for dense text than for the same text in serialized Examples.
#
# A cross of a text key and a bucketized column hashes its sparse inputs first. Text is dense when it is fed from numpy in
# training, and sparse when it is parsed from Examples in serving.
# Expected: the same row has the same id in training and in serving. Seen: two ids.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow==2.15.1
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" -W ignore - 2>/dev/null <<'PY'
import numpy as np
import tensorflow as tf

fc = tf.feature_column
age = fc.bucketized_column(fc.numeric_column("age"), [20, 40])
column = fc.indicator_column(fc.crossed_column(["city", age], 1000))
example = tf.train.Example()
example.features.feature["age"].float_list.value.append(30.0)
example.features.feature["city"].bytes_list.value.append(b"Bern")
spec = {"age": tf.io.FixedLenFeature([1], tf.float32), "city": tf.io.VarLenFeature(tf.string)}
with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    dense = tf.compat.v1.feature_column.input_layer({"age": tf.constant([[30.0]]), "city": tf.constant([["Bern"]])}, [column])
    parsed = tf.compat.v1.feature_column.input_layer(tf.io.parse_example([example.SerializeToString()], spec), [column])
    ids = [int(np.argmax(values)) for values in session.run([dense, parsed])]
print("tensorflow", tf.__version__, "id of one row, dense text and text of an Example:", ids)
assert ids[0] != ids[1], "The behaviour has changed."
PY
