"""Keras 2 models of text: TextVectorization in every mode, numbers written as text. Registers them with make_models."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from make_models import MODELS, keras, layers, model, numbers, words

TEXTS = ("red", "Blue sky, a?", "", "a  b, C! sky sky sky sky", "é à", "blue a b sky red a", "?!", "x y z")
VOCABULARY = ["blue", "a", "b", "sky", "red"]


def vectorization(name, vocabulary=VOCABULARY, texts=TEXTS, **options):
    def make():
        s = keras.Input((1,), dtype=tf.string, name="s")
        if options.get("output_mode") == "tf_idf":
            options["idf_weights"] = np.linspace(0.5, 2.0, len(vocabulary)).astype(np.float32)
        y = layers.TextVectorization(vocabulary=vocabulary, **options)(s)
        return keras.Model(s, tf.cast(y, tf.float32) * 2.0 if options.get("output_mode") != "int" else y), {
            "s": words(texts, 1)
        }

    MODELS[f"text_vectorization_{name}"] = make


vectorization("open", output_mode="int")
vectorization("fixed_padded", output_mode="int", output_sequence_length=4, max_tokens=20)
vectorization("count", output_mode="count", max_tokens=8)
vectorization("count_padded", output_mode="count", max_tokens=9, pad_to_max_tokens=True)
vectorization("multi_hot", output_mode="multi_hot")
vectorization("tf_idf", output_mode="tf_idf")
vectorization("tf_idf_padded", output_mode="tf_idf", max_tokens=9, pad_to_max_tokens=True)
vectorization("bigrams", ["a", "sky", "sky sky", "blue sky", "a b"], output_mode="int", ngrams=2)
vectorization("bigrams_count", ["a", "sky", "sky sky", "blue sky", "a b"], output_mode="count", ngrams=2)
vectorization("ngrams_chosen", ["sky sky sky", "a", "b c"], output_mode="multi_hot", ngrams=(1, 3))
vectorization("characters", list("abceklsuy é"), output_mode="int", split="character")
vectorization("characters_count", list("abceklsuy é"), output_mode="count", split="character")
vectorization("whole", ["red", "é à", "blue sky a"], output_mode="int", split=None)
vectorization("lower_only", ["blue", "a", "sky,", "b,"], output_mode="int", standardize="lower")
vectorization("strip_only", ["Blue", "a", "sky", "C"], output_mode="count", standardize="strip_punctuation")
vectorization("as_it_is", ["Blue", "a", "sky,", "C!"], output_mode="multi_hot", standardize=None)


@model
def text_vectorization_of_vectors():
    s = keras.Input((), dtype=tf.string, name="s")
    y = layers.TextVectorization(vocabulary=VOCABULARY, output_mode="count")(s)
    return keras.Model(s, y), {"s": words(TEXTS)}


@model
def text_bag_of_embeddings():
    s = keras.Input((1,), dtype=tf.string, name="s")
    ids = layers.TextVectorization(vocabulary=VOCABULARY)(s)
    y = layers.Embedding(12, 3, mask_zero=True)(ids)
    return keras.Model(s, layers.GlobalAveragePooling1D()(y)), {"s": words(TEXTS, 1)}


@model
def text_lstm():
    s = keras.Input((1,), dtype=tf.string, name="s")
    ids = layers.TextVectorization(vocabulary=VOCABULARY)(s)
    y = layers.Embedding(12, 3, mask_zero=True)(ids)
    return keras.Model(s, layers.LSTM(4)(y)), {"s": words(TEXTS, 1)}


@model
def numbers_as_text():
    x = keras.Input((3,), name="x")

    def write(v):
        whole = tf.cast(v * 100, tf.int64)
        made = [
            tf.strings.as_string(v),
            tf.strings.as_string(v, precision=2),
            tf.strings.as_string(v, scientific=True, width=20),
            tf.strings.as_string(v, shortest=True),
            tf.strings.as_string(tf.cast(v, tf.float64), precision=1, fill="0", width=9),
            tf.strings.as_string(whole, width=6, fill="0"),
            tf.strings.as_string(tf.cast(whole, tf.int32), fill="+"),
            tf.strings.as_string(v > 0),
        ]
        return tf.concat(made, 1)

    return keras.Model(x, layers.Lambda(write)(x)), {"x": numbers(3)}
