"""What TensorFlow 2.15's estimators start from, and become in one step, when they are warm-started.

    python tests/training/goldens/make_warm_start_goldens.py      in an environment with tensorflow 2.15

Writes warm_start.json beside this file: the models that were trained first, with every variable of their checkpoint,
and per run the warm-started model, its settings, and every variable before and after its first step.
"""

import functools
import json
import os
import tempfile
from pathlib import Path

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf

E, fc = tf.estimator, tf.feature_column
STEPS = 3
ROWS = {
    "x": [0.5, -1.0, 2.0, 0.25, 1.5, -0.75],
    "y": [1.0, 0.5, -0.5, 2.0, 0.0, -1.0],
    "c": ["a", "b", "d", "c", "zz", "a"],
}
LABELS = {"binary": [1, 0, 1, 1, 0, 1], "classes": [1, 0, 2, 1, 2, 0]}
VOCABULARIES = {
    "old": ["a", "b", "c"],
    "new": ["c", "d", "a", "e"],
    "old classes": ["cat", "dog", "cow"],
    "new classes": ["cow", "hen", "cat", "dog"],
}
# family, labels, columns, the vocabulary of c and its buckets, arguments
LINEAR = ("LinearClassifier", "binary", ["x", "c"], "old", 1, {})
DNN = ("DNNClassifier", "classes", ["x", "c"], "old", 1, {"hidden_units": [2], "n_classes": 3})
BATCH_NORM = (*DNN[:-1], {**DNN[-1], "batch_norm": True})
BOTH = ("DNNLinearCombinedClassifier", "binary", ["x", "c"], "old", 1, {"dnn_hidden_units": [2]})
SOURCES = {
    "linear": LINEAR,
    "linear y": ("LinearClassifier", "binary", ["y", "c"], "old", 1, {}),
    "dnn": DNN,
    "batch_norm": BATCH_NORM,
    "both": BOTH,
}
C = "linear/linear_model/c/weights"
TABLE = "dnn/input_from_feature_columns/input_layer/c_embedding/embedding_weights"
NEW = {"new_vocab": "new", "new_vocab_size": 4, "num_oov_buckets": 1, "old_vocab": "old"}
CLASSES = {"new_vocab": "new classes", "new_vocab_size": 4, "num_oov_buckets": 0, "old_vocab": "old classes", "axis": 1}


def with_vocabulary(model, vocabulary, buckets, **arguments):
    return (*model[:3], vocabulary, buckets, {**model[-1], **arguments})


# source, model, settings
RUNS = {
    "linear": ("linear", LINEAR, {}),
    "dnn": ("dnn", DNN, {}),
    "both": ("both", BOTH, {}),
    "batch norm, trainable variables": ("batch_norm", BATCH_NORM, {}),
    "batch norm, all variables": ("batch_norm", BATCH_NORM, {"vars_to_warm_start": [".*"]}),
    "linear, all variables": ("linear", LINEAR, {"vars_to_warm_start": [".*"]}),
    "some by expression": ("linear", LINEAR, {"vars_to_warm_start": "linear/linear_model/[cb]"}),
    "some with their slots": (
        "linear",
        LINEAR,
        {"vars_to_warm_start": ["training/Ftrl/linear/linear_model/x", "linear/linear_model/x", f"{C}[^/]"]},
    ),
    "nothing": ("linear", LINEAR, {"vars_to_warm_start": "bias"}),
    "another name": (
        "linear y",
        LINEAR,
        {"var_name_to_prev_var_name": {"linear/linear_model/x/weights": "linear/linear_model/y/weights"}},
    ),
    "two from one": (
        "linear y",
        ("LinearClassifier", "binary", ["x", "y", "c"], "old", 1, {}),
        {"var_name_to_prev_var_name": {"linear/linear_model/x/weights": "linear/linear_model/y/weights"}},
    ),
    "rows": ("linear", with_vocabulary(LINEAR, "new", 1), {"var_name_to_vocab_info": {C: NEW}}),
    "rows of the first two old entries": (
        "linear",
        with_vocabulary(LINEAR, "new", 1),
        {"var_name_to_vocab_info": {C: {**NEW, "old_vocab_size": 2}}},
    ),
    "vocabularies alone": (
        "linear",
        with_vocabulary(LINEAR, "new", 2),
        {"vars_to_warm_start": None, "var_name_to_vocab_info": {C: {**NEW, "num_oov_buckets": 2}}},
    ),
    "rows of a table": (
        "dnn",
        with_vocabulary(DNN, "new", 2),
        {"var_name_to_vocab_info": {TABLE: {**NEW, "num_oov_buckets": 2, "backup_initializer": 0.25}}},
    ),
    "columns of classes": (
        "dnn",
        with_vocabulary(DNN, "old", 1, n_classes=4),
        {
            "vars_to_warm_start": "dnn/(?!logits/bias)",
            "var_name_to_vocab_info": {"dnn/logits/kernel": {**CLASSES, "backup_initializer": -0.5}},
        },
    ),
}


def build(files, model, warm_start_from=None):
    kind, _, names, vocabulary, buckets, arguments = model
    category = fc.categorical_column_with_vocabulary_file("c", files[vocabulary], num_oov_buckets=buckets)
    numeric = [fc.numeric_column(name) for name in names if name != "c"]
    wide, deep = [*numeric, category], [*numeric, fc.embedding_column(category, 2)]
    columns = {
        "LinearClassifier": {"feature_columns": wide},
        "DNNClassifier": {"feature_columns": deep},
        "DNNLinearCombinedClassifier": {"linear_feature_columns": wide, "dnn_feature_columns": deep},
    }[kind]
    config = E.RunConfig(model_dir=tempfile.mkdtemp(), tf_random_seed=5)
    return getattr(E, kind)(**arguments, **columns, config=config, warm_start_from=warm_start_from)


def input_fn(model):
    features = {name: np.array(values, None if name == "c" else np.float32) for name, values in ROWS.items()}
    labels = np.array(LABELS[model[1]])
    return lambda: tf.data.Dataset.from_tensor_slices((features, labels)).batch(len(labels)).repeat()


def filled(shape, value):
    return tf.fill(shape, tf.constant(value))


def settings_of(files, source, described):
    infos = {}
    for name, info in (described.get("var_name_to_vocab_info") or {}).items():
        given = {**info, "new_vocab": files[info["new_vocab"]], "old_vocab": files[info["old_vocab"]]}
        if "backup_initializer" in info:
            # Not constant_initializer: TF asks for as many values as entries are new, which it knows only in the graph.
            given["backup_initializer"] = functools.partial(filled, value=info["backup_initializer"])
        infos[name] = E.VocabInfo(**given)
    return E.WarmStartSettings(source.model_dir, **{**described, "var_name_to_vocab_info": infos})


def variables(path):
    reader = tf.train.load_checkpoint(path)
    return {name: reader.get_tensor(name).tolist() for name in sorted(reader.get_variable_to_shape_map())}


def main():
    folder = Path(tempfile.mkdtemp())
    files = {name: str(folder / f"{name}.txt") for name in VOCABULARIES}
    for name, file in files.items():
        Path(file).write_text("".join(f"{entry}\n" for entry in VOCABULARIES[name]))
    trained = {key: build(files, model).train(input_fn(model), steps=STEPS) for key, model in SOURCES.items()}
    runs = {}
    for key, (source, model, described) in RUNS.items():
        settings = settings_of(files, trained[source], described)
        estimator = build(files, model, settings).train(input_fn(model), steps=1)
        before, after = tf.train.get_checkpoint_state(estimator.model_dir).all_model_checkpoint_paths
        evaluation = build(files, model, settings).evaluate(input_fn(model), steps=1)
        runs[key] = {
            "source": source,
            "model": model,
            "settings": described,
            "before": variables(before),
            "after": variables(after),
            "evaluation": {name: float(evaluation[name]) for name in ("loss", "global_step")},
        }
    inputs = {"rows": ROWS, "labels": LABELS, "vocabularies": VOCABULARIES}
    sources = {key: variables(tf.train.latest_checkpoint(estimator.model_dir)) for key, estimator in trained.items()}
    goldens = {**inputs, "sources": sources, "runs": runs}
    Path(__file__).with_name("warm_start.json").write_text(json.dumps(goldens) + "\n")


if __name__ == "__main__":
    main()
