"""Codecs in C++, for what would otherwise pass every number through a Python object.

Owns the import of the compiled module. Each function has a tolerant counterpart in Python, which reads and writes the
same and also has the sentences for what is wrong; these here answer None for whatever is not plain.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from estimator_serving.wire.native._native import ExampleWriter, Rows, Tensor

try:
    from estimator_serving.wire.native._native import (
        example_writer,
        narrow_floats,
        read_body,
        read_columns,
        write_array,
        write_examples,
        write_rows,
    )
except ImportError as error:
    raise ImportError(
        f"The compiled codecs of estimator-serving cannot be loaded ({error}); in a checkout run `make build`, "
        "elsewhere reinstall estimator-serving."
    ) from error

__all__ = [
    "ExampleWriter",
    "Rows",
    "Tensor",
    "example_writer",
    "narrow_floats",
    "read_body",
    "read_columns",
    "write_array",
    "write_examples",
    "write_rows",
]
