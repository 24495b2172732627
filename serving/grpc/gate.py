"""Who may come in by gRPC: asks the Authorizer for each call.

Owns where a call carries its key, and the two moments at which it is asked: before the message is read, when only
metadata is there (an unknown key costs neither a thread nor memory), and when the call is answered, when the client's
certificate is there, too. Knows no rpc.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc

from estimator_serving.serving.access import identity
from estimator_serving.serving.access.authorizer import API_KEY, AUTHORIZATION, Authorizer, Grant
from estimator_serving.serving.errors import UnauthenticatedError

_NAMES = {name.decode(): name for name in (API_KEY, AUTHORIZATION)}


class Gate:
    """The gate of one front. authorizer: None to let everybody in."""

    def __init__(self, authorizer: Authorizer | None) -> None:
        self._authorizer = authorizer

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


def _headers(metadata: Iterable[tuple[str, Any]]) -> list[tuple[bytes, bytes]]:
    return [
        (_NAMES[name], value if isinstance(value, bytes) else value.encode())
        for name, value in metadata or ()
        if name in _NAMES
    ]
