"""One version of one model: an open ONNX session and the signatures by which requests reach it.

Owns the step from a signature's names to the graph's values, and the one translation of ONNX Runtime's errors. Knows
no wire format and nothing of other versions.
"""

from __future__ import annotations

import ctypes
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from estimator_serving import ops
from estimator_serving.serving import errors
from estimator_serving.serving.request import PATIENT, Array, Context, Outputs, Request
from estimator_serving.serving.running import batch_parameters
from estimator_serving.serving.running.batch_parameters import BatchParameters, BatchParametersError
from estimator_serving.serving.running.batching import Batcher, Meter, Waiting
from estimator_serving.serving.running.watchdog import Watchdog
from estimator_serving.wire import dtypes, signatures
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.examples import FeatureSpec, join_examples
from estimator_serving.wire.onnx_model import read_model
from estimator_serving.wire.signatures import Metadata, Signature, TensorInfo

_log = logging.getLogger(__name__)

MODEL_FILE = "model.onnx"
# What TensorFlow's own servers load.
SAVED_MODEL_FILE = "saved_model.pb"
# Runs what the chosen device has no kernel for: our ops, text.
CPU_PROVIDER = "CPUExecutionProvider"
# Under this a run costs less than handing the request to a thread and back twice over.
QUICK_RUN_S = 0.0005
NOT_RUN_S = float("inf")
# Bad requests are answered, not logged: at lower levels each would write a line that a client can choose.
_NO_LOG = 4
# How much one run moves the average: about the last ten count.
_RUN_WEIGHT = 0.2


# Output names, feeds and who waits for them to the outputs' arrays: what is used of a session.
Run = Callable[[list[str], dict[str, Array], Context], list[Array]]

_watchdog = Watchdog()


class Batching(NamedTuple):
    """How a server's versions batch.

    parameters: the server's.
    per_version: whether each version's directory says how it batches; one that does not say runs without.
    meter: who takes note, by model and version and the pool's name.
    """

    parameters: BatchParameters
    per_version: bool
    meter: Callable[[str, int, str], Meter]

    def of_version(self, directory: Path) -> BatchParameters | None:
        """Raises InvalidArgumentError for parameters that cannot be used."""
        try:
            return batch_parameters.of_version(directory, self.parameters) if self.per_version else self.parameters
        except BatchParametersError as error:
            raise errors.InvalidArgumentError(str(error)) from error


class Input(NamedTuple):
    """How one input of a signature enters the graph."""

    alias: str
    value_name: str
    dtype: DType
    ragged: bool


class Binding(NamedTuple):
    """A signature with the graph's names worked out.

    outputs: graph names by alias; and, as `signature:alias`, those of every signature with the same inputs.
    aliases, value_names: its own outputs, in one order.
    """

    signature: Signature
    inputs: tuple[Input, ...]
    outputs: Mapping[str, str]
    aliases: tuple[str, ...]
    value_names: list[str]
    has_rows: bool


class Servable:
    """A loaded version. `run` may be called from many threads at once."""

    def __init__(
        self,
        name: str,
        version: int,
        metadata: Metadata,
        run: Run,
        graph_inputs: Iterable[str],
        *,
        needs_rows: bool = False,
    ) -> None:
        self.name = name
        self.version = version
        self.signatures = metadata.signatures
        self.feature_spec: FeatureSpec | None = metadata.feature_spec
        names = frozenset(graph_inputs)
        self._graph = run
        self._needs_rows = needs_rows
        self._bindings = {
            key: _bind(signature, names, metadata.signatures) for key, signature in metadata.signatures.items()
        }
        self._run_s = NOT_RUN_S
        self._batcher: Batcher | None = None

    def batch(self, parameters: BatchParameters, meter: Meter | None = None) -> None:
        """From now on let requests share runs. To be called before the first one."""
        self._batcher = Batcher(self._run_inputs, parameters, meter)

    def waiting(self) -> Mapping[str, Waiting]:
        """What waits in this version's queues, by signature; nothing where it does not batch."""
        return self._batcher.waiting() if self._batcher else {}

    @property
    def is_full(self) -> bool:
        """Whether any request would be turned away now, whatever its signature and however small."""
        return self._batcher is not None and self._batcher.count_full() >= len(self._bindings)

    def note_turned_away(self) -> None:
        """Count a request that was refused because `is_full`."""
        if self._batcher is not None:
            self._batcher.note_turned_away(next(iter(self._bindings)) if len(self._bindings) == 1 else "")

    @property
    def is_quick(self) -> bool:
        """Whether a run takes microseconds, going by the last runs; a version that has not run yet is not quick.

        Nor is one that batches: a request may have to wait for others.
        """
        return self._run_s < QUICK_RUN_S and self._batcher is None

    def takes_examples(self, signature_name: str, alias: str) -> bool:
        """Whether this input is fed serialized tf.Examples."""
        return any(entry.alias == alias and entry.ragged for entry in self._bindings[signature_name].inputs)

    def can_run_together(self, first: str, other: str) -> bool:
        """Whether one run can answer two signatures: whether they have the same inputs."""
        return self.signatures[first].inputs == self.signatures[other].inputs

    def run(self, request: Request, context: Context = PATIENT) -> Outputs:
        """Run one request and return the outputs it asked for, by the signature's names; strings as arrays of str.

        Raises:
            CancelledError, DeadlineExceededError: nobody waits for this request any more; it did not run, or was ended.
            InvalidArgumentError: a wrong dtype or shape, text that is not UTF-8, Examples the graph refuses.
            ResourceExhaustedError: no memory for this request.
            Where it batches, also what Batcher.run raises.
        """
        binding = self._bindings[request.signature_name]
        inputs = _checked(binding, request.inputs)
        if self._needs_rows:
            _refuse_empty(inputs)
        aliases = request.outputs or binding.aliases
        if self._batcher is not None and binding.has_rows:
            return self._batcher.run(request.signature_name, inputs, aliases, context)
        context.check()
        return self._run_inputs(request.signature_name, inputs, aliases, context)

    def _run_inputs(
        self, signature_name: str, inputs: Mapping[str, Array], aliases: tuple[str, ...], context: Context
    ) -> Outputs:
        """One run of the graph. Strings among the inputs are str, Examples bytes."""
        binding = self._bindings[signature_name]
        feeds = _feeds(binding, inputs)
        names = binding.value_names if aliases is binding.aliases else [binding.outputs[alias] for alias in aliases]
        started_s = time.perf_counter()
        try:
            values = self._graph(names, feeds, context)
        except Exception as error:
            raise _translate(error, context) from error
        self._note_run(time.perf_counter() - started_s)
        return dict(zip(aliases, values, strict=True))

    def _note_run(self, run_s: float) -> None:
        if self._run_s == NOT_RUN_S:
            # The first run pays for ONNX Runtime's set-up and says nothing about the next.
            self._run_s = QUICK_RUN_S
            return
        # Capped, because now and then the thread is put aside in the middle of a quick run: it takes several slow ones
        # in a row to make a model slow.
        self._run_s += _RUN_WEIGHT * (min(run_s, 2 * QUICK_RUN_S) - self._run_s)


def load(
    name: str, version: int, directory: Path, *,
    intra_op_threads: int, device: str = "cpu", batching: Batching | None = None,
) -> Servable:  # fmt: skip
    """Open `directory/model.onnx` as a Servable.

    Signatures come from the file's metadata, or are made from the graph's inputs and outputs where it has none.

    Raises:
        NotFoundError: the directory holds no model.onnx.
        InvalidArgumentError: ONNX Runtime cannot open the file, or its signatures do not fit its graph, or its batching
            parameters cannot be used.
        FailedPreconditionError: `device` is cuda and this machine has none that ONNX Runtime can use.
    """
    path = directory / MODEL_FILE
    if not path.is_file():
        if (directory / SAVED_MODEL_FILE).is_file():
            raise errors.NotFoundError(
                f"{directory} holds no {MODEL_FILE}, but a TensorFlow SavedModel. Convert it with "
                f"`estimator-serving import {directory} BASE`, and serve BASE."
            )
        raise errors.NotFoundError(f"{directory} holds no {MODEL_FILE}; export the model again, or put the file there.")
    session = _open(path, intra_op_threads, device)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    # Inputs with a default are inputs, too: those of an export whose clients choose what they send.
    names = [node.name for node in (*inputs, *session.get_overridable_initializers())]
    try:
        metadata = _metadata(session.get_modelmeta().custom_metadata_map, inputs, outputs)
        needs_rows = read_model(path).needs_rows
        servable = Servable(name, version, metadata, _bare_run(session), names, needs_rows=needs_rows)
    except (ValueError, TypeError) as error:
        raise errors.InvalidArgumentError(f"The signatures of {path} cannot be read: {error}") from error
    _check_bindings(servable, path, frozenset(names), frozenset(n.name for n in outputs))
    parameters = batching.of_version(directory) if batching else None
    if batching and parameters:
        servable.batch(parameters, batching.meter(name, version, parameters.thread_pool_name))
    return servable


def provider_of(device: str) -> str:
    """The execution provider that runs models on a device."""
    return f"{device.upper()}ExecutionProvider"


def _open(path: Path, intra_op_threads: int, device: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # Given a number, ONNX Runtime does not pin its threads to cores, which fails under a restricted set of CPUs.
    options.intra_op_num_threads = intra_op_threads
    # A spinning idle thread would take the core from the threads that read requests.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _NO_LOG
    provider = provider_of(device)
    if device == "cuda":
        onnxruntime.preload_dlls()  # finds the libraries that the extra `cuda` brings
    try:
        session = ops.session(path, options=options, providers=list(dict.fromkeys([provider, CPU_PROVIDER])))
    except Exception as error:
        if _MEMORY.search(str(error)):
            raise errors.ResourceExhaustedError(
                f"Insufficient resources to load servable {path}: ONNX Runtime finds no memory for it."
            ) from error
        raise errors.InvalidArgumentError(f"ONNX Runtime cannot open {path}: {_own_text(error)}") from error
    # ONNX Runtime goes on with the CPU where CUDA fails, which an operator would only notice by the latency.
    if provider not in session.get_providers():
        raise errors.FailedPreconditionError(
            f"The server runs with --device={device}, which ONNX Runtime cannot use on this machine; install NVIDIA's "
            "driver and estimator-serving[cuda], or serve with --device=cpu."
        )
    return session


def _bare_run(session: onnxruntime.InferenceSession) -> Run:
    """session.run without its checks in Python, which take half as long again as a small model does.

    They look for missing inputs, of which a signature has none, and at modes of WebGPU.
    """
    bare = _runner(session)

    def run(names: list[str], feeds: dict[str, Array], context: Context) -> list[Array]:
        if context.is_endless:
            return bare(names, feeds, None)
        options = onnxruntime.RunOptions()
        options.log_severity_level = _NO_LOG
        with _watchdog.watching(options, context):
            return bare(names, feeds, options)

    return run


# bfloat16 and the float8s, by ONNX Runtime's names.
_NOT_NUMPYS = {dtype.onnx: dtype for dtype in dtypes.ALL if dtype.onnx_number}


def _runner(session: onnxruntime.InferenceSession) -> Callable[[list[str], dict[str, Array], Any], list[Array]]:
    """What runs a graph of these inputs and outputs. Raises InvalidArgumentError for those nothing can feed."""
    inputs = {node.type for node in (*session.get_inputs(), *session.get_overridable_initializers())}
    special = (inputs | {node.type for node in session.get_outputs()}) & _NOT_NUMPYS.keys()
    if special and dtypes.string.onnx in inputs:
        raise errors.InvalidArgumentError(
            f"The graph takes text beside values of type {', '.join(sorted(special))}, which ONNX Runtime cannot be "
            "fed together; export it with float32 at its inputs and outputs."
        )
    return partial(_run_values, session._sess) if special else session._sess.run


def _run_values(session: Any, names: list[str], feeds: dict[str, Array], options: Any) -> list[Array]:
    """session.run for graphs with types that ONNX Runtime's binding knows no numpy array of."""
    values = {name: _as_value(array) for name, array in feeds.items()}  # they keep the memory that the run reads
    bare = {name: value._ortvalue for name, value in values.items()}
    return [_as_array(value) for value in session.run_with_ort_values(bare, names, options)]


def _as_value(array: Array) -> onnxruntime.OrtValue:
    array, number = np.require(array, requirements="C"), dtypes.from_numpy(array.dtype).onnx_number
    if not number:
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    bits = array.reshape(-1).view(f"u{array.itemsize}").reshape(array.shape)
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, number)


def _as_array(value: Any) -> Array:
    dtype = _NOT_NUMPYS.get(value.data_type())
    if dtype is None:
        array: Array = value.numpy()
        return array
    content = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(content, dtype.numpy).reshape(value.shape())


def _metadata(properties: Mapping[str, str], inputs: list[Any], outputs: list[Any]) -> Metadata:
    plain = Signature(_tensor_infos(inputs), _tensor_infos(outputs), signatures.PREDICT_METHOD)
    return signatures.from_properties(properties) or Metadata({signatures.DEFAULT_SIGNATURE_KEY: plain})


def _tensor_infos(nodes: list[Any]) -> dict[str, TensorInfo]:
    return {node.name: TensorInfo(f"{node.name}:0", dtypes.from_onnx(node.type), _shape(node.shape)) for node in nodes}


def _shape(shape: list[Any]) -> tuple[int, ...] | None:
    # ONNX Runtime gives [] for a scalar and for an unknown rank alike; the latter promises less.
    return tuple(dim if isinstance(dim, int) else -1 for dim in shape) or None


def joint_alias(signature_name: str, alias: str) -> str:
    """The name of another signature's output in a request that asks several signatures at once."""
    return f"{signature_name}:{alias}"


def _bind(signature: Signature, graph_inputs: frozenset[str], all_signatures: Mapping[str, Signature]) -> Binding:
    inputs = tuple(
        Input(alias, info.value_name, info.dtype, _is_ragged(info, graph_inputs))
        for alias, info in sorted(signature.inputs.items())
    )
    outputs = {alias: info.value_name for alias, info in signature.outputs.items()}
    joint = {
        joint_alias(name, alias): info.value_name
        for name, other in all_signatures.items()
        for alias, info in other.outputs.items()
        if other.inputs == signature.inputs
    }
    return Binding(signature, inputs, joint | outputs, tuple(outputs), list(outputs.values()), _has_rows(signature))


def _has_rows(signature: Signature) -> bool:
    """Whether dimension 0 may be a batch in every input and output, as far as their shapes are declared."""
    shapes = [info.shape for info in (*signature.inputs.values(), *signature.outputs.values())]
    return all(shape is None or shape[:1] == (-1,) for shape in shapes)


def _is_ragged(info: TensorInfo, graph_inputs: frozenset[str]) -> bool:
    """Whether the graph takes this input's strings as bytes and row_splits: how serialized Examples enter."""
    return info.dtype.is_string and graph_inputs.issuperset(info.ragged_names)


def _check_bindings(
    servable: Servable, path: Path, graph_inputs: frozenset[str], graph_outputs: frozenset[str]
) -> None:
    """A signature that names what the graph does not have would fail at every request: refuse it at load."""
    for key, signature in servable.signatures.items():
        wanted = {info.value_name for info in signature.inputs.values() if not _is_ragged(info, graph_inputs)}
        absent = (wanted - graph_inputs) | ({info.value_name for info in signature.outputs.values()} - graph_outputs)
        if absent:
            raise errors.InvalidArgumentError(
                f"Signature {key} of {path} names {', '.join(sorted(absent))}, which its graph does not have; "
                "export the model again."
            )


def _checked(binding: Binding, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs as a run takes them: of the declared dtypes, strings as str, Examples still as bytes."""
    checked: dict[str, Array] = {}
    for index, entry in enumerate(binding.inputs):
        array = inputs[entry.alias]
        if array.dtype != entry.dtype.numpy:
            came = dtypes.from_numpy(array.dtype).name
            raise errors.InvalidArgumentError(
                f"Expects arg[{index}] to be {entry.dtype.name} but {came} is provided. Input: {entry.alias}; "
                f"send it as {entry.dtype.name}."
            )
        if entry.ragged:
            _check_vector(array, entry.alias)
        elif entry.dtype.is_string:
            array = _as_text(array, entry.alias)
        checked[entry.alias] = array
    return checked


def _feeds(binding: Binding, inputs: Mapping[str, Array]) -> dict[str, Array]:
    feeds: dict[str, Array] = {}
    for entry in binding.inputs:
        if entry.ragged:
            values_name, row_splits_name = binding.signature.inputs[entry.alias].ragged_names
            feeds[values_name], feeds[row_splits_name] = join_examples(inputs[entry.alias].tolist())
        else:
            feeds[entry.value_name] = inputs[entry.alias]
    return feeds


def _refuse_empty(inputs: Mapping[str, Array]) -> None:
    for alias, array in inputs.items():
        if not array.size:
            raise errors.InvalidArgumentError(
                f"Input {alias} has shape {list(array.shape)}, and this model has an LSTM or GRU, which ONNX Runtime "
                "cannot run on nothing; send at least one row."
            )


def _check_vector(array: Array, alias: str) -> None:
    if array.ndim != 1:
        raise errors.InvalidArgumentError(
            f"Input {alias} has shape {list(array.shape)}; expected a vector [batch] of serialized tf.Examples."
        )


def _as_text(array: Array, alias: str) -> Array:
    """Bytes to str, because ONNX Runtime's binding would take a bytes object for the text "b'..'"."""
    flat = array.ravel()
    text = flat.copy()
    try:
        text[:] = [value.decode() for value in flat]
    except UnicodeDecodeError as error:
        raise errors.InvalidArgumentError(
            f"Input {alias} holds a string that is not UTF-8 ({error.reason} at byte {error.start}); "
            "string tensors carry text."
        ) from None
    return text.reshape(array.shape)


_LINE_END = re.compile(r"\s*\n\s*")
_TERMINATED = "terminate flag"
_MEMORY = re.compile(r"allocat|out of memory|bad_alloc", re.IGNORECASE)
_DEVICE = re.compile(r"CUDA|CUDNN|CUBLAS", re.IGNORECASE)


def _own_text(error: Exception) -> str:
    """What an op or ONNX Runtime itself wrote, in one line."""
    return _LINE_END.sub(" ", ops.own_text(error)).strip()


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
    # ONNX Runtime's source, so they go to the log alone.
    _log.warning("A request was refused by the graph: %s", text)
    return errors.InvalidArgumentError(
        f"The model's {node} node cannot run on these inputs; compare their shapes with the signature's."
    )
