"""Makes SavedModels of Keras 2 and of Estimators beside the canned ones, with TensorFlow 2.15, as make.py does.

python make_models.py DIRECTORY [NAME …]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import make
import numpy as np
import tensorflow as tf

keras, layers = tf.keras, tf.keras.layers
ROWS = make.ROWS
MODELS = {}


def model(function):
    MODELS[function.__name__] = function
    return function


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(ROWS, *shape)).astype(np.float32)


def integers(high, *shape, low=0, dtype=np.int64):
    return np.random.default_rng(1).integers(low, high, size=(ROWS, *shape)).astype(dtype)


def words(options=("red", "green", "Blue sky", "", "a  b, C!", "é à"), *shape):
    drawn = np.random.default_rng(2).choice(len(options), size=(ROWS, *shape))
    return np.vectorize(lambda i: options[i].encode(), otypes=[object])(drawn)


# Each gives a Keras model and the arrays of its inputs, by alias.


@model
def sequential_dense():
    names = [
        "relu",
        "sigmoid",
        "tanh",
        "elu",
        "selu",
        "softplus",
        "softsign",
        "gelu",
        "swish",
        "exponential",
        "linear",
        "softmax",
        "hard_sigmoid",
    ]
    return keras.Sequential([keras.Input((5,), name="x"), *(layers.Dense(6, name) for name in names)]), {
        "x": numbers(5)
    }


@model
def activations():
    x = keras.Input((7,), name="x")
    made = [
        layers.LeakyReLU(0.1)(x),
        layers.PReLU()(x),
        layers.ELU(0.7)(x),
        layers.ThresholdedReLU(0.5)(x),
        layers.ReLU(6.0)(x),
        layers.ReLU(4.0, 0.2, 0.5)(x),
        layers.Softmax()(x),
    ]
    return keras.Model(x, layers.Concatenate()(made)), {"x": numbers(7)}


@model
def functional_embedding():
    ids, x = keras.Input((6,), dtype="int64", name="ids"), keras.Input((5,), name="x")
    e = layers.Embedding(12, 4, mask_zero=True)(ids)
    joined = layers.Concatenate()([layers.GlobalAveragePooling1D()(e), layers.Dense(4, "tanh")(x)])
    return keras.Model([ids, x], {"score": layers.Dense(1, name="score")(joined), "joined": joined}), {
        "ids": integers(12, 6),
        "x": numbers(5),
    }


@model
def conv():
    x = keras.Input((12, 10, 3), name="x")
    y = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    y = layers.BatchNormalization()(y)
    y = layers.MaxPool2D()(y)
    y = layers.Conv2D(6, 3, strides=2, padding="valid")(y)
    y = layers.DepthwiseConv2D(2, padding="same", depth_multiplier=2)(y)
    y = layers.SeparableConv2D(5, 2, padding="same")(y)
    y = layers.AveragePooling2D(2, padding="same")(y)
    return keras.Model(x, layers.Dense(3)(layers.Flatten()(y))), {"x": numbers(12, 10, 3)}


@model
def conv_more():
    x = keras.Input((11, 9, 4), name="x")
    y = layers.ZeroPadding2D(1)(x)
    y = layers.Conv2D(8, 3, dilation_rate=2, padding="same")(y)
    y = layers.Conv2D(8, 3, groups=1, strides=(2, 1), padding="same")(y)
    y = layers.Cropping2D(1)(y)
    y = layers.UpSampling2D(2)(y)
    y = layers.Conv2DTranspose(3, 3, strides=2, padding="same")(y)
    y = layers.GlobalMaxPool2D()(y)
    return keras.Model(x, y), {"x": numbers(11, 9, 4)}


@model
def conv1d():
    x = keras.Input((20, 3), name="x")
    y = layers.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu")(x)
    y = layers.MaxPool1D(2)(y)
    y = layers.Conv1D(5, 3, padding="same")(y)
    y = layers.LayerNormalization()(y)
    return keras.Model(x, layers.GlobalMaxPool1D()(y)), {"x": numbers(20, 3)}


@model
def lstm():
    x = keras.Input((7, 4), name="x")
    return keras.Model(x, layers.Dense(2)(layers.LSTM(5)(x))), {"x": numbers(7, 4)}


@model
def lstm_masked():
    ids = keras.Input((7,), dtype="int64", name="ids")
    e = layers.Embedding(9, 4, mask_zero=True)(ids)
    y = layers.LSTM(5, return_sequences=True)(e)
    return keras.Model(ids, layers.LSTM(3)(y)), {"ids": integers(9, 7)}


@model
def gru():
    x = keras.Input((6, 4), name="x")
    y = layers.GRU(5, return_sequences=True)(x)
    return keras.Model(x, layers.GRU(3, reset_after=False)(y)), {"x": numbers(6, 4)}


@model
def bidirectional():
    x = keras.Input((5, 3), name="x")
    y = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    y = layers.Bidirectional(layers.GRU(3))(y)
    return keras.Model(x, layers.Dense(2, "softmax")(y)), {"x": numbers(5, 3)}


@model
def simple_rnn():
    x = keras.Input((5, 3), name="x")
    return keras.Model(x, layers.SimpleRNN(4)(layers.TimeDistributed(layers.Dense(3, "relu"))(x))), {"x": numbers(5, 3)}


@model
def lstm_any_length():
    x = keras.Input((None, 4), name="x")
    return keras.Model(x, layers.Dense(2)(layers.LSTM(5)(x))), {"x": numbers(6, 4)}


@model
def attention():
    x = keras.Input((6, 8), name="x")
    y = layers.MultiHeadAttention(2, 4)(x, x)
    y = layers.LayerNormalization()(layers.Add()([x, y]))
    return keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling1D()(y))), {"x": numbers(6, 8)}


@model
def merges():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    made = [
        layers.Add()([a, b]),
        layers.Subtract()([a, b]),
        layers.Multiply()([a, b]),
        layers.Average()([a, b]),
        layers.Maximum()([a, b]),
        layers.Minimum()([a, b]),
        layers.Dot(1)([a, b]),
    ]
    y = layers.Concatenate()(made)
    return keras.Model([a, b], layers.Reshape((5, 5))(y)), {"a": numbers(4), "b": numbers(4, seed=3)}


@model
def reshapes():
    x = keras.Input((4, 6), name="x")
    y = layers.Permute((2, 1))(x)
    y = layers.Lambda(lambda v: tf.stack([v[:, 0, :], v[:, -1, :], tf.reduce_max(v, 1)], 1))(y)
    y = layers.RepeatVector(3)(layers.Flatten()(y))
    y = layers.Lambda(lambda v: tf.where(v > 0, v, tf.zeros_like(v)) + tf.cast(tf.shape(v)[1], tf.float32))(y)
    return keras.Model(x, y), {"x": numbers(4, 6)}


@model
def normalization():
    x = keras.Input((3,), name="x")
    norm = layers.Normalization()
    norm.adapt(numbers(3) * 4 + 1)
    y = layers.Discretization([-1.0, 0.0, 2.0], output_mode="one_hot")(x[:, :1])
    return keras.Model(x, layers.Concatenate()([norm(x), y, layers.Rescaling(0.5, 1.0)(x)])), {"x": numbers(3)}


@model
def lookups():
    s, i = keras.Input((2,), dtype=tf.string, name="s"), keras.Input((2,), dtype="int64", name="i")
    made = [
        layers.StringLookup(vocabulary=["red", "green", "é à"], num_oov_indices=2)(s),
        layers.IntegerLookup(vocabulary=[1, 5, 7])(i),
        layers.Hashing(7)(s),
        layers.Hashing(9)(i),
    ]
    one_hot = layers.StringLookup(vocabulary=["red", "green"], output_mode="multi_hot")(s)
    count = layers.IntegerLookup(vocabulary=[1, 5], output_mode="count")(i)
    encoded = layers.CategoryEncoding(12, output_mode="multi_hot")(layers.Lambda(lambda v: tf.math.abs(v))(i))
    joined = layers.Lambda(lambda v: tf.concat([tf.cast(one, tf.int64) for one in v], 1))(made)
    return keras.Model([s, i], {"ids": joined, "hot": one_hot, "count": count, "encoded": encoded}), {
        "s": words(("red", "green", "é à", "", "no"), 2),
        "i": integers(10, 2),
    }


@model
def salted_hashing():
    s = keras.Input((2,), dtype=tf.string, name="s")
    return keras.Model(s, layers.Hashing(50, salt=[133, 137])(s)), {
        "s": words(("red", "green", "", "a longer piece of text"), 2)
    }


@model
def inverse_lookup():
    x = keras.Input((3,), dtype="int64", name="x")
    return keras.Model(x, layers.StringLookup(vocabulary=["red", "green"], invert=True)(x)), {"x": integers(4, 3)}


@model
def text_vectorization():
    s = keras.Input((1,), dtype=tf.string, name="s")
    vectorize = layers.TextVectorization(
        max_tokens=12, output_sequence_length=5, vocabulary=["blue", "a", "b", "sky", "red"]
    )
    return keras.Model(s, layers.Embedding(12, 3)(vectorize(s))), {
        "s": words(("red", "Blue sky, a?", "", "a  b, C! sky sky sky sky", "é à"), 1)
    }


@model
def text_vectorization_counts():
    s = keras.Input((1,), dtype=tf.string, name="s")
    vectorize = layers.TextVectorization(max_tokens=8, output_mode="count", vocabulary=["blue", "a", "b", "sky", "red"])
    return keras.Model(s, vectorize(s)), {"s": words(("red", "Blue sky, a?", "", "a  b, C! sky"), 1)}


@model
def feature_columns():
    age, city = keras.Input((1,), name="age"), keras.Input((1,), dtype=tf.string, name="city")
    columns = [
        tf.feature_column.numeric_column("age"),
        tf.feature_column.embedding_column(tf.feature_column.categorical_column_with_hash_bucket("city", 8), 3),
        tf.feature_column.indicator_column(
            tf.feature_column.categorical_column_with_vocabulary_list("city", ["red", "green"])
        ),
        tf.feature_column.bucketized_column(tf.feature_column.numeric_column("age"), [0.0, 1.0]),
    ]
    y = layers.DenseFeatures(columns)({"age": age, "city": city})
    return keras.Model({"age": age, "city": city}, layers.Dense(2)(y)), {
        "age": numbers(1),
        "city": words(("red", "green", "", "x"), 1),
    }


@model
def clips_and_math():
    x = keras.Input((5,), name="x")

    def compute(v):
        parts = [
            tf.clip_by_value(v, -0.5, 0.5),
            tf.math.floormod(v, 0.7),
            tf.math.floor(v),
            tf.round(v),
            tf.math.log1p(tf.abs(v)),
            tf.math.expm1(v),
            tf.math.rsqrt(tf.abs(v) + 1),
            tf.math.divide_no_nan(v, tf.nn.relu(v)),
            tf.cumsum(v, 1),
            tf.math.l2_normalize(v, 1),
            tf.math.top_k(v, 3).values,
            tf.one_hot(tf.argmax(v, 1), 5),
            tf.sign(v),
            tf.math.pow(tf.abs(v), 1.5),
            tf.cast(tf.cast(v * 3, tf.int32) // 2, tf.float32),
            tf.cast(tf.math.floormod(tf.cast(v * 3, tf.int32), 3), tf.float32),
            tf.reverse(v, [1]),
            tf.roll(v, 1, 1),
            tf.cast(v > 0, tf.float32),
            tf.linalg.matmul(v, tf.ones((5, 2))),
            tf.tile(v, [1, 2]),
        ]
        return tf.concat(parts, 1)

    return keras.Model(x, layers.Lambda(compute)(x)), {"x": numbers(5)}


@model
def resizes():
    x = keras.Input((5, 6, 2), name="x")
    made = [layers.UpSampling2D(2, interpolation="bilinear")(x), layers.Resizing(10, 12, interpolation="nearest")(x)]
    y = layers.Concatenate()(made)
    y = layers.Conv2D(3, (3, 2), strides=(2, 3), padding="same", activation="relu")(y)
    return keras.Model(x, layers.Resizing(3, 2)(y)), {"x": numbers(5, 6, 2)}


@model
def lstm_long():
    x = keras.Input((120, 3), name="x")
    return keras.Model(x, layers.LSTM(4)(x)), {"x": numbers(120, 3)}


def save(name, directory):
    made, arrays = MODELS[name]()
    rng = np.random.default_rng(5)
    for weight in made.weights:
        if weight.dtype == tf.float32 and weight.shape.is_fully_defined():
            drawn = rng.normal(size=weight.shape).astype(np.float32) * 0.5
            weight.assign(np.abs(drawn) + 0.1 if "variance" in weight.name else drawn)
    if name.endswith("_export") or name == "sequential_dense":
        made.export(str(directory / "saved_model"))
    else:
        made.save(str(directory / "saved_model"), save_format="tf", include_optimizer=False)
    make.record(directory, {}, arrays, name)


ESTIMATORS = {}


def estimator(function):
    ESTIMATORS[function.__name__] = function
    return function


# Each gives an estimator, its input_fn, its receiver, and raw arrays or None for Examples of a spec.


@estimator
def kmeans(work):
    x = numbers(3)
    made = tf.compat.v1.estimator.experimental.KMeans(4, model_dir=work, feature_columns=None)
    receiver = tf.estimator.export.build_raw_serving_input_receiver_fn(
        {"x": tf.compat.v1.placeholder(tf.float32, [None, 3], "x")}
    )
    return made, lambda: tf.data.Dataset.from_tensors({"x": x}).repeat(2), receiver, {"x": x}


@estimator
def keras_as_estimator(work):
    x = keras.Input((4,), name="x")
    made = keras.Model(x, layers.Dense(2, "softmax", name="y")(layers.Dense(5, "relu")(x)))
    made.compile("sgd", "mse")
    raw = {"x": numbers(4)}
    receiver = tf.estimator.export.build_raw_serving_input_receiver_fn(
        {"x": tf.compat.v1.placeholder(tf.float32, [None, 4], "x")}
    )
    estimator = tf.keras.estimator.model_to_estimator(made, model_dir=work)
    return estimator, lambda: tf.data.Dataset.from_tensors((raw, numbers(2))), receiver, raw


@estimator
def raw_linear(work):
    columns = [
        tf.feature_column.numeric_column("age"),
        tf.feature_column.categorical_column_with_vocabulary_list("city", ["red", "green"], num_oov_buckets=2),
        tf.feature_column.crossed_column(["city", "code"], 20),
        tf.feature_column.categorical_column_with_hash_bucket("code", 5, dtype=tf.int64),
    ]
    made = tf.estimator.LinearClassifier(columns, model_dir=work)
    raw = {"age": numbers(1), "city": words(("red", "green", "", "x"), 2), "code": integers(9, 2, low=-1)}
    receiver = tf.estimator.export.build_raw_serving_input_receiver_fn(
        {
            key: tf.compat.v1.placeholder(
                tf.as_dtype(value.dtype) if value.dtype != object else tf.string, [None, *value.shape[1:]], key
            )
            for key, value in raw.items()
        }
    )
    return made, lambda: tf.data.Dataset.from_tensors((raw, np.zeros((ROWS, 1), np.int64))), receiver, raw


@estimator
def custom_cnn(work):
    x = numbers(8, 8, 1)

    def model_fn(features, labels, mode):
        y = tf.compat.v1.layers.conv2d(features["x"], 4, 3, padding="same", activation=tf.nn.relu)
        y = tf.compat.v1.layers.max_pooling2d(y, 2, 2)
        y = tf.compat.v1.layers.average_pooling2d(y, 2, 1)
        y = tf.compat.v1.layers.batch_normalization(y)
        y = tf.compat.v1.layers.dropout(tf.compat.v1.layers.flatten(y), training=mode == "train")
        logits = tf.compat.v1.layers.dense(y, 3)
        predictions = {"classes": tf.argmax(logits, 1), "probabilities": tf.nn.softmax(logits)}
        if mode == "infer":
            outputs = {"serving_default": tf.estimator.export.PredictOutput(predictions)}
            return tf.estimator.EstimatorSpec(mode, predictions=predictions, export_outputs=outputs)
        loss = tf.compat.v1.losses.sparse_softmax_cross_entropy(labels, logits)
        step = tf.compat.v1.train.AdamOptimizer().minimize(loss, tf.compat.v1.train.get_global_step())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=step)

    receiver = tf.estimator.export.build_raw_serving_input_receiver_fn(
        {"x": tf.compat.v1.placeholder(tf.float32, [None, 8, 8, 1], "x")}
    )
    return (
        tf.estimator.Estimator(model_fn, work),
        lambda: tf.data.Dataset.from_tensors(({"x": x}, np.zeros(ROWS, np.int64))),
        receiver,
        {"x": x},
    )


def example_spec_rows(rows):
    """Serialized Examples of dictionaries of lists."""
    made = []
    for row in rows:
        example = tf.train.Example()
        for key, values in row.items():
            feature = example.features.feature[key]
            if values and isinstance(values[0], bytes):
                feature.bytes_list.value.extend(values)
            elif values and isinstance(values[0], int):
                feature.int64_list.value.extend(values)
            elif values:
                feature.float_list.value.extend(values)
        made.append(example.SerializeToString())
    return made


def random_rows():
    rng = np.random.default_rng(7)
    rows = []
    for _ in range(ROWS):
        count = int(rng.integers(0, 4))
        row = {
            "w": [b"red", b"green", b"x"][:count],
            "i": [int(rng.integers(0, 9)) for _ in range(count)],
            "v": [float(np.float32(rng.normal())) for _ in range(count)],
        }
        row["n"] = [float(np.float32(rng.normal())), 1.5]
        rows.append(row)
    rows[0], rows[3] = {"w": [b"green"], "i": [2], "v": [0.5], "n": [1.0, 2.0]}, {"n": [0.0, 0.0]}
    return rows


SPEC = {
    "w": tf.io.VarLenFeature(tf.string),
    "i": tf.io.VarLenFeature(tf.int64),
    "v": tf.io.VarLenFeature(tf.float32),
    "n": tf.io.FixedLenFeature([2], tf.float32),
}


def graph_model(function):
    """A model_fn of one variable whose outputs are what `function` makes of parsed features."""

    def make_estimator(work):
        def model_fn(features, labels, mode):
            bias = tf.compat.v1.get_variable("bias", [3], initializer=tf.compat.v1.random_normal_initializer(seed=3))
            outputs = function(features, bias)
            if mode == "infer":
                named = {"serving_default": tf.estimator.export.PredictOutput(outputs)}
                return tf.estimator.EstimatorSpec(mode, predictions=outputs, export_outputs=named)
            loss = tf.reduce_sum(bias)
            step = tf.compat.v1.train.GradientDescentOptimizer(0.01).minimize(
                loss, tf.compat.v1.train.get_global_step()
            )
            return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=step)

        examples = example_spec_rows(random_rows())
        receiver = tf.estimator.export.build_parsing_serving_input_receiver_fn(SPEC)

        def input_fn():
            return tf.data.Dataset.from_tensors((tf.io.parse_example(examples, SPEC), np.zeros(ROWS)))

        return tf.estimator.Estimator(model_fn, work), input_fn, receiver, {"*": examples}

    make_estimator.__name__ = function.__name__
    ESTIMATORS[function.__name__] = make_estimator
    return function


@graph_model
def sequence_pooled(features, bias):
    v = features["v"]
    rows = v.indices[:, 0]
    return {
        "max": tf.math.segment_max(v.values, rows),
        "sum": tf.math.segment_sum(v.values * 2.0, rows),
        "mean": tf.math.segment_mean(v.values, rows),
        "rounded": tf.round(tf.math.ceil(features["n"] * 3) / 2) + bias[:2],
    }


@graph_model
def sparse_moves(features, bias):
    v, w, i = features["v"], features["w"], features["i"]
    dense = tf.sparse.to_dense(v, default_value=-1.0)
    ids = tf.sparse.to_dense(i, default_value=0)
    text = tf.sparse.to_dense(w, default_value="nothing")
    ordered = tf.sparse.reorder(v)
    cut = tf.sparse.slice(v, [0, 0], [v.dense_shape[0], 2])
    kept = tf.sparse.retain(v, v.values > 0)
    return {
        "dense": tf.reduce_sum(dense, 1),
        "ids": tf.reduce_sum(ids, 1),
        "text": text,
        "reduced": tf.reduce_sum(tf.sparse.to_dense(ordered), 1),
        "kept": tf.reduce_sum(tf.sparse.to_dense(kept), 1),
        "cut": tf.reduce_sum(tf.sparse.to_dense(cut), 1),
        "scattered": tf.scatter_nd(v.indices, v.values, v.dense_shape),
        "looked": tf.nn.embedding_lookup_sparse(
            tf.ones([10, 3]) * bias, tf.sparse.fill_empty_rows(i, 0)[0], None, combiner="sum"
        ),
        "shape": tf.cast(v.dense_shape, tf.float32)[None, :] + 0 * features["n"],
    }


@graph_model
def numbers_only(features, bias):
    n = features["n"]
    a, b = tf.split(n, 2, 1)
    return {
        "where": tf.where(n > 0, n, -n),
        "clip": tf.clip_by_value(n, -0.2, 0.2),
        "concat": tf.concat([a, b, a * b], 1) + bias,
        "pack": tf.stack([a, b], 1),
        "argmin": tf.argmin(n, 1),
        "onehot": tf.one_hot(tf.cast(tf.abs(b[:, 0]) * 3, tf.int32), 4),
        "bucket": tf.raw_ops.Bucketize(input=n, boundaries=[-1.0, 0.0, 0.5]),
        "cast": tf.cast(n, tf.int32),
        "any": tf.reduce_any(n > 0, 1),
        "string": tf.strings.as_string(tf.cast(n, tf.int64)),
        "hash": tf.strings.to_hash_bucket_fast(tf.strings.as_string(tf.cast(n, tf.int64)), 17),
    }


def save_estimator(name, directory):
    with tempfile.TemporaryDirectory() as work:
        with tf.Graph().as_default():
            made, input_fn, _receiver, raw = ESTIMATORS[name](f"{work}/model")
        made.train(input_fn, steps=1)
        with_placeholders = ESTIMATORS[name]

        def receiver_fn():
            return with_placeholders(f"{work}/unused")[2]()

        path = Path(made.export_saved_model(f"{work}/export", receiver_fn).decode())
        shutil.copytree(path, directory / "saved_model")
    is_raw = not any(isinstance(value, list) for value in raw.values())
    make.record(directory, {} if is_raw else raw, raw if is_raw else {}, name)


PROGRAMS = {}


def save_program(name, directory):
    function, messages = PROGRAMS[name]
    module = tf.Module()
    module.run = tf.function(function, input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    tf.saved_model.save(module, str(directory / "saved_model"), signatures=module.run)
    make.record(directory, {"*": messages()}, {}, name)


def main():
    import feature_models  # noqa: F401 - these register their models
    import recurrent_models  # noqa: F401
    import text_models  # noqa: F401

    base = Path(sys.argv[1])
    for name in sys.argv[2:] or [*MODELS, *ESTIMATORS, *PROGRAMS]:
        directory = base / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        try:
            tf.keras.backend.clear_session()
            one = save if name in MODELS else save_program if name in PROGRAMS else save_estimator
            one(name, directory)
        except Exception as error:
            print(f"{name}: TensorFlow refuses it ({type(error).__name__}: {str(error)[:300]})")


if __name__ == "__main__":
    # The modules that register more models import this one by its name.
    import make_models

    make_models.main()
