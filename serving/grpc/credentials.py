"""The credentials of the gRPC server: TLS that is renewed, or ALTS.

Owns the step from TLS material to grpc's credentials. Knows no files and no ports.
"""

from __future__ import annotations

from typing import Any

import grpc

from estimator_serving.serving.tls import Material, Tls


def make_credentials(tls: Tls | None, *, alts: bool = False) -> Any:
    """grpc's server credentials, None for plain text. Each new connection takes the material that is there then."""
    if alts:
        return grpc.alts_server_credentials()
    if tls is None:
        return None
    # grpc asks at each handshake, and takes None for "as before".
    given = tls.material

    def changed() -> Any:
        nonlocal given
        if tls.material is given:
            return None
        given = tls.material
        return _configuration(given)

    return grpc.dynamic_ssl_server_credentials(_configuration(given), changed, given.authorities is not None)


def _configuration(material: Material) -> Any:
    return grpc.ssl_server_certificate_configuration(
        [(material.key.encode(), material.chain.encode())],
        material.authorities.encode() if material.authorities is not None else None,
    )
