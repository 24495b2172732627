"""A share of the requests and their answers, as TFRecords of PredictionLog: a file of them is a warmup file.

Owns which requests are logged, what stands in a record, and the files. Requests that came as these messages are logged
as they came; those of other dialects are written as messages from their arrays. Encoders are handed in: this module
knows messages, no codec.

A file is written by one process and has at most as many records as a warmup file may have; the next begins where it is
full, or where somebody removed, renamed or cut the file meanwhile. Files are made, never overwritten, and only in
directories that exist: their prefix may come over the wire.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from estimator_serving.serving.errors import Code
from estimator_serving.serving.log_settings import LogSettings
from estimator_serving.serving.metrics import LogMetrics
from estimator_serving.serving.models.warmup import RECORDS_MAX
from estimator_serving.serving.observing.spool import BYTES_MAX, Spool
from estimator_serving.serving.predictor import Call, Codec
from estimator_serving.serving.request import Outputs, Request
from estimator_serving.serving.running.servable import Servable
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.records import frame_record
from estimator_serving.wire.tensors import encode_tensor, write_varint

# How long a disk that failed is not tried again.
RETRY_S = 10.0
_BYTES = 2  # protobuf's wire type of texts and messages
# Method -> the number of its field in PredictionLog.
_LOG_FIELDS = {
    method: serving_pb.PredictionLog.DESCRIPTOR.fields_by_name[name].number
    for method, name in (
        ("Predict", "predict_log"),
        ("Classify", "classify_log"),
        ("Regress", "regress_log"),
        ("MultiInference", "multi_inference_log"),
    )
}
_sequence = itertools.count(1)


class _Entry(NamedTuple):
    """A request that was answered, to be logged."""

    codec: Codec
    payload: bytes
    request: Request
    servable: Servable
    outputs: Outputs
    answer: bytes
    settings: LogSettings
    at_s: int


class RequestLog:
    """Observes calls, and logs those that succeeded, as far as their model's settings ask for it.

    settings: a model's name -> its settings, asked at every request.
    encoders: by method, the codecs whose payloads are the messages to log.
    """

    def __init__(
        self,
        settings: Callable[[str], LogSettings | None],
        encoders: Mapping[str, Codec],
        metrics: LogMetrics,
        *,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self._settings = settings
        self._encoders = encoders
        self._metrics = metrics
        self._files: dict[Path, _File] = {}
        self._spool: Spool[_Entry] = Spool("request log", self._write, bytes_max=bytes_max)

    def __call__(self, call: Call) -> None:
        if call.servable is None or call.request is None or call.outputs is None or call.answer is None:
            return
        settings = self._settings(call.servable.name)
        if settings is None or random.random() >= settings.sampling_rate or call.codec.method not in _LOG_FIELDS:
            return
        entry = _Entry(
            call.codec, call.payload, call.request, call.servable, call.outputs, call.answer, settings, int(time.time())
        )
        if not self._spool.put(entry, len(call.payload) + len(call.answer)):
            self._metrics.logged(call.servable.name, Code.RESOURCE_EXHAUSTED)

    def close(self) -> None:
        """Write what was taken, and close the files."""
        self._spool.close()
        for file in self._files.values():
            file.close()

    def _write(self, entries: list[_Entry]) -> None:
        failed: OSError | None = None
        for entry in entries:
            prefix = entry.settings.filename_prefix
            code = Code.OK
            try:
                self._files.setdefault(prefix, _File(prefix)).append(self._record(entry))
            except OSError as error:
                failed, code = error, Code.UNAVAILABLE
            self._metrics.logged(entry.servable.name, code)
        if failed is not None:
            raise failed

    def _record(self, entry: _Entry) -> bytes:
        """The bytes of a PredictionLog."""
        metadata = serving_pb.LogMetadata(timestamp_secs=entry.at_s)
        metadata.sampling_config.sampling_rate = entry.settings.sampling_rate
        _write_spec(metadata.model_spec, entry)
        encoder = self._encoders[entry.codec.method]
        if entry.codec.parse is encoder.parse:
            request, response = entry.payload, entry.answer
        else:
            # A request of another dialect becomes TensorFlow Serving's message, from its arrays.
            message: Any
            if entry.codec.method == "Predict":
                message = serving_pb.PredictRequest(output_filter=entry.request.outputs)
                for alias, array in entry.request.inputs.items():
                    message.inputs[alias].CopyFrom(encode_tensor(array, as_content=True))
            else:
                is_classify = entry.codec.method == "Classify"
                message = serving_pb.ClassificationRequest() if is_classify else serving_pb.RegressionRequest()
                (examples,) = entry.request.inputs.values()
                message.input.example_list.examples.extend(examples.tolist())
            _write_spec(message.model_spec, entry)
            request = message.SerializeToString()
            response = encoder.encode(entry.outputs, entry.request, entry.servable)
        log = _field(1, request) + _field(2, response)
        return _field(1, metadata.SerializeToString()) + _field(_LOG_FIELDS[entry.codec.method], log)


def _write_spec(proto: Any, entry: _Entry) -> None:
    proto.name = entry.servable.name
    proto.version.value = entry.servable.version
    proto.signature_name = entry.request.signature_name


def _field(number: int, content: bytes) -> bytes:
    return write_varint(number << 3 | _BYTES) + write_varint(len(content)) + content


class _File:
    """The file of one prefix that is being written, and where the next one begins."""

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        self._file: BinaryIO | None = None
        self._records = 0
        self._retry_s = 0.0
        self._reason = ""

    def append(self, record: bytes) -> None:
        """Raises OSError where it cannot be written; the file then ends with the last whole record."""
        if time.monotonic() < self._retry_s:
            raise OSError(self._reason)
        try:
            if self._file is not None and not self._is_as_it_was(self._file):
                self.close()
            if self._file is None:
                at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
                path = f"{self._prefix}-{at}-{os.getpid()}-{next(_sequence):06d}.tfrecord"
                # Exclusive, so that nothing is ever overwritten; unbuffered, so that an error is of this record.
                self._file = open(path, "xb", buffering=0)  # noqa: SIM115  (it stays open for the records to come)
            self._write(self._file, frame_record(record))
        except OSError as error:
            self._retry_s, self._reason = time.monotonic() + RETRY_S, str(error)
            self.close()
            raise
        self._records += 1
        if self._records == RECORDS_MAX:
            self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._records = None, 0

    @staticmethod
    def _is_as_it_was(file: BinaryIO) -> bool:
        """Whether what was written so far is still there, under the file's name; otherwise nobody finds the next."""
        try:
            named = Path(file.name).stat()
        except OSError:
            return False
        return os.path.samestat(named, os.fstat(file.fileno())) and named.st_size == file.tell()

    @staticmethod
    def _write(file: BinaryIO, framed: bytes) -> None:
        start = file.tell()
        try:
            written = file.write(framed)
            if written < len(framed):
                raise OSError(28, "the disk is full")
        except OSError:
            file.truncate(start)
            raise
