"""Loads one version: checks its files, opens it, warms it up, and checks that it answers as it was exported.

Owns the order of these steps, the runners a version is built of, and which errors may pass by themselves.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from estimator_serving.serving.errors import (
    Code,
    InvalidArgumentError,
    ResourceExhaustedError,
    ServingError,
    UnavailableError,
)
from estimator_serving.serving.metrics import LoadMetrics
from estimator_serving.serving.models import batch_sizes, memory, model_files, snapshot, warmup
from estimator_serving.serving.models.warmup import Replay
from estimator_serving.serving.request import DEFAULT_SIGNATURE
from estimator_serving.serving.running import batch_parameters
from estimator_serving.serving.running.batch_parameters import BatchParameters, BatchParametersError
from estimator_serving.serving.running.batch_queues import BatchObserver
from estimator_serving.serving.running.batching import BatchingRunner
from estimator_serving.serving.running.binding import bind
from estimator_serving.serving.running.device import CPU, Device
from estimator_serving.serving.running.runner import Runner
from estimator_serving.serving.running.servable import Servable
from estimator_serving.serving.running.session import Bare, SessionRunner, graph_of, open_session
from estimator_serving.serving.running.turns import REQUESTS_MAX, TurnsRunner
from estimator_serving.wire import dtypes, signatures
from estimator_serving.wire.onnx_model import MAP, OPTIONAL, SEQUENCE, SEQUENCE_OF_MAPS, Other, kind_of
from estimator_serving.wire.signatures import Metadata, Signature, TensorInfo

_log = logging.getLogger(__name__)

# Name, version and directory -> an open version.
Open = Callable[[str, int, Path], Servable]


class Batching(NamedTuple):
    """How a server's versions batch.

    parameters: the server's.
    per_version: whether each version's directory says how it batches; a version that does not say runs without.
    observer: makes what counts a version's batches, of its model, its number and the name of its thread pool.
    """

    parameters: BatchParameters
    per_version: bool
    observer: Callable[[str, int, str], BatchObserver]

    def of_version(self, directory: Path) -> BatchParameters | None:
        """None where the version does not batch. Raises InvalidArgumentError for parameters that cannot be used."""
        try:
            return batch_parameters.of_version(directory, self.parameters) if self.per_version else self.parameters
        except BatchParametersError as error:
            raise InvalidArgumentError(str(error)) from error


def open_servable(
    name: str, version: int, directory: Path, *,
    intra_op_threads: int, device: Device = CPU, batching: Batching | None = None, mapped: bool = False,
    slots: int = 0, arena: bool = False, copy_to: Path | None = None,
    around: Callable[[Bare], Bare] = lambda bare: bare,
) -> Servable:  # fmt: skip
    """Open `directory/model.onnx` as a Servable.

    Signatures come from the file's metadata, or are made from the graph's inputs and outputs where it has none.
    mapped: see read_files. slots: how many requests that are not batched may run at once, 0 for any number.
    arena: see open_session. copy_to: a directory to make, with a copy of the version that other processes open.
    around: what is put around the graph's runs.

    Raises:
        InvalidArgumentError: ONNX Runtime cannot open the file, or its signatures do not fit its graph or name what is
            no tensor, or its batching parameters cannot be used.
        ServingError, OSError: see read_files and open_session.
    """
    files = model_files.read_files(directory, mapped=mapped)
    path, model = files.path, files.model
    try:
        found = signatures.from_properties(model.metadata)
    except (ValueError, TypeError) as error:
        raise InvalidArgumentError(f"The signatures of {path} cannot be read: {error}") from error
    # Before the session is opened, because a large model takes its time.
    _check_tensors(path, model.others, found)
    save_to = snapshot.begin(directory, files, copy_to, is_packed=device.name == CPU.name) if copy_to else None
    opened = partial(
        open_session, path if files.external is None else files.content, path, external=files.external or {},
        intra_op_threads=intra_op_threads, device=device, arena=arena,
    )  # fmt: skip
    try:
        session = opened(save_to=save_to)
    except ServingError as error:
        if save_to is None or copy_to is None:
            raise
        session = opened()  # raises where it is the model's fault
        _log.warning("Worker processes share the weights of %s as they came: %s", path, error)
        snapshot.copy(files, copy_to)
    del files, opened
    inputs, outputs = session.get_inputs(), session.get_outputs()
    # The file need not say what its outputs are; ONNX Runtime has found out.
    kinds = {node.name: Other(kind_of(node.type), is_input=True) for node in inputs}
    kinds |= {node.name: Other(kind_of(node.type), is_input=False) for node in outputs}
    _check_tensors(path, {name: other for name, other in kinds.items() if other.kind}, found)
    # Inputs with a default are inputs, too: those of an export whose clients choose what they send.
    names = [node.name for node in (*inputs, *session.get_overridable_initializers())]
    try:
        metadata = found
        if metadata is None:
            plain = Signature(_tensor_infos(path, inputs), _tensor_infos(path, outputs), signatures.PREDICT_METHOD)
            metadata = Metadata({signatures.DEFAULT_SIGNATURE_KEY: plain})
        # The name of each node's dimension 0, where it has one that says which dimension it is.
        first_dims = {
            node.name: node.shape[0]
            for node in (*inputs, *outputs)
            if node.shape and isinstance(node.shape[0], str) and node.shape[0] and not _NO_NAME.fullmatch(node.shape[0])
        }
        bindings = bind(
            metadata.signatures, frozenset(names), frozenset(node.name for node in outputs),
            path=path, needs_rows=model.needs_rows,
            first_dims=first_dims if batching else {},
        )  # fmt: skip
        parameters = batching.of_version(directory) if batching else None
        graph = graph_of(session, around, device, parameters.allowed_batch_sizes if parameters else ())
        session_runner = SessionRunner(graph, bindings)
        runner: Runner = session_runner
        if batching and parameters:
            has_rows = {key: binding.has_rows for key, binding in bindings.items()}
            observer = batching.observer(name, version, parameters.thread_pool_name)
            runner = BatchingRunner(runner, parameters, has_rows, observer)
        elif slots:
            runner = TurnsRunner(runner, slots, max(REQUESTS_MAX, 2 * slots))
        return Servable(
            name, version, metadata, bindings, runner, model.metadata, parameters,
            session_runner.at_once(DEFAULT_SIGNATURE),
        )  # fmt: skip
    except (ValueError, TypeError) as error:
        raise InvalidArgumentError(f"The signatures of {path} cannot be read: {error}") from error


# What converters call a dimension that has no name: each of them another.
_NO_NAME = re.compile(r"unk__\d+|.*_dim_\d+")


# What to do about an input or output that is no tensor, where more can be said than about any.
_NO_ZIPMAP = (
    "export the model with tensors at its outputs. Converters of classifiers write such outputs unless they are told "
    "zipmap=False (skl2onnx: options={'zipmap': False})."
)
_ADVICE = {
    Other(MAP, is_input=False): _NO_ZIPMAP,
    Other(SEQUENCE_OF_MAPS, is_input=False): _NO_ZIPMAP,
    Other(SEQUENCE, is_input=True): "let the graph take one tensor, split it (SplitToSequence), and export it again.",
    Other(SEQUENCE, is_input=False): "let the graph join it (ConcatFromSequence), and export it again.",
    Other(OPTIONAL, is_input=True): "declare the input as a tensor, and export the model again.",
    Other(OPTIONAL, is_input=False): "let the graph give what is in it (OptionalGetElement), and export it again.",
}


def _check_tensors(path: Path, others: Mapping[str, Other], found: Metadata | None) -> None:
    """Raise InvalidArgumentError where a signature would have an input or output that no protocol can carry."""
    used = set(others)
    if found:
        signed = found.signatures.values()
        used = {info.value_name for one in signed for info in (*one.inputs.values(), *one.outputs.values())}
    for name, other in others.items():
        if name in used:
            advice = _ADVICE.get(other, "export the model with tensors at its inputs and outputs.")
            raise InvalidArgumentError(
                f"{name} of {path} is {other.kind}, and requests and answers carry only tensors; {advice}"
            )


def _tensor_infos(path: Path, nodes: list[Any]) -> dict[str, TensorInfo]:
    infos = {}
    for node in nodes:
        # ONNX Runtime gives [] for a scalar and for an unknown rank alike; the latter promises less.
        shape = tuple(dim if isinstance(dim, int) else -1 for dim in node.shape) or None
        try:
            infos[node.name] = TensorInfo(f"{node.name}:0", dtypes.from_onnx(node.type), shape)
        except TypeError as error:
            raise InvalidArgumentError(f"The type of {node.name} of {path} is not served: {error}") from None
    return infos


@dataclass(frozen=True)
class Loader:
    """Callable as the manager's `load`.

    Attributes:
        open: opens the files as a Servable.
        replay: answers a replayed request.
        provider: the execution provider the version runs on.
        warmup_iterations: how often each warmup request is replayed; 0 leaves warmup out.
        drops_cache: whether the files leave the page cache once they are read.
        metrics: counts the warmups.
    """

    open: Open
    replay: Replay
    provider: str
    warmup_iterations: int = 1
    drops_cache: bool = False
    metrics: LoadMetrics | None = None

    def __call__(self, name: str, version: int, directory: Path) -> Servable:
        """The version, ready for traffic.

        Raises:
            UnavailableError: the disk failed; ResourceExhaustedError: no memory. Both may pass.
            ServingError: what is wrong with the files, or with a replayed request.
        """
        try:
            servable = self.open(name, version, directory)
            if self.warmup_iterations:
                started_s, code, count = time.perf_counter(), Code.OK, 0
                recorder = batch_sizes.Recorder(servable.runner)
                recorded = batch_sizes.with_runner(servable, recorder)
                try:
                    count = warmup.warm_up(directory, recorded, self.replay, self.warmup_iterations)
                except ServingError as error:
                    code = error.code
                    raise
                finally:
                    if self.metrics and (count or code):
                        self.metrics.warmed_up(f"{name}/{version}", time.perf_counter() - started_s, code, count)
                if count:
                    _log.info("Model %s version %d was warmed up with %d requests.", name, version, count)
                if runs := batch_sizes.run_sizes(servable, recorder.seen):
                    _log.info("Model %s version %d was run at its allowed batch sizes, %d times.", name, version, runs)
            compared = warmup.compare(directory, servable, self.replay, self.provider, servable.properties)
            if compared:
                _log.info("Model %s version %d answers %d requests as it was exported.", name, version, compared)
            if self.drops_cache:
                model_files.drop_from_cache(directory)
        except OSError as error:
            raise UnavailableError(
                f"A file of {directory} cannot be read ({error.strerror}); check the disk and the permissions."
            ) from error
        except MemoryError as error:
            raise ResourceExhaustedError(
                f"Insufficient resources to load servable {name} version {version}: no memory is left."
            ) from error
        # Opening a file takes as much memory again as the model keeps.
        memory.give_back()
        return servable
