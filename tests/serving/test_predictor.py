from types import SimpleNamespace

import pytest

from estimator_serving.serving import errors
from estimator_serving.serving.errors import Code
from estimator_serving.serving.metrics import Exposition, RequestMetrics
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.models.model_config import VersionDirectory
from estimator_serving.serving.predictor import QUICK_PAYLOAD_BYTES, Codec, Predictor
from estimator_serving.serving.request import Context, Document, ModelSpec, Request


class FakeServable(SimpleNamespace):
    def run(self, request, context):
        context.check()
        return request.inputs["x"]


def codec(**steps):
    given = {
        "parse": lambda payload, target: Document(target, payload, payload),
        "decode": lambda document, _servable: Request("s", {"x": document.content}),
        "encode": lambda outputs, _request, _servable: outputs.upper(),
    }
    return Codec("Predict", "TEST", **given | steps)


@pytest.fixture
def metrics():
    return RequestMetrics()


@pytest.fixture
def predictor(metrics, tmp_path):
    manager = Manager(lambda name, version, _path: FakeServable(name=name, version=version, is_quick=True))
    manager.aspire("m", {1: VersionDirectory(tmp_path)})
    assert manager.wait_until_settled(10)
    yield Predictor(manager, metrics)
    manager.stop()


def test_path(predictor, metrics):
    assert predictor.predict(codec(), b"text", ModelSpec("m")) == (b"TEXT", 1)
    assert (
        'requests_total{code="OK",entrypoint="TEST",method="Predict",model="m",signature="s",version="1"} 1.0'
        in Exposition(metrics).render().decode()
    )


def test_observers_see_the_whole_call(metrics, predictor):
    seen = []
    observed = Predictor(predictor.manager, metrics, [seen.append])
    observed.predict(codec(), b"text", ModelSpec("m"))
    with pytest.raises(errors.NotFoundError):
        observed.predict(codec(), b"text", ModelSpec("nope"))
    whole, failed = seen
    assert (whole.request.signature_name, whole.outputs, whole.answer, whole.code) == ("s", b"text", b"TEXT", Code.OK)
    assert 0 < whole.run_s < whole.elapsed_s
    assert (failed.servable, failed.answer, failed.code) == (None, None, Code.NOT_FOUND)


def fail(*_):
    raise KeyError("a secret")


@pytest.mark.parametrize("step", ["parse", "decode", "encode"])
def test_errors_that_are_not_ours(predictor, metrics, step, caplog):
    with pytest.raises(errors.InternalError, match=errors.INTERNAL_TEXT):
        predictor.predict(codec(**{step: fail}), b"text", ModelSpec("m"))
    assert "a secret" in caplog.text
    assert 'code="INTERNAL",entrypoint="TEST",method="Predict",model="m",' in Exposition(metrics).render().decode()


def test_made_up_names_make_no_series(predictor, metrics):
    with pytest.raises(errors.NotFoundError):
        predictor.predict(codec(), b"text", ModelSpec("made-up"))
    text = Exposition(metrics).render().decode()
    assert 'code="NOT_FOUND",entrypoint="TEST",method="Predict",model="unknown",signature="",version=""} 1.0' in text
    assert "made-up" not in text


@pytest.mark.parametrize(
    ("context", "error"),
    [(Context(deadline_s=0.0), errors.DeadlineExceededError), (Context(cancelled=lambda: True), errors.CancelledError)],
)
def test_nothing_runs_for_nobody(predictor, metrics, context, error):
    with pytest.raises(error):
        predictor.predict(codec(parse=fail), b"text", ModelSpec("m"), context)
    assert f'code="{error.code.name}"' in Exposition(metrics).render().decode()


@pytest.mark.parametrize(
    ("spec", "payload_bytes", "quick"),
    [(ModelSpec("m"), 10, True), (ModelSpec("m", 1), 10, True), (ModelSpec("m"), QUICK_PAYLOAD_BYTES + 1, False),
     (ModelSpec("nope"), 10, True), (ModelSpec("m", 9), 10, True)],
)  # fmt: skip
def test_is_quick(predictor, spec, payload_bytes, quick):
    assert predictor.is_quick(spec, payload_bytes) is quick


def test_a_label_is_as_quick_as_its_version(predictor, tmp_path):
    manager = predictor.manager
    manager.peek(ModelSpec("m", 1)).is_quick = False
    manager.aspire("m", {1: VersionDirectory(tmp_path), 2: VersionDirectory(tmp_path)})
    assert manager.wait_until_settled(10)
    manager.set_labels("m", {"stable": 1, "canary": 2})
    assert not predictor.is_quick(ModelSpec("m", label="stable"), 10)
    assert predictor.is_quick(ModelSpec("m", label="canary"), 10)
    assert predictor.is_quick(ModelSpec("m", label="none"), 10)
