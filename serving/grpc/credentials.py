"""What gRPC proves itself with: TLS from --ssl_config_file, or ALTS.

Owns the step from an SSLConfig to grpc's credentials. Knows no ports.
"""

from __future__ import annotations

from typing import Any

import grpc

from estimator_serving.serving.config import Config, ConfigError
from estimator_serving.serving.models.model_config import parse_file
from estimator_serving.wire.pb import serving_pb


def read_credentials(config: Config) -> Any:
    """grpc's server credentials, None where it speaks plain text.

    Raises ConfigError where the SSLConfig cannot be read or lacks what TLS needs.
    """
    if config.use_alts_credentials:
        return grpc.alts_server_credentials()
    if not config.ssl_config_file:
        return None
    ssl = parse_file("ssl_config_file", config.ssl_config_file, serving_pb.SSLConfig())
    if not ssl.server_key or not ssl.server_cert:
        raise ConfigError(
            f"--ssl_config_file={config.ssl_config_file} lacks server_key or server_cert; both hold a PEM text."
        )
    if ssl.client_verify and not ssl.custom_ca:
        raise ConfigError(
            f"--ssl_config_file={config.ssl_config_file} sets client_verify without custom_ca; "
            "give the PEM text of the authority that signs the clients' certificates."
        )
    return grpc.ssl_server_credentials(
        [(ssl.server_key.encode(), ssl.server_cert.encode())],
        root_certificates=ssl.custom_ca.encode() or None,
        require_client_auth=ssl.client_verify,
    )
