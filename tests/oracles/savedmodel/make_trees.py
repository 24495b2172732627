"""Makes SavedModels of boosted trees with TensorFlow 1.15 (Python 3.7), as make.py does: 2.15 has no kernels for them.

python make_trees.py DIRECTORY
"""

import shutil
import sys
import tempfile
from pathlib import Path

import make
import numpy as np
import tensorflow as tf

fc = tf.feature_column
ROWS = 300
WORDS = ("red", "green", "blue")


def data():
    rng = np.random.RandomState(3)
    return {
        "age": rng.normal(size=ROWS).astype(np.float32) * 20 + 40,
        "fare": np.abs(rng.normal(size=ROWS)).astype(np.float32) * 30,
        "city": np.array([WORDS[i] for i in rng.randint(3, size=ROWS)], object),
        "code": rng.randint(9, size=ROWS).astype(np.int64),
    }


def columns(with_numbers):
    age, fare = fc.numeric_column("age"), fc.numeric_column("fare")
    made = [
        fc.bucketized_column(age, [20.0, 30.0, 40.0, 50.0, 60.0]),
        fc.bucketized_column(fare, [5.0, 10.0, 30.0]),
        fc.indicator_column(fc.categorical_column_with_vocabulary_list("city", WORDS[:2])),
        fc.indicator_column(fc.categorical_column_with_hash_bucket("code", 5, tf.int64)),
    ]
    return [*made, fc.numeric_column("age"), fc.numeric_column("fare")] if with_numbers else made


def messages():
    rng, rows = np.random.RandomState(5), []
    for i in range(make.ROWS):
        example = tf.train.Example()
        feature = example.features.feature
        feature["age"].float_list.value.append([float("nan"), 20.0, 40.0, 1e9][i] if i < 4 else rng.normal() * 20 + 40)
        feature["fare"].float_list.value.append(abs(rng.normal()) * 30)
        if i != 5:
            feature["city"].bytes_list.value.append([b"red", b"green", b"other", b""][rng.randint(4)])
        feature["code"].int64_list.value.append(int(rng.randint(12)))
        rows.append(example.SerializeToString())
    return rows


def labels(kind, features):
    score = features["age"] / 20 + (features["city"] == "red") * 2 - (features["code"] > 4)
    return score.astype(np.float32) if kind == "regression" else (score > 2).astype(np.int64)


CASES = {
    # Head, number of trees, depth, numeric columns, more arguments.
    "binary": ("binary", 20, 4, False, {}),
    "binary_numbers": ("binary", 12, 5, True, {}),
    "regression": ("regression", 15, 3, False, {"learning_rate": 0.3}),
    "pruned": ("binary", 10, 6, False, {"pruning_mode": "post", "tree_complexity": 0.05}),
    "centered": ("binary", 5, 3, False, {"center_bias": True}),
    "words": ("binary", 5, 2, False, {"label_vocabulary": ["no", "yes"]}),
}


def save(name, directory):
    kind, trees, depth, with_numbers, options = CASES[name]
    features = data()
    wanted = labels(kind, features)
    if "label_vocabulary" in options:
        wanted = np.array(options["label_vocabulary"], object)[wanted]
    make_estimator = tf.estimator.BoostedTreesRegressor if kind == "regression" else tf.estimator.BoostedTreesClassifier
    with tempfile.TemporaryDirectory() as work:
        estimator = make_estimator(columns(with_numbers), 1, work + "/model", n_trees=trees, max_depth=depth, **options)

        def input_fn():
            return tf.data.Dataset.from_tensors((features, wanted)).repeat()

        estimator.train(input_fn, max_steps=trees * depth + 5)
        spec = fc.make_parse_example_spec(columns(with_numbers))
        receiver = tf.estimator.export.build_parsing_serving_input_receiver_fn(spec)
        path = estimator.export_saved_model(work + "/export", receiver).decode()
        shutil.copytree(path, str(directory / "saved_model"))
    make.record(directory, {"*": messages()}, {}, "boosted_trees")


def main():
    base = Path(sys.argv[1])
    for name in CASES:
        directory = base / ("boosted_trees_" + name)
        shutil.rmtree(str(directory), ignore_errors=True)
        directory.mkdir(parents=True)
        try:
            save(name, directory)
        except Exception as error:
            print(f"{name}: TensorFlow refuses it ({type(error).__name__}: {str(error)[:300]})")


if __name__ == "__main__":
    main()
