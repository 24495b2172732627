"""Makes random SavedModels with TensorFlow 2.15, and records what TensorFlow answers. Runs in TensorFlow's environment.

    python make.py DIRECTORY --cases 300 --seed 1

Each case is a directory: `saved_model/`, `inputs.json` (base64 of the serialized Examples), `inputs.npz` (raw inputs by
alias), `answers.npz` (`signature|output|batch`) and `signatures.json`. check.py compares an import with them.
Owns the choice of programs: every family of canned estimators over random feature columns, and rows with missing,
empty, unknown, repeated and extreme values.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import tensorflow as tf

tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
fc = tf.feature_column

ROWS = 24
WORDS = ["red", "green", "blue", "a", "é", "", "cyan", "magenta"]
BATCHES = {"all": ROWS, "one": 1, "none": 0}


class Program:
    """A random choice of features and columns."""

    def __init__(self, rng, directory):
        self.rng = rng
        self.directory = directory
        self.spec = {}
        self.values = {}
        self.names = iter(f"f{i}" for i in range(1000))

    def chance(self, probability):
        return self.rng.random() < probability

    def pick(self, options):
        return options[int(self.rng.integers(len(options)))]

    # -- features --

    def words(self):
        key = next(self.names)
        self.spec[key] = tf.io.VarLenFeature(tf.string)
        self.values[key] = lambda: [self.pick(WORDS).encode() for _ in range(self.length())]
        return key

    def ids(self, bound=None):
        key = next(self.names)
        self.spec[key] = tf.io.VarLenFeature(tf.int64)
        low, high = (0, bound) if bound else (-3, 12)
        self.values[key] = lambda: [int(self.rng.integers(low, high)) for _ in range(self.length())]
        return key

    def length(self):
        return int(self.pick([0, 0, 1, 1, 1, 2, 3, 5]))

    def number(self):
        key = next(self.names)
        size = int(self.pick([1, 1, 1, 2, 3]))
        default = self.pick([None, 0.0, 2.5])
        normalizer = self.pick([None, None, lambda x: (x - 1.5) / 3.0, lambda x: tf.math.log1p(tf.abs(x))])
        self.spec[key] = tf.io.FixedLenFeature([size], tf.float32, None if default is None else [default] * size)

        def values():
            if default is not None and self.chance(0.3):
                return None
            return [
                float(
                    np.float32(
                        self.pick(
                            [
                                0.0,
                                1.0,
                                -1.0,
                                10.0,
                                1e-8,
                                1e6,
                                float("nan"),
                                float("inf"),
                                *map(float, self.rng.normal(size=12) * 5),
                            ]
                        )
                    )
                )
                for _ in range(size)
            ]

        self.values[key] = values
        return fc.numeric_column(key, shape=(size,), default_value=default, normalizer_fn=normalizer)

    # -- columns --

    def bucketized(self):
        return fc.bucketized_column(self.number(), sorted({float(self.pick([-1, 0, 1, 2, 5, 10])) for _ in range(4)}))

    def categorical(self, simple=False):
        simple_ones = [
            self.vocabulary, self.vocabulary_with_buckets, self.vocabulary_of_ids, self.vocabulary_file,
            self.hashed, self.hashed_ids, self.identity, self.identity_with_default,
        ]  # fmt: skip
        return self.pick(simple_ones if simple else [*simple_ones, self.crossed, self.weighted])()

    def vocabulary(self):
        return fc.categorical_column_with_vocabulary_list(
            self.words(), ["red", "green", "blue", "é"], default_value=self.pick([-1, 0, 2])
        )

    def vocabulary_with_buckets(self):
        buckets = int(self.pick([1, 3]))
        return fc.categorical_column_with_vocabulary_list(self.words(), ["red", "green", ""], num_oov_buckets=buckets)

    def vocabulary_of_ids(self):
        buckets = int(self.pick([0, 2]))
        return fc.categorical_column_with_vocabulary_list(
            self.ids(), [1, 5, 7], dtype=tf.int64, num_oov_buckets=buckets
        )

    def vocabulary_file(self):
        path = Path(self.directory) / f"words_{next(self.names)}.txt"
        path.write_text("red\ngreen\nblue\nmagenta\n")
        return fc.categorical_column_with_vocabulary_file(
            self.words(), str(path), vocabulary_size=self.pick([None, 3]), num_oov_buckets=int(self.pick([0, 2]))
        )

    def hashed(self):
        return fc.categorical_column_with_hash_bucket(self.words(), int(self.pick([2, 7, 50])))

    def hashed_ids(self):
        return fc.categorical_column_with_hash_bucket(self.ids(), 9, dtype=tf.int64)

    def identity(self):
        return fc.categorical_column_with_identity(self.ids(6), 6)

    def identity_with_default(self):
        return fc.categorical_column_with_identity(self.ids(), 6, default_value=int(self.pick([0, 5])))

    def crossed(self):
        # A hashed column cannot be crossed; TensorFlow crosses its words.
        crossable = [self.words, self.bucketized, self.vocabulary, self.vocabulary_of_ids, self.identity_with_default]
        keys = [self.pick(crossable)() for _ in range(int(self.pick([2, 2, 3])))]
        return fc.crossed_column(keys, int(self.pick([5, 100])), hash_key=self.pick([None, 0, 12345]))

    def weighted(self):
        ids = self.categorical(simple=True)
        key, weight = ids.key, next(self.names)
        self.spec[weight] = tf.io.VarLenFeature(tf.float32)
        self.values[weight] = ("weights_of", key)
        return fc.weighted_categorical_column(ids, weight)

    def wide(self):
        return [
            self.pick([self.categorical, self.categorical, self.bucketized, self.number])()
            for _ in range(int(self.rng.integers(1, 5)))
        ]

    def deep(self):
        made = []
        for _ in range(int(self.rng.integers(1, 5))):
            kind = self.pick(["number", "embedding", "embedding", "indicator", "bucketized", "shared"])
            if kind == "number":
                made.append(self.number())
            elif kind == "bucketized":
                made.append(self.bucketized())
            elif kind == "indicator":
                made.append(fc.indicator_column(self.categorical()))
            elif kind == "embedding":
                made.append(
                    fc.embedding_column(
                        self.categorical(),
                        int(self.pick([1, 3, 4])),
                        combiner=self.pick(["mean", "sqrtn", "sum"]),
                        max_norm=self.pick([None, None, None, 0.5]),
                    )
                )
            else:
                first, second = self.words(), self.words()
                both = [fc.categorical_column_with_hash_bucket(key, 11) for key in (first, second)]
                made += (
                    fc.shared_embeddings(both, 3, combiner=self.pick(["mean", "sqrtn", "sum"]))
                    if self.is_v2
                    else [*(fc.embedding_column(one, 3) for one in both)]
                )
        return made

    # -- rows --

    def row(self):
        values = {key: make() for key, make in self.values.items() if callable(make)}
        for key, make in self.values.items():
            if not callable(make):
                values[key] = [float(np.float32(self.pick([1.0, 0.5, -1.0, 0.0, 2.0]))) for _ in values[make[1]] or ()]
        return values

    def example(self):
        example = tf.train.Example()
        for key, values in self.row().items():
            if values is None:
                continue
            if not values and self.chance(0.5):
                continue
            feature = example.features.feature[key]
            kind = self.spec[key].dtype
            if kind == tf.string:
                feature.bytes_list.value.extend(values)
            elif kind == tf.int64:
                feature.int64_list.value.extend(values)
            else:
                feature.float_list.value.extend(values)
        return example.SerializeToString()


FAMILIES = ["linear", "linear", "dnn", "dnn", "combined", "combined", "combined", "baseline", "multi_head"]


def build(program, directory):
    """An estimator over the program's columns, and the shape of its labels."""
    api = tf.estimator if program.is_v2 else tf.compat.v1.estimator
    family = program.pick(FAMILIES)
    task = program.pick(["binary", "classes", "words", "regression", "regression2"])
    head, labels = {
        "binary": ({"n_classes": 2}, lambda n: np.zeros((n, 1), np.int64)),
        "classes": ({"n_classes": 4}, lambda n: np.ones((n, 1), np.int64)),
        "words": ({"n_classes": 3, "label_vocabulary": ["x", "y", "z"]}, lambda n: np.full((n, 1), b"y", object)),
        "regression": ({"label_dimension": 1}, lambda n: np.zeros((n, 1), np.float32)),
        "regression2": ({"label_dimension": 2}, lambda n: np.zeros((n, 2), np.float32)),
    }[task]
    kind = "Regressor" if task.startswith("regression") else "Classifier"
    config = tf.estimator.RunConfig(tf_random_seed=int(program.rng.integers(1 << 30)), save_summary_steps=1000000)
    common = {"model_dir": directory, "config": config}
    if family == "multi_head":
        family = "dnn_head"
    if family == "baseline":
        return getattr(api, f"Baseline{kind}")(**head, **common), labels, family + kind
    if family == "linear":
        extra = {"sparse_combiner": program.pick(["sum", "mean", "sqrtn"])}
        if not program.is_v2 and program.chance(0.4):
            extra["partitioner"] = tf.compat.v1.fixed_size_partitioner(int(program.pick([2, 3])))
        return getattr(api, f"Linear{kind}")(program.wide(), **head, **extra, **common), labels, family + kind
    if family == "dnn":
        extra = {"batch_norm": program.chance(0.3), "dropout": program.pick([None, 0.3])}
        return getattr(api, f"DNN{kind}")([5, 4], program.deep(), **head, **extra, **common), labels, family + kind
    if family == "combined":
        extra = {}
        if not program.is_v2 and program.chance(0.4):
            extra["input_layer_partitioner"] = tf.compat.v1.fixed_size_partitioner(2)
        estimator = getattr(api, f"DNNLinearCombined{kind}")(
            linear_feature_columns=program.wide(),
            dnn_feature_columns=program.deep(),
            dnn_hidden_units=[4],
            linear_sparse_combiner=program.pick(["sum", "mean"]),
            **head,
            **extra,
            **common,
        )
        return estimator, labels, family + kind
    heads = tf.estimator
    binary, many = heads.BinaryClassHead(name="first"), heads.MultiClassHead(3, name="second")
    if program.chance(0.4):
        head = heads.MultiLabelHead(3)
        return (
            tf.estimator.DNNEstimator(head, [4], program.deep(), **common),
            lambda n: np.zeros((n, 3), np.int64),
            "multi_label",
        )
    head = heads.MultiHead([binary, many, heads.RegressionHead(name="third")])

    def labels(n):
        return {
            "first": np.zeros((n, 1), np.int64),
            "second": np.ones((n, 1), np.int64),
            "third": np.ones((n, 1), np.float32),
        }

    return tf.estimator.DNNEstimator(head, [4], program.deep(), **common), labels, "multi_head"


def perturb(directory, rng):
    """A checkpoint beside the last one whose weights are drawn anew: what begins as zeros would hide mistakes."""
    source = tf.train.latest_checkpoint(directory)
    reader = tf.train.load_checkpoint(source)
    names = [name for name in sorted(reader.get_variable_to_shape_map()) if not name.startswith("_CHECKPOINTABLE")]
    values = [reader.get_tensor(name) for name in names]
    drawn = [
        rng.normal(size=value.shape).astype(np.float32) if value.dtype == np.float32 else value for value in values
    ]
    drawn = [np.abs(value) + 0.1 if "variance" in name else value for name, value in zip(names, drawn, strict=False)]
    target = f"{directory}/model.ckpt-999"
    tf.raw_ops.SaveV2(
        prefix=target, tensor_names=names, shape_and_slices=[""] * len(names), tensors=[tf.constant(v) for v in drawn]
    )
    return target


def make_case(directory, seed):
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as work:
        program = Program(rng, work)
        program.is_v2 = program.chance(0.5)
        estimator, labels, family = build(program, f"{work}/model")
        if not program.spec:
            program.number()
        examples = [program.example() for _ in range(ROWS)]

        def input_fn():
            parsed = tf.io.parse_example(examples, program.spec)
            return tf.data.Dataset.from_tensors((parsed, labels(ROWS)))

        estimator.train(input_fn, steps=1)
        receiver = tf.estimator.export.build_parsing_serving_input_receiver_fn(program.spec)
        checkpoint = perturb(f"{work}/model", rng)
        path = Path(estimator.export_saved_model(f"{work}/export", receiver, checkpoint_path=checkpoint).decode())
        shutil.copytree(path, directory / "saved_model")
    record(directory, {"*": examples}, {}, family + ("_v2" if program.is_v2 else "_v1"))


def record(directory, examples, arrays, family):
    """Runs every signature of `directory/saved_model` on the rows, and writes what goes in and what comes out."""
    answers, described = {}, {}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(directory / "saved_model"))
        for key, signature in meta_graph.signature_def.items():
            if key.startswith("__saved_model"):
                continue
            described[key] = {}
            for batch, rows in BATCHES.items():
                feeds = {}
                for alias, info in signature.inputs.items():
                    value = (
                        arrays[alias] if alias in arrays else np.array(examples.get(alias, examples.get("*")), object)
                    )
                    feeds[info.name] = value[:rows]
                try:
                    got = session.run({alias: info.name for alias, info in signature.outputs.items()}, feeds)
                except tf.errors.OpError as error:
                    described[key][f"error_{batch}"] = str(error.message)[:200]
                    continue
                for alias, value in got.items():
                    answers[f"{key}|{alias}|{batch}"] = np.array(value)
    np.savez(
        directory / "answers.npz",
        **{key: value.astype("S") if value.dtype == object else value for key, value in answers.items()},
    )
    np.savez(directory / "inputs.npz", **{key: value for key, value in arrays.items() if value.dtype != object})
    texts = {key: value for key, value in arrays.items() if value.dtype == object}
    encoded = {key: [base64.b64encode(one).decode() for one in rows] for key, rows in examples.items()}
    for key, value in texts.items():
        encoded[key] = [list(map(_encoded, row)) if value.ndim > 1 else _encoded(row) for row in value]
    (directory / "inputs.json").write_text(json.dumps(encoded))
    (directory / "signatures.json").write_text(json.dumps({"family": family, "signatures": described}))


def _encoded(text):
    return base64.b64encode(text).decode()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    for number in range(chosen.cases):
        seed = chosen.seed + number
        directory = chosen.directory / f"case_{seed:05d}"
        if (directory / "signatures.json").is_file():
            continue
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        try:
            make_case(directory, seed)
        except Exception as error:  # a program that TensorFlow refuses says nothing of the import
            print(f"case {seed}: TensorFlow refuses it ({type(error).__name__}: {str(error)[:150]})")
            shutil.rmtree(directory)


if __name__ == "__main__":
    main()
