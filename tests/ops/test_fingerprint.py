"""Fingerprint64 against TensorFlow's, recorded in goldens/."""

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from estimator_serving import ops
from estimator_serving.wire.examples import VarLenFeature, encode_example, join_examples

RECORDED = json.loads((Path(__file__).parent / "goldens" / "fingerprint64.json").read_text())

WORDS = ["", "a", "b", "omar", "stringer", "marlo", "101", "201", "-5", "Tensorflow", "é"]
BUCKETS = {
    10: [3, 9, 2, 6, 4, 1, 3, 7, 6, 9, 5],
    100: [63, 39, 22, 86, 4, 91, 53, 47, 16, 9, 25],
    1000: [263, 939, 822, 986, 704, 591, 653, 47, 816, 709, 25],
}


@pytest.fixture(scope="module")
def fingerprint(load):
    node = helper.make_node("Fingerprint64", ["strings"], ["fingerprints"], domain=ops.DOMAIN)
    session = load([node], {"strings": (TensorProto.STRING, None)})
    return lambda strings: session.run(None, {"strings": np.asarray(strings, object)})[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 11160318154034397263),
        ("a", 12917804110809363939),
        ("abc", 2640714258260161385),
        ("hello world", 6381520714923946011),
    ],
)
def test_known_fingerprints(fingerprint, text, expected):
    assert fingerprint([text]).tolist() == [expected]


@pytest.mark.parametrize("buckets", BUCKETS)
def test_hash_buckets_are_tensorflows(fingerprint, buckets):
    assert (fingerprint(WORDS) % np.uint64(buckets)).tolist() == BUCKETS[buckets]


def test_every_length_of_bytes_as_tensorflow(load, parse_inputs, node_of):
    """Through ParseExample, since bytes that are not UTF-8 reach a graph that way only."""
    parse = node_of({"x": VarLenFeature("string")})
    nodes = [parse, helper.make_node("Fingerprint64", [parse.output[0]], ["fingerprints"], domain=ops.DOMAIN)]
    values, row_splits = join_examples([encode_example({"x": [bytes.fromhex(data) for data in RECORDED]})])
    (fingerprints,) = load(nodes, parse_inputs).run(None, {"values": values, "row_splits": row_splits})
    assert fingerprints.dtype == np.uint64
    assert fingerprints.tolist() == [list(RECORDED.values())]


@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 3), (0,), (2, 0)])
def test_keeps_the_shape(fingerprint, shape):
    assert fingerprint(np.full(shape, "a", object)).shape == shape


def test_shapes_are_inferred(load):
    node = helper.make_node("Fingerprint64", ["strings"], ["fingerprints"], domain=ops.DOMAIN)
    (output,) = load([node], {"strings": (TensorProto.STRING, ["batch", 3])}).get_outputs()
    assert (output.type, output.shape) == ("tensor(uint64)", ["batch", 3])
