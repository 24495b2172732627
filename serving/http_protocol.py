"""uvicorn's HTTP protocol with a short cut: quick inferences are answered where the parser finds their end.

Owns when that is allowed and how such an answer is written; everything else takes uvicorn's normal way to the ASGI
application, which answers the same requests. An ASGI cycle (scope, task, events, messages) costs several times what a
small model does.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.predictor import QUICK_PAYLOAD_BYTES, Predictor
from estimator_serving.serving.tfs import rest

_HEAD = b"content-type: application/json\r\ncontent-length: %d\r\n"


_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding", b"expect"})


class InferProtocol(HttpToolsProtocol):
    """One connection. The parser calls the `on_` methods, in the order of the request's parts."""

    def __init__(self, predictor: Predictor, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._predictor = predictor
        self._target: rest.InferTarget | None = None
        self._body = b""
        self._closing = False

    def on_message_begin(self) -> None:
        # uvicorn begins by building a scope; here that waits until it is known that one is needed.
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._target = self._find_target()
        self._body = b""
        if self._target is None:
            url, headers = self.url, self.headers
            super().on_message_begin()
            super().on_url(url)
            for name, value in headers:
                super().on_header(name, value)
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._target is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        if self._target is None:
            super().on_message_complete()
        else:
            target, self._target = self._target, None
            self._answer(rest.infer(self._predictor, target, self._body))

    def shutdown(self) -> None:
        """Close now, or, in the middle of a request, after its answer."""
        if self._target is None:
            super().shutdown()
        else:
            self._closing = True

    def _find_target(self) -> rest.InferTarget | None:
        """What this request infers, None where it has to take the normal way.

        It has to when an earlier one on this connection is not answered yet (answers keep their order), when the client
        does not read its answers, or when its body is large, of unknown length, or held back until "100 Continue".
        """
        earlier = self.cycle is not None and not self.cycle.response_complete
        if self.parser.get_method() != b"POST" or earlier or self.flow.write_paused:
            return None
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            return None
        try:
            target = rest.infer_target(self.url.partition(b"?")[0])
        except InvalidArgumentError:
            return None
        length = self._content_length()
        if target is None or length > QUICK_PAYLOAD_BYTES or self.parser.should_upgrade():
            return None
        return target if self._predictor.is_quick(target.spec, length) else None

    def _content_length(self) -> int:
        """The body's length; more than is quick where other headers have a say in how the body comes, or none has."""
        lengths = [value for name, value in self.headers if name in _BODY_HEADERS]
        return int(lengths[0]) if len(lengths) == 1 and lengths[0].isdigit() else QUICK_PAYLOAD_BYTES + 1

    def _answer(self, reply: rest.Reply) -> None:
        stays = self.parser.should_keep_alive() and not self._closing
        parts = [STATUS_LINE[reply.status]]
        for name, value in self.server_state.default_headers:
            parts += (name, b": ", value, b"\r\n")
        parts += (_HEAD % len(reply.body), b"\r\n" if stays else b"connection: close\r\n\r\n", reply.body)
        self.transport.write(b"".join(parts))
        self.server_state.total_requests += 1
        if not stays:
            self.transport.close()
            return
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
