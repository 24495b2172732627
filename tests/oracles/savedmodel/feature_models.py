"""Functions of serialized Examples and SequenceExamples with ragged features and feature lists. Registers them with
make_models, whose main saves each as a tf.Module with one signature.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from make_models import PROGRAMS, ROWS, example_spec_rows, random_rows

RAGGED = {
    "w": tf.io.RaggedFeature(tf.string, row_splits_dtype=tf.int64),
    "i": tf.io.RaggedFeature(tf.int64),
    "v": tf.io.RaggedFeature(tf.float32),
    "n": tf.io.FixedLenFeature([2], tf.float32),
}


def program(messages):
    """Registers a function of a batch of serialized messages, which `messages` gives."""

    def register(function):
        PROGRAMS[function.__name__] = (function, messages)
        return function

    return register


def examples():
    return example_spec_rows(random_rows())


@program(examples)
def ragged_values(serialized):
    parsed = tf.io.parse_example(serialized, RAGGED)
    i, v, w = parsed["i"], parsed["v"], parsed["w"]
    table = tf.reshape(tf.range(30, dtype=tf.float32), [10, 3])
    return {
        "dense": v.to_tensor(-1.0),
        "words": w.to_tensor("none"),
        "two": v.to_tensor(0.0, shape=[None, 2]),
        "lengths": i.row_lengths(),
        "splits_of": tf.cast(i.row_splits, tf.int64)[1:] - tf.cast(i.row_splits, tf.int64)[:-1],
        "sum": tf.reduce_sum(v, axis=1),
        "mean": tf.reduce_mean(v * 2.0, axis=1),
        "most": tf.reduce_max(i, axis=1),
        "any": tf.reduce_any(v > 0.0, axis=1),
        "embedded": tf.reduce_sum(tf.nn.embedding_lookup(table, i), axis=1),
        "pooled": tf.nn.safe_embedding_lookup_sparse(table, tf.cast(i, tf.int64).to_sparse(), combiner="mean"),
        "hashed": tf.ragged.map_flat_values(tf.strings.to_hash_bucket_fast, w, 7).to_tensor(-1),
        "n": parsed["n"],
    }


def sequence_examples():
    rng = np.random.default_rng(11)
    made = []
    for _ in range(ROWS):
        message = tf.train.SequenceExample()
        message.context.feature["age"].float_list.value.append(float(np.float32(rng.normal())))
        if rng.random() < 0.7:
            message.context.feature["city"].bytes_list.value.append([b"red", b"green", b""][rng.integers(3)])
        message.context.feature["ids"].int64_list.value.extend(rng.integers(0, 9, rng.integers(0, 4)).tolist())
        steps = int(rng.integers(0, 5))
        for _ in range(steps):
            one = message.feature_lists.feature_list["x"].feature.add()
            one.float_list.value.extend(rng.normal(size=2).astype(np.float32).tolist())
            one = message.feature_lists.feature_list["words"].feature.add()
            one.bytes_list.value.extend([[b"a", b"bb", b"red"][k] for k in rng.integers(0, 3, rng.integers(0, 3))])
        made.append(message.SerializeToString())
    made[0] = made[1]
    return made


CONTEXT = {
    "age": tf.io.FixedLenFeature([1], tf.float32),
    "city": tf.io.FixedLenFeature([], tf.string, "none"),
    "ids": tf.io.VarLenFeature(tf.int64),
}


@program(sequence_examples)
def sequences(serialized):
    lists = {
        "x": tf.io.FixedLenSequenceFeature([2], tf.float32, allow_missing=True),
        "words": tf.io.VarLenFeature(tf.string),
    }
    context, features, lengths = tf.io.parse_sequence_example(serialized, CONTEXT, lists)
    steps = tf.cast(tf.sequence_mask(lengths["x"], tf.shape(features["x"])[1]), tf.float32)
    return {
        "age": context["age"],
        "city": context["city"],
        "ids": tf.sparse.to_dense(context["ids"]),
        "x": features["x"],
        "lengths": lengths["x"],
        "sum": tf.reduce_sum(features["x"] * steps[:, :, None], 1),
        "words": tf.sparse.to_dense(features["words"], ""),
        "hashed": tf.strings.to_hash_bucket_fast(tf.sparse.to_dense(features["words"], ""), 9),
    }


@program(sequence_examples)
def sequences_without_words(serialized):
    lists = {"x": tf.io.FixedLenSequenceFeature([2], tf.float32, allow_missing=True)}
    context, features, lengths = tf.io.parse_sequence_example(serialized, {"age": CONTEXT["age"]}, lists)
    return {"made": tf.reduce_max(features["x"], [1, 2]) + context["age"][:, 0], "lengths": lengths["x"]}


@program(sequence_examples)
def ragged_sequences(serialized):
    context = {"ids": tf.io.RaggedFeature(tf.int64)}
    lists = {"words": tf.io.RaggedFeature(tf.string)}
    context, features, _ = tf.io.parse_sequence_example(serialized, context, lists)
    return {"ids": context["ids"].to_tensor(), "words": features["words"].to_tensor("")}


@program(sequence_examples)
def sequences_of_version_1(serialized):
    """As TensorFlow 1.15 writes them."""
    parsed = tf.raw_ops.ParseSequenceExample(
        serialized=serialized,
        debug_name=tf.constant([], tf.string),
        context_dense_defaults=[tf.constant([], tf.float32), tf.constant("none")],
        feature_list_dense_missing_assumed_empty=["x"],
        context_sparse_keys=["ids"],
        context_dense_keys=["age", "city"],
        feature_list_sparse_keys=["words"],
        feature_list_dense_keys=["x"],
        context_sparse_types=[tf.int64],
        feature_list_dense_types=[tf.float32],
        context_dense_shapes=[[1], []],
        feature_list_sparse_types=[tf.string],
        feature_list_dense_shapes=[[2]],
        Ncontext_sparse=1,
        Ncontext_dense=2,
        Nfeature_list_sparse=1,
        Nfeature_list_dense=1,
    )
    ids = tf.SparseTensor(
        parsed.context_sparse_indices[0], parsed.context_sparse_values[0], parsed.context_sparse_shapes[0]
    )
    words = (
        parsed.feature_list_sparse_indices[0],
        parsed.feature_list_sparse_values[0],
        parsed.feature_list_sparse_shapes[0],
    )
    return {
        "ids": tf.sparse.to_dense(ids),
        "age": parsed.context_dense_values[0],
        "city": parsed.context_dense_values[1],
        "x": parsed.feature_list_dense_values[0],
        "lengths": parsed.feature_list_dense_lengths[0],
        "words": tf.sparse.to_dense(tf.SparseTensor(*words), ""),
    }
