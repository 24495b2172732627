"""Who a caller is, and what it may do."""

import inspect
import time
from datetime import UTC, datetime, timedelta

import pytest

from estimator_serving.serving.access import authorizer as module
from estimator_serving.serving.access.authorizer import NOBODY, Authorizer, Grant
from estimator_serving.serving.access.key_file import Entry, Right, digest
from estimator_serving.serving.errors import PermissionDeniedError, UnauthenticatedError

NOW = datetime.now(UTC)


def entry(key, name="a", **settings):
    return Entry(name, digest(key.encode()), **settings)


def bearer(key):
    return [(b"host", b"x"), (b"authorization", b"Bearer " + key.encode())]


@pytest.mark.parametrize(
    "headers",
    [bearer("k"), [(b"authorization", b"bEARER  k ")], [(b"x-api-key", b"k")], [*bearer("k"), (b"x-api-key", b"k")],
     [(b"authorization", b"Basic abc"), (b"x-api-key", b"k")]],
)  # fmt: skip
def test_a_known_key(headers):
    assert Authorizer([entry("other", "b"), entry("k")]).identify(headers).name == "a"


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ([], module.MISSING_TEXT),
        ([(b"authorization", b"Basic k")], module.MISSING_TEXT),
        ([(b"authorization", b"k")], module.MISSING_TEXT),
        (bearer("K"), module.WRONG_TEXT),
        (bearer(""), module.WRONG_TEXT),
        ([(b"x-api-key", digest(b"k").encode())], module.WRONG_TEXT),
        (bearer("late"), module.EXPIRED_TEXT),
        ([*bearer("k"), (b"x-api-key", b"late")], module.SEVERAL_TEXT),
    ],
)
def test_an_unknown_caller(headers, text):
    known = Authorizer([entry("k"), entry("late", expires=NOW - timedelta(seconds=1))])
    with pytest.raises(UnauthenticatedError) as refused:
        known.identify(headers)
    assert str(refused.value) == text


def test_a_grant_ends_when_it_expires():
    grant = Grant(entry("k", metrics=True, expires=datetime.now(UTC) + timedelta(seconds=0.5)))
    assert grant.may(Right.METRICS)
    time.sleep(0.5)
    assert not grant.may(Right.METRICS)


def test_certificates():
    known = Authorizer(
        [Entry("late", certificate="CN=a", expires=NOW), Entry("host", certificate="DNS:a.example"), entry("k", "key")]
    )
    assert known.identify([], ["CN=a", "DNS:a.example"]).name == "host"
    assert known.identify(bearer("k"), ["DNS:a.example"]).name == "key"
    for names, text in ((["CN=a"], module.EXPIRED_TEXT), (["CN=b"], module.WRONG_TEXT), ([], module.MISSING_TEXT)):
        with pytest.raises(UnauthenticatedError) as refused:
            known.identify([], names)
        assert str(refused.value) == text


@pytest.mark.parametrize(
    ("patterns", "model", "may"),
    [
        (["iris"], "iris", True), (["iris"], "iris2", False), (["iris"], "Iris", False), (["iris-*"], "iris-", True),
        (["iris-*"], "my-iris-1", False), (["*"], "\n", True), (["*"], None, True), (["a*", "b.c"], "b.c", True),
        (["b.c"], "bxc", False), (["a|b"], "a", False), (["**"], None, False), (["i*s"], "iris\n", False),
        ([], "iris", False), (["a*"], "a" * 256, True), (["a*"], "a" * 257, False), (["*"], "a" * 257, True),
        (["*a*a*a*a*a*a*b"], "a" * 10_000_000, False),
    ],
)  # fmt: skip
def test_rights_for_models(patterns, model, may):
    grant = Grant(entry("k", models={Right.PREDICT: tuple(patterns)} if patterns else {}))
    assert grant.may(Right.PREDICT, model) is may
    assert not grant.may(Right.METADATA, model)
    assert not NOBODY.may(Right.PREDICT, model)


def test_a_refusal_tells_nothing_of_models():
    texts = set()
    for model in ("there", "not there"):
        with pytest.raises(PermissionDeniedError) as refused:
            NOBODY.check(Right.PREDICT, model)
        texts.add(str(refused.value))
    assert len(texts) == 1


def test_another_file_ends_the_grants_of_the_one_before():
    rights = {Right.PREDICT: ("*",)}
    known = Authorizer([entry(key, models=rights, metrics=True) for key in ("stays", "goes", "changes")])
    stays, goes, changes = (known.identify(bearer(key)) for key in ("stays", "goes", "changes"))
    known.replace([entry("stays", models=rights, metrics=True), entry("changes", models=rights), entry("comes")])
    assert [grant.may(Right.PREDICT) for grant in (stays, goes, changes)] == [True, False, False]
    assert known.identify(bearer("changes")).may(Right.PREDICT)
    assert known.identify(bearer("comes")).name == "a"
    with pytest.raises(UnauthenticatedError):
        known.identify(bearer("goes"))


def test_digests_are_compared_in_constant_time_and_keys_are_not_kept():
    code = inspect.getsource(Authorizer.identify)
    assert "hmac.compare_digest(found[0], wanted)" in code
    assert code.count("==") == 2  # the name of a header, and the scheme
    known = Authorizer([entry("sesame")])
    known.identify(bearer("sesame"))
    assert "sesame" not in repr([vars(known), vars(known.identify(bearer("sesame")))])
