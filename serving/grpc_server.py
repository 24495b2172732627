"""The gRPC front: generic handlers over functions of bytes, in grpc's synchronous server.

Owns message sizes, the pool of threads and the one interceptor that turns errors into statuses. Knows no message: the
bytes go to the dialects as they came, which also spares generated stubs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from estimator_serving.serving.errors import as_serving_error

Answer = Callable[[bytes], bytes]

_STATUS_BY_CODE = {status.value[0]: status for status in grpc.StatusCode}


class ErrorInterceptor(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc ships no types
    """Ends every rpc whose function raised with the error's own code and text."""

    def __init__(self) -> None:
        self._guarded: dict[str, Any] = {}

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        guarded = self._guarded.get(details.method)
        if guarded is None:
            handler = continuation(details)
            if handler is None:
                return None
            guarded = self._guarded[details.method] = _guard(handler)
        return guarded


def _guard(handler: Any) -> Any:
    behavior = handler.unary_unary

    def answer(payload: Any, context: grpc.ServicerContext) -> Any:
        try:
            return behavior(payload, context)
        except Exception as error:
            known = as_serving_error(error)
            return context.abort(_STATUS_BY_CODE[known.code], known.message)

    return grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
    )


class GrpcServer:
    """The server. The port is bound when this is made, so that a taken one is known before models load.

    Raises OSError when the address cannot be bound.
    """

    def __init__(
        self,
        methods: Mapping[str, Mapping[str, Answer]],
        *,
        address: str,
        port: int,
        threads: int,
        message_bytes_max: int,
        grace_s: float,
    ) -> None:
        self._grace_s = grace_s
        self._server = grpc.server(
            ThreadPoolExecutor(threads, thread_name_prefix="grpc"),
            handlers=[_handlers(service, answers) for service, answers in methods.items()],
            interceptors=[ErrorInterceptor()],
            options=[
                ("grpc.max_receive_message_length", message_bytes_max),
                ("grpc.max_send_message_length", message_bytes_max),
                # Otherwise a second server on the same port would take half the calls instead of failing.
                ("grpc.so_reuseport", 0),
            ],
        )
        self.port = self._bind(address, port)

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        """Accept no more, let calls in flight finish within the grace period."""
        self._server.stop(self._grace_s).wait()

    def _bind(self, address: str, port: int) -> int:
        host = f"[{address}]" if ":" in address else address
        try:
            bound: int = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise OSError(str(error)) from error
        return bound


def _handlers(service: str, answers: Mapping[str, Answer]) -> Any:
    return grpc.method_handlers_generic_handler(service, {name: _handler(answer) for name, answer in answers.items()})


def _handler(answer: Answer) -> Any:
    def behavior(payload: bytes, _context: grpc.ServicerContext) -> bytes:
        return answer(payload)

    return grpc.unary_unary_rpc_method_handler(behavior)
