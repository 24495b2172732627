"""TFRecord files of Examples -> batches of features, parsed by the op that exported graphs parse them with.

Owns the session that parses, and the errors for a record that does not fit. wire knows how records are framed, the op
library how they are parsed.
"""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import spox
from onnxruntime import SessionOptions
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from estimator_serving import ops
from estimator_serving.training.columns import onnx_ops
from estimator_serving.training.columns.finish import serialize
from estimator_serving.training.data.pipeline import AUTOTUNE
from estimator_serving.training.data.read_ahead import read_ahead
from estimator_serving.wire import ragged, records
from estimator_serving.wire.examples import FeatureSpec, escape_text, unescape_text
from estimator_serving.wire.ragged import RaggedBytes

# Pieces of a file that are read before they are needed.
_BLOCKS_AHEAD = 2


def reader(
    paths: str | Path | Iterable[str | Path], compression_type: str | None, num_parallel_reads: int | None = None
) -> Callable[[], Iterator[RaggedBytes]]:
    """A function that reads all records of all files, from the start each time it is called, many at a time.

    Raises ValueError for an unknown compression_type. For what the function raises see Dataset.from_tfrecord.
    """
    compressed = is_gzip(compression_type)
    if num_parallel_reads is not None and num_parallel_reads != AUTOTUNE and num_parallel_reads < 1:
        raise ValueError(f"num_parallel_reads must be greater than zero; got {num_parallel_reads}.")

    def read_file(path: Path) -> Iterator[RaggedBytes]:
        try:
            yield from records.read_blocks(path, is_gzip=compressed)
        except FileNotFoundError:
            raise FileNotFoundError(f"There is no file {path}; give the path of a TFRecord file.") from None

    def read() -> Iterator[RaggedBytes]:
        files = matching(paths)
        if num_parallel_reads is None:
            return itertools.chain.from_iterable(map(read_file, files))
        count = min(os.cpu_count() or 1, len(files)) if num_parallel_reads == AUTOTUNE else num_parallel_reads
        return ragged.interleaved((read_ahead(read_file(path), _BLOCKS_AHEAD) for path in files), count)

    return read


def is_gzip(compression_type: str | None) -> bool:
    """What TensorFlow's compression_type says. Raises ValueError for a word that is not known."""
    if compression_type not in (None, "", "GZIP"):
        raise ValueError(f"compression_type {compression_type!r} is not known; give None or 'GZIP'.")
    return compression_type == "GZIP"


def matching(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """The files (one or several), with every pattern (`*`, `?`, `[…]`) replaced by the files that match it, sorted.

    Raises FileNotFoundError for a pattern without a match.
    """
    found: list[Path] = []
    for path in map(str, [paths] if isinstance(paths, str | Path) else paths):
        is_pattern = glob.has_magic(path) and not Path(path).exists()
        names = sorted(glob.glob(path)) if is_pattern else [path]  # noqa: PTH207 (a pattern may be absolute)
        if not names:
            raise FileNotFoundError(f"No files matched pattern: {path}; give another pattern or the paths themselves.")
        found += map(Path, names)
    return found


def parser(features: FeatureSpec, label_name: str | None) -> Callable[[RaggedBytes], Any]:
    """A function from serialized Examples to `features`, or to `(features, labels)`.

    Raises ValueError for a label_name outside `features`; the function raises it for an Example that does not fit.
    """
    if label_name is not None and label_name not in features:
        raise ValueError(f"The label {label_name!r} is not among the features: {', '.join(sorted(features))}.")
    examples_values = spox.argument(spox.Tensor("uint8", ("n",)))
    examples_splits = spox.argument(spox.Tensor("int64", ("batch+1",)))
    outputs = onnx_ops.parse_example(examples_values, examples_splits, features)
    model = spox.build({"values": examples_values, "row_splits": examples_splits}, outputs)
    options = SessionOptions()
    options.intra_op_num_threads = 1
    # A bad Example raises an exception; the log would repeat it.
    options.log_severity_level = 4
    session = ops.session(serialize(model), options=options)
    names = [output.name for output in session.get_outputs()]
    if label_name not in (None, *names):
        raise ValueError(f"The label {label_name!r} has a number of values that varies; read it with FixedLenFeature.")

    def run(examples: RaggedBytes) -> list[Any]:
        own = examples.packed()
        arrays: list[Any] = session.run(names, {"values": own.values, "row_splits": own.row_splits})
        return arrays

    def parse(examples: RaggedBytes) -> Any:
        try:
            try:
                arrays = run(examples)
            except UnicodeDecodeError:  # ONNX Runtime gives text as str
                arrays = [
                    np.vectorize(unescape_text, otypes=[object])(a) if a.dtype == object and a.size else a
                    for a in run(RaggedBytes.of([escape_text(example) for example in examples]))
                ]
        except InvalidArgument as error:
            raise ValueError(
                f"{ops.own_text(error).strip()} (an Example of this batch); compare the file with the "
                "features given to from_tfrecord."
            ) from None
        batch = dict(zip(names, arrays, strict=True))
        if label_name is None:
            return batch
        labels = batch.pop(label_name)
        return batch, labels

    return parse
