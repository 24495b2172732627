"""A server that asks for keys: who is let in, and what they may do, on both fronts and in every dialect.

The sweeps go over every rpc there is and every URL that a server answers, so that one which is forgotten fails here.
"""

from __future__ import annotations

import json
import queue
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import grpc
import httpx
import numpy as np
import onnx.parser
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from grpc_health.v1 import health_pb2
from running import HOST, running, until
from tritonclient.utils import InferenceServerException

from estimator_serving.cli import main
from estimator_serving.serving.access import authorizer
from estimator_serving.serving.access.authorizer import EXPIRED_TEXT, MISSING_TEXT, OVER_TEXT, WRONG_TEXT
from estimator_serving.serving.access.key_file import Entry, Right, digest, write_line
from estimator_serving.serving.config import Config
from estimator_serving.serving.server import Server, StartError
from estimator_serving.wire.pb import inference_pb, serving_pb
from estimator_serving.wire.services import SERVICES

MODEL = '<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y) { y = Neg(x) }'
ALL = ("*",)
PREDICT, METADATA, MANAGEMENT = Right.PREDICT, Right.METADATA, Right.MANAGEMENT
ENTRIES = {
    "all": Entry("all", models={PREDICT: ALL, METADATA: ALL, MANAGEMENT: ALL}, metrics=True),
    "nothing": Entry("nothing"),
    "one": Entry("one", models={PREDICT: ("m", "x-*"), METADATA: ("m", "x-*")}),
    "metrics": Entry("metrics", metrics=True),
    "late": Entry("late", models={PREDICT: ALL}, expires=datetime.now(UTC) - timedelta(days=1)),
}
UNARY = sorted(
    (service, name) for service, methods in SERVICES.items() for name in methods if not methods[name].is_stream
)
OPEN_RPCS = {"ServerLive", "ServerReady"}
# What any known caller may ask: it tells of the server, not of models, or is refused to all.
OF_THE_SERVER = {
    "ServerMetadata", "TraceSetting", "LogSettings", "CudaSharedMemoryStatus", "CudaSharedMemoryRegister",
    "CudaSharedMemoryUnregister", "SessionRun",
}  # fmt: skip
INSTANCES = {"instances": [1.0]}
URLS = [
    ("GET", "/v1/models/{}"), ("GET", "/v1/models/{}/metadata"), ("GET", "/v1/models/{}/versions/1"),
    ("GET", "/v1/models/{}/labels/l/metadata"), ("POST", "/v1/models/{}:predict"), ("POST", "/v1/models/{}:classify"),
    ("POST", "/v1/models/{}/versions/1:regress"), ("GET", "/v2/models/{}"), ("GET", "/v2/models/{}/ready"),
    ("GET", "/v2/models/{}/config"), ("GET", "/v2/models/{}/stats"), ("GET", "/v2/models/{}/versions/1"),
    ("POST", "/v2/models/{}/infer"), ("POST", "/v2/repository/models/{}/load"),
    ("POST", "/v2/repository/models/{}/unload"),
]  # fmt: skip
OF_ALL_MODELS = [
    ("GET", "/v2/models/stats"), ("POST", "/v2/repository/index"), ("GET", "/openapi.json"), ("GET", "/docs"),
    ("GET", "/metrics"), ("GET", "/monitoring/prometheus/metrics"), ("GET", "/v2/systemsharedmemory/status"),
    ("POST", "/v2/systemsharedmemory/region/r/register"), ("POST", "/v2/systemsharedmemory/unregister"),
]  # fmt: skip
HEALTH = ["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/", "/ping"]


def write_keys(path, entries):
    lines = [
        write_line(Entry(e.name, digest(key.encode()), "", e.models, e.metrics, e.expires))
        for key, e in entries.items()
    ]
    path.write_text("".join(f"{line}\n" for line in lines))


class Protected:
    """A server with keys, and clients of it."""

    def __init__(self, server, keys):
        self.server, self.keys = server, keys
        self.http = httpx.Client(base_url=f"http://{HOST}:{server.rest_port}", timeout=20)
        self.address = f"{HOST}:{server.grpc_port}"
        self.channel = grpc.insecure_channel(self.address)

    def ask(self, method, path, key="", **more):
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return self.http.request(method, path, headers=headers | more.pop("headers", {}), **more)

    def call(self, service, name, key="", message=None, payload=None):
        """(code, details) of an rpc; the response where it succeeds."""
        metadata = [("authorization", f"Bearer {key}")] if key else None
        payload = (message or SERVICES[service][name].request()).SerializeToString() if payload is None else payload
        try:
            return self.channel.unary_unary(f"/{service}/{name}")(payload, timeout=20, metadata=metadata)
        except grpc.RpcError as error:
            return error.code(), error.details()


@contextmanager
def protected(folder, **settings):
    for name in ("m", "secret"):
        if not (folder / name).exists():
            (folder / name / "1").mkdir(parents=True)
            model = onnx.parser.parse_model(MODEL)
            (folder / name / "1" / "model.onnx").write_bytes(model.SerializeToString())
    listed = "".join(f'config {{ name: "{name}" base_path: "{folder / name}" }}' for name in ("m", "secret"))
    (folder / "models").write_text(f"model_config_list {{ {listed} }}")
    write_keys(folder / "keys", ENTRIES)
    given = {"model_config_file": str(folder / "models"), "auth_file": str(folder / "keys")}
    with running("", **given | settings) as server:
        one = Protected(server, folder / "keys")
        with one.http, one.channel:
            yield one


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    settings = {"enable_grpc_healthcheck_service": True, "enable_kserve_v1": True, "enable_sagemaker": True}
    with protected(tmp_path_factory.mktemp("protected"), **settings) as made:
        yield made


# --- who is let in ---


@pytest.mark.parametrize(("method", "path"), [
    *((method, path.format("m")) for method, path in URLS), *OF_ALL_MODELS, ("GET", "/v1/models"), ("GET", "/v2"),
    ("GET", "/nowhere"), ("POST", "/invocations"), ("GET", "/v2/logging"), ("PUT", "/v1/models/m"),
])  # fmt: skip
def test_nobody_is_let_in_without_a_valid_key(server, method, path):
    for key, text in (("", MISSING_TEXT), ("wrong", WRONG_TEXT), ("late", EXPIRED_TEXT)):
        answer = server.ask(method, path, key)
        assert (answer.status_code, answer.json()) == (401, {"error": text})
        assert answer.headers["www-authenticate"].startswith("Bearer ")


@pytest.mark.parametrize(("service", "name"), UNARY)
def test_no_rpc_is_answered_without_a_valid_key(server, service, name):
    for key, text in (("", MISSING_TEXT), ("wrong", WRONG_TEXT), ("late", EXPIRED_TEXT)):
        answer = server.call(service, name, key)
        is_open = name in OPEN_RPCS
        assert isinstance(answer, bytes) if is_open else answer == (grpc.StatusCode.UNAUTHENTICATED, text)


@pytest.mark.parametrize("name", ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"])
def test_reflection_needs_a_key(server, name):
    call = server.channel.stream_stream(f"/{name}/ServerReflectionInfo")
    with pytest.raises(grpc.RpcError) as refused:
        next(call(iter([b""]), timeout=20))
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert next(call(iter([b":\0"]), timeout=20, metadata=[("x-api-key", "nothing")]))


@pytest.mark.parametrize("path", HEALTH)
def test_health_is_open(server, path):
    for key in ("", "wrong", "nothing"):
        assert server.ask("GET", path, key).status_code == 200
        assert server.ask("HEAD", path, key).status_code == 200
    assert server.ask("POST", path).status_code == 401


def health(server, key=""):
    metadata = [("x-api-key", key)] if key else None
    payload = health_pb2.HealthCheckRequest().SerializeToString()
    return server.channel.unary_unary("/grpc.health.v1.Health/Check")(payload, timeout=20, metadata=metadata)


def test_health_of_grpc_is_open(server):
    assert health(server) == health(server, "wrong") == b"\x08\x01"


def test_health_may_need_a_key(tmp_path):
    with protected(tmp_path, enable_grpc_healthcheck_service=True, auth_for_health=True) as server:
        assert server.ask("GET", "/healthz").status_code == 401
        assert server.ask("GET", "/healthz", "nothing").status_code == 200
        assert server.call("inference.GRPCInferenceService", "ServerLive")[0] is grpc.StatusCode.UNAUTHENTICATED
        assert server.call("inference.GRPCInferenceService", "ServerLive", "nothing") == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as refused:
            health(server)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert health(server, "nothing") == b"\x08\x01"
        watch = server.channel.unary_stream("/grpc.health.v1.Health/Watch")
        with pytest.raises(grpc.RpcError) as refused:
            next(watch(b"", timeout=20))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert next(watch(b"", timeout=20, metadata=[("x-api-key", "nothing")])) == b"\x08\x01"


def test_a_browser_asks_before_it_sends_a_key(tmp_path):
    with protected(tmp_path, rest_api_enable_cors_support=True) as server:
        asked = server.ask("OPTIONS", "/v1/models/m:predict", headers={"origin": "https://example.org"})
        assert (asked.status_code, asked.text) == (200, "")
        assert "Authorization" in asked.headers["access-control-allow-headers"]
        refused = server.ask("POST", "/v1/models/m:predict", headers={"origin": "https://example.org"})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "*")


def test_a_unix_socket_asks_for_keys_too(tmp_path):
    with protected(tmp_path, grpc_socket_path=str(tmp_path / "sock")) as server:
        server.channel = grpc.insecure_channel(f"unix:{tmp_path}/sock")
        service = "tensorflow.serving.ModelService"
        message = spec(service, "GetModelStatus", "m")
        assert server.call(service, "GetModelStatus", "", message)[0] is grpc.StatusCode.UNAUTHENTICATED
        assert isinstance(server.call(service, "GetModelStatus", "one", message), bytes)
        server.channel.close()


# --- what they may do ---


@pytest.mark.parametrize("key", ["nothing", "metrics"])
@pytest.mark.parametrize(("method", "path"), URLS)
def test_a_forbidden_model_is_like_one_that_does_not_exist(server, key, method, path):
    body = json.dumps(INSTANCES if "infer" not in path and "/v2/" not in path else {}).encode()
    content = body if method == "POST" else None
    there, absent = (server.ask(method, path.format(name), key, content=content) for name in ("secret", "nope"))
    assert there.status_code == absent.status_code == 403
    assert there.json() == absent.json()
    assert there.headers.keys() == absent.headers.keys()
    assert "does not have the right" in there.json()["error"]


@pytest.mark.parametrize(("method", "path"), [*OF_ALL_MODELS, ("POST", "/v2/logging")])
def test_what_is_of_all_models_needs_every_right(server, method, path):
    content = b'{"log_info": true}' if path == "/v2/logging" else b"{}" if method == "POST" else None
    for key in ("nothing", "one"):
        assert server.ask(method, path, key, content=content).status_code == 403, key
    assert server.ask(method, path, "all", content=content).status_code in (200, 400, 501)


def spec(service, name, model):
    """A request that names a model, or nothing where it cannot."""
    message = SERVICES[service][name].request()
    if hasattr(message, "model_spec"):
        message.model_spec.name = model
        if name == "GetModelMetadata":
            message.metadata_field.append("signature_def")
    elif name == "MultiInference":
        task = message.tasks.add(method_name="tensorflow/serving/regress")
        task.model_spec.name = model
    elif hasattr(message, "model_name"):
        message.model_name = model
    elif hasattr(message, "name") and "Memory" not in name:
        message.name = model
    return message


@pytest.mark.parametrize(("service", "name"), [one for one in UNARY if one[1] not in OPEN_RPCS | OF_THE_SERVER])
def test_an_rpc_needs_a_right(server, service, name):
    answers = [server.call(service, name, "nothing", spec(service, name, model)) for model in ("secret", "nope")]
    assert answers[0] == answers[1]
    assert answers[0][0] is grpc.StatusCode.PERMISSION_DENIED
    assert "does not have the right" in answers[0][1]
    allowed = server.call(service, name, "all", spec(service, name, "nope"))
    assert isinstance(allowed, bytes) or allowed[0] is not grpc.StatusCode.PERMISSION_DENIED


def test_rights_for_one_model(server):
    """In its own words for models that the key has rights to, there or not."""
    assert server.ask("POST", "/v1/models/m:predict", "one", json=INSTANCES).json() == {"predictions": [-1.0]}
    assert server.ask("POST", "/v1/models/x-1:predict", "one", json=INSTANCES).status_code == 404
    assert server.ask("GET", "/v1/models/m/metadata", "one").status_code == 200
    assert server.ask("GET", "/v1/models", "one").json() == {"models": ["m"]}
    assert server.ask("GET", "/v1/models", "nothing").json() == {"models": []}
    assert server.ask("GET", "/v1/models", headers={"x-api-key": "all"}).json() == {"models": ["m", "secret"]}
    assert server.ask("GET", "/metrics", "metrics").status_code == 200


def test_a_contracts_model_is_one_the_caller_may_ask(server):
    """SageMaker's requests may leave the model open, where there is only one for the caller."""
    assert server.ask("POST", "/invocations", "one", json=INSTANCES).json() == {"predictions": [-1.0]}
    attributes = {"x-amzn-sagemaker-custom-attributes": "tfs-model-name=secret"}
    assert server.ask("POST", "/invocations", "one", json=INSTANCES, headers=attributes).status_code == 403
    assert server.ask("POST", "/invocations", "nothing", json=INSTANCES).status_code == 403


def test_openapi_has_the_ways_to_send_a_key(server):
    document = server.ask("GET", "/openapi.json", "all").json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey", "clientCertificate"}
    assert document["security"] == [{"bearer": []}, {"apiKey": []}, {"clientCertificate": []}]
    assert "/v1/models/secret:predict" in document["paths"]


def test_why_a_server_is_not_ready_is_for_those_who_may_see_its_models(tmp_path):
    with protected(tmp_path, file_system_poll_wait_seconds=0) as server:
        server.server.manager.aspire("secret", {})
        until(lambda: server.ask("GET", "/readyz").status_code == 503)
        for path in ("/readyz", "/v2/health/ready"):
            assert "secret" in server.ask("GET", path, "all").json()["error"]
            for key in ("", "one", "metrics"):
                assert "secret" not in server.ask("GET", path, key).text


# --- management ---


def reload_request(folder):
    message = serving_pb.ReloadConfigRequest()
    message.config.model_config_list.config.add(name="m", base_path=str(folder / "m"), model_platform="onnx")
    return message


def test_management(tmp_path):
    service = "tensorflow.serving.ModelService"
    settings = {"enable_config_reload": True, "enable_repository_control": True}  # they count only without keys
    with protected(tmp_path, **settings) as server:
        message = reload_request(tmp_path)
        refused = server.call(service, "HandleReloadConfigRequest", "one", message)
        assert refused[0] is grpc.StatusCode.PERMISSION_DENIED
        assert server.ask("POST", "/v2/repository/models/m/unload", "one").status_code == 403
        assert server.ask("POST", "/v2/repository/models/m/unload", "all").status_code == 200
        assert isinstance(server.call(service, "HandleReloadConfigRequest", "all", message), bytes)
        assert server.ask("GET", "/v1/models", "all").json() == {"models": ["m"]}


@pytest.mark.parametrize("is_open", [False, True])
def test_a_reload_without_keys_is_off_unless_asked_for(tmp_path, is_open):
    with protected(tmp_path, auth_file="", enable_config_reload=is_open) as server:
        answer = server.call(
            "tensorflow.serving.ModelService", "HandleReloadConfigRequest", message=reload_request(tmp_path)
        )
        if is_open:
            assert isinstance(answer, bytes)
        else:
            assert answer[0] is grpc.StatusCode.PERMISSION_DENIED
            assert "--enable_config_reload" in answer[1]


# --- the file of keys ---


def test_the_file_is_read_again(tmp_path, caplog):
    with protected(tmp_path) as server:
        write_keys(server.keys, {"new": ENTRIES["one"]})
        server.server.poll()
        assert server.ask("GET", "/v1/models/m", "new").status_code == 200
        assert server.ask("GET", "/v1/models/m", "one").status_code == 401
        server.keys.write_text("{}\n")
        server.server.poll()
        server.server.poll()
        assert server.ask("GET", "/v1/models/m", "new").status_code == 200
        server.keys.unlink()
        server.server.poll()
        assert server.ask("GET", "/v1/models/m", "new").status_code == 200
        server.keys.write_text("# nobody\n")
        server.server.poll()
        assert server.ask("GET", "/v1/models/m", "new").status_code == 401
    told = [record.message for record in caplog.records if "what was read before stays in force" in record.message]
    assert len(told) == 2
    assert f"--auth_file={server.keys} cannot be used. Line 1" in told[0]
    assert "no such file" in told[1]


def test_it_is_read_again_by_itself(tmp_path):
    with protected(tmp_path) as server:
        write_keys(server.keys, {"new": ENTRIES["one"]})
        until(lambda: server.ask("GET", "/v1/models/m", "new").status_code == 200)


def waiting_streams(server, key):
    """A stream of each kind that has answered once and waits."""
    metadata = [("x-api-key", key)]
    request = inference_pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.append(1.0)
    streams = [server.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=20, metadata=metadata)]
    for name, first in (
        ("inference.GRPCInferenceService/ModelStreamInfer", request.SerializeToString()),
        ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", b":\0"),
    ):
        sent = queue.SimpleQueue()
        sent.put(first)
        streams.append(server.channel.stream_stream(f"/{name}")(iter(sent.get, None), timeout=20, metadata=metadata))
    assert all(next(stream) for stream in streams)
    return streams


def test_streams_end_with_their_keys(tmp_path, monkeypatch):
    """Those that only wait, too: nothing would come by which they could be refused."""
    with protected(tmp_path, enable_grpc_healthcheck_service=True, auth_for_health=True) as server:
        entry = ENTRIES["one"]
        entries = {name: replace(entry, name=name) for name in ("kept", "changed", "withdrawn")}
        entries["expiring"] = replace(entry, name="expiring", expires=datetime(2100, 1, 1, tzinfo=UTC))
        write_keys(server.keys, entries)
        server.server.poll()
        streams = {name: waiting_streams(server, name) for name in entries}
        write_keys(server.keys, {**entries, "changed": ENTRIES["nothing"], "withdrawn": ENTRIES["late"]})
        monkeypatch.setattr(authorizer, "time", SimpleNamespace(time=datetime(2101, 1, 1, tzinfo=UTC).timestamp))
        server.server.poll()
        for stream in streams["changed"] + streams["withdrawn"] + streams["expiring"]:
            with pytest.raises(grpc.RpcError) as ended:
                list(stream)  # a watcher may be told the same state twice
            assert (ended.value.code(), ended.value.details()) == (grpc.StatusCode.UNAUTHENTICATED, OVER_TEXT)
        for stream in streams["kept"]:
            assert stream.is_active()
            stream.cancel()


@pytest.mark.parametrize(("text", "said"), [("x\n", "cannot be used. Line 1 cannot be used: it is not a JSON object"),
                                            (None, "cannot be read (no such file)")])  # fmt: skip
def test_a_file_that_cannot_be_used_at_the_start(tmp_path, text, said):
    if text is not None:
        (tmp_path / "keys").write_text(text)
    with pytest.raises(StartError) as refused:
        Server(Config(model_base_path=str(tmp_path), auth_file=str(tmp_path / "keys"), port=-1, rest_api_port=0))
    assert f"--auth_file={tmp_path / 'keys'} {said}" in str(refused.value)


# --- clients ---


def test_triton_clients(server):
    headers = {"authorization": "Bearer one"}
    values = np.ones(1, np.float32)
    for module, address in ((triton_http, f"{HOST}:{server.server.rest_port}"), (triton_grpc, server.address)):
        with module.InferenceServerClient(address) as client:
            asked = module.InferInput("x", [1], "FP32")
            asked.set_data_from_numpy(values)
            assert client.infer("m", [asked], headers=dict(headers)).as_numpy("y").tolist() == [-1.0]
            assert client.is_model_ready("m", headers=headers)
            assert client.is_server_ready()
            with pytest.raises(InferenceServerException, match="needs a key"):
                client.infer("m", [asked])
            with pytest.raises(InferenceServerException, match="does not have the right"):
                client.infer("secret", [asked], headers=dict(headers))


def test_compare_and_show(server, tmp_path, capsys, monkeypatch):
    side = f"grpc://{server.address}/m"
    base = str(server.keys.parent / "m")
    assert main(["compare", "--left", side, "--right", base, "--key", "one"]) == 0
    monkeypatch.setenv("ESTIMATOR_SERVING_KEY", "one")
    assert main(["show", side]) == 0
    assert "in   x  float [?]" in capsys.readouterr().out
    monkeypatch.delenv("ESTIMATOR_SERVING_KEY")
    assert main(["show", side]) == 1
    assert f"UNAUTHENTICATED: {MISSING_TEXT}" in capsys.readouterr().err


def test_the_access_log_names_the_caller(tmp_path):
    with protected(tmp_path, access_log=str(tmp_path / "log")) as server:
        server.ask("POST", "/v1/models/m:predict", "one", json=INSTANCES)
        server.ask("POST", "/v1/models/m:predict", "all", content=b" " * 20_000)
    assert [json.loads(line)["caller"] for line in (tmp_path / "log").read_text().splitlines()] == ["one", "all"]
