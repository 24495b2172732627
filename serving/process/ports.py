"""The ports of a server whose worker processes all listen on them.

Owns which ports these are, and that no other server has them. Sockets that share a port (SO_REUSEPORT) would let a
second server of the same user share it, too, and take part of the connections. So a port is first taken without
sharing, which fails as it does for a server of one process; then a socket that accepts nothing holds it, so that it
stays this server's while its workers come and go.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from estimator_serving.serving import listeners
from estimator_serving.serving.config import FREE_PORT, OFF_PORT, Config
from estimator_serving.serving.startup import StartError

# Up to so many connections have descriptors below those of the listeners.
DESCRIPTOR_MAX = 4096
# Any address of a family, which grpc takes for those of both.
_ANY = ("0.0.0.0", "::")


def reserve(config: Config) -> tuple[Config, ExitStack]:
    """A Config that names the ports, free ones chosen, and what holds them until it is closed.

    Raises StartError for a port that is taken.
    """
    chosen: dict[str, int] = {}
    with ExitStack() as held:
        for flag, address in (("port", config.grpc_address), ("rest_api_port", config.rest_address)):
            port = getattr(config, flag)
            if port == OFF_PORT or (port in chosen.values() and port != FREE_PORT):
                continue
            try:
                chosen[flag] = _hold(address, listeners.bindable(port), held)
            except OSError as error:
                raise StartError(listeners.cannot_listen(config, flag, error)) from error
        return dataclasses.replace(config, **chosen), held.pop_all()  # type: ignore[arg-type]


@contextmanager
def high_descriptors() -> Iterator[None]:
    """Files that are opened in this block get descriptors above those of the connections to come.

    When a process is killed, Linux closes its files from the highest descriptor down. A client that sees its connection
    end would come back at once, to a listener that is about to be closed with all that wait for it; so the listeners
    have to be closed first.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        taken.append(os.open(os.devnull, os.O_RDONLY))
        while taken[-1] < min(DESCRIPTOR_MAX, limit // 2):
            taken.append(os.dup(taken[0]))
        yield
    finally:
        for one in taken:
            os.close(one)


def _hold(address: str, port: int, held: ExitStack) -> int:
    """Hold a port, 0 for a free one, as long as `held` is open; returns it."""
    names = _ANY if address in _ANY else (address,)
    with ExitStack() as probing:
        for name in names:
            probe = probing.enter_context(_socket(name, port))
            port = port or probe.getsockname()[1]
        # Linux gives a name to one socket only; it keeps out a server that starts at the same moment.
        lock = held.enter_context(socket.socket(socket.AF_UNIX))
        try:
            lock.bind(f"\0estimator-serving:{port}")
        except OSError as error:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from error
    for name in names:
        held.enter_context(_socket(name, port, shares=True))
    return port


def _socket(address: str, port: int, *, shares: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    one = socket.socket(family)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if shares:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        one.bind((address, port))
    except OSError as error:
        # A machine without IPv6 has nobody to share with there.
        if address not in _ANY or family == socket.AF_INET or error.errno == errno.EADDRINUSE:
            one.close()
            raise
    return one
