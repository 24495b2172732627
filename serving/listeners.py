"""Where the server listens: makes both fronts by the flags, and says what keeps one from listening.

Owns which port, which TLS and how many threads a front gets, and the warning about a port that everybody may use. Knows
no dialect by name.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import partial

from estimator_serving.serving.access.authorizer import Authorizer
from estimator_serving.serving.config import FREE_PORT, OFF_PORT, Config, ConfigError
from estimator_serving.serving.dialects.base import Dialect
from estimator_serving.serving.grpc.credentials import make_credentials
from estimator_serving.serving.grpc.server import GrpcServer
from estimator_serving.serving.http.app import RestServer
from estimator_serving.serving.metrics import Exposition
from estimator_serving.serving.models import memory
from estimator_serving.serving.renewal import Renewal
from estimator_serving.serving.request import DEADLINE_S_MAX
from estimator_serving.serving.routing import Router
from estimator_serving.serving.running import batching
from estimator_serving.serving.startup import StartError
from estimator_serving.serving.tls import Tls, read_files, read_ssl_config

_log = logging.getLogger(__name__)

# The address is not one of this machine, is of a family that it lacks, or is in a form that gRPC's library, whose own
# errors have no number, does not know.
_ADDRESS_FAULTS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL, None)
# Threads of a front without batching.
REQUEST_THREADS = 64


def make_rest(
    config: Config,
    dialects: Sequence[Dialect],
    router: Router,
    exposition: Exposition,
    unready: Callable[[], str],
    trouble: Callable[[], str],
    authorizer: Authorizer | None = None,
    tls: Tls | None = None,
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
            address=config.rest_address, port=bindable(config.rest_api_port),
            threads=threads_of(config, config.rest_api_num_threads), body_bytes_max=config.request_bytes_max,
            grace_s=config.shutdown_grace_seconds, timeout_s=min(config.rest_api_timeout_in_ms / 1000, DEADLINE_S_MAX),
            trouble=trouble, docs=config.rest_api_enable_docs, tls=tls.server_context() if tls else None,
            authorizer=authorizer, auth_for_health=config.auth_for_health,
            processes=config.worker_processes,
        )  # fmt: skip
    except OSError as error:
        raise StartError(cannot_listen(config, "rest_api_port", error)) from error


def make_grpc(
    config: Config,
    dialects: Sequence[Dialect],
    unready: Callable[[], str],
    authorizer: Authorizer | None = None,
    tls: Tls | None = None,
) -> GrpcServer | None:
    """The gRPC front with its port and socket bound, None if it has neither. Raises StartError if it cannot listen."""
    if config.port == OFF_PORT and not config.grpc_socket_path:
        return None
    try:
        return GrpcServer(
            dialects,
            address=config.grpc_address, port=None if config.port == OFF_PORT else bindable(config.port),
            threads=threads_of(config, config.grpc_max_threads), message_bytes_max=config.request_bytes_max,
            grace_s=config.shutdown_grace_seconds, unready=unready, health=config.enable_grpc_healthcheck_service,
            credentials=make_credentials(tls, alts=config.use_alts_credentials), socket_path=config.grpc_socket_path,
            arguments=config.channel_arguments(), shares_port=config.worker_processes > 0,
            held_bytes_max=memory.held_bytes_max(config.request_bytes_max, max(1, config.worker_processes)),
            authorizer=authorizer, auth_for_health=config.auth_for_health,
        )  # fmt: skip
    except OSError as error:
        # grpc's own error does not tell a port from a certificate from a socket.
        fault = None if config.port == OFF_PORT else _bind_fault(config.grpc_address, bindable(config.port))
        if fault is None and tls is not None:
            raise StartError(
                f"gRPC cannot speak TLS with --ssl_config_file={config.ssl_config_file or config.tls_cert_file}; its "
                "library takes fewer kinds of keys than OpenSSL does: give an RSA key, or one of the curve P-256."
            ) from error
        if fault is None and config.grpc_socket_path:
            raise StartError(
                f"gRPC cannot listen on the socket {config.grpc_socket_path} ({_reason(error)}); "
                "stop what uses it or choose another --grpc_socket_path."
            ) from error
        raise StartError(cannot_listen(config, "port", fault or error)) from error


def make_tls(config: Config) -> tuple[Tls | None, Tls | None, list[Renewal]]:
    """What REST and gRPC speak TLS with, None for plain text, and what reads it again.

    Raises StartError if a key or certificate cannot be used.
    """
    rest = grpc = None
    renewals = []
    try:
        if config.tls_cert_file:
            # With a file of keys, a client without a certificate may send a key, and health checks need neither.
            # gRPC's library has no such way.
            clients = ssl.CERT_OPTIONAL if config.auth_file else ssl.CERT_REQUIRED
            rest = Tls(partial(read_files, config), clients)
            paths = [config.tls_cert_file, config.tls_key_file, config.tls_client_ca_file]
            renewals.append(Renewal("TLS of REST", paths, rest.renew))
            if not config.ssl_config_file and not config.use_alts_credentials:
                grpc = Tls(partial(read_files, config))
                renewals.append(Renewal("TLS of gRPC", paths, grpc.renew))
        if config.ssl_config_file:
            grpc = Tls(partial(read_ssl_config, config))
            renewals.append(Renewal("TLS of gRPC", [config.ssl_config_file], grpc.renew))
    except ConfigError as error:
        raise StartError(f"Failed to start server. Error: {error}") from error
    return rest, grpc, renewals


def open_to_all(config: Config, rest: Tls | None, grpc: Tls | None) -> str:
    """The addresses beyond this machine at which everybody may ask everything; empty for none."""
    listeners = [
        (config.rest_api_port, config.rest_address, rest is not None and rest.material.authorities is not None),
        (config.port, config.grpc_address, grpc is not None and grpc.material.authorities is not None),
    ]
    return " and ".join(
        dict.fromkeys(
            address
            for port, address, asks_certificates in listeners
            if port != OFF_PORT and not config.auth_file and not asks_certificates and not _is_loopback(address)
        )
    )


def _is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address, or each that a name stands for; a name may stand for any."""
    try:
        found = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ipaddress.ip_address(where[0]).is_loopback for *_, where in found)


def _bind_fault(address: str, port: int) -> OSError | None:
    """Why a port cannot be bound, None where it can."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error
    return None


def threads_of(config: Config, threads: int) -> int:
    """The threads of a front. Requests that wait hold one each, so there are more than may run at once."""
    return max(threads, batching.REQUEST_THREADS if config.enable_batching else REQUEST_THREADS)


def bindable(port: int) -> int:
    """A port as the operating system takes it, which knows a free one as 0."""
    return 0 if port == FREE_PORT else port


def cannot_listen(config: Config, flag: str, error: OSError) -> str:
    """Why the front whose port `flag` gives cannot listen, and which flag mends it."""
    is_grpc = flag == "port"
    front, address = ("gRPC", config.grpc_address) if is_grpc else ("REST", config.rest_address)
    if isinstance(error, socket.gaierror) or error.errno in _ADDRESS_FAULTS:
        own = "grpc_bind_address" if is_grpc else "rest_api_bind_address"
        return (
            f"{front} cannot listen on {address} ({_reason(error)}); give --"
            f"{own if getattr(config, own) else 'bind_address'} an address of this machine, or 0.0.0.0 for all."
        )
    return (
        f"{front} cannot listen on {address}:{getattr(config, flag)} ({_reason(error)}); stop what uses it or choose "
        f"another --{flag}."
    )


def _reason(error: OSError) -> str:
    return error.strerror or "the address cannot be bound"
