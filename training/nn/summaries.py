"""Numbers for TensorBoard: what model_fn reports in a step that is summarised, and the event files they go to.

Owns the event file and the two kinds of summary. Does not know which steps are summarised: a hook decides that, and in
all other steps `scalar` and `histogram` only look up whether they have anything to do.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from estimator_serving.training.arrays import Array
from estimator_serving.training.nn.variables import current_store, scoped_name

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

logger = logging.getLogger("estimator_serving.training")

_HISTOGRAM_BUCKETS = 30


def scalar(name: str, value: Tensor | float | Callable[[], Tensor]) -> None:
    """Report one number under `<scope>/<name>`. A function is only called in steps that are summarised."""
    found = current_store().summaries
    if found is not None:
        found[scoped_name(name)] = float(value() if callable(value) else value)


def histogram(name: str, values: Tensor) -> None:
    """Report the distribution of `values` under `<scope>/<name>`."""
    found = current_store().summaries
    if found is not None:
        found[scoped_name(name)] = values.detach().numpy().copy()


class EventWriter:
    """One event file in a directory, opened at the first value. `close` must be called."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = os.fspath(directory)
        self._file: Any = None

    def add(self, values: Mapping[str, float | Array | str], step: int) -> None:
        """One event: numbers as simple values, arrays as histograms, text as TensorBoard text."""
        self._write([_value(tag, value) for tag, value in values.items()], step)

    def add_metrics(self, values: Mapping[str, Any], step: int) -> None:
        """One event of an evaluation (TF 2.15).

        Numbers become simple values, arrays tensors, and text TensorBoard text. Bytes are a serialized Summary already.
        Anything else is left out with a warning.
        """
        self._write([found for tag, value in values.items() for found in _metric_values(tag, value)], step)

    def _write(self, values: list[Summary.Value], step: int) -> None:
        # Importing tensorboard takes a third of a second, and a program that only predicts should not wait for it.
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if self._file is None:
            self._file = EventFileWriter(self._directory)
        self._file.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def flush(self) -> None:
        """Write to the file what was added so far."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Write and close the file. A later `add` opens a new one."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _value(tag: str, value: float | Array | str) -> Summary.Value:
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING

    if isinstance(value, str):
        metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        return Summary.Value(
            tag=tag, metadata=metadata, tensor=TensorProto(dtype=DT_STRING, string_val=[value.encode()])
        )
    if np.ndim(value) == 0:
        return Summary.Value(tag=tag, simple_value=float(value))
    numbers = np.asarray(value, np.float64).ravel()
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return Summary.Value(tag=tag, histo=HistogramProto(bucket_limit=[0.0], bucket=[0.0]))
    counts, edges = np.histogram(finite, bins=_HISTOGRAM_BUCKETS)
    distribution = HistogramProto(
        min=finite.min(),
        max=finite.max(),
        num=finite.size,
        sum=finite.sum(),
        sum_squares=np.square(finite).sum(),
        bucket_limit=edges[1:].tolist(),
        bucket=counts.tolist(),
    )
    return Summary.Value(tag=tag, histo=distribution)


def _metric_values(tag: str, value: Any) -> list[Summary.Value]:
    """The values of one metric; none for a kind that cannot be written."""
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.util.tensor_util import make_tensor_proto

    if isinstance(value, bytes):
        try:
            parsed = Summary.FromString(value)
        except DecodeError:
            logger.warning("Skipping summary for %s, cannot parse string to Summary.", tag)
            return []
        for number, each in enumerate(parsed.value):
            each.tag = f"{tag}/{number}"
        return list(parsed.value)
    if isinstance(value, str | int | float | np.number) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return [_value(tag, value)]  # type: ignore[arg-type]
    if isinstance(value, np.ndarray):
        return [Summary.Value(tag=tag, tensor=make_tensor_proto(value))]
    logger.warning(
        "Skipping summary for %s, must be a float, np.float32, np.int64, np.int32 or int or np.ndarray or a serialized "
        "string of Summary. It is a %s.",
        tag,
        type(value).__name__,
    )
    return []
