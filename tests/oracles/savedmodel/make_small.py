"""Makes the small SavedModels of tests/exporter/goldens/savedmodels that hold one subject each, with TensorFlow 2.15.

    python make_small.py tests/exporter/goldens/savedmodels

Functions that nothing calls are cut from the graphs, for Keras writes each layer several times.
tf115_boosted_trees beside them is a case of make_trees.py.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import feature_models
import make
import numpy as np
import tensorflow as tf
from make_models import keras, layers, numbers, words
from recurrent_models import tokens
from tensorflow.core.protobuf import saved_model_pb2
from text_models import TEXTS


def recurrent():
    """Layers over sequences of any length: masked, backwards, in both directions, with states."""
    keras.utils.set_random_seed(7)
    ids, arrays = tokens(9)
    e = layers.Embedding(9, 3, mask_zero=True)(ids)
    y, hidden, cell = layers.LSTM(4, return_sequences=True, return_state=True)(e)
    both = layers.Bidirectional(layers.GRU(3))(e)
    plain = keras.Model(ids, {"steps": y, "hidden": hidden, "cell": cell, "both": both})
    x = keras.Input((None, 2), name="x")
    back = keras.Model(x, layers.LSTM(3, go_backwards=True, return_sequences=True)(x))
    # The reversed recurrent state of a padded row says what came first, and unpadded rows have no mask.
    return (
        lambda ids, x: {**plain(ids), "back": back(x)},
        [tf.TensorSpec([None, None], tf.int64, "ids"), tf.TensorSpec([None, None, 2], tf.float32, "x")],
        {**arrays(6), "x": numbers(6, 2)},
        [plain.variables, back.variables],
    )


def text():
    """TextVectorization that counts, weighs, joins and splits, and numbers written as text."""
    vocabulary = ["a", "sky", "sky sky", "blue sky", "a b"]
    counts = layers.TextVectorization(vocabulary=vocabulary, output_mode="count", ngrams=2)
    hot = layers.TextVectorization(vocabulary=vocabulary[:2], output_mode="multi_hot")
    characters = layers.TextVectorization(vocabulary=list("abcklsuy é"), split="character")
    cut = layers.TextVectorization(vocabulary=vocabulary[:2], output_sequence_length=3)

    def run(s, v):
        return {
            "counts": counts(s),
            "hot": hot(s),
            "characters": characters(s),
            "cut": cut(s),
            "fixed": tf.strings.as_string(v, precision=2),
            "short": tf.strings.as_string(v, shortest=True),
            "filled": tf.strings.as_string(tf.cast(v * 10, tf.int32), width=5, fill="0"),
        }

    specs = [tf.TensorSpec([None, 1], tf.string, "s"), tf.TensorSpec([None, 2], tf.float32, "v")]
    return run, specs, {"s": words(TEXTS, 1), "v": numbers(2)}, [counts, hot, characters, cut]


def program(name):
    function, messages = feature_models.PROGRAMS[name]
    return function, [tf.TensorSpec([None], tf.string, "examples")], {"*": messages()}, []


CASES = {
    "tf215_recurrent": recurrent,
    "tf215_text": text,
    "tf215_ragged": lambda: program("ragged_values"),
    "tf215_sequences": lambda: program("sequences"),
}


def cut_functions(file):
    """Leaves the functions that the graph of signatures calls."""
    message = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    (meta_graph,) = message.meta_graphs
    functions = {one.signature.name: one for one in meta_graph.graph_def.library.function}
    kept, waiting = set(), [meta_graph.graph_def.node]
    while waiting:
        for node in waiting.pop():
            node.ClearField("experimental_debug_info")
            names = {value.func.name for value in node.attr.values() if value.HasField("func")} - kept
            kept |= names
            waiting += [functions[name].node_def for name in names if name in functions]
            for name in [name for name in node.attr if name.startswith("_")]:
                del node.attr[name]
    del meta_graph.graph_def.library.function[:]
    meta_graph.graph_def.library.function.extend(functions[name] for name in sorted(kept & functions.keys()))
    for one in meta_graph.graph_def.library.function:
        one.arg_attr.clear()
        one.ClearField("attr")
    meta_graph.ClearField("object_graph_def")
    file.write_bytes(message.SerializeToString(deterministic=True))


def main():
    for name, build in CASES.items():
        directory = Path(sys.argv[1]) / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        function, specs, arrays, kept = build()
        module = tf.Module()
        module.run, module.kept = tf.function(function, input_signature=specs), kept
        tf.saved_model.save(module, str(directory / "saved_model"), signatures=module.run)
        cut_functions(directory / "saved_model" / "saved_model.pb")
        (directory / "saved_model" / "fingerprint.pb").unlink()
        serialized = {key: value for key, value in arrays.items() if key == "*"}
        make.record(directory, serialized, {} if serialized else arrays, name)


if __name__ == "__main__":
    np.random.seed(0)
    main()
