"""Numbers for TensorBoard: what model_fn reports in a step that is summarised, and the event files they go to.

Owns the event file and the kinds of summary. Does not know which steps are summarised: a hook decides that, and in
all other steps `scalar` and its siblings only look up whether they have anything to do.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import struct
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from estimator_serving.training.arrays import Array
from estimator_serving.training.nn.metrics import Metric
from estimator_serving.training.nn.variables import current_store, scoped_name

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

logger = logging.getLogger("estimator_serving.training")

_HISTOGRAM_BUCKETS = 30


def scalar(
    name: str,
    tensor: Tensor | Metric | float | Callable[[], Tensor],
    collections: object = None,  # noqa: ARG001  there are no collections; here and below it changes nothing
    family: str | None = None,
) -> None:
    """Report one number under `<scope>/<name>`. A function is only called in steps that are summarised.

    A metric reports the value of this batch. `family` groups tags in TensorBoard: `<family>/<scope>/<family>/<name>`.
    """

    def number() -> float:
        given = tensor() if callable(tensor) else tensor
        value: Any = given.result() if isinstance(given, Metric) else given
        return value.item() if isinstance(value, Tensor) else float(value)

    _report(name, family, number)


def histogram(name: str, values: Tensor, collections: object = None, family: str | None = None) -> None:  # noqa: ARG001
    """Report the distribution of `values` under `<scope>/<name>`."""
    _report(name, family, lambda: torch.as_tensor(values).detach().numpy().copy())


def image(
    name: str,
    tensor: Tensor,
    max_outputs: int = 3,
    collections: object = None,  # noqa: ARG001
    family: str | None = None,
) -> None:
    """Report the first images of a batch, f32 or uint8 [B, height, width, 1, 3 or 4], under `<scope>/<name>/image`.

    With several the tags end in their numbers. Floats are scaled to 0…255 as TensorFlow does: the largest is 255; where
    some are negative, 0 is 128.
    """

    def pictures() -> tuple[Picture, ...]:
        return tuple(Picture.of(each.numpy()) for each in tensor.detach()[:max_outputs])

    _report(name, family, pictures)


def text(name: str, tensor: str | Sequence[str] | Array, collections: object = None) -> None:  # noqa: ARG001
    """Report text, or a list of texts, under `<scope>/<name>`."""
    words = tensor if isinstance(tensor, str) else np.asarray(tensor, object)
    _report(name, None, lambda: words)


def _report(name: str, family: str | None, value: Callable[[], Any]) -> None:
    found = current_store().summaries
    if found is None:
        return
    cleaned = re.sub(r"[^-/.\w]", "_", name).lstrip("/")
    tag = f"{family}/{scoped_name(family)}/{cleaned}" if family else scoped_name(cleaned)
    # Two summaries of one name both stand, as in TF.
    numbered = (tag if not number else f"{tag}_{number}" for number in itertools.count())
    found[next(free for free in numbered if free not in found)] = value()


@dataclass(frozen=True)
class Picture:
    """A PNG image for TensorBoard."""

    height: int
    width: int
    channels: int
    png: bytes

    @staticmethod
    def of(pixels: Array) -> Picture:
        """Of pixels f32 or uint8 [height, width, channels]: see `image`. Raises ValueError for other shapes."""
        if pixels.ndim != 3 or pixels.shape[-1] not in _PNG_COLORS:
            raise ValueError(
                f"Tensor must be 4-D with last dim 1, 3, or 4, not {[None, *pixels.shape]}. Images are [batch, height, "
                "width, channels]."
            )
        if pixels.dtype != np.uint8:
            low, high = min(0.0, float(pixels.min(initial=0.0))), float(pixels.max(initial=0.0))
            zero = 128.0 if low < 0 else 0.0
            largest = max(high, -low) if low < 0 else high
            scale = (127.0 if low < 0 else 255.0) / largest if largest else 0.0
            pixels = np.clip(pixels * scale + zero, 0.0, 255.0).astype(np.uint8)
        height, width, channels = pixels.shape
        header = struct.pack(">IIBBBBB", width, height, 8, _PNG_COLORS[channels], 0, 0, 0)
        rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)  # no filter
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")]
        packed = [
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        ]
        return Picture(height, width, channels, b"\x89PNG\r\n\x1a\n" + b"".join(packed))


_PNG_COLORS = {1: 0, 3: 2, 4: 6}
"""PNG's number for grey, RGB and RGBA by the number of channels."""


class EventWriter:
    """One event file in a directory, opened at the first value. `close` must be called."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = os.fspath(directory)
        self._file: Any = None

    def add(self, values: Mapping[str, Any], step: int) -> None:
        """One event: numbers as simple values, arrays as histograms, text and arrays of text as TensorBoard text, and
        tuples of Pictures as images."""
        self._write([made for tag, value in values.items() for made in _values(tag, value)], step)

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


def _values(tag: str, value: Any) -> list[Summary.Value]:
    from tensorboard.compat.proto.summary_pb2 import Summary

    if not isinstance(value, tuple):
        return [_value(tag, value)]
    tags = [f"{tag}/image"] if len(value) == 1 else [f"{tag}/image/{i}" for i in range(len(value))]
    return [
        Summary.Value(
            tag=each,
            image=Summary.Image(
                height=picture.height,
                width=picture.width,
                colorspace=picture.channels,
                encoded_image_string=picture.png,
            ),
        )
        for each, picture in zip(tags, value, strict=True)
    ]


def _value(tag: str, value: float | Array | str) -> Summary.Value:
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING

    if isinstance(value, str) or (isinstance(value, np.ndarray) and value.dtype == object):
        words = np.asarray(value, object)
        metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in words.shape])
        found = [str(word).encode() for word in words.reshape(-1)]
        return Summary.Value(
            tag=tag, metadata=metadata, tensor=TensorProto(dtype=DT_STRING, tensor_shape=shape, string_val=found)
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
