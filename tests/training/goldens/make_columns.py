"""Feature columns as TensorFlow 2.15 computes them: ids, dense values, embeddings, linear sums, parse specs, refusals.

    python tests/training/goldens/make_columns.py      in an environment with tensorflow 2.15 (not this project's)

Writes columns.json beside this file. A column is an expression over `fc` (the feature_column module), `v` (its dtypes)
and `path(name)` (a vocabulary file), which this script evaluates with TensorFlow's and the tests with ours.
"""

import gzip
import json
import os
import re
import struct
import tempfile
from pathlib import Path

import numpy as np

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

FILES = {
    "plain": "a\nb\nc",
    "windows": "a\r\nb\r\nc\r\n",
    "inner": "a\rb\nc\n",
    "spaces": " a\nb \n",
    "integers": "30\n35\n 11\n",
    "blank": "a\n\nc",
    "blank at the end": "a\nb\n\n",
    "twice": "a\nb\na\n",
    "empty": "",
    "words": "30\nx\n",
    "zipped.tfrecord.gz": ["a", "b", "c"],
}

# A feature is rows of values; "dense" is padded with '' or -1 (or 0.0), "sparse" is what VarLenFeature parses to.
WORDS = {"rows": [["a"], ["b", "a", "a"], [""], [], ["zz", "c"], ["é", "", "omar"]], "dtype": "string"}
MORE_WORDS = {"rows": [["x", "y"], ["x"], ["y"], ["y"], ["", "x"], ["y", "z"]], "dtype": "string"}
NUMBERS = {"rows": [[3], [-1, 0, 2], [-5], [], [7, 2], [101, 201, 30]], "dtype": "int64"}
SMALL = {"rows": [[3], [-1, 0, 2], [-5], [], [1, 2], [2, 2, 0]], "dtype": "int64"}
WEIGHTS = {"rows": [[2.0], [0.5, -1.0, 3.0], [1.5], [], [4.0, 0.25], [1.0, -2.0, 0.5]], "dtype": "float32"}
SINGLE = {"rows": [["a"], ["b"], [""], ["zz"], ["c"], ["é"]], "dtype": "string"}
X = {"array": [-1.0, 0.0, 9.99, 10.0, "nan", "inf"], "dtype": "float32"}
PAIR = {"array": [[-1.0, 0], [9.99, 10], ["nan", "inf"], ["-inf", 5], [0, 10], [10, 0]], "dtype": "float32"}
INTEGERS = {"array": [5, -7, 0, 2, 100000, 3], "dtype": "int64"}
BOTH = ("dense", "sparse")

VOCABULARY = "fc.categorical_column_with_vocabulary_list('k', ['a', 'b', 'c'])"
FILE = "fc.categorical_column_with_vocabulary_file('k', path('{}'){})"
IDENTITY = "fc.categorical_column_with_identity('n', 4)"
WITH_DEFAULT = "fc.categorical_column_with_identity('n', 4, default_value=1)"
BUCKETS = "fc.bucketized_column(fc.numeric_column('x'), [0, 10])"
TWO_BUCKETS = "fc.bucketized_column(fc.numeric_column('p', shape=2), [0, 10])"

# column, features by key, forms of what is ragged. A cross is asked for in the sparse form alone where TensorFlow's
# order differs for dense text.
CATEGORICAL = [
    ("fc.categorical_column_with_hash_bucket('k', 10)", {"k": WORDS}, BOTH),
    ("fc.categorical_column_with_hash_bucket('k', 1)", {"k": WORDS}, BOTH),
    ("fc.categorical_column_with_hash_bucket('k', 100000000)", {"k": WORDS}, BOTH),
    ("fc.categorical_column_with_hash_bucket('n', 1000, dtype=v.int64)", {"n": NUMBERS}, BOTH),
    (VOCABULARY, {"k": WORDS}, BOTH),
    ("fc.categorical_column_with_vocabulary_list('k', ['', 'a'])", {"k": WORDS}, BOTH),
    ("fc.categorical_column_with_vocabulary_list('k', ['a', 'b', 'c'], default_value=2)", {"k": WORDS}, BOTH),
    ("fc.categorical_column_with_vocabulary_list('k', ['a', 'b'], num_oov_buckets=5)", {"k": WORDS}, BOTH),
    ("fc.categorical_column_with_vocabulary_list('n', [30, 2, -1])", {"n": NUMBERS}, BOTH),
    ("fc.categorical_column_with_vocabulary_list('n', [30, 35, 11, 23, 22], num_oov_buckets=60)", {"n": NUMBERS}, BOTH),
    (FILE.format("plain", ""), {"k": WORDS}, BOTH),
    (FILE.format("plain", ", vocabulary_size=2"), {"k": WORDS}, BOTH),
    (FILE.format("plain", ", default_value=1"), {"k": WORDS}, BOTH),
    (FILE.format("plain", ", num_oov_buckets=5"), {"k": WORDS}, BOTH),
    (FILE.format("windows", ""), {"k": WORDS}, BOTH),
    (FILE.format("inner", ""), {"k": WORDS}, BOTH),
    (FILE.format("spaces", ""), {"k": {"rows": [["a", " a"], ["b "], ["b"]], "dtype": "string"}}, BOTH),
    (FILE.format("twice", ", vocabulary_size=2"), {"k": WORDS}, BOTH),
    (FILE.format("zipped.tfrecord.gz", ", vocabulary_size=3"), {"k": WORDS}, BOTH),
    (FILE.format("zipped.tfrecord.gz", ", vocabulary_size=2, num_oov_buckets=3"), {"k": WORDS}, BOTH),
    (
        "fc.categorical_column_with_vocabulary_file('n', path('integers'), dtype=v.int64, num_oov_buckets=60)",
        {"n": NUMBERS},
        BOTH,
    ),
    (IDENTITY, {"n": SMALL}, BOTH),
    (WITH_DEFAULT, {"n": NUMBERS}, BOTH),
    (BUCKETS, {"x": X}, ("dense",)),
    (TWO_BUCKETS, {"p": PAIR}, ("dense",)),
    (f"fc.crossed_column([{VOCABULARY}, {IDENTITY}], 1000)", {"k": WORDS, "n": SMALL}, BOTH),
    ("fc.crossed_column(['k', 'm'], 1000)", {"k": WORDS, "m": MORE_WORDS}, BOTH),
    ("fc.crossed_column(['k', 'm'], 1000, hash_key=12)", {"k": WORDS, "m": MORE_WORDS}, BOTH),
    ("fc.crossed_column(('m', 'k'), 7, hash_key=0)", {"k": WORDS, "m": MORE_WORDS}, BOTH),
    (f"fc.crossed_column(['k', {IDENTITY}, 'm'], 1000)", {"k": WORDS, "n": SMALL, "m": MORE_WORDS}, ("sparse",)),
    (f"fc.crossed_column([{IDENTITY}, 'k', 'm'], 1000)", {"k": WORDS, "n": SMALL, "m": MORE_WORDS}, BOTH),
    (f"fc.crossed_column([{BUCKETS}, 'k'], 1000)", {"x": X, "k": WORDS}, BOTH),
    (f"fc.crossed_column(['k', {BUCKETS}], 1000)", {"x": X, "k": WORDS}, ("sparse",)),
    (f"fc.crossed_column([{TWO_BUCKETS}, {VOCABULARY}], 1000)", {"p": PAIR, "k": WORDS}, BOTH),
    (
        f"fc.crossed_column([{BUCKETS}, fc.crossed_column(['k', 'm'], 10)], 1000)",
        {"x": X, "k": WORDS, "m": MORE_WORDS},
        BOTH,
    ),
    ("fc.crossed_column(['k', 'k'], 1000)", {"k": WORDS}, BOTH),
]

# Weights of the sparse form only: dense 0.0 is dropped, and so is dense '' but not a weight beside it.
WEIGHTED = [
    (f"fc.weighted_categorical_column({VOCABULARY}, 'w')", {"k": WORDS, "w": WEIGHTS}, ("sparse",)),
    (
        "fc.weighted_categorical_column(fc.categorical_column_with_hash_bucket('k', 10), 'w')",
        {"k": WORDS, "w": WEIGHTS},
        ("sparse",),
    ),
    (
        "fc.weighted_categorical_column(fc.categorical_column_with_hash_bucket('k', 10), 'w', dtype=v.int64)",
        {"k": WORDS, "w": {"rows": [[int(2 * w) for w in row] for row in WEIGHTS["rows"]], "dtype": "int64"}},
        ("sparse",),
    ),
    (f"fc.weighted_categorical_column({WITH_DEFAULT}, 'w')", {"n": NUMBERS, "w": WEIGHTS}, ("sparse",)),
    (
        "fc.weighted_categorical_column(fc.categorical_column_with_hash_bucket('k', 10), 'w')",
        {
            "k": {"rows": [["a", "b"], ["a"], [], ["c", "a", "a"]], "dtype": "string"},
            "w": {"rows": [[1.0, -2.0], [0.5], [], [3.0, 2.0, 1.0]], "dtype": "float32"},
        },
        BOTH,
    ),
]

DENSE = [
    ("fc.numeric_column('x')", {"x": X}),
    ("fc.numeric_column('x', default_value=3.0)", {"x": X}),
    ("fc.numeric_column('p', shape=(2,))", {"p": PAIR}),
    ("fc.numeric_column('i', dtype=v.int64)", {"i": INTEGERS}),
    ("fc.numeric_column('x', normalizer_fn=lambda x: (x - 3.0) / 2.0)", {"x": X}),
    (BUCKETS, {"x": X}),
    (TWO_BUCKETS, {"p": PAIR}),
]

# Beyond this many buckets the ids alone are kept.
SMALL_BUCKETS = 100
COMBINERS = ("mean", "sqrtn", "sum")
EMBEDDING_OPTIONS = ("", ", max_norm=1.0")

SPECS = [
    "[fc.numeric_column('x')]",
    "[fc.numeric_column('x', shape=(2, 3), default_value=1.5)]",
    "[fc.numeric_column('x', shape=2, default_value=[1, 2], dtype=v.int64)]",
    f"[{BUCKETS}, {TWO_BUCKETS}]",
    "[fc.categorical_column_with_hash_bucket('k', 5)]",
    "[fc.categorical_column_with_hash_bucket('k', 5, dtype=v.int64)]",
    f"[{VOCABULARY}]",
    "[fc.categorical_column_with_vocabulary_list('k', [1, 2])]",
    "[" + FILE.format("plain", "") + "]",
    f"[{IDENTITY}]",
    f"[fc.weighted_categorical_column({VOCABULARY}, 'w')]",
    f"[fc.weighted_categorical_column({VOCABULARY}, 'w', dtype=v.int64)]",
    f"[fc.crossed_column(['a', {VOCABULARY}, {BUCKETS}, fc.crossed_column(['b', 'c'], 5)], 10)]",
    f"[fc.indicator_column({VOCABULARY}), fc.embedding_column({IDENTITY}, 2)]",
    f"[fc.embedding_column(fc.weighted_categorical_column({VOCABULARY}, 'w'), 2)]",
    "[fc.sequence_numeric_column('x')]",
    "[fc.sequence_categorical_column_with_identity('x', 3)]",
    "[fc.embedding_column(fc.sequence_categorical_column_with_hash_bucket('x', 3), 2)]",
    "[fc.indicator_column(fc.sequence_categorical_column_with_vocabulary_list('x', ['a']))]",
    "[fc.sequence_categorical_column_with_vocabulary_file('x', path('plain'))]",
]

NAMES = [
    "fc.numeric_column('x')",
    BUCKETS,
    VOCABULARY,
    f"fc.crossed_column(['z', {VOCABULARY}, {BUCKETS}, fc.crossed_column(['b', 'B'], 5)], 10)",
    f"fc.weighted_categorical_column({VOCABULARY}, 'w')",
    f"fc.indicator_column(fc.weighted_categorical_column({VOCABULARY}, 'w'))",
    f"fc.embedding_column(fc.crossed_column(['z', {VOCABULARY}], 3), 2)",
    "fc.sequence_categorical_column_with_identity('x', 3)",
    f"fc.embedding_column({IDENTITY}, 2)",
]

HASHED = "fc.categorical_column_with_hash_bucket('k', 5)"
REFUSED = [
    "fc.numeric_column(3)",
    "fc.numeric_column('x', shape=('a',))",
    "fc.numeric_column('x', shape=1.5)",
    "fc.numeric_column('x', shape=0)",
    "fc.numeric_column('x', shape=(2, -1))",
    "fc.numeric_column('x', dtype=v.string)",
    "fc.numeric_column('x', default_value='a')",
    "fc.numeric_column('x', shape=2, default_value=[1, 2.5], dtype=v.int32)",
    "fc.numeric_column('x', shape=2, default_value=[1])",
    "fc.numeric_column('x', shape=2, default_value=[[1, 2]])",
    "fc.numeric_column('x', normalizer_fn=3)",
    f"fc.bucketized_column({HASHED}, [1])",
    "fc.bucketized_column('x', [1])",
    "fc.bucketized_column(fc.numeric_column('x', shape=(2, 2)), [1])",
    "fc.bucketized_column(fc.numeric_column('x'), [])",
    "fc.bucketized_column(fc.numeric_column('x'), 3)",
    "fc.bucketized_column(fc.numeric_column('x'), [2, 1])",
    "fc.bucketized_column(fc.numeric_column('x'), [1, 1])",
    "fc.categorical_column_with_hash_bucket('k', None)",
    "fc.categorical_column_with_hash_bucket('k', 0)",
    "fc.categorical_column_with_hash_bucket(3, 5)",
    "fc.categorical_column_with_hash_bucket('k', 5, dtype=v.float32)",
    "fc.categorical_column_with_vocabulary_list('k', [])",
    "fc.categorical_column_with_vocabulary_list('k', None)",
    "fc.categorical_column_with_vocabulary_list(3, ['a'])",
    "fc.categorical_column_with_vocabulary_list('k', ['a', 'a'])",
    "fc.categorical_column_with_vocabulary_list('k', ['a'], default_value=0, num_oov_buckets=2)",
    "fc.categorical_column_with_vocabulary_list('k', ['a'], num_oov_buckets=-1)",
    "fc.categorical_column_with_vocabulary_list('k', ['a'], dtype=v.int64)",
    "fc.categorical_column_with_vocabulary_list('k', [1.5])",
    "fc.categorical_column_with_vocabulary_list('k', ['a'], dtype=v.float32)",
    "fc.categorical_column_with_vocabulary_file('k', '')",
    "fc.categorical_column_with_vocabulary_file('k', None)",
    "fc.categorical_column_with_vocabulary_file('k', path('none'))",
    FILE.format("empty", ""),
    FILE.format("plain", ", vocabulary_size=0"),
    FILE.format("plain", ", vocabulary_size=-1"),
    FILE.format("plain", ", default_value=-1, num_oov_buckets=2"),
    FILE.format("plain", ", num_oov_buckets=-2"),
    FILE.format("plain", ", dtype=v.float32"),
    "fc.categorical_column_with_vocabulary_file(3, path('plain'))",
    "fc.categorical_column_with_identity('n', 0)",
    "fc.categorical_column_with_identity('n', 3, default_value=5)",
    "fc.categorical_column_with_identity('n', 3, default_value=-1)",
    "fc.categorical_column_with_identity(3, 3)",
    "fc.crossed_column(['a'], 10)",
    "fc.crossed_column([], 10)",
    "fc.crossed_column(None, 10)",
    "fc.crossed_column(['a', 3], 10)",
    "fc.crossed_column(['a', fc.numeric_column('x')], 10)",
    f"fc.crossed_column(['a', {HASHED}], 10)",
    "fc.crossed_column(['a', 'b'], 0)",
    "fc.crossed_column(['a', 'b'], None)",
    f"fc.weighted_categorical_column({HASHED}, 'w', dtype=v.string)",
    f"fc.weighted_categorical_column({HASHED}, 'w', dtype=None)",
    f"fc.embedding_column({HASHED}, 0)",
    f"fc.embedding_column({HASHED}, None)",
    f"fc.embedding_column({HASHED}, 2, initializer=3)",
    f"fc.embedding_column({HASHED}, 2, ckpt_to_load_from='a')",
    f"fc.embedding_column({HASHED}, 2, tensor_name_in_ckpt='a')",
    "fc.make_parse_example_spec([3])",
    f"fc.make_parse_example_spec([fc.numeric_column('k'), {HASHED}])",
    f"fc.make_parse_example_spec([fc.weighted_categorical_column({HASHED}, 'k')])",
    "fc.sequence_numeric_column('x', shape=0)",
    "fc.sequence_numeric_column('x', dtype=v.string)",
    "fc.sequence_numeric_column('x', normalizer_fn=3)",
    "fc.sequence_categorical_column_with_identity('x', 0)",
    "fc.sequence_categorical_column_with_hash_bucket('x', 0)",
    "fc.sequence_categorical_column_with_vocabulary_list('x', [])",
    "fc.sequence_categorical_column_with_vocabulary_file('x', '')",
    f"fc.shared_embeddings([{HASHED}], 0)",
    f"fc.shared_embeddings([{HASHED}], 2, initializer=3)",
    f"fc.shared_embeddings([{HASHED}], 2, ckpt_to_load_from='a')",
    f"fc.shared_embeddings([{HASHED}, {VOCABULARY}], 2)",
    f"fc.shared_embeddings([{HASHED}, fc.categorical_column_with_hash_bucket('l', 7)], 2)",
    f"parse.classifier_parse_example_spec([{HASHED}], 'k')",
    f"parse.classifier_parse_example_spec([{HASHED}], 'y', weight_column='k')",
    f"parse.regressor_parse_example_spec([{HASHED}], 'y', weight_column={HASHED})",
    f"parse.regressor_parse_example_spec([{HASHED}], 'k')",
    f"parse.regressor_parse_example_spec([{HASHED}], 'y', weight_column='y')",
]

# A column that is refused where it is used, and the features it is used on.
REFUSED_IN_USE = [
    (f"fc.indicator_column({HASHED})", {"k": {"array": [1, 2], "dtype": "int64"}}),
    (f"fc.indicator_column({HASHED})", {"k": {"array": [1.0], "dtype": "float32"}}),
    (f"fc.indicator_column({HASHED})", {"x": X}),
    (f"fc.indicator_column({HASHED})", {"k": {"array": "a", "dtype": "string"}}),
    (f"fc.indicator_column({VOCABULARY})", {"k": {"array": [1], "dtype": "int64"}}),
    (f"fc.indicator_column({VOCABULARY})", {"k": {"array": [1.0], "dtype": "float32"}}),
    ("fc.indicator_column(fc.categorical_column_with_vocabulary_list('k', [1]))", {"k": SINGLE}),
    (
        "fc.indicator_column(fc.categorical_column_with_vocabulary_list('k', [1]))",
        {"k": {"array": [1.0], "dtype": "float32"}},
    ),
    (f"fc.indicator_column({IDENTITY})", {"n": {"array": ["a"], "dtype": "string"}}),
    (f"fc.indicator_column({IDENTITY})", {"n": {"array": [1.0], "dtype": "float32"}}),
    ("fc.numeric_column('x')", {"k": WORDS}),
    ("fc.numeric_column('x')", {"x": {"array": 1.0, "dtype": "float32"}}),
    ("fc.numeric_column('x')", {"x": {"rows": [[1.0]], "dtype": "float32", "form": "sparse"}}),
    (
        f"fc.indicator_column(fc.crossed_column(['m', fc.weighted_categorical_column({VOCABULARY}, 'w')], 5))",
        {"m": SINGLE, "k": SINGLE, "w": {"array": [[1.0]] * 6, "dtype": "float32"}},
    ),
    (
        f"fc.indicator_column(fc.weighted_categorical_column({VOCABULARY}, 'w'))",
        {"k": SINGLE, "w": {"array": [[1]] * 6, "dtype": "int64"}},
    ),
    (f"fc.indicator_column(fc.weighted_categorical_column({VOCABULARY}, 'w'))", {"k": SINGLE}),
    ("fc.embedding_column(fc.sequence_categorical_column_with_identity('n', 9), 2)", {"n": SMALL}),
    ("fc.indicator_column(fc.sequence_categorical_column_with_identity('n', 9))", {"n": SMALL}),
    ("fc.sequence_numeric_column('x')", {"x": X}),
    (VOCABULARY, {"k": SINGLE}),
]

# A vocabulary file that is refused where it is read. TensorFlow's classes are those of its runtime.
REFUSED_FILES = [
    FILE.format("plain", ", vocabulary_size=5"),
    FILE.format("empty", ", vocabulary_size=2"),
    FILE.format("blank", ""),
    FILE.format("blank at the end", ""),
    FILE.format("twice", ""),
    FILE.format("none", ", vocabulary_size=3"),
    "fc.categorical_column_with_vocabulary_file('n', path('words'), dtype=v.int64)",
]


def write_files(directory):
    """The vocabulary files; `path` for expressions."""
    for name, content in FILES.items():
        path = Path(directory) / name
        if isinstance(content, str):
            path.write_bytes(content.encode())
        else:
            with gzip.open(path, "wb") as file:
                file.writelines(_record(entry.encode()) for entry in content)
    return lambda name: str(Path(directory) / name)


def _record(data):
    """One record of a TFRecord file, framed here since both environments read this module."""
    header = struct.pack("<Q", len(data))
    return header + struct.pack("<I", _masked_crc(header)) + data + struct.pack("<I", _masked_crc(data))


def _masked_crc(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def dense_array(feature):
    """The feature as the array a numpy_input_fn would give: ragged rows padded with what counts as nothing."""
    dtype = object if feature["dtype"] == "string" else np.dtype(feature["dtype"])
    if "array" in feature:
        return np.array(feature["array"], dtype)
    blank = {"string": "", "int64": -1, "float32": 0.0}[feature["dtype"]]
    width = max(map(len, feature["rows"]))
    array = np.full((len(feature["rows"]), width), blank, dtype)
    for row, values in zip(array, feature["rows"], strict=True):
        row[: len(values)] = values
    return array


def table(rows, dimension):
    """An embedding table, or linear weights, that tells rows apart."""
    return (np.arange(rows * dimension, dtype=np.float32).reshape(rows, dimension) % 7 - 2.5) / 4


# ---- below here TensorFlow -------------------------------------------------------------------------------------------


def main():
    import tensorflow as tf

    make = TensorFlow(tf)
    goldens = {
        "categorical": [make.categorical(*case) for case in CATEGORICAL + WEIGHTED],
        "dense": [make.dense(*case) for case in DENSE],
        "specs": [make.spec(expression) for expression in SPECS],
        "names": [[expression, make.column(expression).name] for expression in NAMES],
        "refused": [make.refusal(expression) for expression in REFUSED],
        "refused_in_use": [make.refusal_in_use(*case) for case in REFUSED_IN_USE],
        "refused_files": [make.refused_file(expression) for expression in REFUSED_FILES],
    }
    text = json.dumps(goldens, indent=1, ensure_ascii=False)
    # Lists of numbers on one line each.
    text = re.sub(r"\[\s+([^][{}]*?)\s+\]", lambda found: "[" + re.sub(r"\s*\n\s*", " ", found[1]) + "]", text)
    Path(__file__).with_name("columns.json").write_text(text + "\n", encoding="utf-8")


class TensorFlow:
    def __init__(self, tf):
        from tensorflow.python.feature_column import feature_column_v2

        self.tf, self.v2 = tf, feature_column_v2
        self.path = write_files(tempfile.mkdtemp())
        self.directory = str(Path(self.path("x")).parent) + "/"

    def column(self, expression):
        scope = {"fc": self.tf.feature_column, "v": self.tf, "path": self.path, "parse": self.tf.estimator}
        return eval(expression, scope)

    def tensors(self, features, form):
        return {key: self.tensor(feature, feature.get("form", form)) for key, feature in features.items()}

    def tensor(self, feature, form):
        dtype = self.tf.as_dtype(feature["dtype"])
        if form == "dense" or "rows" not in feature:
            return self.tf.constant(dense_array(feature), dtype)
        places = [(i, j) for i, row in enumerate(feature["rows"]) for j in range(len(row))]
        values = [value for row in feature["rows"] for value in row]
        shape = (len(feature["rows"]), max(map(len, feature["rows"])))
        return self.tf.SparseTensor(np.array(places, np.int64), self.tf.constant(values, dtype), shape)

    def run(self, build):
        """What `build` gives, run in a graph of its own."""
        with self.tf.Graph().as_default(), self.tf.compat.v1.Session() as session:
            built = build()
            session.run([self.tf.compat.v1.global_variables_initializer(), self.tf.compat.v1.tables_initializer()])
            return session.run(built)

    def categorical(self, expression, features, forms):
        is_small = self.column(expression).num_buckets <= SMALL_BUCKETS
        make = self.everything if is_small else lambda *case: {"ids": self.ids(*case)}
        return {
            "column": expression,
            "features": features,
            "forms": {form: make(expression, features, form) for form in forms},
        }

    def everything(self, expression, features, form):
        case = (expression, features, form)
        return {
            "ids": self.ids(*case),
            "indicator": self.indicator(*case),
            "embeddings": {
                f"'{combiner}'{options}": self.embedding(*case, combiner, options)
                for combiner in COMBINERS
                for options in EMBEDDING_OPTIONS
            },
            "linear": {combiner: self.linear(*case, combiner) for combiner in COMBINERS},
        }

    def cache(self, features, form):
        return self.v2.FeatureTransformationCache(self.tensors(features, form))

    def ids(self, expression, features, form):
        """The ids that are not dropped, a list a row."""

        def build():
            pair = self.column(expression).get_sparse_tensors(self.cache(features, form), None)
            return pair.id_tensor

        found = self.run(build)
        rows = [[] for _ in range(found.dense_shape[0])]
        for (row, *_), value in zip(found.indices, found.values, strict=True):
            if value >= 0:
                rows[row].append(int(value))
        return rows

    def indicator(self, expression, features, form):
        return self.layer(lambda: self.tf.feature_column.indicator_column(self.column(expression)), features, form)

    def embedding(self, expression, features, form, combiner, options):
        def column():
            inner = self.column(expression)
            first = table(inner.num_buckets, 2)
            arguments = eval(f"dict({options.removeprefix(', ')})")
            arguments["initializer"] = lambda *_, **__: self.tf.constant(first)
            return self.tf.feature_column.embedding_column(inner, 2, combiner, **arguments)

        return self.layer(column, features, form)

    def layer(self, column, features, form):
        def build():
            return self.tf.compat.v1.feature_column.input_layer(self.tensors(features, form), [column()])

        return _lists(self.run(build))

    def linear(self, expression, features, form, combiner):
        """The weighted sum of linear_model, without its bias."""

        def build():
            inner = self.column(expression)
            pair = inner.get_sparse_tensors(self.cache(features, form), None)
            weights = self.tf.constant(table(inner.num_buckets, 1))
            return self.tf.nn.safe_embedding_lookup_sparse(weights, pair.id_tensor, pair.weight_tensor, combiner)

        return _lists(self.run(build))

    def dense(self, expression, features):
        dense = self.layer(lambda: self.column(expression), features, "dense")
        return {"column": expression, "features": features, "dense": dense}

    def spec(self, expression):
        parsed = self.tf.feature_column.make_parse_example_spec(self.column(expression))
        return {"columns": expression, "spec": {key: self.feature(feature) for key, feature in parsed.items()}}

    def feature(self, feature):
        kind = type(feature).__name__
        if kind == "VarLenFeature":
            return {"kind": kind, "dtype": feature.dtype.name}
        return {
            "kind": kind,
            "dtype": feature.dtype.name,
            "shape": list(feature.shape),
            "default": np.array(feature.default_value).tolist() if feature.default_value is not None else None,
        }

    def refusal(self, expression):
        with self.tf.Graph().as_default():
            return {"expression": expression, **self.refused_by(lambda: self.column(expression))}

    def refusal_in_use(self, expression, features):
        def use():
            with self.tf.Graph().as_default():
                layer = self.tf.keras.layers.DenseFeatures([self.column(expression)])
                layer(self.tensors(features, "dense"))

        return {"column": expression, "features": features, **self.refused_by(use)}

    def refused_file(self, expression):
        key = "n" if "'n'" in expression else "k"
        features = {key: NUMBERS if key == "n" else WORDS}
        return {"column": expression, **self.refused_by(lambda: self.ids(expression, features, "dense"))}

    def refused_by(self, act):
        try:
            act()
        except Exception as error:
            # The runtime's errors begin and end with where in the graph it was.
            text = re.sub(r"^.*\nNode: '[^']*'\n", "", str(error), flags=re.DOTALL).partition("\n\t [[")[0]
            # Keras puts the user's stack in front.
            text = text.rpartition("ValueError: ")[2].strip() if "in user code" in text else text
            return {"error": type(error).__name__, "text": text.replace(self.directory, "")}
        raise AssertionError("was not refused")


def _lists(array):
    """Nested lists, short and exact enough for float32; what JSON has no number for as text."""
    if array.ndim:
        return [_lists(entry) for entry in array]
    return float(f"{array:.7g}") if np.isfinite(array) else str(array)


if __name__ == "__main__":
    main()
