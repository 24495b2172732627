"""An exported classifier in the real server: its proof is checked, its Examples share batches, its log warms it up."""

import base64
import shutil
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import onnx
import pytest
from running import HOST, WAIT_S, Gate, running, until
from servables import session_runner
from small_estimators import ROWS, make_columns, train_steps

from estimator_serving.exporter import build_parsing_serving_input_receiver_fn
from estimator_serving.serving.models.warmup import EXPECTED_FILE, WARMUP_FILE
from estimator_serving.serving.policy import State
from estimator_serving.training import feature_column
from estimator_serving.wire.examples import encode_example
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.records import read_records
from estimator_serving.wire.services import SERVICES
from estimator_serving.wire.signatures import CLASSIFY_METHOD, REGRESS_METHOD
from estimator_serving.wire.tensors import decode_tensor, encode_tensor

COLUMNS = make_columns()
FEATURES = [{key: ROWS[key].tolist()[row] for key in ("age", "fare", "class", "port")} for row in range(6)]
EXAMPLES = [encode_example(one) for one in FEATURES]
BROKEN = encode_example(FEATURES[0] | {"age": "old"})
SERVICE = "tensorflow.serving.PredictionService"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    classifier = train_steps("dnn binary", tmp_path_factory.mktemp("model"))
    receiver_fn = build_parsing_serving_input_receiver_fn(feature_column.make_parse_example_spec(COLUMNS))
    return classifier.export_saved_model(tmp_path_factory.mktemp("servable"), receiver_fn)


@pytest.fixture
def base_path(tmp_path):
    (tmp_path / "base").mkdir()
    return tmp_path / "base"


@pytest.fixture
def version(exported, base_path):
    """A copy of the export, to be changed."""
    return shutil.copytree(exported, base_path / "1")


class Client:
    """Requests over both fronts; answers as rows of scores, refusals as texts."""

    def __init__(self, server):
        self.http = httpx.Client(base_url=f"http://{HOST}:{server.rest_port}", timeout=WAIT_S)
        self._channel = grpc.insecure_channel(f"{HOST}:{server.grpc_port}")

    def call(self, method, request):
        rpc = SERVICES[SERVICE][method]
        invoke = self._channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=rpc.request.SerializeToString,
            response_deserializer=rpc.response.FromString,
        )
        return invoke(request, timeout=WAIT_S)

    def rest_classify(self, rows):
        answer = self.http.post("/v1/models/m:classify", json={"examples": [FEATURES[row] for row in rows]})
        return np.float32([[score for _, score in row] for row in answer.json()["results"]])

    def rest_predict(self, examples):
        rows = [{"b64": base64.b64encode(one).decode()} for one in examples]
        answer = self.http.post("/v1/models/m:predict", json={"instances": rows}).json()
        return answer["error"] if "error" in answer else np.float32([row["scores"] for row in answer["predictions"]])

    def classify(self, examples):
        request = serving_pb.ClassificationRequest(model_spec=serving_pb.ModelSpec(name="m"))
        request.input.example_list.examples.extend(examples)
        try:
            rows = self.call("Classify", request).result.classifications
        except grpc.RpcError as error:
            return error.details()
        return np.float32([[one.score for one in row.classes] for row in rows])

    def predict(self, examples):
        request = serving_pb.PredictRequest(model_spec=serving_pb.ModelSpec(name="m"))
        request.inputs["inputs"].CopyFrom(encode_tensor(np.array(examples, object)))
        return decode_tensor(self.call("Predict", request).outputs["scores"])

    def multi_inference(self, examples):
        request = serving_pb.MultiInferenceRequest()
        request.input.example_list.examples.extend(examples)
        for signature, method in (("classification", CLASSIFY_METHOD), ("regression", REGRESS_METHOD)):
            task = request.tasks.add(method_name=method)
            task.model_spec.name, task.model_spec.signature_name = "m", signature
        return self.call("MultiInference", request).results

    def close(self):
        self.http.close()
        self._channel.close()


class Runs:
    """Holds a version's runs like Gate, and counts the Examples of each."""

    def __init__(self, servable):
        self._gate = Gate(servable, of="input_example_tensor/row_splits")
        self.open = self._gate.open

    @property
    def examples(self):
        return [splits - 1 for splits in self._gate.rows]


def ask_at_once(server, client, *asked):
    """The answers to requests that wait together behind another one's run, and the Examples of each run."""
    servable = server.manager.servables()[0]
    graph = session_runner(servable).graph
    runs = Runs(servable)
    with ThreadPoolExecutor(len(asked) + 1) as pool:
        first = pool.submit(client.classify, EXAMPLES[:1])
        until(lambda: runs.examples)
        answers = [pool.submit(ask, rows) for ask, rows in asked]
        until(lambda: sum(one.requests for one in servable.runner.waiting().values()) == len(asked))
        runs.open()
        first.result(WAIT_S)
        answers = [answer.result(WAIT_S) for answer in answers]
    session_runner(servable).graph = graph
    return answers, runs.examples


def test_examples_of_many_callers_share_a_run(version, base_path, tmp_path):
    """Whatever dialect and method they come by; and one bad Example is its own request's alone, by its own index."""
    (tmp_path / "batching.pbtxt").write_text("num_batch_threads { value: 1 }")
    settings = {"enable_batching": True, "batching_parameters_file": str(tmp_path / "batching.pbtxt")}
    with running(base_path, **settings) as server:
        client = Client(server)
        good = [
            (client.rest_classify, [0, 1]), (client.classify, EXAMPLES[2:3]), (client.predict, EXAMPLES[3:]),
            (client.rest_predict, [EXAMPLES[1], EXAMPLES[0]]),
        ]  # fmt: skip
        alone = [ask(rows) for ask, rows in good]
        together, runs = ask_at_once(server, client, *good)
        assert runs == [1, 2 + 1 + 3 + 2]
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
        bad = [(client.classify, [EXAMPLES[0], BROKEN]), (client.rest_predict, [*EXAMPLES[:3], BROKEN])]
        answers, runs = ask_at_once(server, client, *good[:2], *bad, *good[2:])
        assert runs[:2] == [1, 2 + 1 + 2 + 4 + 3 + 2]
        assert "Key: age, Index: 1.  Data types don't match." in answers[2]
        assert "Key: age, Index: 3.  Data types don't match." in answers[3]
        for one, other in zip(alone, answers[:2] + answers[4:], strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
        client.close()


def change_a_weight(path):
    """Flip one bit of the exponent of the last layer's bias, in place."""
    biases = [one for one in onnx.load(path).graph.initializer if "bias" in one.name and list(one.dims) == [1]]
    content = path.read_bytes()
    at = content.index(biases[0].raw_data) if len(biases) == 1 else -1
    assert at > 0
    assert content.count(biases[0].raw_data) == 1
    path.write_bytes(content[: at + 3] + bytes([content[at + 3] ^ 0x01]) + content[at + 4 :])


def test_a_version_answers_as_it_was_exported_or_not_at_all(exported, version, base_path, caplog):
    caplog.set_level("INFO")
    assert (version / EXPECTED_FILE).is_file()
    with running(base_path) as server:
        assert "Model m version 1 answers 8 requests as it was exported." in caplog.text
        aside = shutil.copytree(exported, base_path / "temp")
        change_a_weight(aside / "model.onnx")
        aside.rename(base_path / "2")
        until(lambda: len(server.manager.status("m")) == 2 and server.manager.status("m")[0].state is State.END)
        refused, served = server.manager.status("m")
        assert served.state is State.AVAILABLE
        status = httpx.get(f"http://{HOST}:{server.rest_port}/v1/models/m/versions/2").json()
    assert "Model m version 2 does not answer as it was exported: signature " in refused.message
    assert "row 0: expected " in refused.message
    assert "tolerance 1e-05 (CPUExecutionProvider)" in refused.message
    (entry,) = status["model_version_status"]
    assert entry["status"] == {"error_code": "FAILED_PRECONDITION", "error_message": refused.message}


def test_what_is_logged_warms_up_the_next_version(version, base_path, tmp_path):
    """Requests of every kind, over both fronts."""
    with running(base_path, request_log_prefix=str(tmp_path / "log"), request_log_sampling_rate=1) as server:
        client = Client(server)
        client.rest_classify([0, 1])
        client.rest_predict(EXAMPLES[:2])
        client.predict(EXAMPLES)
        client.multi_inference(EXAMPLES)
        client.close()
    (file,) = tmp_path.glob("log-*.tfrecord")
    logs = [serving_pb.PredictionLog.FromString(record) for record in read_records(file)]
    kinds = [log.WhichOneof("log_type") for log in logs]
    assert kinds == ["classify_log", "predict_log", "predict_log", "multi_inference_log"]
    multi = logs[3].multi_inference_log
    assert [task.model_spec.signature_name for task in multi.request.tasks] == ["classification", "regression"]
    assert [result.WhichOneof("result") for result in multi.response.results] == [
        "classification_result", "regression_result",
    ]  # fmt: skip
    assert logs[3].log_metadata.model_spec.name == "m"
    # What was answered then is what has to be answered now.
    shutil.copy(file, version / WARMUP_FILE)
    file.rename(version / EXPECTED_FILE)
    with running(base_path) as server:
        metrics = httpx.get(f"http://{HOST}:{server.rest_port}/metrics").text
        assert server.manager.is_available("m", 1), server.unready()
    assert f':tensorflow:serving:model_warmup_records_read{{model_path="m/{version.name}"}} 4.0' in metrics
