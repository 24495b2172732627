"""Who may come in by gRPC: asks the Authorizer for each call.

Owns where a call carries its key, and the two moments at which it is asked: before the message is read, when only
metadata is there (an unknown key costs neither a thread nor memory), and when the call is answered, when the client's
certificate is there, too. Calls that stay open are remembered until they end, because a grant may be over before. Knows
no rpc.

This module uses one name of grpc's that is not public: the event of a call, by which grpc itself cancels it. It is the
only way to end a call with a status while its thread waits for the client.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from functools import partial
from typing import Any

import grpc

from estimator_serving.serving.access import identity
from estimator_serving.serving.access.authorizer import API_KEY, AUTHORIZATION, OVER_TEXT, Authorizer, Grant
from estimator_serving.serving.errors import Code, UnauthenticatedError

_NAMES = {name.decode(): name for name in (API_KEY, AUTHORIZATION)}


class Gate:
    """The gate of one front. authorizer: None to let everybody in."""

    def __init__(self, authorizer: Authorizer | None) -> None:
        self._authorizer = authorizer
        self._open: dict[grpc.ServicerContext, Grant] = {}
        self._lock = threading.Lock()

    def refusal(self, metadata: Any) -> str:
        """Why a call with this metadata is refused whatever its certificate, empty if it is not."""
        if self._authorizer is None:
            return ""
        headers = _headers(metadata)
        if not headers and self._authorizer.takes_certificates:
            return ""
        try:
            self._authorizer.identify(headers)
        except UnauthenticatedError as error:
            return str(error)
        return ""

    def admit(self, call: grpc.ServicerContext) -> Grant | None:
        """The caller's grant, None where everybody may do everything. Raises UnauthenticatedError."""
        if self._authorizer is None:
            return None
        headers = _headers(call.invocation_metadata())
        certificate = identity.of_grpc(call.auth_context()) if self._authorizer.takes_certificates else ()
        return self._authorizer.identify(headers, certificate)

    def admit_stream(self, call: grpc.ServicerContext) -> Grant | None:
        """As `admit`, for a call that may stay open: `end_streams` ends it."""
        grant = self.admit(call)
        if grant is not None:
            with self._lock:
                self._open[call] = grant
            if not call.add_callback(partial(self._forget, call)):
                self._forget(call)
        return grant

    def end_streams(self) -> None:
        """End the open calls whose grants are over, also those that only wait."""
        with self._lock:
            over = [call for call, grant in self._open.items() if grant.is_over]
        for call in over:
            call._rpc_event.call.cancel(int(Code.UNAUTHENTICATED), OVER_TEXT)

    def _forget(self, call: grpc.ServicerContext) -> None:
        with self._lock:
            self._open.pop(call, None)


def _headers(metadata: Iterable[tuple[str, Any]]) -> list[tuple[bytes, bytes]]:
    return [
        (_NAMES[name], value if isinstance(value, bytes) else value.encode())
        for name, value in metadata or ()
        if name in _NAMES
    ]
