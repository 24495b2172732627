"""Codecs in C++, for what would otherwise pass every number through a Python object.

Owns the import of the compiled module. Each codec of a message has a tolerant counterpart in Python, which reads and
writes the same and also has the sentences for what is wrong; the codecs here answer None for whatever is not plain. The
functions on rows of bytes, TFRecord's frames and ONNX files have no counterpart; wire/ragged.py, wire/records.py and
wire/onnx_model.py call them. The counts of requests, which serving/metrics.py reads, are here because counting in
Python took longer than a small codec.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from estimator_serving.wire.native._native import (
        ExampleWriter,
        HttpReader,
        InferRun,
        PlainRun,
        RequestCounts,
        RowMixer,
        Rows,
        Tensor,
        TensorParts,
    )

try:
    from estimator_serving.wire.native._native import (
        count_request,
        crc32c,
        drain_rows,
        example_writer,
        http_reader,
        infer_plain,
        join_rows,
        merge_counts,
        mix_rows,
        narrow_floats,
        predict_plain,
        read_body,
        read_columns,
        read_counts,
        read_examples_request,
        read_frames,
        read_inference,
        read_onnx,
        read_predict_request,
        read_request,
        request_counts,
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
    "RequestCounts",
    "RowMixer",
    "Rows",
    "Tensor",
    "TensorParts",
    "count_request",
    "crc32c",
    "drain_rows",
    "example_writer",
    "http_reader",
    "infer_plain",
    "join_rows",
    "merge_counts",
    "mix_rows",
    "narrow_floats",
    "predict_plain",
    "read_body",
    "read_columns",
    "read_counts",
    "read_examples_request",
    "read_frames",
    "read_inference",
    "read_onnx",
    "read_predict_request",
    "read_request",
    "request_counts",
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
