"""What is logged can be replayed: records of requests from both fronts, in files that serve as warmup files."""

import os
import re
from functools import partial

import numpy as np
import pytest
from servables import servable_of

from estimator_serving.serving import errors
from estimator_serving.serving.dialects.tfs import json_codec, proto_codec
from estimator_serving.serving.dialects.tfs.replay import answer
from estimator_serving.serving.log_settings import LogSettings
from estimator_serving.serving.metrics import Exposition, LogMetrics, RequestMetrics
from estimator_serving.serving.models import warmup
from estimator_serving.serving.models.loader import open_servable
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.models.model_config import VersionDirectory
from estimator_serving.serving.observing import request_log
from estimator_serving.serving.observing.request_log import RequestLog
from estimator_serving.serving.predictor import Predictor
from estimator_serving.serving.request import ModelSpec
from estimator_serving.wire import dtypes
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.records import read_records
from estimator_serving.wire.signatures import (
    CLASSIFY_METHOD,
    REGRESS_METHOD,
    Signature,
    TensorInfo,
)
from estimator_serving.wire.tensors import decode_tensor, encode_tensor


@pytest.fixture
def model(write_model):
    return write_model(1, "g (float[N] x) => (float[N] y) {{ y = Neg(x) }}")


LOAD = partial(open_servable, intra_op_threads=1)


class Logged:
    """A predictor whose model is logged, and what the log then holds."""

    def __init__(self, directory, prefix, rate=1.0, load=LOAD, **more):
        self.metrics = LogMetrics()
        self.manager = Manager(load)
        self.manager.aspire("m", {1: VersionDirectory(directory)})
        assert self.manager.wait_until_settled(10)
        settings = {"m": LogSettings(prefix, rate)}
        self.log = RequestLog(settings.get, proto_codec.CODECS, self.metrics, **more)
        self.predictor = Predictor(self.manager, RequestMetrics(), [self.log])

    def rest(self, body, verb="predict"):
        route = self.predictor.router.choose(ModelSpec("m"))
        return self.predictor.predict(json_codec.CODECS[verb], body, route).payload

    def grpc(self, message, method="Predict"):
        return self.predictor.predict(proto_codec.CODECS[method], message.SerializeToString()).payload

    def close(self):
        self.log.close()
        self.manager.stop()


@pytest.fixture
def make_logged():
    made = []

    def make(*arguments, **more):
        made.append(Logged(*arguments, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def files(tmp_path):
    return sorted(tmp_path.glob("log-*.tfrecord"))


def logs(tmp_path):
    return [serving_pb.PredictionLog.FromString(record) for path in files(tmp_path) for record in read_records(path)]


def predict_request(values):
    message = serving_pb.PredictRequest()
    message.model_spec.name = "m"
    message.inputs["x"].CopyFrom(encode_tensor(np.array(values, np.float32)))
    return message


def test_grpc_as_it_came(model, tmp_path, make_logged):
    logged = make_logged(model, tmp_path / "log")
    request = predict_request([1, 2])
    response = logged.grpc(request)
    logged.close()
    (log,) = logs(tmp_path)
    assert log.predict_log.request == request
    assert log.predict_log.response == serving_pb.PredictResponse.FromString(response)
    spec = log.log_metadata.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", 1, "serving_default")
    assert log.log_metadata.sampling_config.sampling_rate == 1
    assert log.log_metadata.timestamp_secs > 1.7e9


def test_rest_as_messages_from_its_arrays(model, tmp_path, make_logged):
    logged = make_logged(model, tmp_path / "log")
    logged.rest(b'{"instances": [1, 2]}')
    logged.close()
    (log,) = logs(tmp_path)
    assert decode_tensor(log.predict_log.request.inputs["x"]).tolist() == [1, 2]
    assert decode_tensor(log.predict_log.response.outputs["y"]).tolist() == [-1, -2]
    assert log.predict_log.request.model_spec.name == "m"


EXAMPLES = TensorInfo("e:0", dtypes.string, (-1,))
SIGNATURES = {
    "serving_default": Signature(
        {"inputs": EXAMPLES}, {"scores": TensorInfo("scores:0", dtypes.float32, (-1, -1))}, CLASSIFY_METHOD
    ),
    "regress": Signature({"inputs": EXAMPLES}, {"outputs": TensorInfo("n:0", dtypes.float32, (-1,))}, REGRESS_METHOD),
}


def run_lengths(names, feeds, _context):
    """A model that says how long each Example is."""
    lengths = np.diff(feeds["e/row_splits"]).astype(np.float32)
    return [{"scores": lengths[:, None], "n": lengths}[name] for name in names]


@pytest.mark.parametrize(
    ("verb", "signature_name", "kind"),
    [("classify", "serving_default", "classify_log"), ("regress", "regress", "regress_log")],
)
def test_examples_from_rest(model, tmp_path, make_logged, verb, signature_name, kind):
    loaded = servable_of(SIGNATURES, run_lengths, ["e/values", "e/row_splits"])
    logged = make_logged(model, tmp_path / "log", load=lambda *_: loaded)
    logged.rest(b'{"signature_name": "%s", "examples": [{"a": 1}, {"a": [1.5, 2.5]}]}' % signature_name.encode(), verb)
    logged.close()
    (log,) = logs(tmp_path)
    assert log.WhichOneof("log_type") == kind
    entry = getattr(log, kind)
    lengths = [len(example) for example in entry.request.input.example_list.examples]
    assert len(lengths) == 2
    replayed = proto_codec.CODECS[verb.capitalize()]
    again = logged.predictor.predict(replayed, entry.request.SerializeToString()).payload
    assert again == entry.response.SerializeToString()


def test_a_log_is_a_warmup_file(model, tmp_path, make_logged):
    logged = make_logged(model, tmp_path / "log")
    logged.rest(b'{"instances": [1, 2]}')
    logged.grpc(predict_request([3]))
    logged.close()
    (file,) = files(tmp_path)
    (model / "assets.extra").mkdir()
    file.rename(model / warmup.WARMUP_FILE)
    loaded = open_servable("other", 7, model, intra_op_threads=1)
    assert warmup.warm_up(model, loaded, lambda *one: answer(proto_codec.CODECS, *one)) == 2


def test_failures_are_not_logged(model, tmp_path, make_logged):
    logged = make_logged(model, tmp_path / "log")
    with pytest.raises(errors.InvalidArgumentError):
        logged.rest(b'{"instances": ["a"]}')
    logged.close()
    assert not files(tmp_path)


@pytest.mark.parametrize(("rate", "least", "most"), [(0, 0, 0), (0.5, 120, 280), (1, 400, 400)])
def test_sampling(model, tmp_path, make_logged, rate, least, most):
    logged = make_logged(model, tmp_path / "log", rate)
    for _ in range(400):
        logged.rest(b'{"instances": [1]}')
    logged.close()
    assert least <= len(logs(tmp_path)) <= most


def test_a_file_has_as_many_records_as_a_warmup_file_may(model, tmp_path, make_logged, monkeypatch):
    monkeypatch.setattr(request_log, "RECORDS_MAX", 3)
    logged = make_logged(model, tmp_path / "log")
    for _ in range(7):
        logged.rest(b'{"instances": [1]}')
    logged.close()
    assert [len(list(read_records(path))) for path in files(tmp_path)] == [3, 3, 1]
    assert all(re.fullmatch(r"log-\d{8}T\d{6}Z-\d+-\d{6}\.tfrecord", path.name) for path in files(tmp_path))


@pytest.mark.parametrize(
    ("meddle", "lengths"),
    [
        (lambda path: path.unlink(), [2]),
        (lambda path: path.rename(path.with_name(path.name + ".1")), [2]),
        (lambda path: os.truncate(path, 0), [0, 2]),  # as logrotate does with copytruncate
        (lambda path: (path.unlink(), path.write_bytes(b"")), [0, 2]),
    ],
    ids=["removed", "renamed", "cut", "replaced"],
)
def test_a_file_that_somebody_took_away_is_followed_by_a_new_one(tmp_path, meddle, lengths):
    file = request_log._File(tmp_path / "log")
    for _ in range(3):
        file.append(b"record")
    meddle(*files(tmp_path))
    for _ in range(2):
        file.append(b"record")
    assert [len(list(read_records(path))) for path in files(tmp_path)] == lengths
    for path in files(tmp_path):
        path.unlink()
    for _ in range(request_log.RECORDS_MAX):  # the new file begins to count at nothing
        file.append(b"record")
    file.close()
    assert [len(list(read_records(path))) for path in files(tmp_path)] == [request_log.RECORDS_MAX]


def test_a_directory_that_was_removed_and_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(request_log, "RETRY_S", 0)
    file = request_log._File(tmp_path / "there" / "log")
    (tmp_path / "there").mkdir()
    file.append(b"record")
    (tmp_path / "there").rename(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        file.append(b"record")
    (tmp_path / "there").mkdir()
    file.append(b"record")
    file.close()
    assert [len(list(read_records(path))) for path in files(tmp_path / "there")] == [1]


def count(logged, code):
    text = Exposition(logged.metrics).render().decode()
    return f':tensorflow:serving:request_log_count{{model_name="m",status_code="{code}"}}' in text


def test_a_directory_that_is_not_there(model, tmp_path, make_logged, caplog):
    logged = make_logged(model, tmp_path / "absent" / "log")
    for _ in range(3):
        assert logged.rest(b'{"instances": [1]}')
    logged.close()
    assert caplog.text.count("The request log cannot write") == 1
    assert count(logged, "UNAVAILABLE")
    assert not (tmp_path / "absent").exists()


def test_a_disk_that_fills_leaves_whole_records(model, tmp_path, make_logged, monkeypatch, caplog):
    logged = make_logged(model, tmp_path / "log")
    logged.rest(b'{"instances": [1]}')
    while not files(tmp_path) or not files(tmp_path)[0].stat().st_size:
        pass
    (file,) = logged.log._files.values()

    class FullDisk:
        """Takes half of what it is given, as a disk does that is full then."""

        def __init__(self, opened):
            self.opened = opened

        def write(self, content):
            return self.opened.write(content[: len(content) // 2])

        def __getattr__(self, name):
            return getattr(self.opened, name)

    file._file = FullDisk(file._file)
    assert logged.rest(b'{"instances": [2]}')
    logged.close()
    assert len(logs(tmp_path)) == 1
    assert "the disk is full" in caplog.text


def test_too_much_is_dropped_and_counted(model, tmp_path, make_logged):
    logged = make_logged(model, tmp_path / "log", bytes_max=1)
    assert logged.rest(b'{"instances": [1]}')
    logged.close()
    assert count(logged, "RESOURCE_EXHAUSTED")
    assert not files(tmp_path)
