"""The ParseExample op against TensorFlow's own parse_example: microseconds per example, one thread each.

    python benchmarks/parse_example.py --tensorflow-python /path/to/python/with/tensorflow

TensorFlow runs in a process of its own, on the same serialized Examples: 12 features, four each of float, int64 and
string, half of them FixedLen and half VarLen. Every batch is measured twice: with the map entries of all Examples in
one order, as one program writes them, and shuffled from row to row. The two take turns, and the best of all turns
counts for each, so that a busy machine disturbs both alike. Both are measured as a call from Python that leaves its
results where they are: the op as `run_with_iobinding`, TensorFlow as the raw op behind `tf.io.parse_example`, without
the Python around it (which at batch 1 takes ten times as long as the op). String tensors and padded tensors are part
of the op's time. The budgets are ratios to TensorFlow; the command fails if one is broken.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable

import onnxruntime as ort
from onnx import TensorProto, helper

from estimator_serving import ops
from estimator_serving.wire.examples import encode_example, join_examples

BUDGETS = {1000: 0.5, 32: 0.5, 1: 0.2}  # batch size -> at most this share of TensorFlow's time
TURNS = 5
TURN_S = 0.4

FLOATS, INTS, STRINGS = ([f"{kind}_{i}" for i in range(4)] for kind in ("float", "int", "string"))

# The whole of TensorFlow's side: reads the keys and both sets of Examples, then answers each set's number and batch
# size with seconds per call.
TENSORFLOW = """
import json, os, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
keys, turn_s = json.loads(sys.stdin.readline()), float(sys.stdin.readline())
examples = [[bytes.fromhex(text) for text in texts] for texts in json.loads(sys.stdin.readline())]
features = [(name, dtype, i % 2) for dtype, names in zip((tf.float32, tf.int64, tf.string), keys)
            for i, name in enumerate(names)]
sparse = [(name, dtype) for name, dtype, fixed in features if not fixed]
dense = [(name, dtype) for name, dtype, fixed in features if fixed]
none = tf.constant([], tf.string)
spec = dict(
    names=none, ragged_keys=none, ragged_value_types=[], ragged_split_types=[], num_sparse=len(sparse),
    sparse_keys=tf.constant([name for name, _ in sparse]), sparse_types=[dtype for _, dtype in sparse],
    dense_keys=tf.constant([name for name, _ in dense]), dense_defaults=[tf.constant([], dtype) for _, dtype in dense],
    dense_shapes=[[1]] * len(dense),
)
for line in sys.stdin:
    number, size = map(int, line.split())
    batch = tf.constant(examples[number][:size])
    tf.raw_ops.ParseExampleV2(serialized=batch, **spec)
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < turn_s:
        tf.raw_ops.ParseExampleV2(serialized=batch, **spec)
        calls += 1
    print((time.perf_counter() - start) / calls, flush=True)
"""


ORDERS = ("one order", "shuffled")


def make_examples(count: int) -> list[list[bytes]]:
    """The Examples of each order."""
    rng = random.Random(0)

    def make_one() -> dict[str, object]:
        features: dict[str, object] = {key: rng.random() for key in FLOATS}
        features |= {key: rng.randrange(-100, 1000) for key in INTS}
        features |= {key: rng.randbytes(rng.randrange(3, 12)).hex() for key in STRINGS}
        return features

    examples = [make_one() for _ in range(count)]
    return [[encode_example(one) for one in examples], [shuffle_entries(one, rng) for one in examples]]


def shuffle_entries(features: dict[str, object], rng: random.Random) -> bytes:
    """An Example whose map entries lie in any order: Examples that are put together are their entries put together."""
    entries = [encode_example({key: value}) for key, value in features.items()]
    rng.shuffle(entries)
    return encode_one_map(entries)


def encode_one_map(examples: list[bytes]) -> bytes:
    """One `features` field with the entries of all Examples, each of which has one and is shorter than 128 bytes."""
    entries = b"".join(example[2:] for example in examples)
    assert all(example[0] == 0x0A and example[1] < 0x80 for example in examples)
    assert 0x80 <= len(entries) < 0x4000
    return bytes([0x0A, len(entries) & 0x7F | 0x80, len(entries) >> 7]) + entries


def make_session() -> ort.InferenceSession:
    keys = FLOATS + INTS + STRINGS
    kinds = [0 if i % 2 else 1 for _ in range(3) for i in range(4)]
    outputs = [f"{key}{part}" for key, kind in zip(keys, kinds, strict=True) for part in ("", "/lengths")[: 1 + kind]]
    node = helper.make_node(
        "ParseExample",
        ["values", "row_splits"],
        outputs,
        domain=ops.DOMAIN,
        kinds=kinds,
        dtypes=[1] * 4 + [9] * 4 + [7] * 4,
        ranks=[1 - kind for kind in kinds],
        dims=[1] * 6,
        **{f"key_{i}": key for i, key in enumerate(keys)},
    )
    inputs = [
        helper.make_tensor_value_info("values", TensorProto.UINT8, ["bytes"]),
        helper.make_tensor_value_info("row_splits", TensorProto.INT64, ["batch+1"]),
    ]
    graph = helper.make_graph([node], "parse", inputs, [helper.make_empty_tensor_value_info(name) for name in outputs])
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(ops.DOMAIN, ops.VERSION)]
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    return ops.session(model.SerializeToString(), options=options)


def time_call(call: Callable[[], object]) -> float:
    call()
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < TURN_S:
        call()
        calls += 1
    return (time.perf_counter() - start) / calls


def op_caller(examples: list[bytes], batch: int) -> Callable[[], object]:
    """A call of the op on the first `batch` Examples; its results stay in ONNX Runtime, as TensorFlow's stay there."""
    session = make_session()
    values, row_splits = join_examples(examples[:batch])
    binding = session.io_binding()
    binding.bind_cpu_input("values", values)
    binding.bind_cpu_input("row_splits", row_splits)
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return lambda: session.run_with_iobinding(binding)


class TensorFlow:
    """The other process. Close it by leaving the `with`."""

    def __init__(self, python: str, examples: list[list[bytes]]) -> None:
        self.process = subprocess.Popen(
            [python, "-c", TENSORFLOW],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        hexed = [[example.hex() for example in order] for order in examples]
        print(json.dumps([FLOATS, INTS, STRINGS]), TURN_S, json.dumps(hexed), sep="\n", file=self.process.stdin)

    def time_call(self, order: int, batch: int) -> float:
        """Seconds per call on the first `batch` Examples of that order."""
        print(order, batch, file=self.process.stdin, flush=True)
        assert self.process.stdout is not None
        return float(self.process.stdout.readline())

    def __enter__(self) -> TensorFlow:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.process.communicate()


def measure(tensorflow: TensorFlow, examples: list[list[bytes]], order: int, batch: int, budget: float) -> bool:
    """Prints one line; True if the budget is kept."""
    call = op_caller(examples[order], batch)
    turns = [(time_call(call), tensorflow.time_call(order, batch)) for _ in range(TURNS)]
    op_us, tensorflow_us = (min(times) / batch * 1e6 for times in zip(*turns, strict=True))
    ratio = op_us / tensorflow_us
    print(
        f"batch {batch:4}, {ORDERS[order]:9}: op {op_us:7.3f} µs/example, TensorFlow {tensorflow_us:7.3f} µs/example, "
        f"ratio {ratio:.3f} (budget {budget})"
    )
    return ratio <= budget


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tensorflow-python", required=True, help="a Python that has TensorFlow 2.15")
    examples = make_examples(max(BUDGETS))
    with TensorFlow(parser.parse_args().tensorflow_python, examples) as tensorflow:
        kept = [
            measure(tensorflow, examples, order, batch, budget)
            for batch, budget in BUDGETS.items()
            for order in range(len(ORDERS))
        ]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
