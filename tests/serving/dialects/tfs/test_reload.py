"""HandleReloadConfigRequest over a real channel: lists of models change, and errors change nothing."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import grpc
import httpx
import onnx.parser
import pytest
from google.protobuf import text_format

from estimator_serving.serving.config import Config
from estimator_serving.serving.dialects.tfs.reload import handle_reload
from estimator_serving.serving.errors import Code
from estimator_serving.serving.metrics import Exposition, RequestMetrics
from estimator_serving.serving.request import PATIENT
from estimator_serving.serving.server import Server, StartError
from estimator_serving.wire.pb import POOL, serving_pb

HOST = "127.0.0.1"
MODEL = '<ir_version: 8, opset_import: ["" : 17]>\ng (float[N] x) => (float[N] y) <float[1] v = {%d}> { y = Add(x, v) }'


def write(root, name, *versions):
    for version in versions:
        directory = root / name / str(version)
        directory.mkdir(parents=True)
        model = onnx.parser.parse_model(MODEL % version)
        (directory / "model.onnx").write_bytes(model.SerializeToString())


def listing(root, *names, more=""):
    entries = "".join(
        f'config {{ name: "{n}" base_path: "{root / n}" model_platform: "tensorflow" {more} }}' for n in names
    )
    return f"model_config_list {{ {entries} }}"


class Running:
    def __init__(self, root, text, **settings):
        self.root = root
        self.file = root / "models.config"
        self.file.write_text(text)
        given = {
            "port": -1,
            "rest_api_port": -1,
            "bind_address": HOST,
            "file_system_poll_wait_seconds": 0.02,
            "enable_config_reload": True,
        }
        self.server = Server(Config(model_config_file=str(self.file), **given | settings))
        self.server.start()
        self.channel = grpc.insecure_channel(f"{HOST}:{self.server.grpc_port}")
        self.http = httpx.Client(base_url=f"http://{HOST}:{self.server.rest_port}", timeout=30)

    def reload(self, text, metric_names=()):
        request = serving_pb.ReloadConfigRequest(metric_names=metric_names)
        text_format.Parse(text, request.config, descriptor_pool=POOL)
        call = self.channel.unary_unary(
            "/tensorflow.serving.ModelService/HandleReloadConfigRequest",
            request_serializer=serving_pb.ReloadConfigRequest.SerializeToString,
            response_deserializer=serving_pb.ReloadConfigResponse.FromString,
        )
        return call(request, timeout=30)

    def ask(self, name, at=""):
        answer = self.http.post(f"/v1/models/{name}{at}:predict", content='{"instances": [0]}')
        return answer.json()["predictions"][0] if answer.status_code == 200 else answer.status_code

    def state(self, name, at):
        (status,) = self.http.get(f"/v1/models/{name}{at}").json()["model_version_status"]
        return status["version"], status["state"]

    def stop(self):
        self.http.close()
        self.channel.close()
        assert self.server.stop()


@pytest.fixture
def running(tmp_path):
    write(tmp_path, "a", 1, 2)
    write(tmp_path, "b", 7)
    running = Running(tmp_path, listing(tmp_path, "a"))
    yield running
    running.stop()


def test_models_come_and_go(running):
    assert (running.ask("a"), running.ask("b")) == (2, 404)
    response = running.reload(listing(running.root, "a", "b"))
    assert (response.status.error_code, response.status.error_message) == (0, "")
    assert (running.ask("a"), running.ask("b")) == (2, 7)
    running.reload(listing(running.root, "b"))
    running.server.manager.wait_until_settled(10)
    assert (running.ask("a"), running.ask("b")) == (404, 7)
    states = running.http.get("/v1/models/a").json()["model_version_status"]
    assert [entry["state"] for entry in states] == ["END"]


def test_versions_and_labels(running):
    both = "model_version_policy { all {} }"
    running.reload(listing(running.root, "a", more=both))
    running.server.manager.wait_until_settled(10)
    running.reload(listing(running.root, "a", more=f'{both} version_labels {{ key: "stable" value: 1 }}'))
    assert (running.ask("a", "/labels/stable"), running.ask("a", "/versions/2"), running.ask("a")) == (1, 2, 2)
    assert running.ask("a", "/labels/other") == 400
    assert running.http.get("/v1/models/a/labels/other").status_code == 400
    assert running.state("a", "/labels/stable") == ("1", "AVAILABLE")
    (running.root / "a" / "1").rename(running.root / "gone")
    running.server.poll()
    running.server.manager.wait_until_settled(10)
    assert running.ask("a", "/labels/stable") == 404
    assert running.state("a", "/labels/stable") == ("1", "END")


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("", grpc.StatusCode.INVALID_ARGUMENT, "ServerModelConfig type not supported by HandleReloadConfigRequest. "
         "Only ModelConfigList is currently supported"),
        ("custom_model_config {}", grpc.StatusCode.INVALID_ARGUMENT, "ServerModelConfig type not supported"),
        ("model_config_list { config { name: 'a' base_path: 'a' } }", grpc.StatusCode.INVALID_ARGUMENT,
         "Expected model a to have an absolute path or URI; got base_path()=a"),
        ("model_config_list { config { name: 'a' base_path: '/a' model_platform: 'onnx' } }",
         grpc.StatusCode.INVALID_ARGUMENT, "Illegal to change a model's platform. For model a platform was tensorflow"),
        ("LABEL", grpc.StatusCode.FAILED_PRECONDITION, "Request to assign label to version 9 of model a, which is not "
         "currently available for inference"),
        ("NEW", grpc.StatusCode.UNKNOWN, "1 model(s) did not become available: {{{name: bad version: 1} due to error: "
         "INVALID_ARGUMENT: "),
    ],
)  # fmt: skip
def test_errors(running, text, code, said):
    (running.root / "bad" / "1").mkdir(parents=True)
    (running.root / "bad" / "1" / "model.onnx").write_text("<html>")
    text = {
        "LABEL": listing(running.root, "a", more='version_labels { key: "x" value: 9 }'),
        "NEW": listing(running.root, "a", "bad"),
    }.get(text, text)
    with pytest.raises(grpc.RpcError) as failed:
        running.reload(text)
    assert failed.value.code() is code
    assert failed.value.details().startswith(said)
    assert running.ask("a") == 2


def test_unknown_counters_grow_by_nothing(running):
    running.ask("a")
    response = running.reload(listing(running.root, "a"), ["/tensorflow/serving/request_count", "/no/such"])
    assert {metric.name: metric.int64_value_increase for metric in response.metric} == {
        "/tensorflow/serving/request_count": 0,
        "/no/such": 0,
    }


def test_counters_that_grew_meanwhile():
    totals = iter([3, 5])
    request = serving_pb.ReloadConfigRequest(metric_names=["/x"])
    request.config.model_config_list.SetInParent()
    lists = []
    catalog = SimpleNamespace(replace=lists.append)
    answer = handle_reload(catalog, lambda _: next(totals), request.SerializeToString(), PATIENT)
    response = serving_pb.ReloadConfigResponse.FromString(answer)
    assert [(metric.name, metric.int64_value_increase) for metric in response.metric] == [("/x", 2)]
    assert lists == [()]


def test_totals_are_sums_over_labels():
    requests = RequestMetrics()
    for model in ("a", "b", "b"):
        requests.observe((model, 1, "s", "Predict", "GRPC"), Code.OK, 0.001)
    exposition = Exposition(requests)
    assert exposition.total("/tensorflow/serving/request_count") == 3
    assert exposition.total(":tensorflow:serving:request_count") == 3
    assert exposition.total("request_count") == 0


def test_a_storm_of_lists(running):
    """A model that stays is served through all of it, while another one comes and goes by several callers."""
    stop, answers, failures = threading.Event(), [], []

    def ask():
        with httpx.Client(base_url=running.http.base_url, timeout=30) as http:
            while not stop.is_set():
                answer = http.post("/v1/models/a:predict", content='{"instances": [0]}')
                (answers if answer.status_code == 200 else failures).append(answer.text)

    def reload():
        for turn in range(20):
            running.reload(listing(running.root, *("a", "b")[: 1 + turn % 2]))

    asking = [threading.Thread(target=ask) for _ in range(2)]
    reloading = [threading.Thread(target=reload) for _ in range(3)]
    for thread in asking + reloading:
        thread.start()
    for thread in reloading:
        thread.join()
    stop.set()
    for thread in asking:
        thread.join()
    running.reload(listing(running.root, "a", "b"))
    assert (failures, running.ask("a"), running.ask("b")) == ([], 2, 7)
    assert answers


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model_config_list {\n  config { nam: 1 } }", "models.config:2:12: "),
        ("model_config_list { config { name: 'a' base_path: 'a' } }", "Expected model a to have an absolute path"),
    ],
)
def test_a_wrong_file_at_the_start(tmp_path, text, said):
    with pytest.raises(StartError) as failed:
        Running(tmp_path, text)
    assert str(failed.value).startswith("Failed to start server. Error: ")
    assert said in str(failed.value)


def test_a_bad_model_does_not_keep_the_others_from_starting(tmp_path):
    write(tmp_path, "a", 1)
    running = Running(tmp_path, listing(tmp_path, "none", "a"))
    assert running.ask("a") == 1
    assert (
        running.http.get("/readyz")
        .json()["error"]
        .startswith("1 of 2 models are served. Model none has no version yet")
    )
    running.stop()


def test_the_file_is_polled(tmp_path):
    write(tmp_path, "a", 1)
    running = Running(tmp_path, listing(tmp_path, "a"), model_config_file_poll_wait_seconds=0.02)
    write(tmp_path, "b", 2)
    running.file.write_text(listing(tmp_path, "b"))
    for _ in range(500):
        if running.ask("b") == 2:
            break
    assert running.ask("b") == 2
    running.stop()


def test_a_wrong_file_shows_in_readiness_and_metrics(tmp_path):
    """What was served still is, so it stays ready."""
    write(tmp_path, "a", 1)
    running = Running(tmp_path, listing(tmp_path, "a"))
    assert running.http.get("/readyz").json() == {"status": "ready"}
    running.file.write_text("model_config_list { nonsense }")
    running.server.poll()
    answer = running.http.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    assert answer.json()["warning"].startswith(
        "--model_config_file is not in force as a whole: Error parsing text-format"
    )
    assert "\nestimator_serving_config_in_force 0.0" in running.http.get("/metrics").text
    assert running.ask("a") == 1
    running.file.write_text(listing(tmp_path, "a"))
    running.server.poll()
    assert running.http.get("/readyz").json() == {"status": "ready"}
    assert "\nestimator_serving_config_in_force 1.0" in running.http.get("/metrics").text
    running.stop()


def test_a_label_whose_version_comes_later(tmp_path):
    """It is missing from the start on, which readiness says, and assigned by the first look that can."""
    write(tmp_path, "a", 1)
    label = 'version_labels { key: "next" value: 2 }'
    running = Running(tmp_path, listing(tmp_path, "a", more=label))
    assert "The label next is not assigned. " in running.http.get("/readyz").json()["warning"]
    write(tmp_path, "a", 2)
    for _ in range(500):
        if running.server.manager.is_available("a", 2):
            break
        running.http.get("/healthz")
    running.server.poll()
    assert running.http.get("/readyz").json() == {"status": "ready"}
    body = {"instances": [0]}
    assert running.http.post("/v1/models/a/labels/next:predict", json=body).json() == {"predictions": [2]}
    running.stop()


def test_a_model_added_when_base_paths_are_looked_at_once(tmp_path):
    """TensorFlow Serving waits for ever here."""
    write(tmp_path, "a", 1)
    write(tmp_path, "b", 2)
    running = Running(tmp_path, listing(tmp_path, "a"), file_system_poll_wait_seconds=0)
    running.reload(listing(tmp_path, "a", "b"))
    assert running.ask("b") == 2
    running.stop()
