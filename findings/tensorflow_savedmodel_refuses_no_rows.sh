#!/usr/bin/env bash
# tensorflow 2.15.1: an exported DNNClassifier with an embedding column refuses an empty batch; without one it answers.
#
# Expected: zero Examples give zero predictions, whatever the columns. Seen: InvalidArgumentError with the embedding.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check tensorflow==2.15.1
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" -W ignore - "$folder" 2>/dev/null <<'PY'
import sys

import tensorflow as tf

fc = tf.feature_column
number = fc.numeric_column("x")
embedding = fc.embedding_column(fc.categorical_column_with_hash_bucket("word", 10), 2)
seen = {}
for name, columns in {"number": [number], "embedding": [number, embedding]}.items():
    model = tf.estimator.DNNClassifier([4], columns, model_dir=f"{sys.argv[1]}/{name}")
    model.train(lambda: ({"x": tf.constant([[1.0]]), "word": tf.constant([["a"]])}, tf.constant([1])), steps=1)
    receiver = tf.estimator.export.build_parsing_serving_input_receiver_fn(fc.make_parse_example_spec(columns))
    path = model.export_saved_model(f"{sys.argv[1]}/{name}_export", receiver).decode()
    predict = tf.saved_model.load(path).signatures["predict"]
    try:
        seen[name] = list(predict(examples=tf.zeros([0], tf.string))["logits"].shape)
    except tf.errors.InvalidArgumentError as error:
        seen[name] = "InvalidArgumentError"
print("tensorflow", tf.__version__, "logits of no rows, by columns:", seen)
assert seen["number"] == [0, 1]
assert seen["embedding"] == "InvalidArgumentError", "The behaviour has changed."
PY
