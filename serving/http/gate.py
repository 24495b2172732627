"""Who may come in by HTTP: asks the Authorizer for each request, before its body is read.

Owns which requests need no key: health checks, unless the operator wants them to, and the question that a browser asks
before it sends a key (CORS). Knows neither keys nor dialects.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from estimator_serving.serving.access.authorizer import NOBODY, Authorizer, Grant
from estimator_serving.serving.access.key_file import Right
from estimator_serving.serving.errors import UnauthenticatedError
from estimator_serving.serving.http.claims import Claim

# Where a scope holds what the certificate of the connection's client says.
CERTIFICATE_KEY = "estimator_serving.certificate"
# Where it holds the grant of the caller.
GRANT_KEY = "estimator_serving.grant"


class Gate:
    """The gate of one front. authorizer: None to let everybody in. open_paths: those that need no key."""

    def __init__(self, authorizer: Authorizer | None = None, open_paths: Collection[str] = ()) -> None:
        self.authorizer = authorizer
        self._open_paths = frozenset(path.encode() for path in open_paths)

    def admit(
        self,
        method: bytes,
        path: bytes,
        headers: Iterable[tuple[bytes, bytes]],
        certificate: Collection[str],
        claim: Claim | None,
    ) -> Grant | None:
        """The caller's grant, None where everybody may do everything.

        claim: the inference that is asked, None for any other request.

        Raises UnauthenticatedError, and PermissionDeniedError for an inference that the caller has no right to.
        """
        if self.authorizer is None:
            return None
        try:
            grant = self.authorizer.identify(headers, certificate)
        except UnauthenticatedError:
            if method == b"OPTIONS" or (method in (b"GET", b"HEAD") and path in self._open_paths):
                return NOBODY
            raise
        if claim is not None and claim.target.spec is not None:
            grant.check(Right.PREDICT, claim.target.spec.name)
        return grant
