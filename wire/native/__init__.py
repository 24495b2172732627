"""Codecs in C++, for what would otherwise pass every number through a Python object.

Owns the import of the compiled module. Each codec of a message has a tolerant counterpart in Python, which reads and
writes the same and also has the sentences for what is wrong; the codecs here answer None for whatever is not plain. The
functions on rows of bytes and TFRecord's frames have no counterpart; wire/ragged.py and wire/records.py call them.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from estimator_serving.wire.native._native import (
        ExampleWriter,
        HttpReader,
        InferRun,
        PlainRun,
        RowMixer,
        Rows,
        Tensor,
        TensorParts,
    )

try:
    from estimator_serving.wire.native._native import (
        crc32c,
        drain_rows,
        example_writer,
        http_reader,
        infer_plain,
        join_rows,
        mix_rows,
        narrow_floats,
        predict_plain,
        read_body,
        read_columns,
        read_examples_request,
        read_frames,
        read_inference,
        read_predict_request,
        read_request,
        row_mixer,
        take_rows,
        write_array,
        write_classifications,
        write_examples,
        write_predict_response,
        write_rows,
    )
except ImportError as error:
    raise ImportError(
        f"The compiled codecs of estimator-serving cannot be loaded ({error}); in a checkout run `make build`, "
        "elsewhere reinstall estimator-serving."
    ) from error

__all__ = [
    "WRITABLE",
    "ExampleWriter",
    "HttpReader",
    "InferRun",
    "PlainRun",
    "RowMixer",
    "Rows",
    "Tensor",
    "TensorParts",
    "crc32c",
    "drain_rows",
    "example_writer",
    "http_reader",
    "infer_plain",
    "join_rows",
    "mix_rows",
    "narrow_floats",
    "predict_plain",
    "read_body",
    "read_columns",
    "read_examples_request",
    "read_frames",
    "read_inference",
    "read_predict_request",
    "read_request",
    "row_mixer",
    "take_rows",
    "write_array",
    "write_classifications",
    "write_examples",
    "write_predict_response",
    "write_rows",
]

# numpy's letters of the dtypes that the writers here take.
WRITABLE = frozenset("?bBhilqILQfd")
