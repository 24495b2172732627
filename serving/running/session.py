"""Requests run one by one in an ONNX session.

Owns the opening of a session, the arrays that ONNX Runtime's binding does not know (bfloat16, float8), the one
translation of ONNX Runtime's errors, and how long runs take. Knows no signature: bindings say what is fed where.
"""

from __future__ import annotations

import ctypes
import logging
import re
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from estimator_serving import ops
from estimator_serving.serving import errors
from estimator_serving.serving.request import Array, Context, Outputs, Request
from estimator_serving.serving.running import cuda_graphs
from estimator_serving.serving.running.binding import Binding
from estimator_serving.serving.running.cuda_graphs import GraphRuns
from estimator_serving.serving.running.device import CPU, Device, pinned_runs
from estimator_serving.serving.running.runner import Waiting
from estimator_serving.serving.running.watchdog import Watchdog
from estimator_serving.wire import dtypes

_log = logging.getLogger(__name__)

# Below this a run costs less than handing the request to a thread and back twice over.
QUICK_RUN_S = 0.0005
NOT_RUN_S = float("inf")
_CAPPED_S = 2 * QUICK_RUN_S
# Bad requests are answered, not logged: at lower levels each would write a line that a client can choose.
_NO_LOG = 4
# How much one run moves the average: about the last ten count.
_RUN_WEIGHT = 0.2

# What is used of a session: names of outputs, feeds and the context of the run -> the outputs' arrays.
Graph = Callable[[list[str], Mapping[str, Array], Context], list[Array]]
# The same, whoever waits: with RunOptions or None for the context.
Bare = Callable[[list[str], Mapping[str, Array], Any], list[Array]]

_watchdog = Watchdog()


class AtOnce(NamedTuple):
    """A signature of one input, of float32 or of Examples, that is run without anything in between.

    input_names, output_names: the graph's, beside the signature's aliases; two inputs for Examples.
    """

    signature_name: str
    alias: str
    aliases: tuple[str, ...]
    has_rows: bool
    input_names: tuple[str, ...]
    output_names: list[str]
    runner: SessionRunner

    @property
    def takes_examples(self) -> bool:
        return len(self.input_names) > 1

    def run(self, feeds: dict[str, Array]) -> list[Array] | None:
        """The outputs' arrays, None where something else stands for the graph. Raises what ONNX Runtime raises."""
        graph = self.runner.graph
        if not isinstance(graph, SessionGraph):
            return None
        began_s = time.perf_counter()
        values = graph.bare(self.output_names, feeds, None)
        self.runner.note_run(time.perf_counter() - began_s)
        return values


class SessionRunner:
    """One run of a graph for each request, on the thread that asks. A Runner; see there.

    Attributes:
        graph: runs the graph.
    """

    # Nothing waits here, and nothing is refused.
    is_full = False
    backlog_s = 0.0

    def __init__(self, graph: Graph, bindings: Mapping[str, Binding]) -> None:
        self.graph = graph
        self._bindings = bindings
        self._run_s = NOT_RUN_S
        # Going by the last runs; a graph that has not run yet is not quick.
        self.is_quick = False

    def run(self, request: Request, context: Context) -> Outputs:
        if not context.is_reader:
            context.check()
        binding, aliases = self._bindings[request.signature_name], request.outputs
        feeds = request.inputs if binding.are_fed_as_named else binding.feeds(request.inputs)
        for array in feeds.values():
            if not array.flags.aligned:  # as codecs give what lies somewhere in a payload
                feeds = {name: np.require(one, requirements="A") for name, one in feeds.items()}
                break
        names = binding.graph_names if aliases is binding.aliases else [binding.outputs[alias] for alias in aliases]
        started_s = time.perf_counter()
        try:
            values = self.graph(names, feeds, context)
        except Exception as error:
            raise _translate(error, context) from error
        self.note_run(time.perf_counter() - started_s)
        return dict(zip(aliases, values, strict=True))

    def note_run(self, run_s: float) -> None:
        """A run has taken so long."""
        if self._run_s == NOT_RUN_S:
            # The first run pays for ONNX Runtime's set-up and says nothing about the next.
            self._run_s = QUICK_RUN_S
        else:
            # Capped, because now and then the thread is put aside in the middle of a quick run: it takes several slow
            # ones in a row to make a model slow.
            self._run_s += _RUN_WEIGHT * ((run_s if run_s < _CAPPED_S else _CAPPED_S) - self._run_s)
            self.is_quick = self._run_s < QUICK_RUN_S

    def at_once(self, signature_name: str) -> AtOnce | None:
        """The shortest way through this runner; None but for a signature of one input, of float32 or Examples."""
        binding = self._bindings.get(signature_name)
        if binding is None or len(binding.inputs) != 1 or binding.needs_rows:
            return None
        (entry,) = binding.inputs
        if not entry.is_ragged and entry.dtype is not dtypes.float32:
            return None
        return AtOnce(
            signature_name, entry.alias, binding.aliases, binding.has_rows, entry.graph_names, binding.graph_names, self
        )

    def waiting(self) -> Mapping[str, Waiting]:
        return {}

    def refusal(self) -> errors.UnavailableError:
        return errors.UnavailableError(errors.FULL_TEXT)

    def count_refusal(self) -> None:
        pass


def open_session(
    model: bytes | Path,
    path: Path,
    *,
    external: Mapping[str, bytes] = MappingProxyType({}),
    intra_op_threads: int,
    device: Device = CPU,
    arena: bool = False,
    save_to: Path | None = None,
) -> onnxruntime.InferenceSession:
    """A session of a model, on a device.

    model: its bytes, or its path. path: its name in errors. external: the content of its files of external data, by
    location; ONNX Runtime copies it, and reads those that are missing here beside the model. arena: whether memory of
    runs is kept for later runs: measured, that makes no run faster, and one large request keeps its memory for ever.
    save_to: a path to write the graph to as it runs, and beside it the weights as it uses them, so that sessions opened
    from there map these files and share their memory, other processes' sessions included.

    Raises:
        InvalidArgumentError: ONNX Runtime cannot open the file, or refuses an option of the execution provider.
        ResourceExhaustedError: there is no memory for it.
        FailedPreconditionError: the device is a GPU, and this machine has none that ONNX Runtime can use; or the graph
            cannot be captured as CUDA graphs, as the device asks.
    """
    options = onnxruntime.SessionOptions()
    # Given a number, ONNX Runtime does not pin its threads to cores, which fails under a restricted set of CPUs.
    options.intra_op_num_threads = intra_op_threads
    options.log_severity_level = _NO_LOG
    options.enable_cpu_mem_arena = arena
    if external:
        locations, contents = list(external), list(external.values())
        options.add_external_initializers_from_files_in_memory(locations, contents, [len(one) for one in contents])
    if save_to is not None:
        options.optimized_model_filepath = str(save_to)
        for name, value in _SAVING.items():
            options.add_session_config_entry(f"session.{name}", value.format(save_to.name))
    providers: list[str | tuple[str, dict[str, str]]] = [CPU.provider]
    if device.name != CPU.name:
        onnxruntime.preload_dlls()  # finds the libraries that the extra `cuda` brings
        provider_options = dict(device.options) | ({"enable_cuda_graph": "1"} if device.graphs else {})
        # The CPU runs what the GPU has no kernel for: our ops, text.
        providers = [(device.provider, provider_options), CPU.provider]
    session = None
    try:
        with cuda_graphs.allocating if device.graphs else nullcontext():
            session = ops.session(model, options=options, providers=providers)
    except Exception as error:
        if not _NO_DEVICE.search(str(error)):
            raise _translate_opening(error, path) from error
    # ONNX Runtime goes on with the CPU where CUDA fails, which an operator would only notice by the latency.
    if session is None or device.provider not in session.get_providers():
        raise errors.FailedPreconditionError(
            f"The server runs with --device={device.name}, which ONNX Runtime cannot use on this machine; install "
            "NVIDIA's driver and estimator-serving[cuda], or serve with --device=cpu."
        )
    return session


# How a graph is saved with all its weights beside it, packed as its kernels read them.
_SAVING = {
    "optimized_model_external_initializers_file_name": "{}.data",
    "optimized_model_external_initializers_min_size_in_bytes": "1024",
    "save_external_prepacked_constant_initializers": "1",
}

# bfloat16 and the float8s, by ONNX Runtime's names.
_NOT_NUMPYS = {dtype.onnx: dtype for dtype in dtypes.ALL if dtype.onnx_number}


def graph_of(
    session: onnxruntime.InferenceSession, around: Callable[[Bare], Bare], device: Device = CPU,
    sizes: Collection[int] = (),
) -> SessionGraph:  # fmt: skip
    """What runs a session's graph, and ends a run that nobody waits for any more.

    around: what is put around each run. device: that of the session. sizes: the batch sizes that are run as CUDA
    graphs, where the device asks for that.

    On the CPU it skips session.run's checks in Python, which take half as long again as a small model does: they look
    for missing inputs, of which a signature has none, and at modes of WebGPU.

    Raises:
        InvalidArgumentError: the graph's inputs cannot be fed together to ONNX Runtime.
        FailedPreconditionError: the graph cannot be captured as CUDA graphs, as the device asks.
    """
    inputs = {node.type for node in (*session.get_inputs(), *session.get_overridable_initializers())}
    special = (inputs | {node.type for node in session.get_outputs()}) & _NOT_NUMPYS.keys()
    if special and dtypes.string.onnx in inputs:
        raise errors.InvalidArgumentError(
            f"The graph takes text beside values of type {', '.join(sorted(special))}, which ONNX Runtime cannot be "
            "fed together; export it with float32 at its inputs and outputs."
        )
    run: Bare = session._sess.run
    if special:
        run = partial(_run_values, session._sess)
    elif dtypes.string.onnx not in inputs:  # ONNX Runtime's binding takes text only there
        run = pinned_runs(session, device)
    if device.graphs:
        return SessionGraph(GraphRuns(session, device, run, sizes, around))
    return SessionGraph(around(run))


class SessionGraph:
    """A session's graph; a Graph.

    Attributes:
        bare: runs it, whoever waits.
    """

    def __init__(self, bare: Bare) -> None:
        self.bare = bare

    def __call__(self, names: list[str], feeds: Mapping[str, Array], context: Context) -> list[Array]:
        if context.is_reader or context.is_endless:
            return self.bare(names, feeds, None)
        options = onnxruntime.RunOptions()
        options.log_severity_level = _NO_LOG
        with _watchdog.watching(options, context):
            return self.bare(names, feeds, options)


def _run_values(session: Any, names: list[str], feeds: Mapping[str, Array], options: Any) -> list[Array]:
    """session.run for graphs with types that ONNX Runtime's binding knows no numpy array of."""
    values = {}  # they keep the memory that the run reads
    for name, array in feeds.items():
        whole, number = np.require(array, requirements="C"), dtypes.from_numpy(array.dtype).onnx_number
        if number:
            bits = whole.reshape(-1).view(f"u{whole.itemsize}").reshape(whole.shape)
            values[name] = onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, number)
        else:
            values[name] = onnxruntime.OrtValue.ortvalue_from_numpy(whole)
    outputs: list[Array] = []
    for value in session.run_with_ort_values({name: v._ortvalue for name, v in values.items()}, names, options):
        dtype = _NOT_NUMPYS.get(value.data_type())
        if dtype is None:
            outputs.append(value.numpy())
        else:
            content = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
            outputs.append(np.frombuffer(content, dtype.numpy).reshape(value.shape()))
    return outputs


_LINE_END = re.compile(r"\s*\n\s*")
_TERMINATED = "terminate flag"
_OPTION = re.compile(r'(?:Unknown|Failed to parse) provider option:? "(\w+)".*', re.DOTALL)
_SOURCE = re.compile(r"\S+\.(?:cc|h):\d+ \S+ ")
_CAPTURE = "cannot use the graph capture feature"
_UNKNOWN_OP = re.compile(r"No Op registered for|is not a registered function/op")
_UNKNOWN_OP_HINT = (
    "The server loads no libraries of custom operators; export the model with operators of ONNX, ONNX Runtime and this "
    "project only."
)
_NO_DEVICE = re.compile(r"CUDA failure|CUDNN failure|no CUDA-capable device", re.IGNORECASE)
_MEMORY = re.compile(r"allocat|out of memory|bad_alloc", re.IGNORECASE)
_DEVICE = re.compile(r"CUDA|CUDNN|CUBLAS", re.IGNORECASE)


def _own_text(error: Exception) -> str:
    """What an op or ONNX Runtime itself wrote, in one line."""
    return _LINE_END.sub(" ", ops.own_text(error)).strip()


def _translate_opening(error: Exception, path: Path) -> errors.ServingError:
    """What ONNX Runtime said of a model that it does not open, as ours. path: the model's name in errors."""
    text = str(error)
    if option := _OPTION.search(text):
        said = _SOURCE.sub("", option[0]).strip(" .\n")
        return errors.InvalidArgumentError(
            f"ONNX Runtime {onnxruntime.__version__} refuses {option[1]} of --execution_provider_options "
            f"({said}); correct it there, or leave it out."
        )
    if _CAPTURE in text:
        return errors.FailedPreconditionError(
            f"The model {path} cannot run as CUDA graphs: it has control flow, or nodes that run on the CPU. Serve it "
            "without --enable_cuda_graphs."
        )
    if _MEMORY.search(text):
        return errors.ResourceExhaustedError(
            f"Insufficient resources to load servable {path}: ONNX Runtime finds no memory for it."
        )
    said = _own_text(error)
    then = f"{'' if said.endswith('.') else '.'} {_UNKNOWN_OP_HINT}" if _UNKNOWN_OP.search(said) else ""
    return errors.InvalidArgumentError(f"ONNX Runtime cannot open {path}: {said}{then}")


def _translate(error: Exception, context: Context) -> Exception:
    """ONNX Runtime's error as ours; what is neither the request's nor memory's fault stays as it is."""
    text = str(error)
    if _TERMINATED in text:
        if context.cancelled():
            return errors.CancelledError("The client left while the model ran; the run was ended.")
        return errors.DeadlineExceededError(
            "Timed out waiting for notification; the model was still running at the deadline and was ended."
        )
    if isinstance(error, ort_errors.InvalidArgument):
        return errors.InvalidArgumentError(_own_text(error))
    if isinstance(error, UnicodeDecodeError):
        return errors.InvalidArgumentError(
            "An output holds a string that is not UTF-8, which cannot be answered as text."
        )
    node = ops.failed_node(error)
    if _MEMORY.search(text):
        return errors.ResourceExhaustedError(
            "There is no memory to run a request of this size; send fewer rows at once."
        )
    if not node or _DEVICE.search(text):
        return error
    # The graph ran before; that a node refuses these values is most often their shape. Kernel texts name files of
    # ONNX Runtime's source, so they go only to the log.
    _log.warning("A request was refused by the graph: %s", text)
    return errors.InvalidArgumentError(
        f"The model's {node} node cannot run on these inputs; compare their shapes with the signature's."
    )
