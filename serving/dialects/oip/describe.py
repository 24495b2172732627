"""What the protocol says about a server and its models: metadata, configuration, readiness, statistics.

Owns these documents as Python values in the shape of the protocol's JSON, which is also the shape of its messages; both
transports write them out. Knows neither URLs nor rpcs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import metadata
from typing import Any, NamedTuple

from estimator_serving.serving.dialects.oip import datatypes, infer
from estimator_serving.serving.errors import NotFoundError
from estimator_serving.serving.metrics import Done
from estimator_serving.serving.models.manager import Manager
from estimator_serving.serving.models.model_files import MODEL_FILE
from estimator_serving.serving.policy import All, Latest, State, VersionPolicy
from estimator_serving.serving.request import ModelSpec
from estimator_serving.serving.running.servable import Servable
from estimator_serving.wire.signatures import TensorInfo

NAME = "estimator-serving"
# What Triton calls an ONNX model; its clients know no other word.
PLATFORM, BACKEND = "onnxruntime_onnx", "onnxruntime"
EXTENSIONS = (
    "classification", "model_repository", "model_repository(unload_dependents)", "model_configuration",
    "binary_tensor_data", "parameters", "statistics", "logging",
)  # fmt: skip
SHARED_MEMORY = "system_shared_memory"
# What stands for "as many rows as you like": the largest number that the field holds.
_ROWS_MAX = 2**31 - 1

Document = dict[str, Any]


@cache
def _version() -> str:
    return metadata.version(NAME)


def server(*, shared_memory: bool) -> Document:
    """The server's metadata."""
    extensions = [*EXTENSIONS, SHARED_MEMORY] if shared_memory else list(EXTENSIONS)
    return {"name": NAME, "version": _version(), "extensions": extensions}


class Models(NamedTuple):
    """Documents of a manager's models.

    kind: KIND_CPU or KIND_GPU, by the device that runs the models.
    policy: which versions of a model are served, by its name; None for an unknown one.
    did: what a version did.
    """

    manager: Manager
    kind: str
    policy: Callable[[str], VersionPolicy | None]
    did: Callable[[str, int], Done]

    def metadata(self, spec: ModelSpec) -> Document:
        """Inputs and outputs of the signature that answers by default. Raises NotFoundError."""
        with _pinned(self.manager, spec) as servable:
            signature_name = infer.default_signature(servable)
            signature = servable.signatures[signature_name]
            statuses = self.manager.status(spec.name)
            available = sorted(status.version for status in statuses if status.state is State.AVAILABLE)
            return {
                "name": servable.name,
                "versions": [str(version) for version in available],
                "platform": PLATFORM,
                "inputs": [_tensor(name, info) for name, info in signature.inputs.items()],
                "outputs": [_tensor(name, info) for name, info in signature.outputs.items()],
                "properties": {
                    "signature_name": signature_name,
                    "signature_names": ",".join(sorted(servable.signatures)),
                },
            }

    def config(self, spec: ModelSpec) -> Document:
        """The configuration as Triton would have it. Raises NotFoundError."""
        with _pinned(self.manager, spec) as servable:
            signature_name = infer.default_signature(servable)
            signature = servable.signatures[signature_name]
            rows_max = _rows_max(servable, signature_name)
            batching = {}
            if servable.batching and rows_max:
                delay_us = round(servable.batching.batch_timeout_s * 1e6)
                batching = {
                    "dynamic_batching": {
                        "preferred_batch_size": list(servable.batching.allowed_batch_sizes),
                        "max_queue_delay_microseconds": delay_us,
                        "preserve_ordering": False,
                        "priority_levels": 0,
                        "default_priority_level": 0,
                    }
                }
            return {
                "name": servable.name,
                "platform": PLATFORM,
                "backend": BACKEND,
                "version_policy": _policy(self.policy(servable.name)),
                "max_batch_size": rows_max,
                "input": [
                    _config_tensor(name, info, rows_max)
                    | {"format": "FORMAT_NONE", "allow_ragged_batch": False, "optional": name in signature.defaults}
                    for name, info in signature.inputs.items()
                ],
                "output": [
                    _config_tensor(name, info, rows_max) | {"label_filename": ""}
                    for name, info in signature.outputs.items()
                ],
                "instance_group": [{"name": f"{servable.name}_0", "kind": self.kind, "count": 1, "gpus": []}],
                "default_model_filename": MODEL_FILE,
                **batching,
                "parameters": {"signature_name": {"string_value": signature_name}},
                "model_transaction_policy": {"decoupled": False},
                "response_cache": {"enable": False},
            }

    def is_ready(self, spec: ModelSpec) -> bool:
        try:
            with _pinned(self.manager, spec):
                return True
        except NotFoundError:
            return False

    def statistics(self, spec: ModelSpec | None) -> Document:
        """What the loaded versions did: of one model, of one version, or of all models. Raises NotFoundError."""
        if spec is not None:
            with _pinned(self.manager, spec):
                pass
        chosen = [
            servable
            for servable in self.manager.servables()
            if spec is None or (servable.name == spec.name and spec.version in (None, servable.version))
        ]
        chosen.sort(key=lambda servable: (servable.name, servable.version))
        return {"model_stats": [self._statistics(servable) for servable in chosen]}

    def _statistics(self, servable: Servable) -> Document:
        work, executions, queued_s = self.did(servable.name, servable.version)
        done = work.successes
        return {
            "name": servable.name,
            "version": str(servable.version),
            "last_inference": int(work.last_s * 1000),
            "inference_count": work.rows,
            "execution_count": executions,
            "inference_stats": {
                "success": _duration(done, work.success_s),
                "fail": _duration(work.failures, work.failed_s),
                "queue": _duration(done, queued_s),
                "compute_input": _duration(done, work.read_s),
                "compute_infer": _duration(done, max(0.0, work.run_s - queued_s)),
                "compute_output": _duration(done, work.write_s),
                "cache_hit": _duration(0, 0),
                "cache_miss": _duration(0, 0),
            },
            "batch_stats": [],
            "memory_usage": [],
            "response_stats": {},
        }


def _pinned(manager: Manager, spec: ModelSpec) -> Any:
    """The loaded version that a spec names, as a context manager. Raises NotFoundError in Triton's words."""
    try:
        return manager.servable(spec)
    except NotFoundError:
        raise infer.unknown_model(spec) from None


def _shape(info: TensorInfo) -> list[int]:
    """The shape; one open dimension where not even the rank is known."""
    return [-1] if info.shape is None else list(info.shape)


def _tensor(name: str, info: TensorInfo) -> Document:
    return {"name": name, "datatype": datatypes.of(info.dtype).name, "shape": _shape(info)}


def _config_tensor(name: str, info: TensorInfo, rows_max: int) -> Document:
    dims = _shape(info)[1:] if rows_max else _shape(info)
    return {"name": name, "data_type": datatypes.of(info.dtype).config_name, "dims": dims, "is_shape_tensor": False}


def _rows_max(servable: Servable, signature_name: str) -> int:
    """The largest batch; 0 if dimension 0 is no batch, or is not declared at all."""
    signature = servable.signatures[signature_name]
    infos = (*signature.inputs.values(), *signature.outputs.values())
    if not servable.has_rows(signature_name) or any(info.shape is None for info in infos):
        return 0
    return servable.batching.max_batch_size if servable.batching else _ROWS_MAX


def _policy(policy: VersionPolicy | None) -> Document:
    if policy is None or isinstance(policy, Latest):
        return {"latest": {"num_versions": policy.num_versions if policy else 1}}
    return {"all": {}} if isinstance(policy, All) else {"specific": {"versions": sorted(policy.versions)}}


def _duration(count: int, seconds: float) -> Document:
    return {"count": count, "ns": round(seconds * 1e9)}
