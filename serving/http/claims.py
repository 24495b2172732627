"""Which dialect a request belongs to, by its method and path. Knows no dialect by name.

Owns the memory of such answers. They depend only on method and path (`dialects.base` says so), and clients send the
same few over and over, so up to KNOWN_MAX of them are kept. It remembers as many beginnings of replies.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from estimator_serving.serving.dialects.base import Dialect, Headers, HttpError, Reply, Target
from estimator_serving.serving.errors import ServingError, as_serving_error
from estimator_serving.serving.request import Context
from estimator_serving.serving.routing import Route, Router
from estimator_serving.wire import native

KNOWN_MAX = 1024
# A longer path is not kept, or made-up names would fill the memory.
KNOWN_PATH_BYTES_MAX = 256


# The default headers that were valid when it was made, and an answer's bytes up to its content-length.
_Head = tuple[list[tuple[bytes, bytes]], bytes]


class Claim(NamedTuple):
    """An inference: what it names, and the dialect that answers it."""

    dialect: Dialect
    target: Target

    def infer(
        self, route: Route | None, headers: Iterable[tuple[bytes, bytes]], body: bytes, context: Context
    ) -> Reply:
        """The dialect's reply, its refusals included. The route is closed then."""
        names = self.dialect.header_names
        read: dict[bytes, bytes] = {}
        for name, value in headers if names else ():
            if name in names:  # a header that comes twice is one list
                read[name] = b"%b, %b" % (read[name], value) if name in read else value
        try:
            return self.dialect.infer(self.target, route, read, body, context)
        except Exception as error:
            if route is not None:
                route.close()
            return self.dialect.refuse(error if isinstance(error, HttpError) else as_serving_error(error))


class Claims:
    """Asks the dialects in their order. For use on one thread, the event loop's.

    router: chooses the version for each claim whose target has a spec.

    Attributes:
        inferences: the claims of POSTs that run a model, by path, as far as `find` was asked for them.
        reader: reads the headers that any of the dialects wants.
        heads: how answers begin, by status, content type and headers; see `write_head`.
    """

    def __init__(self, dialects: Sequence[Dialect], router: Router) -> None:
        self.dialects = tuple(dialects)
        self.router = router
        self.inferences: dict[bytes, Claim] = {}
        self.heads: dict[tuple[int, bytes, Headers], _Head] = {}
        self.reader = native.http_reader(*sorted(frozenset().union(*(one.header_names for one in self.dialects))))
        self._known = lru_cache(maxsize=KNOWN_MAX)(self._ask)
        self._is_pausing = False

    def pause_if_full(self) -> None:
        """A request was refused because its version is full. Where all are (see `Router.full_for_s`), the event loop
        works off what it has, and then sleeps."""
        if self._is_pausing or not (pause_s := self.router.full_for_s()):
            return

        def pause() -> None:
            self._is_pausing = False
            time.sleep(pause_s)

        self._is_pausing = True
        asyncio.get_running_loop().call_soon(pause)

    def find(self, method: bytes, path: bytes) -> Claim | None:
        """The inference that a request asks for, None for any other request. `path` is as it came, without query."""
        if len(path) > KNOWN_PATH_BYTES_MAX:
            return self._ask(method, path)
        claim = self._known(method, path)
        if claim is not None and claim.target.spec is not None and method == b"POST":
            if len(self.inferences) >= KNOWN_MAX:
                self.inferences.clear()
            self.inferences[path] = claim
        return claim

    def write_head(
        self, status: int, content_type: bytes, headers: Headers, defaults: list[tuple[bytes, bytes]]
    ) -> _Head:  # fmt: skip
        """How an answer begins, from now on in `heads`, too. defaults: headers of every answer."""
        parts = [STATUS_LINE[status]]
        for name, value in (*defaults, *headers, (b"content-type", content_type)):
            parts += (name, b": ", value, b"\r\n")
        if len(self.heads) >= KNOWN_MAX:
            self.heads.clear()
        head = self.heads[status, content_type, headers] = (defaults, b"".join(parts))
        return head

    def below(self, path: str) -> Dialect | None:
        """The dialect whose URLs begin as this path does, None if there is none."""
        lower = path.lower()
        return next((dialect for dialect in self.dialects if lower.startswith(dialect.prefix)), None)

    def refuse(self, error: ServingError | HttpError, path: bytes = b"") -> Reply:
        """The reply to a request that could not be read as far as its dialect; the first dialect's form is taken where
        the path does not say whose it is."""
        return (self.below(path.decode("latin-1")) or self.dialects[0]).refuse(error)

    def _ask(self, method: bytes, path: bytes) -> Claim | None:
        for dialect in self.dialects:
            target = dialect.claims(method, path)
            if target is not None:
                return Claim(dialect, target)
        return None
