"""TensorFlow's side of the cases of tests/support/random_examples.py: what its parsers make of them.

Runs under a Python that has TensorFlow 2.15 and nothing of this project: reads a case a line from stdin, as JSON, and
answers each with a line {"outputs": {name: nested lists}} or {"error": text}. Strings are hex. The names are those of
wire/features.py, with two differences: padded rows come without their padding, as `name` alone, and those of feature
lists have `lists/` before.
"""

import json
import os
import re
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf

DTYPES = {"float": tf.float32, "int32": tf.int32, "int64": tf.int64, "string": tf.string}


def as_feature(feature):
    dtype = DTYPES[feature["dtype"]]
    if feature["kind"] == "FixedLen":
        return tf.io.FixedLenFeature(feature["shape"], dtype, feature.get("default"))
    if feature["kind"] == "VarLen":
        return tf.io.VarLenFeature(dtype)
    if feature["kind"] == "FixedLenSequence":
        default = feature.get("default")
        return tf.io.FixedLenSequenceFeature(feature["shape"], dtype, feature["allow_missing"], default)
    if feature["kind"] == "Sparse":
        return tf.io.SparseFeature(feature["index"], feature["value"], dtype, feature["size"], feature["sorted"])
    partitions = [getattr(tf.io.RaggedFeature, kind)(value) for kind, value in feature["partitions"]]
    splits = DTYPES[feature["splits"]]
    return tf.io.RaggedFeature(dtype, feature["value"], partitions, splits, feature["validate"])


def as_lists(value):
    return json.loads(json.dumps(value.numpy().tolist(), default=bytes.hex))


def rows_of(value):
    """The values of a sparse tensor of two or three dimensions as lists of lists."""
    shape = value.dense_shape.numpy().tolist()
    rows = [[] if len(shape) == 2 else [[] for _ in range(shape[1])] for _ in range(shape[0])]
    for (*at, _), item in zip(value.indices.numpy().tolist(), as_lists(value.values), strict=True):
        row = rows[at[0]] if len(at) == 1 else rows[at[0]][at[1]]
        row.append(item)
    return rows


def tensors_of(name, feature, value):
    if feature["kind"] == "VarLen":
        return {name: rows_of(value)}
    if feature["kind"] == "Sparse":
        parts = {"indices": value.indices, "values": value.values, "dense_shape": value.dense_shape}
        return {f"{name}/{part}": as_lists(tensor) for part, tensor in parts.items()}
    if feature["kind"] == "Ragged":
        splits = {f"{name}/row_splits_{i}": as_lists(one) for i, one in enumerate(value.nested_row_splits)}
        return {f"{name}/values": as_lists(value.flat_values), **splits}
    return {name: as_lists(value)}


def parse(case):
    examples = [bytes.fromhex(one) for one in case["examples"]]
    serialized = tf.constant(examples, tf.string, [len(examples)])
    spec = {key: as_feature(feature) for key, feature in case["spec"].items()}
    if "lists" not in case:
        parsed = tf.io.parse_example(serialized, spec)
        return {
            name: value for key in parsed for name, value in tensors_of(key, case["spec"][key], parsed[key]).items()
        }
    lists = {key: as_feature(feature) for key, feature in case["lists"].items()}
    context, steps, lengths = tf.io.parse_sequence_example(serialized, spec, lists)
    outputs = {}
    for key, value in context.items():
        outputs |= tensors_of(key, case["spec"][key], value)
    for key, value in steps.items():
        outputs |= tensors_of(f"lists/{key}", case["lists"][key], value)
    return outputs | {f"lists/{key}/lengths": as_lists(value) for key, value in lengths.items()}


def answer(case):
    try:
        return {"outputs": parse(case)}
    except (tf.errors.InvalidArgumentError, ValueError) as error:
        text = re.sub(r"^\{\{.*?\}\} ", "", str(error))
        return {"error": re.sub(r" \[Op:\w+\].*$", "", text, flags=re.DOTALL)}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
