import json
import resource

import pytest

from estimator_serving.serving.errors import Code
from estimator_serving.serving.observing.access_log import AccessLog
from estimator_serving.serving.predictor import Call, Codec
from estimator_serving.serving.request import Context, ModelSpec, Request
from estimator_serving.serving.running.servable import Servable
from estimator_serving.wire.signatures import Metadata

CODEC = Codec("Predict", "GRPC", *[None] * 3)


def call(spec=None, **attributes):
    made = Call(CODEC, b"payload", spec, Context(remote=lambda: "10.0.0.1:5"))
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def lines(path, *calls):
    log = AccessLog(str(path))
    for one in calls:
        log(one)
    log.close()
    return path.read_text().splitlines()


def test_an_answer(tmp_path):
    servable = Servable("m", 3, Metadata({}), {}, None)
    answered = call(ModelSpec("m"), servable=servable, request=Request("s", {}), answer=b"answer!", elapsed_s=0.0012345)
    (line,) = lines(tmp_path / "access", answered)
    entry = json.loads(line)
    assert entry.pop("time").endswith("+00:00")
    assert entry == {
        "method": "Predict", "entrypoint": "GRPC", "model": "m", "version": 3, "signature": "s", "code": "OK",
        "latency_ms": 1.234, "request_bytes": 7, "response_bytes": 7, "remote": "10.0.0.1:5",
    }  # fmt: skip


def test_a_request_that_could_not_be_read(tmp_path):
    (line,) = lines(tmp_path / "access", call(code=Code.INVALID_ARGUMENT))
    entry = json.loads(line)
    assert (entry["model"], entry["version"], entry["signature"], entry["code"]) == ("", None, "", "INVALID_ARGUMENT")


@pytest.mark.parametrize("name", ['x"}\n{"code":"OK"}', "\x1b[2J\r", "\u2028é\ud800", "a" * 10_000])
def test_a_name_cannot_forge_a_line(tmp_path, name):
    (line,) = lines(tmp_path / "access", call(ModelSpec(name, signature_name=name)))
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["model"] == json.loads(line)["signature"] == name[:256]


def test_lines_are_appended_and_a_moved_file_is_followed(tmp_path):
    path = tmp_path / "access"
    assert len(lines(path, call())) == 1
    assert len(lines(path, call(), call())) == 3
    path.rename(tmp_path / "moved")
    assert len(lines(path, call())) == 1


def test_standard_output(capsys):
    log = AccessLog("-")
    log(call(ModelSpec("m")))
    log.close()
    assert json.loads(capsys.readouterr().out)["model"] == "m"


def test_a_path_that_cannot_be_written(tmp_path, caplog):
    log = AccessLog(str(tmp_path / "absent" / "access"))
    log(call())
    log.close()
    assert "The access log cannot write" in caplog.text


def test_a_file_or_a_directory_that_was_removed_comes_back(tmp_path):
    path = tmp_path / "there" / "access"
    log = AccessLog(str(path))
    for remove in (lambda: None, path.unlink, lambda: path.parent.rename(tmp_path / "gone")):
        remove()
        path.parent.mkdir(exist_ok=True)
        log._write([{"n": 1}])
        assert path.read_text() == '{"n":1}\n'
    log.close()


def test_a_disk_that_takes_half_a_line_is_no_silent_loss(tmp_path):
    """A limit on the size of a file works like a full disk: the write takes what fits, and raises nothing."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "access"
    log = AccessLog(str(path))
    resource.setrlimit(resource.RLIMIT_FSIZE, (5, hard))
    try:
        with pytest.raises(OSError, match="the disk is full, and the last line is cut"):
            log._write([{"n": 1}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log._write([{"n": 2}])
    log.close()
    assert path.read_text() == '{"n":\n{"n":2}\n'
