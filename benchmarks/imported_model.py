"""An imported wide-and-deep model against the same model exported by this project, and against TensorFlow's own run.

    python benchmarks/imported_model.py --tensorflow-python /path/to/python/with/tensorflow

TensorFlow trains a DNNLinearCombinedClassifier for one step, exports it, and runs its SavedModel as a callable of a
session, in its own process. This project imports that SavedModel, and exports an estimator with the same columns
and layers. All three run on one thread, on the same serialized Examples, and take turns. What counts is processor time,
and the best turn of each. The command fails if a budget is broken.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from estimator_serving import ops, training
from estimator_serving.exporter import build_parsing_serving_input_receiver_fn, import_saved_model
from estimator_serving.training import feature_column
from estimator_serving.wire.examples import encode_example, join_examples
from estimator_serving.wire.records import write_records
from estimator_serving.wire.signatures import from_properties

ROWS = 1000
OWN_MAX, TENSORFLOW_MAX, IMPORT_S_MAX = 1.2, 0.5, 10.0
TURNS = 7
TURN_S = 0.4
WORDS = [f"word{i}" for i in range(40)]

# The columns as text, because both sides make them with their own `fc`.
COLUMNS = """
age, fare, hours = (fc.numeric_column(key) for key in ("age", "fare", "hours"))
age_buckets = fc.bucketized_column(age, [18.0, 25.0, 35.0, 45.0, 55.0, 65.0])
gender = fc.categorical_column_with_vocabulary_list("gender", ["female", "male"])
city = fc.categorical_column_with_vocabulary_list("city", words, num_oov_buckets=3)
job = fc.categorical_column_with_hash_bucket("job", 1000)
tags = fc.categorical_column_with_hash_bucket("tags", 500)
level = fc.categorical_column_with_identity("level", 20, default_value=0)
gender_job = fc.crossed_column(["gender", "job"], 1000)
age_city = fc.crossed_column([age_buckets, "city"], 1000)
wide = [age_buckets, gender, city, job, tags, level, gender_job, age_city]
deep = [age, fare, hours, fc.indicator_column(gender), fc.embedding_column(city, 8), fc.embedding_column(job, 8),
        fc.embedding_column(tags, 8), fc.embedding_column(level, 4), fc.embedding_column(gender_job, 8)]
"""

TENSORFLOW = """
import os, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import tensorflow as tf
fc, words, turn_s = tf.feature_column, [f"word{{i}}" for i in range(40)], {turn_s}
{columns}
work, records = sys.argv[1:3]
examples = [record.numpy() for record in tf.data.TFRecordDataset(records)]
spec = fc.make_parse_example_spec(wide + deep)
def input_fn():
    return tf.data.Dataset.from_tensors((tf.io.parse_example(examples, spec), [[0]] * len(examples)))
model = tf.estimator.DNNLinearCombinedClassifier(
    work + "/model", linear_feature_columns=wide, dnn_feature_columns=deep, dnn_hidden_units=[64, 32])
model.train(input_fn, steps=1)
receiver = tf.estimator.export.build_parsing_serving_input_receiver_fn(spec)
path = model.export_saved_model(work + "/export", receiver).decode()
config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
with session.graph.as_default():
    signature = tf.compat.v1.saved_model.load(session, ["serve"], path).signature_def["predict"]
names = [info.name for info in signature.outputs.values()]
call = session.make_callable(names, [signature.inputs["examples"].name])
print(path, flush=True)
for line in sys.stdin:
    call(examples)
    calls, start, spent = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < turn_s:
        call(examples)
        calls += 1
    print((time.process_time() - spent) / calls, flush=True)
"""


def make_examples() -> list[bytes]:
    rng = random.Random(0)

    def one() -> bytes:
        features: dict[str, Any] = {key: rng.random() * 60 for key in ("age", "fare", "hours")}
        features["gender"] = rng.choice(["female", "male"])
        features["city"] = rng.choice([*WORDS, "elsewhere"])
        features["job"] = f"job{rng.randrange(300)}"
        features["tags"] = [f"tag{rng.randrange(200)}" for _ in range(rng.randrange(4))]
        features["level"] = rng.randrange(20)
        return encode_example({key: value for key, value in features.items() if value != []})

    return [one() for _ in range(ROWS)]


def export_own(directory: Path) -> str:
    """The same columns and layers, trained for one step and exported by this project."""
    names: dict[str, Any] = {"fc": feature_column, "words": WORDS}
    exec(COLUMNS, names)  # the text above
    spec = feature_column.make_parse_example_spec([*names["wide"], *names["deep"]])
    model = training.DNNLinearCombinedClassifier(
        linear_feature_columns=names["wide"],
        dnn_feature_columns=names["deep"],
        dnn_hidden_units=[64, 32],
        model_dir=str(directory / "own_model"),
    )
    rows = 32
    features: dict[str, Any] = {
        key: np.linspace(1, 60, rows, dtype=np.float32)[:, None] for key in ("age", "fare", "hours")
    }
    features |= {key: np.array([b"a"] * rows, object) for key in ("gender", "city", "job", "tags")}
    features["level"] = np.arange(rows) % 20
    model.train(lambda: (features, np.arange(rows)[:, None] % 2), steps=1)
    return model.export_saved_model(str(directory / "own"), build_parsing_serving_input_receiver_fn(spec))


def caller(version: str, examples: list[bytes]) -> Callable[[], object]:
    """A call of the signature `predict` on all Examples."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ops.session(f"{version}/model.onnx", options=options)
    values, row_splits = join_examples(examples)
    feeds = {"input_example_tensor/values": values, "input_example_tensor/row_splits": row_splits}
    metadata = from_properties(session.get_modelmeta().custom_metadata_map)
    assert metadata is not None
    names = [info.value_name for info in metadata.signatures["predict"].outputs.values()]
    return lambda: session.run(names, feeds)


def time_call(call: Callable[[], object]) -> float:
    call()
    calls, start, spent = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < TURN_S:
        call()
        calls += 1
    return (time.process_time() - spent) / calls


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tensorflow-python", required=True, help="a Python that has TensorFlow 2.15")
    python = parser.parse_args().tensorflow_python
    examples = make_examples()
    with tempfile.TemporaryDirectory() as directory:
        records = Path(directory) / "examples.tfrecord"
        write_records(records, examples)
        program = TENSORFLOW.format(columns=COLUMNS, turn_s=TURN_S)
        with subprocess.Popen(
            [python, "-c", program, directory, str(records)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        ) as tensorflow:  # fmt: skip
            assert tensorflow.stdin is not None
            assert tensorflow.stdout is not None
            path = tensorflow.stdout.readline().strip()
            start = time.perf_counter()
            imported = import_saved_model(path, Path(directory) / "imported")
            import_s = time.perf_counter() - start
            ours = caller(imported, examples)
            own = caller(export_own(Path(directory)), examples)

            def tensorflow_s() -> float:
                print("go", file=tensorflow.stdin, flush=True)
                return float(tensorflow.stdout.readline())  # type: ignore[union-attr]

            turns = [(time_call(ours), time_call(own), tensorflow_s()) for _ in range(TURNS)]
            tensorflow.stdin.close()
    ours_ms, own_ms, tensorflow_ms = (min(times) * 1e3 for times in zip(*turns, strict=True))
    print(
        f"{ROWS} Examples: imported {ours_ms:.2f} ms, own export {own_ms:.2f} ms, TensorFlow {tensorflow_ms:.2f} ms; "
        f"ratio to the own export {ours_ms / own_ms:.2f} (at most {OWN_MAX}), to TensorFlow "
        f"{ours_ms / tensorflow_ms:.2f} (at most {TENSORFLOW_MAX}); import {import_s:.1f} s (at most {IMPORT_S_MAX})"
    )
    kept = ours_ms <= OWN_MAX * own_ms and ours_ms <= TENSORFLOW_MAX * tensorflow_ms and import_s <= IMPORT_S_MAX
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
