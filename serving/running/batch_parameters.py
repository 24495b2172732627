"""How requests are batched: TensorFlow Serving's BatchingParameters, read from text and checked.

Owns the parameters' defaults, their checks and their sentences. Knows neither queues nor models.
Source of names, defaults and rules: TensorFlow Serving 2.20, session_bundle_config.proto.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from estimator_serving.serving.config import ConfigError, cpus, parse_text
from estimator_serving.wire.pb import serving_pb

_log = logging.getLogger(__name__)

# Where a version directory holds parameters of its own.
VERSION_FILE = "batching_params.pbtxt"


class BatchParametersError(ValueError):
    """Parameters that cannot be used; the text is one sentence for the operator."""


@dataclass(frozen=True)
class BatchParameters:
    """How one model version's requests share runs. Sizes are in rows, what dimension 0 of the inputs counts.

    Attributes:
        max_batch_size: the largest request, and the largest batch unless large requests are split.
        batch_timeout_s: how long an idle executor waits for a batch to fill, from its first request; 0 for not at all.
        max_enqueued_batches: full batches of one signature that may wait; beyond, requests are refused.
        num_batch_threads: batches of one version that may run at once.
        thread_pool_name: the label under which its queueing times are counted.
        allowed_batch_sizes: the sizes a batch is padded up to, ascending; none for any size.
        pad_variable_length_inputs: whether requests whose other dimensions differ are padded into one batch.
        enable_large_batch_splitting: whether a request may be spread over several batches.
        max_execution_batch_size: the largest batch where requests are split.
        padding_value: what pads variable lengths (text: the empty string); None for each tensor's own first element,
            as in TensorFlow Serving.

    Raises BatchParametersError for a size below its least, and for sizes that do not fit each other.
    """

    max_batch_size: int = 1000
    batch_timeout_s: float = 0.0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=cpus)
    thread_pool_name: str = "model_server_batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 0
    padding_value: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
            _check(getattr(self, name) > 0, f"{name} is {getattr(self, name)}; give a number above 0")
        _check(
            self.batch_timeout_s >= 0,
            f"batch_timeout_micros is {round(self.batch_timeout_s * 1e6)}; give 0 (run at once) or more",
        )
        _check(
            0 <= self.max_execution_batch_size <= self.max_batch_size,
            f"max_execution_batch_size is {self.max_execution_batch_size}; give a number above 0 and up to "
            f"max_batch_size, which is {self.max_batch_size}",
        )
        sizes = self.allowed_batch_sizes
        if sizes:
            _check(
                all(small < large for small, large in pairwise((0, *sizes))),
                "allowed_batch_sizes entries must be in monotonically increasing order, above 0; they are "
                f"{list(sizes)}",
            )
            limit = "max_execution_batch_size" if self.enable_large_batch_splitting else "max_batch_size"
            _check(
                sizes[-1] == self.batch_rows_max,
                f"the last entry in allowed_batch_sizes must be equal to {limit}; it is {sizes[-1]} and {limit} is "
                f"{self.batch_rows_max}",
            )

    @property
    def batch_rows_max(self) -> int:
        """The largest batch that is run."""
        splits = self.enable_large_batch_splitting and self.max_execution_batch_size
        return self.max_execution_batch_size if splits else self.max_batch_size

    def padded_rows(self, rows: int) -> int:
        """The number of rows that a batch of this many is run with."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)


def _check(valid: bool, sentence: str) -> None:
    if not valid:
        raise BatchParametersError(f"Batching parameters cannot be used: {sentence}.")


_OPTIONAL = (
    "max_batch_size",
    "max_enqueued_batches",
    "num_batch_threads",
    "thread_pool_name",
    "enable_large_batch_splitting",
    "max_execution_batch_size",
    "padding_value",
)


def parse(text: str, name: str, common: BatchParameters | None = None) -> BatchParameters:
    """The parameters of a text BatchingParameters; what it leaves out has TensorFlow Serving's default.

    name: the file's, for sentences.
    common: the server's own parameters, which give the pool's threads and name where the text does not.
    Raises BatchParametersError for text that is no such message and for values that cannot be used.
    """
    try:
        proto = parse_text(text, serving_pb.BatchingParameters(), name)
    except ConfigError as error:
        if "has no field named" in str(error):
            raise BatchParametersError(str(error)) from None
        fields = serving_pb.BatchingParameters.DESCRIPTOR.fields
        *first, last = sorted(known.name for known in fields if known.message_type is None)
        raise BatchParametersError(
            f"{error} {', '.join(first)} and {last} take plain values, as in allowed_batch_sizes: 64; the others are "
            "wrapped, as in max_batch_size { value: 128 }."
        ) from None
    common = common or BatchParameters()
    # Upstream wraps its values in messages; padding_value is bare.
    given = {key: getattr(proto, key) for key in _OPTIONAL if proto.HasField(key)}
    given = {key: getattr(value, "value", value) for key, value in given.items()}
    pool: dict[str, Any] = {"num_batch_threads": common.num_batch_threads, "thread_pool_name": common.thread_pool_name}
    try:
        if "max_execution_batch_size" in given:
            above_0 = given["max_execution_batch_size"] > 0
            _check(above_0, "max_execution_batch_size is not above 0; leave it out instead")
            if not given.get("enable_large_batch_splitting"):
                _log.warning(
                    "max_execution_batch_size has no effect without enable_large_batch_splitting { value: true }."
                )
        return BatchParameters(
            **pool | given,
            batch_timeout_s=proto.batch_timeout_micros.value / 1e6,
            allowed_batch_sizes=tuple(proto.allowed_batch_sizes),
            pad_variable_length_inputs=proto.pad_variable_length_inputs,
        )
    except BatchParametersError as error:
        raise BatchParametersError(f"{name}: {error}") from None


def of_version(directory: Path, common: BatchParameters) -> BatchParameters | None:
    """The parameters a version directory brings along, None where it brings none.

    Raises BatchParametersError where they cannot be used.
    """
    path = directory / VERSION_FILE
    if not path.is_file():
        return None
    try:
        return parse(path.read_text(), str(path), common)
    except (OSError, UnicodeDecodeError) as error:
        raise BatchParametersError(f"{path} cannot be read ({error}); write it as UTF-8 text, or remove it.") from None
