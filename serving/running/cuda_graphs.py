"""Batches of fixed sizes that are captured once as CUDA graphs, and replayed.

Owns the buffers of every size, the one thread that runs them, and the rules for graphs that cannot be captured. A
replay starts all kernels of a run by one call, and costs the CPU next to nothing. In return it reads and writes the
addresses of the capture:

    inputs ──copied──▶ buffers of this many rows on the GPU ──replay──▶ buffers ──copied──▶ outputs

    no buffers yet ──the first batch of this many rows──▶ run without a graph, for its outputs ▸ allocated ▸ captured
                                                               a capture or replay fails: no graphs for this version

One thread runs all versions of the process that use graphs, because ONNX Runtime keeps its captures by thread: another
thread would capture again. CUDA refuses allocations of any thread during a capture, so opening a session and capturing
exclude each other (`allocating`).
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from estimator_serving.serving.errors import FailedPreconditionError
from estimator_serving.serving.request import Array
from estimator_serving.serving.running.device import MEMORY_SINCE, Device, Memory, has_memory, places
from estimator_serving.wire import dtypes

if TYPE_CHECKING:
    from estimator_serving.serving.running.session import Bare

_log = logging.getLogger(__name__)

# ONNX Runtime's entry of RunOptions for the number of the graph that a run captures or replays.
GRAPH_ID = "gpu_graph_id"
# Without it, a run would replay what a run of another shape captured.
NO_GRAPH = "-1"

# The types that ONNX Runtime's binding allocates.
_NUMBERS = {dtype.onnx for dtype in dtypes.ALL if not dtype.is_string and not dtype.onnx_number}

# Held while a session that uses graphs is opened, and while a graph is captured.
allocating = threading.Lock()

# Ends with the last version that uses it.
_threads: weakref.WeakValueDictionary[str, ThreadPoolExecutor] = weakref.WeakValueDictionary()


class Buffers:
    """Inputs and outputs of one shape, which stay where they are on a device. For one run at a time.

    inputs, outputs: arrays like those that they will hold, by the graph's names.
    """

    def __init__(self, session: Any, memory: Memory, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        self._session = session
        self._inputs, self._outputs = (
            {name: memory.value(array.shape, array.dtype, memory.own) for name, array in arrays.items()}
            for arrays in (inputs, outputs)
        )
        self._binding = ort.SessionIOBinding(session)
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    def run(self, names: list[str], feeds: Mapping[str, Array], options: Any) -> list[Array]:
        """The named outputs for these inputs, as arrays that later runs leave alone."""
        for name, array in feeds.items():
            self._inputs[name].update_inplace(np.ascontiguousarray(array))
        self._session.run_with_iobinding(self._binding, options)
        outputs = [self._outputs[name].numpy() for name in names]
        # From a GPU they are copies; on the CPU they show the buffers.
        return [array if array.flags.owndata else array.copy() for array in outputs]


class GraphRuns:
    """Runs batches of the given sizes as CUDA graphs, and everything else without; a Bare.

    otherwise: runs what is not of a fixed size. around: what is put around each run, on the thread that runs it.

    Raises FailedPreconditionError where this graph cannot be captured; the text says why, and what to do.
    """

    def __init__(
        self, session: onnxruntime.InferenceSession, device: Device, otherwise: Bare, sizes: Collection[int],
        around: Callable[[Bare], Bare] = lambda bare: bare,
    ) -> None:  # fmt: skip
        if reason := _reason(session, device, sizes):
            raise FailedPreconditionError(
                f"The model cannot run as CUDA graphs: {reason}. Change that, or serve without --enable_cuda_graphs."
            )
        self._session = session._sess
        self._memory = Memory(session, device)
        self._otherwise = otherwise
        self._around = around
        self._sizes = frozenset(sizes)
        self._inputs = {node.name: tuple(node.shape[1:]) for node in session.get_inputs()}
        self._outputs = [node.name for node in session.get_outputs()]
        self._buffers: dict[int, Buffers] = {}
        with allocating:
            self._thread = _threads.get("") or ThreadPoolExecutor(1, thread_name_prefix="cuda-graphs")
            _threads[""] = self._thread

    def __call__(self, names: list[str], feeds: Mapping[str, Array], options: Any) -> list[Array]:
        run = self._around(self._run)
        return self._thread.submit(run, names, feeds, options or onnxruntime.RunOptions()).result()

    def _run(self, names: list[str], feeds: Mapping[str, Array], options: Any) -> list[Array]:
        rows = self._fixed_rows(feeds)
        buffers = self._buffers.get(rows)
        if buffers:
            options.add_run_config_entry(GRAPH_ID, str(rows))
            try:
                return buffers.run(names, feeds, options)
            except Exception as error:
                if options.terminate:
                    raise
                self._give_up(rows, error)
        options.add_run_config_entry(GRAPH_ID, NO_GRAPH)
        if buffers or not rows:
            return self._otherwise(names, feeds, options)
        outputs = dict(zip(self._outputs, self._otherwise(self._outputs, feeds, options), strict=True))
        capturing = onnxruntime.RunOptions()
        capturing.add_run_config_entry(GRAPH_ID, str(rows))
        try:
            with allocating:
                buffers = Buffers(self._session, self._memory, feeds, outputs)
                buffers.run(names, feeds, capturing)
            self._buffers[rows] = buffers
        except Exception as error:
            self._give_up(rows, error)
        return [outputs[name] for name in names]

    def _give_up(self, rows: int, error: Exception) -> None:
        self._sizes = frozenset()
        self._buffers.clear()
        _log.error(
            "A CUDA graph of %d rows failed, so this version runs without graphs from now on; serve it without "
            "--enable_cuda_graphs, or export it with operators that can be captured: %s", rows, error,
        )  # fmt: skip

    def _fixed_rows(self, feeds: Mapping[str, Array]) -> int:
        """The rows of a batch that has buffers, or may have; 0 for every other run."""
        if feeds.keys() != self._inputs.keys():
            return 0
        rows = {array.shape[:1] for array in feeds.values()}
        if len(rows) != 1 or any(array.shape[1:] != self._inputs[name] for name, array in feeds.items()):
            return 0
        ((count, *_),) = rows
        return count if count in self._sizes else 0


def _reason(session: onnxruntime.InferenceSession, device: Device, sizes: Collection[int]) -> str:
    """Why a session's graph cannot be captured at fixed sizes; empty where it can, as far as its interface says."""
    if not sizes:
        return "its batching parameters have no allowed_batch_sizes, and a graph is captured for each of them"
    if not has_memory(session):
        return f"ONNX Runtime {onnxruntime.__version__} has no fixed buffers for Python, which take {MEMORY_SINCE}"
    parts = ("input", session.get_inputs()), ("output", session.get_outputs())
    for (kind, nodes), found in zip(parts, places(session), strict=True):
        for node in nodes:
            if node.type not in _NUMBERS:
                return f"its {kind} {node.name} is {node.type}, which ONNX Runtime's binding cannot keep in one place"
            if found[node.name] != device.memory_name:
                # Of nodes of the CPU between nodes of the GPU, ONNX Runtime itself speaks when the session is opened.
                return f"a node on the CPU takes or gives its {kind} {node.name}, as the one that parses Examples does"
            if not node.shape or not all(isinstance(length, int) for length in node.shape[1:]):
                return f"its {kind} {node.name} has the shape {node.shape}, of which only the first may be free"
    return ""
