"""Where versions run, and runs that pass through the memory which a GPU reaches by itself.

Owns what this server knows of a device: its execution provider, its options, its memory. Knows no signature and no
batch.

A GPU copies from and to ordinary memory in two steps, through a small buffer of its driver. It reaches pinned memory,
whose pages the system never moves, in one step:

    array of a request ──copied──▶ pinned memory ──▶ GPU ──run──▶ GPU ──▶ pinned memory, shown by the output's array

For few bytes the second step costs less than the calls that avoid it, so small runs stay with session.run. What the
graph takes or gives on the CPU (the bytes of Examples, text) never leaves ordinary memory.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from estimator_serving.serving.request import Array

if TYPE_CHECKING:
    from estimator_serving.serving.running.session import Bare

_log = logging.getLogger(__name__)

# CUDA's driver copies so much from ordinary memory without waiting for the GPU.
PINNED_BYTES_MIN = 1 << 16
_NVIDIA = 0x10DE  # PCI's number of the vendor
_PINNED = 5  # ONNX Runtime's HOST_ACCESSIBLE


class Device(NamedTuple):
    """Where versions run, and how.

    name: cpu or cuda. options: of the execution provider, by name. pinned_bytes_min: how many bytes a run has to move
    to pass through pinned memory, None for no run. graphs: whether runs of fixed shapes are captured and replayed as
    CUDA graphs. On the CPU both do the same with ordinary memory, at no gain, so that tests run there.
    """

    name: str = "cpu"
    options: Mapping[str, str] = MappingProxyType({})
    pinned_bytes_min: int | None = None
    graphs: bool = False

    @property
    def provider(self) -> str:
        """The execution provider that runs models on the device."""
        return f"{self.name.upper()}ExecutionProvider"

    @property
    def memory_name(self) -> str:
        """What ONNX Runtime calls the device's memory, where inputs are wanted and outputs appear."""
        return self.name.capitalize()


CPU = Device()


def device_of(name: str, options: Mapping[str, str] = MappingProxyType({}), *, graphs: bool = False) -> Device:
    """A device as a server uses it."""
    return Device(name, options, None if name == CPU.name else PINNED_BYTES_MIN, graphs)


# The first ONNX Runtime whose Python binding allocates where a session does.
MEMORY_SINCE = "1.30"


def has_memory(session: onnxruntime.InferenceSession) -> bool:
    """Whether this ONNX Runtime lets Python allocate memory on a session's device."""
    return hasattr(session._sess, "create_ortvalue_from_shape_and_type")


class Memory:
    """A device's memory, allocated as a session does.

    Attributes:
        host, pinned, own: the places where a value may be: ordinary memory, pinned memory, the device.
    """

    def __init__(self, session: onnxruntime.InferenceSession, device: Device) -> None:
        self._session = session._sess
        self.host = self.pinned = self.own = ort.OrtDevice(ort.OrtDevice.cpu(), ort.OrtDevice.default_memory(), 0)
        if device.name != CPU.name:
            number = int(device.options.get("device_id", "0"))
            gpu = ort.OrtDevice.gpu()
            self.pinned = ort.OrtDevice(gpu, _PINNED, _NVIDIA, number)
            self.own = ort.OrtDevice(gpu, ort.OrtDevice.default_memory(), _NVIDIA, number)

    def value(self, shape: tuple[int, ...], dtype: np.dtype[Any], place: Any) -> Any:
        """A new OrtValue of numbers. In ordinary and pinned memory its `numpy()` is a view that keeps it alive."""
        return self._session.create_ortvalue_from_shape_and_type(shape, dtype.type, place)


def places(session: onnxruntime.InferenceSession) -> tuple[dict[str, str], dict[str, str]]:
    """The name of the memory that each input of a graph is wanted in, and that each output appears in."""
    return (
        {node.name: one.name for node, one in zip(session.get_inputs(), session._sess.input_meminfos, strict=True)},
        {node.name: one.name for node, one in zip(session.get_outputs(), session._sess.output_meminfos, strict=True)},
    )


class PinnedRuns:
    """Runs a session's graph through pinned memory where that pays; a Bare. For graphs whose inputs are all numbers,
    and have no defaults.

    Any number of threads may call it at once, because no two runs share memory. The session's arena keeps the memory
    for later runs.
    """

    def __init__(self, session: onnxruntime.InferenceSession, device: Device, bytes_min: int) -> None:
        self._session = session._sess
        self._memory = memory = Memory(session, device)
        self._bytes_min = bytes_min
        inputs, outputs = places(session)
        self._on_host = frozenset(name for name, place in inputs.items() if place != device.memory_name)
        self._fetched = {
            name: memory.pinned if place == device.memory_name else memory.host for name, place in outputs.items()
        }
        # Of the last run; answers of one version are about as large as the last.
        self._output_bytes = 0

    def __call__(self, names: list[str], feeds: Mapping[str, Array], options: Any) -> list[Array]:
        if sum(array.nbytes for array in feeds.values()) + self._output_bytes < self._bytes_min:
            arrays: list[Array] = self._session.run(names, feeds, options)
        else:
            arrays = self._run(names, feeds, options)
        self._output_bytes = sum(array.nbytes for array in arrays)
        return arrays

    def _run(self, names: list[str], feeds: Mapping[str, Array], options: Any) -> list[Array]:
        memory, binding = self._memory, ort.SessionIOBinding(self._session)
        wholes = []  # they keep the memory that the run reads
        for name, array in feeds.items():
            if name in self._on_host:
                wholes.append(np.require(array, requirements="C"))
                value = ort.OrtValue.ortvalue_from_numpy(wholes[-1], memory.host)
            else:
                staged = memory.value(array.shape, array.dtype, memory.pinned)
                np.copyto(staged.numpy(), array)
                # Here and not by binding the staged value: kernels would read that over the bus, or ONNX Runtime would
                # copy it on a stream that the run does not wait for.
                value = memory.value(array.shape, array.dtype, memory.own)
                value.update_inplace(staged)
            binding.bind_ortvalue_input(name, value)
        for name in names:
            binding.bind_output(name, self._fetched[name])
        try:
            # Not run_with_ortvaluevector, which copies its options: such a run cannot be ended.
            self._session.run_with_iobinding(binding, options)
        except RuntimeError:
            # A binding's errors do not say whose fault they are. A run that was ended ends here again, at once.
            arrays: list[Array] = self._session.run(names, feeds, options)
            return arrays
        fetched = binding.get_outputs()
        # By number: iterating takes twenty times as long.
        return [fetched[index].numpy() for index in range(len(names))]


def pinned_runs(session: onnxruntime.InferenceSession, device: Device) -> Bare:
    """What runs a session's graph on a device, through pinned memory where that pays and can be had."""
    plain: Bare = session._sess.run
    if device.pinned_bytes_min is None or session.get_overridable_initializers():
        return plain
    if not has_memory(session):
        _log.warning(
            "ONNX Runtime %s offers no pinned memory, so large inputs and outputs take longer; install %s or later.",
            onnxruntime.__version__, MEMORY_SINCE,
        )  # fmt: skip
        return plain
    return PinnedRuns(session, device, device.pinned_bytes_min)
