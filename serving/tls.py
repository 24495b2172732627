"""The keys and certificates by which a listener speaks TLS, read from files and checked before they are used.

Owns where they are read from (PEM files, or TensorFlow Serving's SSLConfig), the sentences about what is wrong with
them, and Python's context for new connections. TLS 1.2 is the oldest version that is spoken.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from estimator_serving.serving.config import Config, ConfigError, read_text
from estimator_serving.serving.models.model_config import parse_file
from estimator_serving.wire.pb import serving_pb

_CERTIFICATE, _KEY, _ENCRYPTED = "-----BEGIN CERTIFICATE-----", "PRIVATE KEY-----", "ENCRYPTED"


class Material(NamedTuple):
    """PEM texts, checked.

    key, chain: the server's. authorities: of the clients' certificates, None where clients are asked for none.
    """

    key: str
    chain: str
    authorities: str | None = None


class Tls:
    """What one listener speaks TLS with, now. `renew` reads it again; new connections take what is there then.

    read: gives the material. clients: whether clients need a certificate, if authorities are given; ssl.CERT_OPTIONAL
    lets those in that have none.

    Raises ConfigError where the material cannot be used.
    """

    def __init__(self, read: Callable[[], Material], clients: ssl.VerifyMode = ssl.CERT_REQUIRED) -> None:
        self._read = read
        self._clients = clients
        self.material, self.current = self._made()

    def renew(self) -> None:
        """Raises ConfigError where what is there now cannot be used; then what was there before stays."""
        material, context = self._made()
        if (material.authorities is None) != (self.material.authorities is None):
            # gRPC's library takes this once, and half a file may lack the line that asks.
            raise ConfigError(
                "Whether clients need a certificate (client_verify) cannot change while the server runs; restart the "
                "server, or write it as it was."
            )
        self.material, self.current = material, context

    def _made(self) -> tuple[Material, ssl.SSLContext]:
        material = self._read()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        with _files(material.chain, material.key) as (chain, key):
            context.load_cert_chain(chain, key)
        if material.authorities is not None:
            context.load_verify_locations(cadata=material.authorities)
            context.verify_mode = self._clients
        return material, context

    def server_context(self) -> ssl.SSLContext:
        """A context for a listener, of which each new connection takes the current one."""
        return _Current(self)


class _Current(ssl.SSLContext):
    """asyncio and uvloop ask a listener's context for each connection's TLS, and nothing else."""

    _tls: Tls

    def __new__(cls, tls: Tls) -> _Current:
        made = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        made._tls = tls
        return made

    def __init__(self, tls: Tls) -> None:
        pass

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:
        return self._tls.current.wrap_bio(*arguments, **named)


def read_files(config: Config) -> Material:
    """The material of --tls_cert_file, --tls_key_file and --tls_client_ca_file. Raises ConfigError."""
    authorities = read_text("tls_client_ca_file", config.tls_client_ca_file) if config.tls_client_ca_file else None
    material = Material(
        read_text("tls_key_file", config.tls_key_file), read_text("tls_cert_file", config.tls_cert_file), authorities
    )
    return _checked(
        material,
        f"--tls_key_file={config.tls_key_file}",
        f"--tls_cert_file={config.tls_cert_file}",
        f"--tls_client_ca_file={config.tls_client_ca_file}",
    )


def read_ssl_config(config: Config) -> Material:
    """The material of --ssl_config_file. Raises ConfigError."""
    flag = f"--ssl_config_file={config.ssl_config_file}"
    message = parse_file("ssl_config_file", config.ssl_config_file, serving_pb.SSLConfig())
    if not message.server_key or not message.server_cert:
        raise ConfigError(f"{flag} lacks server_key or server_cert; both hold a PEM text.")
    if message.client_verify and not message.custom_ca:
        raise ConfigError(
            f"{flag} sets client_verify without custom_ca; give the PEM text of the authority that signs the clients' "
            "certificates."
        )
    authorities = message.custom_ca if message.client_verify else None
    return _checked(
        Material(message.server_key, message.server_cert, authorities),
        f"server_key of {flag}", f"server_cert of {flag}", f"custom_ca of {flag}",
    )  # fmt: skip


def _checked(material: Material, key_at: str, chain_at: str, authorities_at: str) -> Material:
    """Material that can be used. Raises ConfigError that names the file and the fault."""
    if _KEY not in material.key:
        raise ConfigError(f"{key_at} holds no private key as PEM text; give a file with `-----BEGIN PRIVATE KEY-----`.")
    if _ENCRYPTED in material.key:
        raise ConfigError(f"{key_at} is encrypted with a password; give the key without one, in a protected file.")
    for text, at in ((material.chain, chain_at), (material.authorities, authorities_at)):
        if text is None:
            continue
        if _CERTIFICATE not in text:
            raise ConfigError(f"{at} holds no certificate as PEM text; give a file with `{_CERTIFICATE}`.")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
        except ssl.SSLError as error:
            raise ConfigError(f"{at} holds a certificate that is broken ({_reason(error)}); make it anew.") from None
    try:
        with _files(material.chain, material.key) as (chain, key):
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"{key_at} is not the key of {chain_at}; give the two that belong together.") from None
        raise ConfigError(
            f"{key_at} cannot be used with {chain_at} ({_reason(error)}); check that the key is whole, and that the "
            "server's certificate comes first."
        ) from None
    return material


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "no PEM text").replace("_", " ").lower()


@contextlib.contextmanager
def _files(*texts: str) -> Iterator[list[str]]:
    """The texts as files, which is how ssl takes them; in memory, where the system has such files."""
    with contextlib.ExitStack() as stack:
        paths = []
        for text in texts:
            file: Any
            if hasattr(os, "memfd_create"):
                file = stack.enter_context(os.fdopen(os.memfd_create("pem"), "w"))
                paths.append(f"/proc/self/fd/{file.fileno()}")
            else:
                file = stack.enter_context(tempfile.NamedTemporaryFile("w"))
                paths.append(file.name)
            file.write(text)
            file.flush()
        yield paths
