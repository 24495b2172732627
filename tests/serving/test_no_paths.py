"""No text for clients names a path of the server's machine: every page and rpc of a server whose models are broken in
every way that is told of."""

from __future__ import annotations

import logging

import grpc
import httpx
import onnx
import onnx.parser
import pytest
from running import HOST, running, until

from estimator_serving.serving.models.warmup import EXPECTED_FILE, WARMUP_FILE
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.records import write_records
from estimator_serving.wire.services import SERVICES
from estimator_serving.wire.signatures import SIGNATURES_PROPERTY

HEAD = '<ir_version: 8, opset_import: ["" : 17]> '
GOOD = HEAD + "g (float[N] x) => (float[N] y) { y = Neg(x) }"
MARK = "geheimnis"
PAGES = [
    "/readyz", "/healthz", "/docs", "/openapi.json", "/metrics", "/v1/models", "/v2", "/v2/models/stats",
    "/v2/health/ready", "/nowhere", "/v2/logging", "/v2/trace/setting",
]  # fmt: skip
OF_A_MODEL = [
    "/v1/models/{}", "/v1/models/{}/metadata", "/v1/models/{}/versions/1", "/v2/models/{}", "/v2/models/{}/ready",
    "/v2/models/{}/config", "/v2/models/{}/stats",
]  # fmt: skip


def records(*logs):
    return lambda path: write_records(path, [log.SerializeToString() for log in logs])


def predicting(name="m", **more):
    log = serving_pb.PredictionLog(**more)
    log.predict_log.request.model_spec.name = name
    return log


def external(location):
    model = onnx.parser.parse_model(HEAD + "g (float[N] x) => (float[N] y) <float[1] v = {1}> { y = Add(x, v) }")
    (tensor,) = model.graph.initializer
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return model.SerializeToString()


def signed(text):
    model = onnx.parser.parse_model(GOOD)
    model.metadata_props.add(key=SIGNATURES_PROPERTY, value=text)
    return model.SerializeToString()


MODEL = onnx.parser.parse_model(GOOD).SerializeToString()
# A model -> what its version 1 holds: content of files, or what writes them.
BROKEN = {
    "empty": {},
    "saved": {"saved_model.pb": b""},
    "cut": {"model.onnx": MODEL[:-5]},
    "garbage": {"model.onnx": b"\0garbage"},
    "folder": {"model.onnx/file": b""},
    "op": {"model.onnx": onnx.parser.parse_model(GOOD.replace("Neg", "Nag")).SerializeToString()},
    "absent": {"model.onnx": external("weights")},
    "absolute": {"model.onnx": external("/etc/passwd")},
    "short": {"model.onnx": external("weights"), "weights": b""},
    "directory": {"model.onnx": external("weights"), "weights/file": b""},
    "signatures": {"model.onnx": signed("{")},
    "warmup": {"model.onnx": MODEL, WARMUP_FILE: b"no records"},
    "log": {"model.onnx": MODEL, WARMUP_FILE: lambda path: write_records(path, [b"\xff"])},
    "kind": {"model.onnx": MODEL, WARMUP_FILE: records(serving_pb.PredictionLog())},
    "inputs": {"model.onnx": MODEL, WARMUP_FILE: records(predicting())},
    "many": {"model.onnx": MODEL, f"{WARMUP_FILE}/file": b""},
    "expected": {"model.onnx": MODEL, EXPECTED_FILE: records(predicting())},
    "batching": {"model.onnx": MODEL, "batching_params.pbtxt": b"max_batch: 1"},
    "bytes": {"model.onnx": MODEL, "batching_params.pbtxt": b"\xff"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp(MARK) / MARK
    for name, files in BROKEN.items():
        (root / name / "1").mkdir(parents=True)
        for path, content in files.items():
            file = root / name / "1" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                file.write_bytes(content)
            else:
                content(file)
    for name, file in (("misplaced", "model.onnx"), ("misplaced_saved", "saved_model.pb")):
        (root / name).mkdir()
        (root / name / file).write_bytes(MODEL)
    names = [*BROKEN, "misplaced", "misplaced_saved", "gone"]
    entries = "".join(f'config {{ name: "{name}" base_path: "{root / name}" }}' for name in names)
    config = root / "models"
    config.write_text(f"model_config_list {{ {entries} }}")
    settings = {
        "model_config_file": str(config), "enable_batching": True, "enable_per_model_batching_parameters": True,
        "max_num_load_retries": 0, "file_system_poll_wait_seconds": 0, "enable_kserve_v1": True,
        "enable_config_reload": True, "enable_repository_control": True,
    }  # fmt: skip
    with running("", **settings) as made:
        yield made, config, names


def assert_nothing(text, at):
    place = text.find(MARK)
    assert place < 0, f"{at}: {text[max(0, place - 200) : place + 200]}"


def test_pages(server):
    made, _, names = server
    with httpx.Client(base_url=f"http://{HOST}:{made.rest_port}", timeout=20) as http:
        paths = [*PAGES, *(path.format(name) for path in OF_A_MODEL for name in names)]
        for path in paths:
            assert_nothing(http.get(path).text, path)
        for name in names:
            posted = {f"/v1/models/{name}:predict", f"/v2/models/{name}/infer", f"/v2/repository/models/{name}/load"}
            for path in posted:
                assert_nothing(http.post(path, content=b"{}").text, path)
        assert_nothing(http.post("/v2/repository/index").text, "index")
        # The texts are there all the same.
        statuses = {name: http.get(f"/v1/models/{name}").json()["model_version_status"][0] for name in BROKEN}
    assert {status["state"] for status in statuses.values()} == {"END"}
    texts = {name: status["status"]["error_message"] for name, status in statuses.items()}
    assert all(texts.values())
    assert texts["saved"] == (
        "1 holds no model.onnx, but a TensorFlow SavedModel. Convert it with `estimator-serving import`; the log has "
        "the whole command."
    )


def test_rpcs(server):
    made, _, names = server
    with grpc.insecure_channel(f"{HOST}:{made.grpc_port}") as channel:
        for service, methods in SERVICES.items():
            for name, method in methods.items():
                for model in names if not method.is_stream else ():
                    message = method.request()
                    if hasattr(message, "model_spec"):
                        message.model_spec.name = model
                    elif hasattr(message, "model_name"):
                        message.model_name = model
                    elif hasattr(message, "name"):
                        message.name = model
                    if name == "HandleReloadConfigRequest":
                        continue
                    call = channel.unary_unary(f"/{service}/{name}")
                    try:
                        text = call(message.SerializeToString(), timeout=20).decode("latin-1")
                    except grpc.RpcError as error:
                        text = f"{error.code()} {error.details()}"
                    assert_nothing(text, (name, model))


@pytest.mark.parametrize(
    "text",
    ["model_config_list {{ config {{ nme: 1 }} }}", "model_config_list {{ config {{ name: 'a' base_path: '{0}' "
     "logging_config {{ log_collector_config {{ type: 'x' filename_prefix: '{0}/x/' }} sampling_config {{ "
     "sampling_rate: 1 }} }} }} }}", "model_config_list {{ config {{ name: 'a' base_path: '{1}/x' }} }}",
     "custom_model_config {{}}"],
)  # fmt: skip
def test_the_file_of_models(server, text):
    made, config, _ = server
    before = config.read_text()
    config.write_text(text.format(config.parent, str(config.parent)[1:]))
    try:
        made.poll()
        until(lambda: made.holdings.trouble())
        assert_nothing(made.holdings.trouble(), text)
        assert_nothing(httpx.get(f"http://{HOST}:{made.rest_port}/readyz").text, text)
    finally:
        config.write_text(before)
        made.poll()


def test_the_log_has_a_command_that_runs(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "my model" / "1").mkdir(parents=True)
    (tmp_path / "my model" / "1" / "saved_model.pb").write_bytes(b"")
    with running(tmp_path / "my model", file_system_poll_wait_seconds=0):
        pass
    assert f"estimator-serving import '{tmp_path}/my model/1' '{tmp_path}/my model-onnx'" in caplog.text
