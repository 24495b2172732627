"""The strategies that a program names in RunConfig (tf.distribute's names).

They are settings. Which processes there are follows from TF_CONFIG or torchrun; one process is one replica, and all
strategies train alike: synchronously, with all variables in every process. Owns the settings and their checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from estimator_serving.training.distribute.cluster import cluster_of, read_tf_config


@dataclass(frozen=True)
class Replication:
    """What the strategies have in common.

    Attributes:
        backend: 'gloo', or 'nccl' to exchange gradients between CUDA devices.
        peer_timeout_s: how long a process may be silent until the others give it up, in seconds.
    """

    backend: str = "gloo"
    peer_timeout_s: float = 40.0

    def __post_init__(self) -> None:
        if self.backend not in ("gloo", "nccl"):
            raise ValueError(f"backend must be 'gloo' or 'nccl', got {self.backend!r}.")
        if self.peer_timeout_s < 5:
            raise ValueError(
                f"peer_timeout_s must be at least 5, got {self.peer_timeout_s}: processes say every 2 s that they live."
            )

    @property
    def num_replicas_in_sync(self) -> int:
        """How many processes train together, by TF_CONFIG or torchrun."""
        return max(1, cluster_of(read_tf_config()).num_worker_replicas)

    @contextmanager
    def scope(self) -> Iterator[Replication]:
        """Changes nothing: an Estimator makes its variables by itself."""
        yield self

    def check(self, processes: int) -> None:
        """Raises ValueError where the strategy asks for another number of processes."""


class MirroredStrategy(Replication):
    """One replica in each process that torchrun started on this machine.

    `devices` may name them, one for each process. In TensorFlow one process drives all devices; here a process started
    without torchrun is one replica. Raises ValueError, when the training starts, for another number of processes.
    """

    def __init__(
        self,
        devices: Sequence[str] | None = None,
        cross_device_ops: Any = None,
        *,
        backend: str = "gloo",
        peer_timeout_s: float = 40.0,
    ) -> None:
        del cross_device_ops
        super().__init__(backend, peer_timeout_s)
        object.__setattr__(self, "devices", None if devices is None else tuple(devices))

    def check(self, processes: int) -> None:
        devices: tuple[str, ...] | None = vars(self)["devices"]
        if devices is not None and len(devices) != processes:
            raise ValueError(
                f"MirroredStrategy names {len(devices)} devices, and {processes} processes train. A replica is a "
                f"process here: start the program with torchrun --nproc_per_node={len(devices)}."
            )


class CentralStorageStrategy(MirroredStrategy):
    """As MirroredStrategy: every process holds all variables, so there is no central storage to name."""

    def __init__(
        self,
        compute_devices: Sequence[str] | None = None,
        parameter_device: str | None = None,
        *,
        backend: str = "gloo",
        peer_timeout_s: float = 40.0,
    ) -> None:
        del parameter_device
        super().__init__(compute_devices, backend=backend, peer_timeout_s=peer_timeout_s)


class MultiWorkerMirroredStrategy(Replication):
    """One replica in the chief and in each worker of TF_CONFIG, or in each process of torchrun.

    `cluster_resolver` and `communication_options` change nothing: TF_CONFIG has the cluster, `backend` the transport.
    """

    def __init__(
        self,
        cluster_resolver: Any = None,
        communication_options: Any = None,
        *,
        backend: str = "gloo",
        peer_timeout_s: float = 40.0,
    ) -> None:
        del cluster_resolver, communication_options
        super().__init__(backend, peer_timeout_s)


class ParameterServerStrategy:
    """Refused: no process holds variables for others here."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        raise ValueError(
            "ParameterServerStrategy is not supported: parameter servers train asynchronously on shared variables, and "
            "here every worker holds all variables and takes every step together with the others. Use "
            "MultiWorkerMirroredStrategy() with the same TF_CONFIG; its `ps` tasks then end at once."
        )


experimental = SimpleNamespace(
    CentralStorageStrategy=CentralStorageStrategy,
    MultiWorkerMirroredStrategy=MultiWorkerMirroredStrategy,
    ParameterServerStrategy=ParameterServerStrategy,
)
"""tf.distribute.experimental's names."""
