"""Asks TensorFlow what it makes of a table of Examples and strings; writes the goldens beside this file.

    python-with-tensorflow-2.15 tests/ops/goldens/make.py

parse_example.json: a list of {name, spec, examples (hex)} with either `outputs` or TensorFlow's `error`.
fingerprint64.json: hex of the bytes -> the fingerprint, for every length up to 130 and some beyond.
"""

import json
import os
import random
import re
import struct
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf

HERE = Path(__file__).parent
DTYPES = {"float": tf.float32, "int64": tf.int64, "string": tf.string}
NO_DEFAULT = object()


def fixed(dtype, shape, default=NO_DEFAULT):
    feature = {"kind": "FixedLen", "dtype": dtype, "shape": shape}
    return feature if default is NO_DEFAULT else {**feature, "default": default}


def var(dtype):
    return {"kind": "VarLen", "dtype": dtype}


def example(**features):
    """Lists choose their kind by their first value; `None` is a Feature without a kind; a str names an empty list."""
    proto = tf.train.Example()
    for key, values in features.items():
        feature = proto.features.feature[key]
        if isinstance(values, str):
            getattr(feature, values).SetInParent()
        elif values is not None:
            kind = {float: "float_list", int: "int64_list", bytes: "bytes_list"}[type(values[0])]
            getattr(feature, kind).value.extend(values)
    return proto.SerializeToString()


EMPTY_LISTS = {"float": "float_list", "int64": "int64_list", "string": "bytes_list"}
ONE = {"float": [1.5], "int64": [-3], "string": [b"abc"]}
THREE = {"float": [1.0, -2.5, 3.25], "int64": [1, 2, 1 << 40], "string": [b"", b"b", "é".encode()]}
DEFAULTS = {"float": 9.5, "int64": 9, "string": "nine"}


def cases():
    for dtype, other in (("float", "int64"), ("int64", "string"), ("string", "float")):
        one, three = {"x": fixed(dtype, [1])}, {"x": fixed(dtype, [3])}
        yield f"fixed {dtype}", one, [example(x=ONE[dtype])]
        yield f"fixed {dtype} of three", three, [example(x=THREE[dtype]), example(x=THREE[dtype][::-1])]
        yield f"fixed {dtype} scalar", {"x": fixed(dtype, [])}, [example(x=ONE[dtype])]
        yield f"fixed {dtype} matrix", {"x": fixed(dtype, [2, 3])}, [example(x=THREE[dtype] * 2)]
        yield f"fixed {dtype} missing", one, [example()]
        yield f"fixed {dtype} missing in row 1", one, [example(x=ONE[dtype]), example(y=ONE[dtype])]
        yield f"fixed {dtype} without kind", one, [example(x=None)]
        yield f"fixed {dtype} empty list", one, [example(x=EMPTY_LISTS[dtype])]
        yield f"fixed {dtype} too many", one, [example(x=ONE[dtype]), example(x=THREE[dtype])]
        yield f"fixed {dtype} too few for a matrix", {"x": fixed(dtype, [2, 3])}, [example(x=THREE[dtype])]
        yield f"fixed {dtype} too many for a scalar", {"x": fixed(dtype, [])}, [example(x=THREE[dtype])]
        yield f"fixed {dtype} from {other}", one, [example(x=ONE[other])]
        yield f"fixed {dtype} from an empty list of {other}", one, [example(x=EMPTY_LISTS[other])]
        defaulted = {"x": fixed(dtype, [1], [DEFAULTS[dtype]])}
        yield f"fixed {dtype} default", defaulted, [example(), example(x=ONE[dtype]), example(x=None)]
        yield f"fixed {dtype} default and empty list", defaulted, [example(x=EMPTY_LISTS[dtype])]
        yield f"fixed {dtype} default and another dtype", defaulted, [example(x=ONE[other])]
        yield f"fixed {dtype} scalar default", {"x": fixed(dtype, [], DEFAULTS[dtype])}, [example()]
        yield f"var {dtype}", {"x": var(dtype)}, [example(x=THREE[dtype]), example(), example(x=ONE[dtype])]
        yield f"var {dtype} without kind", {"x": var(dtype)}, [example(x=None)]
        yield f"var {dtype} empty list", {"x": var(dtype)}, [example(x=EMPTY_LISTS[dtype])]
        yield f"var {dtype} from {other}", {"x": var(dtype)}, [example(), example(x=ONE[other])]
        yield f"var {dtype} from an empty list of {other}", {"x": var(dtype)}, [example(x=EMPTY_LISTS[other])]
    yield "empty example", {"x": var("float"), "y": fixed("int64", [2], [1, 2])}, [b""]
    yield "garbage", {"x": var("float")}, [b"hello"]
    yield "garbage in row 1", {"x": var("float")}, [b"", b"hello"]
    yield "other keys", {"x": var("float")}, [example(a=[b"a"], x=[1.0], z=[7])]
    yield "no row", {"x": var("float"), "y": fixed("string", [2])}, []
    twice = example(x=[1.0]) + example(x=[2.0, 3.0])
    yield "features twice, the last key wins", {"x": var("float")}, [twice]
    yield "an earlier entry of another dtype", {"x": var("float")}, [example(x=[b"a"]) + example(x=[2.0])]
    # TensorFlow overruns its heap where an unpacked list is longer than a FixedLen shape, so the counts are right here.
    floats = struct.pack("<BfBf", 0x0D, 1.0, 0x0D, 2.0)
    yield "unpacked floats", {"x": var("float")}, [example_of_list("x", 2, floats)]
    yield "unpacked floats for a shape", {"x": fixed("float", [2])}, [example_of_list("x", 2, floats)]
    ints = bytes([0x08, 1, 0x08, 0x80, 1])
    yield "unpacked ints", {"x": var("int64")}, [example_of_list("x", 3, ints)]
    yield "unpacked ints for a shape", {"x": fixed("int64", [2])}, [example_of_list("x", 3, ints)]


def message(field, payload):
    assert len(payload) < 128
    return bytes([field << 3 | 2, len(payload)]) + payload


def example_of_list(key, kind, payload):
    """An Example whose one list is given as bytes."""
    return message(1, message(1, message(1, key.encode()) + message(2, message(kind, payload))))


def as_feature(feature):
    dtype = DTYPES[feature["dtype"]]
    if feature["kind"] == "VarLen":
        return tf.io.VarLenFeature(dtype)
    return tf.io.FixedLenFeature(feature["shape"], dtype, feature.get("default"))


def as_rows(value):
    """Nested lists a row; strings as hex."""
    if isinstance(value, tf.SparseTensor):
        rows = [[] for _ in range(int(value.dense_shape[0]))]
        for (row, _), item in zip(value.indices.numpy(), value.values.numpy().tolist(), strict=True):
            rows[row].append(item)
    else:
        rows = value.numpy().tolist()
    return json.loads(json.dumps(rows, default=bytes.hex))


def run(name, spec, examples):
    case = {"name": name, "spec": spec, "examples": [one.hex() for one in examples]}
    serialized = tf.constant(examples, tf.string, [len(examples)])
    try:
        parsed = tf.io.parse_example(serialized, {key: as_feature(feature) for key, feature in spec.items()})
    except tf.errors.InvalidArgumentError as error:
        text = re.sub(r"^\{\{.*?\}\} ", "", error.message)
        return {**case, "error": re.sub(r" \[Op:ParseExampleV2\].*$", "", text, flags=re.DOTALL)}
    return {**case, "outputs": {key: as_rows(value) for key, value in parsed.items()}}


def fingerprints():
    rng = random.Random(0)
    for length in [*range(1, 131), 191, 192, 193, 1000, 4096]:
        data = rng.randbytes(length)
        (fingerprint,) = tf.fingerprint(tf.constant([list(data)], tf.uint8)).numpy()
        yield data.hex(), int.from_bytes(fingerprint.tobytes(), "little")


def write(name, value):
    (HERE / name).write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    write("parse_example.json", [run(*case) for case in cases()])
    write("fingerprint64.json", dict(fingerprints()))
