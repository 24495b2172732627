"""The processes of one training: how they find each other, and a Strategy over torch.distributed.

The theory. The chief opens the store at its address (TF_CONFIG), or torchrun has one. In the store the chief writes
where it listens and a token. Every other process connects there and says its rank; when all have come, the chief greets
them. A process that comes to a chief of an earlier run is sent away, and tries again.

One connection is kept for all trainings of a process. After an error it is closed, in all processes since each of them
notices, and the next training makes a new one.

Owns finding each other, and what is exchanged: gradients through a transfer (transfer.py), small values over the
channel. Does not know the training loop.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime as dt
import itertools
import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from estimator_serving.training.distribute.channel import VALUE, Channel, Link
from estimator_serving.training.distribute.cluster import Cluster
from estimator_serving.training.distribute.strategies import Replication
from estimator_serving.training.distribute.strategy import OneProcess, Result, Strategy
from estimator_serving.training.distribute.transfer import GroupTransfer, Transfer, shared_memory
from estimator_serving.training.errors import PeerLostError
from estimator_serving.training.optimizers.gradients import coalesced

logger = logging.getLogger("estimator_serving.training")

_KEY = "estimator_serving/chief"
_HELLO_BYTES = 64
_REMIND_S = 10.0

dist: Any = torch.distributed  # torch types only some of it
_connected: dict[tuple[Any, ...], TorchDistributed] = {}


def connect(cluster: Cluster, replication: Replication | None, timeout_s: float) -> Strategy:
    """The strategy of this process's trainings; connects to the other processes of the cluster the first time.

    Raises ValueError where the replication does not fit the cluster, TimeoutError after `timeout_s` without them.
    """
    given = replication or Replication()
    given.check(cluster.num_worker_replicas)
    if cluster.num_worker_replicas <= 1:
        return OneProcess()
    key = (tuple(cluster.training_names), cluster.global_id, given.backend)
    if key not in _connected:
        _connected[key] = TorchDistributed(cluster, given, timeout_s)
    return _connected[key]


class TorchDistributed(Strategy):
    """One replica in each process; gradients go through shared memory, or a process group (gloo, or nccl on CUDA)."""

    def __init__(self, cluster: Cluster, replication: Replication, timeout_s: float) -> None:
        assert cluster.global_id is not None
        self.num_replicas, self.replica_id = cluster.num_worker_replicas, cluster.global_id
        self._names = cluster.training_names
        logger.info("%s of %d joins the training.", self._names[self.replica_id], self.num_replicas)
        limit_s = replication.peer_timeout_s
        meet = _receive_all if self.replica_id == 0 else _go_to_chief
        store, token, links = meet(cluster, timeout_s, limit_s)
        self._channel = Channel(self.replica_id, links, self._names, limit_s)
        device = torch.device("cpu")
        if replication.backend == "nccl":
            if not torch.cuda.is_available():
                raise ValueError("backend='nccl' needs CUDA, and torch finds no device. Leave backend at 'gloo'.")
            local = int(os.environ.get("LOCAL_RANK", self.replica_id)) % torch.cuda.device_count()
            device = torch.device("cuda", local)
        self._transfer: Transfer
        try:
            shared = shared_memory(self._channel, self.num_replicas) if replication.backend == "gloo" else None
            # The first imports of a process may take longer than a short silence limit.
            place = dist.PrefixStore(token, store), self.replica_id, self.num_replicas, max(limit_s, 30.0)
            self._transfer = shared or GroupTransfer(replication.backend, *place, device)
        except ValueError as error:
            self._channel.leave(f"{self._names[self.replica_id]} ended with ValueError: {error}")
            raise
        except RuntimeError as error:
            lost = self._channel.lost_peer(error)
            self._channel.leave(lost.peer)
            raise lost from error
        logger.debug("Gradients meet in %s.", "shared memory" if shared else f"a process group ({replication.backend})")
        self._store = store  # the chief's holds the server
        atexit.register(self.close)

    def reduce(self, gradients: Sequence[Tensor | None], borrow: bool = False) -> Sequence[Tensor | None]:
        own = coalesced(gradients)
        mine: list[_Description] = [
            ("none", "", (), 0)
            if g is None
            else ("sparse", str(g.dtype), tuple(g.shape), len(g.values()))
            if g.is_sparse
            else ("dense", str(g.dtype), tuple(g.shape), 0)
            for g in own
        ]
        groups: dict[tuple[str, str], list[int]] = {}
        for i, (kind, dtype, _, _) in enumerate(mine):
            groups.setdefault((kind, dtype), []).append(i)
        groups.pop(("none", ""), None)
        dense = [group for group in groups if group[0] == "dense"]
        everyones: list[list[_Description]] = []

        def meet() -> None:
            everyones.extend(self._descriptions(mine))

        try:
            if not dense:
                meet()
            # Dense ones come first: to be told what the others have is also to wait until they have handed it over.
            for kind, dtype in sorted(groups):
                members = groups[kind, dtype]
                chosen: list[Any] = [own[i] for i in members]
                if kind == "dense":
                    means = self._transfer.mean(chosen, self.barrier if everyones else meet, borrow and len(dense) == 1)
                else:
                    means = [*self._sparse(chosen, [[theirs[i][3] for i in members] for theirs in everyones])]
                for i, mean in zip(members, means, strict=True):
                    own[i] = mean
        except PeerLostError:
            raise
        except RuntimeError as error:  # of gloo: an end or a timeout, without the name of a process
            raise self._channel.lost_peer(error) from error
        return own

    def _descriptions(self, mine: list[_Description]) -> list[list[_Description]]:
        """What the gradients of all processes are, by rank. Raises ValueError where they differ from this one's."""
        everyones: list[list[_Description]] = self._channel.exchange(mine)
        for rank, theirs in enumerate(everyones):
            kinds, other_kinds = [each[:3] for each in mine], [each[:3] for each in theirs]
            if kinds != other_kinds:
                differing = [pair for pair in itertools.zip_longest(other_kinds, kinds) if pair[0] != pair[1]]
                raise ValueError(
                    f"{self._names[rank]} has other gradients than {self._names[self.replica_id]}: "
                    f"{differing[0][0]} and {differing[0][1]}. model_fn must compute alike in all processes."
                )
        return everyones

    def _sparse(self, gradients: Sequence[Any], counts: list[list[int]]) -> Iterator[Tensor]:
        """The ids and rows of all tables, as bytes in one transfer."""
        dtype = gradients[0].dtype
        widths = [gradient.shape[1:].numel() for gradient in gradients]
        lengths = [[n * width for n, width in zip(each, widths, strict=True)] for each in counts]
        id_bytes = [sum(each) * torch.int64.itemsize for each in counts]
        all_bytes = [ids + sum(each) * dtype.itemsize for ids, each in zip(id_bytes, lengths, strict=True)]
        own = [torch.cat([g.indices()[0] for g in gradients]), torch.cat([g.values().reshape(-1) for g in gradients])]
        everyones = self._transfer.gather(torch.cat([each.view(torch.uint8) for each in own]), all_bytes)
        parts = [
            (each[:size].view(torch.int64), each[size:].view(dtype))
            for each, size in zip(everyones, id_bytes, strict=True)
        ]
        ids_by_rank = [torch.split(ids, sizes) for (ids, _), sizes in zip(parts, counts, strict=True)]
        rows_by_rank = [torch.split(rows, sizes) for (_, rows), sizes in zip(parts, lengths, strict=True)]
        for i, gradient in enumerate(gradients):
            indices = torch.cat([each[i] for each in ids_by_rank])
            values = torch.cat([each[i] for each in rows_by_rank]).reshape(-1, *gradient.shape[1:])
            total = torch.sparse_coo_tensor(
                indices[None], values / self.num_replicas, gradient.shape, check_invariants=False
            )
            yield total.coalesce()

    def agree(self, ready: bool) -> bool:
        answers = self._channel.exchange(ready)
        if not all(answers) and any(answers):
            logger.info("The training ends for all: %s", ", ".join(self._of(answers, False)))
        return all(answers)

    def mean_loss(self, loss: float) -> float:
        # In Python: every process adds up the same numbers in the same order, and a NaN stays one.
        losses: list[float] = self._channel.exchange(loss)
        bad = [value != value for value in losses]
        if any(bad):
            logger.error("The loss is NaN in %s.", ", ".join(self._of(bad, True)))
        return sum(losses) / self.num_replicas

    def on_chief(self, work: Callable[[], Result]) -> Result:
        made: tuple[Any, Exception | None] = None, None
        if self.is_chief:
            try:
                made = work(), None
            except Exception as error:
                made = None, error
        value, raised = self._channel.from_chief(made)
        if raised is not None:
            raise raised
        result: Result = value
        return result

    def barrier(self) -> None:
        self._channel.exchange(None)

    def check_alike(self, model: Mapping[str, str]) -> None:
        everyones: list[Mapping[str, str]] = self._channel.exchange(model)
        chiefs = everyones[0]
        for rank, theirs in enumerate(everyones):
            for name in sorted(chiefs.keys() | theirs.keys()):
                if theirs.get(name) != chiefs.get(name):
                    raise ValueError(
                        f"{self._names[rank]} trains another model than the chief: {name} is "
                        f"{theirs.get(name, 'missing')} there and {chiefs.get(name, 'missing')} in the chief. Start "
                        "all processes with the same program, columns and vocabulary files."
                    )

    def leave(self, error: BaseException) -> None:
        said = f"{self._names[self.replica_id]} ended with {type(error).__name__}: {error}"
        self._channel.leave(error.peer if isinstance(error, PeerLostError) else said)
        self.close()

    def close(self) -> None:
        """Take no further part; the next training connects again."""
        atexit.unregister(self.close)
        for key in [key for key, value in _connected.items() if value is self]:
            del _connected[key]
        self._channel.close()
        self._transfer.close()

    def _of(self, answers: Sequence[bool], wanted: bool) -> list[str]:
        return [name for name, answer in zip(self._names, answers, strict=True) if answer is wanted]


_Description = tuple[str, str, tuple[int, ...], int]
"""What the processes tell each other of a gradient: kind, dtype, shape, and how many rows a sparse one has."""


# -- finding each other -----------------------------------------------------------------------------------------------


def _store(cluster: Cluster, timeout_s: float) -> Any:
    timeout = dt.timedelta(seconds=timeout_s)
    if cluster.is_torchrun:
        return next(rendezvous("env://", timeout=timeout))[0]
    host, port = cluster.chief_address
    return dist.TCPStore(host, port, is_master=cluster.global_id == 0, timeout=timeout, wait_for_workers=False)


def _receive_all(cluster: Cluster, timeout_s: float, send_timeout_s: float) -> tuple[Any, str, dict[int, Link]]:
    """The store, a token of this connection, and the links to all others."""
    host, port = cluster.chief_address
    try:
        store = _store(cluster, timeout_s)
    except RuntimeError as error:
        raise ValueError(
            f"The chief cannot listen at {host}:{port} ({error}). Another process uses the port, perhaps a chief of "
            "the same cluster: end it, or choose another port in TF_CONFIG."
        ) from error
    token = secrets.token_hex(8)
    names, links = cluster.training_names, dict[int, Link]()
    began_s = reminded_s = time.monotonic()
    with socket.create_server(("", 0), backlog=len(names)) as listener:
        listener.settimeout(1.0)
        store.set(_KEY, f"{host} {listener.getsockname()[1]} {token}")
        while missing := [name for rank, name in enumerate(names) if rank and rank not in links]:
            now_s = time.monotonic()
            if now_s - began_s > timeout_s:
                raise TimeoutError(f"{_listed(missing)} did not come within {timeout_s:.0f} s. {_START_ALL}")
            if now_s - reminded_s > _REMIND_S:
                reminded_s = now_s
                logger.warning("Waiting for %s.", _listed(missing))
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                connection.settimeout(5.0)
                said = connection.recv(_HELLO_BYTES, socket.MSG_WAITALL).decode(errors="replace").split()
                if len(said) == 2 and said[0] == token and said[1].isdigit() and 0 < int(said[1]) < len(names):
                    links[int(said[1])] = Link(connection, send_timeout_s)
                else:
                    connection.close()
    for link in links.values():
        link.send(VALUE, token)
    return store, token, links


def _go_to_chief(cluster: Cluster, timeout_s: float, send_timeout_s: float) -> tuple[Any, str, dict[int, Link]]:
    """The store, the token of this connection, and the link to the chief."""
    began_s = reminded_s = time.monotonic()
    while (left_s := began_s + timeout_s - time.monotonic()) > 0:
        try:
            store = _store(cluster, min(left_s, _REMIND_S))
            store.wait([_KEY], dt.timedelta(seconds=min(left_s, _REMIND_S)))
            host, port, token = store.get(_KEY).decode().split()
            connection = socket.create_connection((host, int(port)), timeout=_REMIND_S)
            connection.sendall(f"{token} {cluster.global_id}".encode().ljust(_HELLO_BYTES))
            link = Link(connection, send_timeout_s)
            while link.end is None and not link.values and time.monotonic() < began_s + timeout_s:
                link.receive()
                time.sleep(0.02)
            if link.values and link.values.popleft() == token:
                return store, token, {0: link}
            connection.close()
        except (RuntimeError, OSError, ValueError) as error:  # no chief yet, or one that leaves
            logger.debug("The chief is not there yet: %s", error)
        if time.monotonic() - reminded_s > _REMIND_S:
            reminded_s = time.monotonic()
            logger.warning("Waiting for the chief at %s:%d.", *cluster.chief_address)
        time.sleep(0.3)
    raise TimeoutError(
        f"The chief at {cluster.chief_address[0]}:{cluster.chief_address[1]} did not answer within {timeout_s:.0f} s. "
        f"{_START_ALL}"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


_START_ALL = (
    "Start the same command in every process of the cluster; RunConfig.session_creation_timeout_secs says how long "
    "they wait for each other."
)
