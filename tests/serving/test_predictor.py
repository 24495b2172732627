from types import SimpleNamespace

import pytest

from estimator_serving.serving import errors
from estimator_serving.serving.crowd import Crowd
from estimator_serving.serving.errors import Code
from estimator_serving.serving.metrics import Exposition, RequestMetrics
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.models.model_config import VersionDirectory
from estimator_serving.serving.predictor import Codec, Predictor
from estimator_serving.serving.request import Context, Document, ModelSpec, NotQuickError, Request


class FakeServable(SimpleNamespace):
    runner = SimpleNamespace(is_quick=True)

    def has_rows(self, signature_name):
        return False

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
    manager = Manager(lambda name, version, _path: FakeServable(name=name, version=version))
    manager.aspire("m", {1: VersionDirectory(tmp_path)})
    assert manager.wait_until_settled(10)
    yield Predictor(manager, metrics)
    manager.stop()


def test_path(predictor, metrics):
    assert predictor.predict(codec(), b"text", predictor.router.choose(ModelSpec("m"))) == (b"TEXT", 1)
    assert (
        'requests_total{code="OK",entrypoint="TEST",method="Predict",model="m",signature="s",version="1"} 1.0'
        in Exposition(metrics).render().decode()
    )


def test_observers_see_the_whole_call(metrics, predictor):
    seen = []
    observed = Predictor(predictor.manager, metrics, [seen.append])
    observed.predict(codec(), b"text", observed.router.choose(ModelSpec("m")))
    with pytest.raises(errors.NotFoundError):
        observed.predict(codec(), b"text", observed.router.choose(ModelSpec("nope")))
    whole, failed = seen
    assert (whole.request.signature_name, whole.outputs, whole.answer, whole.code) == ("s", b"text", b"TEXT", Code.OK)
    assert 0 < whole.run_s < whole.elapsed_s
    assert (failed.servable, failed.answer, failed.code) == (None, None, Code.NOT_FOUND)


def test_what_the_reading_thread_answers_takes_no_thread(predictor, metrics, monkeypatch):
    full = Crowd(0)
    crowded = Predictor(predictor.manager, metrics, crowds={"TEST": full})
    assert crowded.predict(codec(), b"text", crowded.router.choose(ModelSpec("m"))).payload == b"TEXT"
    with pytest.raises(errors.UnavailableError, match="Model m has 0 requests at work"):
        crowded.predict(codec(parse=lambda payload, _: Document(ModelSpec("m"), payload, payload)), b"text")
    monkeypatch.setattr(FakeServable, "runner", SimpleNamespace(is_quick=False, is_full=False))
    with pytest.raises(errors.UnavailableError):
        crowded.predict(codec(), b"text", crowded.router.choose(ModelSpec("m")))


def test_the_reading_thread_is_not_held(predictor, metrics, monkeypatch):
    reader, named = Context(is_reader=True), codec(parse=lambda payload, _: Document(ModelSpec("m"), payload, payload))
    assert predictor.predict(named, b"text", None, reader).payload == b"TEXT"
    monkeypatch.setattr(FakeServable, "runner", SimpleNamespace(is_quick=False, is_full=False))
    with pytest.raises(NotQuickError):
        predictor.predict(named, b"text", None, reader)
    assert sum(work.successes + work.failures for work in metrics.work("m", 1).values()) == 1
    assert predictor.predict(named, b"text").payload == b"TEXT"


def test_what_is_answered_at_once_is_counted(predictor, metrics):
    seen = []
    quick = codec(at_once=lambda payload, _spec, _servable: None if payload == b"odd" else (b"ONCE", 3, 0.1, 0.2))
    ask = Predictor(predictor.manager, metrics, [seen.append], is_observed=lambda _name: False)
    reader = Context(is_reader=True)
    assert ask.predict(quick, b"text", ask.router.choose(ModelSpec("m")), reader) == (b"ONCE", 1)
    assert ask.predict(quick, b"odd", ask.router.choose(ModelSpec("m")), reader) == (b"ODD", 1)
    assert predictor.predict(quick, b"text", predictor.router.choose(ModelSpec("m"))) == (b"TEXT", 1)
    assert len(seen) == 1
    assert sum(one.rows for one in metrics.work("m", 1).values()) == 5


def test_a_full_version_refuses_before_anything_is_decoded(predictor, metrics, monkeypatch):
    refusal = errors.UnavailableError("is full")
    runner = SimpleNamespace(is_quick=False, is_full=True, refusal=lambda: refusal)
    monkeypatch.setattr(FakeServable, "runner", runner)
    with pytest.raises(errors.UnavailableError, match="is full"):
        predictor.predict(codec(decode=fail), b"text", predictor.router.choose(ModelSpec("m")))
    counted = (
        'requests_total{code="UNAVAILABLE",entrypoint="TEST",method="Predict",model="m",signature="",version="1"} 1.0'
    )
    assert counted in Exposition(metrics).render().decode()


def fail(*_):
    raise KeyError("a secret")


@pytest.mark.parametrize("step", ["parse", "decode", "encode"])
def test_errors_that_are_not_ours(predictor, metrics, step, caplog):
    with pytest.raises(errors.InternalError, match=errors.INTERNAL_TEXT):
        predictor.predict(codec(**{step: fail}), b"text", predictor.router.choose(ModelSpec("m")))
    assert "a secret" in caplog.text
    assert 'code="INTERNAL",entrypoint="TEST",method="Predict",model="m",' in Exposition(metrics).render().decode()


def test_made_up_names_make_no_series(predictor, metrics):
    with pytest.raises(errors.NotFoundError):
        predictor.predict(codec(), b"text", predictor.router.choose(ModelSpec("made-up")))
    text = Exposition(metrics).render().decode()
    assert 'code="NOT_FOUND",entrypoint="TEST",method="Predict",model="unknown",signature="",version=""} 1.0' in text
    assert "made-up" not in text


@pytest.mark.parametrize(
    ("context", "error"),
    [(Context(deadline_s=0.0), errors.DeadlineExceededError), (Context(cancelled=lambda: True), errors.CancelledError)],
)
def test_nothing_runs_for_nobody(predictor, metrics, context, error):
    with pytest.raises(error):
        predictor.predict(codec(parse=fail), b"text", predictor.router.choose(ModelSpec("m")), context)
    assert f'code="{error.code.name}"' in Exposition(metrics).render().decode()
