"""Which dialect gets a request, which headers it reads, and what becomes of its errors."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from estimator_serving.serving.dialects.base import HttpError, Reply, Target, error_reply
from estimator_serving.serving.errors import NotFoundError
from estimator_serving.serving.http.claims import KNOWN_PATH_BYTES_MAX, Claims
from estimator_serving.serving.request import PATIENT, ModelSpec


class Spoken:
    """Takes every path below its prefix and answers with the headers it was given; counts how often it is asked."""

    def __init__(self, prefix, header_names=(), error=None):
        self.prefix = prefix
        self.header_names = frozenset(header_names)
        self.refuse = error_reply
        self.asked = 0
        self._error = error

    def claims(self, _method, path):
        self.asked += 1
        return Target(ModelSpec("m")) if path.startswith(self.prefix.encode()) else None

    def infer(self, _target, _route, headers, _body, _context):
        if self._error:
            raise self._error
        return Reply(200, b"text/plain", repr(headers).encode())


def test_a_full_server_pauses_once_for_all_that_it_refused_at_once():
    router = SimpleNamespace(full_for_s=lambda: 0.05)
    claims = Claims([Spoken("/")], router)

    async def refuse(times):
        for _ in range(times):
            claims.pause_if_full()
        began_s = time.monotonic()
        await asyncio.sleep(0)
        return time.monotonic() - began_s

    assert 0.05 <= asyncio.run(refuse(20)) < 0.5
    router.full_for_s = lambda: None
    assert asyncio.run(refuse(1)) < 0.05


class Route:
    closed = 0

    def close(self):
        self.closed += 1


HEADERS = [(b"x-length", b"7"), (b"host", b"h")]


def test_the_first_dialect_that_claims_gets_it():
    one, other = Spoken("/a/"), Spoken("/")
    claims = Claims([one, other], None)
    assert claims.find(b"POST", b"/a/b").dialect is one
    assert claims.find(b"POST", b"/b").dialect is other
    assert Claims([one], None).find(b"POST", b"/b") is None
    assert (claims.below("/A/b"), Claims([one], None).below("/b")) == (one, None)


def test_answers_are_remembered_but_for_long_paths():
    dialect = Spoken("/")
    claims = Claims([dialect], None)
    for path, asked in ((b"/a", 1), (b"/" + b"a" * KNOWN_PATH_BYTES_MAX, 3)):
        dialect.asked = 0
        assert all(claims.find(b"POST", path) for _ in range(3))
        assert dialect.asked == asked


@pytest.mark.parametrize(("names", "given"), [((), {}), ((b"x-length",), {b"x-length": b"7"})])
def test_a_dialect_gets_the_headers_that_it_reads(names, given):
    claim = Claims([Spoken("/", names)], None).find(b"POST", b"/")
    assert claim.infer(None, HEADERS, b"", PATIENT).body == repr(given).encode()


@pytest.mark.parametrize(
    ("error", "status"), [(NotFoundError("gone"), 404), (HttpError(418, "tea"), 418), (KeyError("ours"), 500)]
)
def test_errors_become_refusals_and_close_the_route(error, status, caplog):
    route = Route()
    assert Claims([Spoken("/", error=error)], None).find(b"POST", b"/").infer(route, (), b"", PATIENT).status == status
    assert route.closed == 1
