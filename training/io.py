"""tf.io's names: what an Example carries, parsing it, and files of records."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from types import TracebackType
from typing import IO, cast

from estimator_serving.training.data.record_file import is_gzip
from estimator_serving.training.data.tf_data import decode_csv as decode_csv
from estimator_serving.training.data.tf_data import parse_example as parse_example
from estimator_serving.training.data.tf_data import parse_single_example as parse_single_example
from estimator_serving.wire.examples import FixedLenFeature as FixedLenFeature
from estimator_serving.wire.examples import FixedLenSequenceFeature as FixedLenSequenceFeature
from estimator_serving.wire.examples import RaggedFeature as RaggedFeature
from estimator_serving.wire.examples import SparseFeature as SparseFeature
from estimator_serving.wire.examples import VarLenFeature as VarLenFeature
from estimator_serving.wire.records import frame_record, read_records


class TFRecordWriter:
    """Writes a file of records: `with TFRecordWriter("train.tfrecord") as writer: writer.write(example_bytes)`.

    `options` is "GZIP" for a compressed file, None or "" for a plain one. Raises ValueError for another word.
    """

    def __init__(self, path: str | os.PathLike[str], options: str | None = None) -> None:
        # A GzipFile is an IO[bytes] in all but its type.
        opened = gzip.open(path, "wb") if is_gzip(options) else open(path, "wb")  # noqa: SIM115  close() closes it
        self._file = cast(IO[bytes], opened)

    def write(self, record: bytes) -> None:
        self._file.write(frame_record(record))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> TFRecordWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def tf_record_iterator(path: str | os.PathLike[str], options: str | None = None) -> Iterator[bytes]:
    """The records of a file; `options` as in TFRecordWriter. Raises RecordError for a file that is damaged."""
    return read_records(os.fspath(path), is_gzip=is_gzip(options))
