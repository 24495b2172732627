"""Every method of tritonclient in its four flavours against a running server: http, http.aio, grpc and grpc.aio."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import inspect
import queue
import warnings

import numpy as np
import pytest

pytest.importorskip("geventhttpclient", reason="tritonclient is installed without its http part")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # gevent's
    import tritonclient.grpc as triton_grpc
    import tritonclient.grpc.aio as triton_grpc_aio
    import tritonclient.http as triton_http
    import tritonclient.http.aio as triton_http_aio
    import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

from estimator_serving.wire.examples import encode_example

FLAVOURS = {
    "http": triton_http, "http.aio": triton_http_aio, "grpc": triton_grpc, "grpc.aio": triton_grpc_aio,
}  # fmt: skip
X = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
Y = [[22, 28], [49, 64]]


class Client:
    """One flavour's client; calls of the asynchronous ones are waited for."""

    def __init__(self, front, flavour):
        self.flavour, self.module = flavour, FLAVOURS[flavour]
        self.is_grpc, self.is_aio = flavour.startswith("grpc"), flavour.endswith("aio")
        self.loop = asyncio.get_event_loop_policy().get_event_loop()
        port = front.server.grpc_port if self.is_grpc else front.server.rest_port
        self._client = self.wait(lambda: self.module.InferenceServerClient(f"127.0.0.1:{port}"))

    def wait(self, make):
        async def run():
            made = make()
            return await made if inspect.isawaitable(made) else made

        return self.loop.run_until_complete(run()) if self.is_aio else make()

    def __getattr__(self, name):
        method = getattr(self._client, name)
        return lambda *arguments, **named: self.wait(lambda: method(*arguments, **named))

    def close(self):
        self.wait(self._client.close)

    def input(self, name, array, datatype, *, binary=True):
        made = self.module.InferInput(name, list(array.shape), datatype)
        if self.is_grpc:
            made.set_data_from_numpy(array)
        else:
            made.set_data_from_numpy(array, binary_data=binary)
        return made

    def fetch(self, value):
        """A document of the REST API, or the message of gRPC as such a document."""
        if not self.is_grpc:
            return value
        from google.protobuf import json_format

        return json_format.MessageToDict(value, preserving_proto_field_name=True)


@pytest.fixture(autouse=True, scope="module")
def one_loop():
    """grpc.aio makes an event loop of its own where it finds none, and closes it never."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture(params=FLAVOURS)
def client(request, fronts):
    client = Client(fronts["matrix"], request.param)
    yield client
    client.close()


@pytest.fixture(params=FLAVOURS)
def ask(request, fronts):
    """Makes clients of a model's server with all rights."""
    with contextlib.ExitStack() as stack:

        def make(model):
            made = Client(fronts.with_rights(model), request.param)
            stack.callback(made.close)
            return made

        yield make


def test_health(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("matrix")
    assert client.is_model_ready("matrix", "123")
    assert not client.is_model_ready("matrix", "7")
    assert not client.is_model_ready("nope")


def test_metadata(client):
    server = client.fetch(client.get_server_metadata())
    assert server["name"] == "estimator-serving"
    assert "binary_tensor_data" in server["extensions"]
    model = client.fetch(client.get_model_metadata("matrix"))
    assert (model["versions"], model["platform"]) == (["123"], "onnxruntime_onnx")
    shapes = [[int(length) for length in tensor["shape"]] for tensor in (*model["inputs"], *model["outputs"])]
    assert shapes == [[-1, 3], [-1, 2]]
    with pytest.raises(InferenceServerException, match="Request for unknown model: 'nope' is not found"):
        client.get_model_metadata("nope")


def test_config(client):
    config = client.fetch(client.get_model_config("matrix"))
    config = config.get("config", config)
    assert (config["backend"], config["platform"]) == ("onnxruntime", "onnxruntime_onnx")
    assert [tensor["data_type"] for tensor in (*config["input"], *config["output"])] == ["TYPE_FP32", "TYPE_FP32"]
    assert [int(length) for length in config["input"][0]["dims"]] == [3]


@pytest.mark.parametrize("binary", [True, False])
def test_infer(client, binary):
    result = client.infer("matrix", [client.input("x", X, "FP32", binary=binary)], request_id="one")
    np.testing.assert_array_equal(result.as_numpy("y"), Y)
    response = client.fetch(result.get_response())
    assert (response["id"], response["model_name"], response["model_version"]) == ("one", "matrix", "123")


def test_infer_with_outputs(client):
    inputs = [client.input("x", X, "FP32")]
    wanted = [client.module.InferRequestedOutput("y")]
    np.testing.assert_array_equal(client.infer("matrix", inputs, "123", wanted).as_numpy("y"), Y)
    classes = [client.module.InferRequestedOutput("y", class_count=1)]
    answer = client.infer("matrix", inputs, outputs=classes).as_numpy("y")
    assert answer.tolist() == [[b"28.000000:1"], [b"64.000000:1"]]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compression(client, coding):
    inputs = [client.input("x", np.ones((200, 3), np.float32), "FP32")]
    if client.is_grpc:
        result = client.infer("matrix", inputs, compression_algorithm=coding)
    else:
        result = client.infer(
            "matrix", inputs, request_compression_algorithm=coding, response_compression_algorithm=coding
        )
    np.testing.assert_array_equal(result.as_numpy("y"), [[9, 12]] * 200)


def test_errors(client):
    for inputs, text in (
        ([client.input("x", X.astype(np.float64), "FP64")], "data-type is 'FP64', but model 'matrix' expects 'FP32'"),
        ([client.input("x", np.ones((2, 4), np.float32), "FP32")], r"Expected \[-1,3\], got \[2,4\]"),
        ([client.input("z", X, "FP32")], "unexpected inference input 'z' for model 'matrix'"),
        ([], "expected 1 inputs but got 0 inputs"),
    ):
        with pytest.raises(InferenceServerException, match=text):
            client.infer("matrix", inputs)
    with pytest.raises(InferenceServerException, match="unknown model: 'nope'"):
        client.infer("nope", [client.input("x", X, "FP32")])
    with pytest.raises(InferenceServerException, match="unknown model: 'matrix' version 7"):
        client.infer("matrix", [client.input("x", X, "FP32")], "7")


@pytest.mark.parametrize("flavour", ["http", "grpc"])
def test_async_infer(fronts, flavour):
    client = Client(fronts["matrix"], flavour)
    inputs = [client.input("x", X, "FP32")]
    if flavour == "http":
        result = client.async_infer("matrix", inputs).get_result()
    else:
        answers = queue.SimpleQueue()
        client.async_infer("matrix", inputs, callback=lambda result, error: answers.put((result, error)))
        result, error = answers.get(timeout=20)
        assert error is None
    np.testing.assert_array_equal(result.as_numpy("y"), Y)
    client.close()


def test_stream(fronts):
    """Items keep their order, and one that is wrong does not end the stream."""
    client = Client(fronts["matrix"], "grpc")
    answers = queue.SimpleQueue()
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    for index in range(20):
        model = "nope" if index == 7 else "matrix"
        client.async_stream_infer(model, [client.input("x", X * index, "FP32")], request_id=str(index))
    for index in range(20):
        result, error = answers.get(timeout=20)
        if index == 7:
            assert "unknown model: 'nope'" in str(error)
        else:
            assert error is None
            assert result.get_response().id == str(index)
            assert result.get_response().parameters["triton_final_response"].bool_param
            np.testing.assert_array_equal(result.as_numpy("y"), np.array(Y) * index)
    client.stop_stream()
    client.close()


def test_aio_stream(fronts):
    client = Client(fronts["matrix"], "grpc.aio")

    async def run():
        async def requests():
            for index in range(5):
                yield {"model_name": "matrix", "inputs": [client.input("x", X, "FP32")], "request_id": str(index)}

        return [(result.get_response().id, error) async for result, error in client._client.stream_infer(requests())]

    assert client.loop.run_until_complete(run()) == [(str(index), None) for index in range(5)]
    client.close()


def test_deadline(fronts):
    client = Client(fronts["matrix"], "grpc")
    # The client gives up by itself, or hears of it from the server, which words it in its own way.
    with pytest.raises(InferenceServerException, match=r"(?i)deadline.exceeded"):
        client.infer("matrix", [client.input("x", X, "FP32")], client_timeout=1e-9)
    client.close()


def test_statistics(client):
    before = client.fetch(client.get_inference_statistics("matrix", "123"))["model_stats"][0]
    client.infer("matrix", [client.input("x", X, "FP32")])
    after = client.fetch(client.get_inference_statistics("matrix"))["model_stats"][0]

    def grew(*path):
        values = []
        for one in (before, after):
            for key in path:
                one = one.get(key, {} if key != path[-1] else 0)
            values.append(int(one))
        return values[1] - values[0]

    assert after["version"] == "123"
    assert (grew("inference_count"), grew("execution_count")) == (2, 1)
    for part in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        assert grew("inference_stats", part, "count") == 1
    whole = grew("inference_stats", "success", "ns")
    parts = sum(grew("inference_stats", f"compute_{part}", "ns") for part in ("input", "infer", "output"))
    assert 0 < parts <= whole + 3
    assert abs(whole - parts) <= 3
    assert client.fetch(client.get_inference_statistics())["model_stats"][0]["name"] == "matrix"


def test_repository(ask):
    client = ask("half")

    def state():
        models = client.fetch(client.get_model_repository_index())
        return {model["name"]: model["state"] for model in (models if isinstance(models, list) else models["models"])}

    client.load_model("half")
    assert state() == {"half": "READY"}
    client.unload_model("half")
    assert state() == {"half": "UNAVAILABLE"}
    assert not client.is_model_ready("half")
    client.unload_model("half", unload_dependents=True)
    with pytest.raises(InferenceServerException, match="unknown model: 'half'"):
        client.infer("half", [client.input("x", np.ones(1, np.float32), "FP32")])
    client.load_model("half")
    assert client.is_model_ready("half")
    for method in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="no model of this name is configured"):
            method("nope")
    for given in ({"config": "{}"}, {"config": "{}", "files": {"file:1/model.onnx": b"x"}}):
        with pytest.raises(InferenceServerException, match="takes neither a configuration nor files"):
            client.load_model("half", **given)


def test_repository_without_the_right(client):
    for method in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="--enable_repository_control"):
            method("matrix")
    assert client.is_model_ready("matrix")


def test_settings(client):
    trace = (
        client.fetch(client.get_trace_settings(as_json=True) if client.is_grpc else client.get_trace_settings())
        if not client.is_grpc
        else client.get_trace_settings(as_json=True)["settings"]
    )
    assert trace["trace_level"] in (["OFF"], {"value": ["OFF"]})
    client.update_trace_settings("matrix", {"trace_rate": "1000"})
    with pytest.raises(InferenceServerException, match="this server traces nothing"):
        client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"], "trace_file": "/tmp/trace"})
    log = client.get_log_settings() if not client.is_grpc else client.get_log_settings(as_json=True)["settings"]
    assert {"log_info", "log_warning", "log_error", "log_verbose_level", "log_file", "log_format"} <= log.keys()
    with pytest.raises(InferenceServerException, match="--enable_repository_control"):
        client.update_log_settings({"log_info": True})


def test_shared_memory(ask):
    client = ask("matrix")
    client.unregister_system_shared_memory()
    x, y = (
        shm.create_shared_memory_region("x", "/oip_test_x", X.nbytes),
        shm.create_shared_memory_region("y", "/oip_test_y", 16),
    )
    try:
        shm.set_shared_memory_region(x, [X])
        client.register_system_shared_memory("x", "/oip_test_x", X.nbytes)
        client.register_system_shared_memory("y", "/oip_test_y", 16)
        with pytest.raises(InferenceServerException, match="already in manager"):
            client.register_system_shared_memory("x", "/oip_test_x", X.nbytes)
        status = client.fetch(client.get_system_shared_memory_status())
        assert len(status if isinstance(status, list) else status["regions"]) == 2
        sent = client.module.InferInput("x", [2, 3], "FP32")
        sent.set_shared_memory("x", X.nbytes)
        wanted = client.module.InferRequestedOutput("y")
        wanted.set_shared_memory("y", 16)
        result = client.infer("matrix", [sent], outputs=[wanted])
        output = result.get_output("y")
        shape = output["shape"] if isinstance(output, dict) else output.shape
        np.testing.assert_array_equal(shm.get_contents_as_numpy(y, np.float32, list(shape)), Y)
        wanted.set_shared_memory("y", 8)
        with pytest.raises(InferenceServerException, match="should be at least 16 bytes"):
            client.infer("matrix", [sent], outputs=[wanted])
        client.unregister_system_shared_memory("x")
        with pytest.raises(InferenceServerException, match="Unable to find system shared memory region: 'x'"):
            client.get_system_shared_memory_status("x")
        client.unregister_system_shared_memory()
    finally:
        for region in (x, y):
            shm.destroy_shared_memory_region(region)


def test_cuda_shared_memory_is_refused(client):
    with pytest.raises(InferenceServerException, match="CUDA shared memory is not served"):
        client.get_cuda_shared_memory_status()
    with pytest.raises(InferenceServerException, match="CUDA shared memory is not served"):
        client.register_cuda_shared_memory("x", base64.b64encode(b"handle"), 0, 10)
    with pytest.raises(InferenceServerException, match="CUDA shared memory is not served"):
        client.unregister_cuda_shared_memory("x")


def test_shared_memory_is_off_by_default(client):
    with pytest.raises(InferenceServerException, match="--enable_system_shared_memory"):
        client.register_system_shared_memory("x", "/oip_test_x", 16)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_examples(fronts, flavour):
    """Serialized Examples as BYTES, and another signature by the request's parameter."""
    client = Client(fronts["examples"], flavour)
    examples = np.array([encode_example({"x": [2.0]}), encode_example({"x": [3.0], "y": [0.25]})], object)
    result = client.infer("examples", [client.input("inputs", examples, "BYTES")])
    assert result.as_numpy("classes").tolist() == [[b"no", b"yes"]] * 2
    np.testing.assert_array_equal(result.as_numpy("scores"), [[2, 0.5], [3, 0.25]])
    given = {"parameters": {"signature_name": "predict"}}
    result = client.infer("examples", [client.input("examples", examples, "BYTES")], **given)
    np.testing.assert_array_equal(result.as_numpy("total"), [[2.5], [3.25]])
    with pytest.raises(InferenceServerException, match="has no signature 'no'"):
        client.infer("examples", [client.input("examples", examples, "BYTES")], parameters={"signature_name": "no"})
    client.close()


def test_a_request_that_is_nothing_but_bytes(fronts):
    client = Client(fronts["matrix"], "http")
    body = triton_http.InferenceServerClient.generate_request_body
    assert callable(body)
    front = fronts["matrix"]
    answer = front.http.post(
        "/v2/models/matrix/infer", content=X[:1].tobytes(), headers={"Inference-Header-Content-Length": "0"}
    )
    length = int(answer.headers["inference-header-content-length"])
    result = triton_http.InferenceServerClient.parse_response_body(answer.content, header_length=length)
    np.testing.assert_array_equal(result.as_numpy("y"), Y[:1])
    client.close()
