"""Servers with contracts switched on, over small models written as ONNX text."""

import contextlib

import httpx
import onnx.parser
import pytest
from running import HOST, WAIT_S, running

from estimator_serving.wire import dtypes
from estimator_serving.wire.examples import FixedLenFeature
from estimator_serving.wire.signatures import (
    CLASSIFY_METHOD,
    PREDICT_METHOD,
    Metadata,
    Signature,
    TensorInfo,
    to_properties,
)

HEAD = '<ir_version: 8, opset_import: ["" : 17, "estimator.ops" : 1]>\n'
# 1 more than x.
PLUS_ONE = "g (float[N] x) => (float[N] y) <float[1] one = {1}> { y = Add(x, one) }"
# Rows of 2 numbers, swapped.
SWAP = "g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {0, 1, 1, 0}> { y = MatMul(x, w) }"
# Values of several types, as they came.
TYPED = """g (float[N] f, int64[N] i, uint8[N] u, bool[N] b, string[N] s)
=> (float[N] fo, int64[N] io, uint8[N] uo, bool[N] bo, string[N] so)
{ fo = Identity(f) io = Identity(i) uo = Identity(u) bo = Identity(b) so = Identity(s) }"""
# Examples with x, and y, which is 0.5 if it is absent: their sum, and both as scores of "no" and "yes".
EXAMPLES = """g (uint8[n] "e/values", int64[m] "e/row_splits")
=> (float[N,1] total, float[N,2] scores, string[N,2] classes)
<int64[1,2] both = {0, 1}, string[2] vocabulary = {"no", "yes"}>
{
  x, y = estimator.ops.ParseExample <
    kinds = [0, 0], dtypes = [1, 1], ranks = [1, 1], dims = [1, 1],
    key_0 = "x", key_1 = "y", default_1 = float[1] {0.5}
  > ("e/values", "e/row_splits")
  total = Add(x, y)
  scores = Concat<axis = 1>(x, y)
  shape = Shape(scores)
  ids = Expand(both, shape)
  classes = Gather(vocabulary, ids)
}"""
_INFO = TensorInfo("e:0", dtypes.string, (-1,))
_SCORES = {
    "scores": TensorInfo("scores:0", dtypes.float32, (-1, 2)),
    "classes": TensorInfo("classes:0", dtypes.string, (-1, 2)),
}
SUM = Metadata(
    {
        "serving_default": Signature(
            {"examples": _INFO}, {"total": TensorInfo("total:0", dtypes.float32, (-1, 1))}, PREDICT_METHOD
        ),
        "classification": Signature({"inputs": _INFO}, _SCORES, CLASSIFY_METHOD),
    },
    {"x": FixedLenFeature((1,), dtypes.float32), "y": FixedLenFeature((1,), dtypes.float32, [0.5])},
)
MODELS = {"plus_one": (PLUS_ONE, None), "swap": (SWAP, None), "typed": (TYPED, None), "sum": (EXAMPLES, SUM)}


def write(base_path, model, version=1):
    text, metadata = MODELS[model]
    graph = onnx.parser.parse_model(HEAD + text)
    for key, value in (to_properties(metadata) if metadata else {}).items():
        graph.metadata_props.add(key=key, value=value)
    (base_path / str(version)).mkdir(parents=True)
    (base_path / str(version) / "model.onnx").write_bytes(graph.SerializeToString())
    return base_path


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """A client of a server with these models; the same for the same arguments."""
    clients = {}
    with contextlib.ExitStack() as stack:

        def client(*models, **settings):
            key = (models, *settings.items())
            if key not in clients:
                base = tmp_path_factory.mktemp("models")
                paths = {model: write(base / model, model) for model in models}
                if len(models) > 1:
                    entries = "".join(f'config {{ name: "{k}" base_path: "{v}" }} ' for k, v in paths.items())
                    (base / "models").write_text(f"model_config_list {{ {entries}}}")
                    settings |= {"model_config_file": str(base / "models")}
                path = "" if len(models) > 1 else base / models[0]
                server = stack.enter_context(running(path, port=0, **settings))
                url = f"http://{HOST}:{server.rest_port}"
                clients[key] = stack.enter_context(httpx.Client(base_url=url, timeout=WAIT_S))
            return clients[key]

        yield client
