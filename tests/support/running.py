"""The real server in this process, on free ports of loopback, and short clients of a model `x -> y`."""

import contextlib
import threading
import time

import grpc
import httpx
import numpy as np
from servables import session_runner

from estimator_serving.serving.config import Config
from estimator_serving.serving.server import Server
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.tensors import decode_tensor, encode_tensor

HOST = "127.0.0.1"
WAIT_S = 20
PREDICT = "/tensorflow.serving.PredictionService/Predict"
# As many rounds as the first value says: -x for x rounds, and no end for a large one.
LOOP = """g (float[N] x) => (float[N] y) {{
    start = Constant<value = int64[1] {{0}}>()
    end = Constant<value = int64[1] {{1}}>()
    first = Slice(x, start, end)
    count = Cast<to = 7>(first)
    true = Constant<value = bool {{1}}>()
    y = Loop(count, true, x) <body = b (int64 i, bool c, float[N] a) => (bool d, float[N] n) {{
        d = Identity(c) n = Neg(a) }}> }}"""


@contextlib.contextmanager
def running(base_path, **settings):
    """A server of model `m` at a base path."""
    given = {"port": -1, "rest_api_port": -1, "bind_address": HOST, "model_name": "m"}
    given |= {"model_base_path": str(base_path), "file_system_poll_wait_seconds": 0.02}
    server = Server(Config(**given | settings))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def call(server, values, name="m", timeout_s=WAIT_S):
    """What model `name` answers over gRPC: y of x."""
    request = serving_pb.PredictRequest()
    request.model_spec.name = name
    request.inputs["x"].CopyFrom(encode_tensor(np.array(values, np.float32), as_content=True))
    with grpc.insecure_channel(f"{HOST}:{server.grpc_port}") as channel:
        payload = channel.unary_unary(PREDICT)(request.SerializeToString(), timeout=timeout_s)
    return decode_tensor(serving_pb.PredictResponse.FromString(payload).outputs["y"]).tolist()


def post(server, values, name="m"):
    """The response over REST."""
    url = f"http://{HOST}:{server.rest_port}/v1/models/{name}:predict"
    return httpx.post(url, json={"instances": values}, timeout=WAIT_S)


def until(condition):
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come to pass"
        time.sleep(0.005)


class Gate:
    """Holds a version's runs until it is opened, and remembers how many rows each had."""

    def __init__(self, servable, of="x"):
        self.rows = []
        self._of = of
        runner = session_runner(servable)
        self._graph, runner.graph = runner.graph, self.run
        self._open = threading.Event()

    def run(self, names, feeds, context):
        self.rows.append(len(feeds[self._of]))
        assert self._open.wait(WAIT_S)
        return self._graph(names, feeds, context)

    def open(self):
        self._open.set()
