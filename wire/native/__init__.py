"""Codecs in C++, for what would otherwise pass every number through a Python object.

Owns the import of the compiled module. Each function has a tolerant counterpart in Python, which reads and writes the
same and also has the sentences for what is wrong; these here answer None for whatever is not plain.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from estimator_serving.wire.native._native import ExampleWriter, Rows, Tensor, TensorParts

try:
    from estimator_serving.wire.native._native import (
        example_writer,
        narrow_floats,
        read_body,
        read_columns,
        read_predict_request,
        write_array,
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
    "Rows",
    "Tensor",
    "TensorParts",
    "example_writer",
    "narrow_floats",
    "read_body",
    "read_columns",
    "read_predict_request",
    "write_array",
    "write_examples",
    "write_predict_response",
    "write_rows",
]

# numpy's letters of the dtypes that the writers here take.
WRITABLE = frozenset("?bBhilqILQfd")
