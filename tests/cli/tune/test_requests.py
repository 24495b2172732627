"""What is sent: the server takes it over both protocols, whatever it comes from."""

import json

import numpy as np
import pytest
from conformance_models import MODELS, write_model
from running import running

from estimator_serving.cli.tune.clients import LoadError, Window, load_grpc, load_rest
from estimator_serving.cli.tune.requests import MODEL_NAME, make_requests
from estimator_serving.wire.examples import encode_example
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.prediction_logs import log_of
from estimator_serving.wire.records import write_records
from estimator_serving.wire.signatures import CLASSIFY_METHOD, PREDICT_METHOD

WINDOW = Window(0.02, 5.0)
EXAMPLE = encode_example({"x": [2.0], "tags": ["a", b"\xff"]})


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """By a model's name: its version directory, and a server that has it as MODEL_NAME."""
    started, open_ones = {}, []

    def of(name):
        if name not in started:
            base_path = tmp_path_factory.mktemp(name)
            write_model(base_path, 1, *MODELS[name])
            held = running(base_path, model_name=MODEL_NAME)
            open_ones.append(held)
            started[name] = base_path / "1", held.__enter__()
        return started[name]

    yield of
    for held in open_ones:
        held.__exit__(None, None, None)


def answers(servers, name, protocol, **wanted):
    directory, server = servers(name)
    requests = make_requests(directory, protocol=protocol, **wanted)
    if protocol == "rest":
        sample = load_rest(server.rest_port, requests.payloads, 2, WINDOW)
    else:
        sample = load_grpc(server.grpc_port, requests.grpc_method, requests.payloads, 2, WINDOW)
    assert sample.answers
    assert len(sample.latencies_s) == sample.answers
    assert not sample.refused
    return requests


def records(path, *logs):
    write_records(path, [log.SerializeToString() for log in logs])
    return path


def rest_body(requests):
    return json.loads(requests.payloads[0].partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
@pytest.mark.parametrize("name", ["two", "matrix", "scalar", "types", "examples"])
def test_a_request_is_made_up_from_the_signature(servers, name, protocol):
    requests = answers(servers, name, protocol)
    assert requests.rows == 1
    assert requests.signature == "serving_default"


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
@pytest.mark.parametrize("signature", ["serving_default", "regression", "predict"])
def test_it_has_as_many_rows_as_wanted(servers, signature, protocol):
    requests = answers(servers, "examples", protocol, signature=signature, rows=7)
    assert requests.rows == 7
    if protocol == "rest":
        body = rest_body(requests)
        assert len(body.get("examples") or body["instances"]) == 7


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_records_are_sent_by_turns(servers, protocol, tmp_path):
    examples = np.array([EXAMPLE] * 3, object)
    logs = [log_of(CLASSIFY_METHOD, "serving_default", {"inputs": examples[:count]}) for count in (1, 3)]
    other = log_of(PREDICT_METHOD, "predict", {"examples": examples})
    file = records(tmp_path / "records", other, *logs)
    requests = answers(servers, "examples", protocol, file=file)
    assert (len(requests.payloads), requests.rows) == (2, 2)
    assert answers(servers, "examples", protocol, file=file, signature="predict").rows == 3
    if protocol == "rest":
        assert rest_body(requests)["examples"][0] == {"x": [2.0], "tags": ["a", {"b64": "/w=="}]}


def test_the_warmup_records_of_a_version_come_first(servers, tmp_path):
    write_model(tmp_path, 1, *MODELS["matrix"])
    (tmp_path / "1" / "assets.extra").mkdir()
    log = log_of(PREDICT_METHOD, "serving_default", {"x": np.float32([[1, 2, 3]] * 5)})
    records(tmp_path / "1" / "assets.extra" / "tf_serving_warmup_requests", log)
    requests = make_requests(tmp_path / "1", protocol="grpc")
    assert requests.rows == 5
    message = serving_pb.PredictRequest.FromString(requests.payloads[0])
    assert message.model_spec.name == MODEL_NAME


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("matrix", {"instances": [[1, 2, 3], [4, 5, 6]]}),
        ("two", {"inputs": {"a": [1, 2], "b": [3, 4]}}),
        ("examples", {"signature_name": "regression", "examples": [{"x": 1.0}, {"x": 2.0}]}),
    ],
)
def test_a_body_is_sent_as_it_is_or_with_more_rows(servers, name, body, tmp_path):
    file = tmp_path / "body.json"
    file.write_text(json.dumps(body))
    assert answers(servers, name, "rest", file=file).rows == 2
    assert answers(servers, name, "rest", file=file, rows=5).rows == 5


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_what_the_server_refuses_is_told(servers, protocol, tmp_path):
    log = log_of(PREDICT_METHOD, "serving_default", {"x": np.float32([[1, 2]])})
    with pytest.raises(LoadError, match="400|INVALID_ARGUMENT") as refused:
        answers(servers, "matrix", protocol, file=records(tmp_path / "records", log))
    assert refused.value.is_answer


@pytest.mark.parametrize("load", [load_rest, lambda port, *rest: load_grpc(port, "/a/b", *rest)])
def test_a_server_that_is_gone_is_told(load):
    with pytest.raises(LoadError) as gone:
        load(1, [b"x"], 1, WINDOW)
    assert not gone.value.is_answer


FIXED = "g (float[1,3] x) => (float[1,3] y) { y = Neg(x) }"
RENAMED = "g (float[batch] x) => (float[time] y) { y = Neg(x) }"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (FIXED, "the input x of the signature serving_default has no free first dimension ([1, 3])"),
        (RENAMED, "the first dimensions of the inputs and outputs of the signature serving_default have different"),
        (MODELS["matrix"][0], ""),
    ],
)
def test_why_a_signature_is_not_batched(text, why, tmp_path):
    write_model(tmp_path, 1, text)
    requests = make_requests(tmp_path / "1", protocol="rest")
    assert requests.unbatched_because.startswith(why)
    assert bool(requests.unbatched_because) == bool(why)
    if why:
        with pytest.raises(ValueError, match="have no rows; leave --rows out"):
            make_requests(tmp_path / "1", protocol="rest", rows=2)


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ({"signature": "none"}, "There is no signature 'none'; --signature takes classes_only"),
        ({"signature": "two_inputs"}, "No request can be made up"),
        ({"content": b"nonsense"}, "holds neither a JSON body nor records of PredictionLog"),
        ({"content": b"[1]"}, "is not the body of a request"),
        ({"content": b'{"instances": [1], "inputs": [1]}'}, "is not the body of a request"),
        ({"content": b'{"instances": [1], "signature_name": "none"}'}, "There is no signature 'none'"),
        ({"content": b"\0" * 30}, "holds neither a JSON body nor records"),
        ({"content": b'{"instances": [1]}', "protocol": "grpc"}, "is sent over REST; leave --protocol out"),
        ({"content": None}, "There is no file"),
    ],
)
def test_what_is_refused(servers, wanted, text, tmp_path):
    given = {"protocol": "rest"} | wanted
    if "content" in given:
        given["file"] = tmp_path / "file"
        if (content := given.pop("content")) is not None:
            given["file"].write_bytes(content)
    with pytest.raises(ValueError, match=text):
        make_requests(servers("examples")[0], **given)
