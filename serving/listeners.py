"""Where the server listens: makes both fronts by the flags, and says what keeps one from listening.

Owns which port and how many threads a front gets. Knows no dialect by name.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence

from estimator_serving.serving.config import FREE_PORT, OFF_PORT, Config, ConfigError
from estimator_serving.serving.dialects.base import Dialect
from estimator_serving.serving.grpc.credentials import read_credentials
from estimator_serving.serving.grpc.server import GrpcServer
from estimator_serving.serving.http.app import RestServer
from estimator_serving.serving.metrics import Exposition
from estimator_serving.serving.models import memory
from estimator_serving.serving.request import DEADLINE_S_MAX
from estimator_serving.serving.routing import Router
from estimator_serving.serving.running import batching
from estimator_serving.serving.startup import StartError

_log = logging.getLogger(__name__)

# Threads of a front without batching.
REQUEST_THREADS = 64


def make_rest(
    config: Config,
    dialects: Sequence[Dialect],
    router: Router,
    exposition: Exposition,
    unready: Callable[[], str],
    trouble: Callable[[], str],
) -> RestServer | None:
    """The HTTP front with its port bound, None if it is off. Raises StartError if it cannot listen."""
    if config.rest_api_port == config.port and config.port > OFF_PORT:
        _log.error("--rest_api_port is --port, %d; REST is off. Give it another port.", config.port)
        return None
    if config.rest_api_port == OFF_PORT:
        return None
    try:
        return RestServer(
            dialects, router, exposition, unready,
            address=config.bind_address, port=_bindable(config.rest_api_port),
            threads=threads_of(config, config.rest_api_num_threads), body_bytes_max=config.request_bytes_max,
            grace_s=config.shutdown_grace_seconds, timeout_s=min(config.rest_api_timeout_in_ms / 1000, DEADLINE_S_MAX),
            trouble=trouble, docs=config.rest_api_enable_docs,
        )  # fmt: skip
    except OSError as error:
        raise StartError(_taken("REST", "rest_api_port", config.bind_address, config.rest_api_port, error)) from error


def make_grpc(config: Config, dialects: Sequence[Dialect], unready: Callable[[], str]) -> GrpcServer | None:
    """The gRPC front with its port and socket bound, None if it has neither. Raises StartError if it cannot listen."""
    if config.port == OFF_PORT and not config.grpc_socket_path:
        return None
    try:
        return GrpcServer(
            dialects,
            address=config.bind_address, port=None if config.port == OFF_PORT else _bindable(config.port),
            threads=threads_of(config, config.grpc_max_threads), message_bytes_max=config.request_bytes_max,
            grace_s=config.shutdown_grace_seconds, unready=unready, health=config.enable_grpc_healthcheck_service,
            credentials=read_credentials(config), socket_path=config.grpc_socket_path,
            arguments=config.channel_arguments(), held_bytes_max=memory.held_bytes_max(config.request_bytes_max),
        )  # fmt: skip
    except ConfigError as error:
        raise StartError(f"Failed to start server. Error: {error}") from error
    except OSError as error:
        # grpc's own error does not tell a port from a certificate from a socket.
        if config.port != OFF_PORT and not _can_bind(config.bind_address, _bindable(config.port)):
            raise StartError(_taken("gRPC", "port", config.bind_address, config.port, error)) from error
        if config.ssl_config_file:
            raise StartError(
                f"gRPC cannot speak TLS with --ssl_config_file={config.ssl_config_file}; check that server_key and "
                "server_cert are PEM texts and belong together."
            ) from error
        raise StartError(
            f"gRPC cannot listen on the socket {config.grpc_socket_path} ({_reason(error)}); "
            "stop what uses it or choose another --grpc_socket_path."
        ) from error


def _can_bind(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def threads_of(config: Config, threads: int) -> int:
    """The threads of a front. Requests that wait hold one each, so there are more than may run at once."""
    return max(threads, batching.REQUEST_THREADS if config.enable_batching else REQUEST_THREADS)


def _bindable(port: int) -> int:
    """A port as the operating system takes it, which knows a free one as 0."""
    return 0 if port == FREE_PORT else port


def _taken(front: str, flag: str, address: str, port: int, error: OSError) -> str:
    return (
        f"{front} cannot listen on {address}:{port} ({_reason(error)}); stop what uses it or choose another --{flag}."
    )


def _reason(error: OSError) -> str:
    return error.strerror or "the address cannot be bound"
