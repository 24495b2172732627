"""Many requests' arrays as one batch, and its outputs in parts again. Pure functions; knows no queue and no model.

Owns TensorFlow Serving's rules and texts for what can share a batch: batching_session.cc of TensorFlow Serving 2.20.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from estimator_serving.serving.errors import FailedPreconditionError, InvalidArgumentError
from estimator_serving.serving.request import Array, Outputs

Inputs = Mapping[str, Array]


def count_rows(inputs: Inputs) -> int:
    """The rows of one request: dimension 0 of every input. Raises InvalidArgumentError where inputs differ in it."""
    if not inputs:
        raise InvalidArgumentError("Batching Run() must have at least one input tensor; this signature takes none.")
    for alias, array in inputs.items():
        if array.ndim == 0:
            raise InvalidArgumentError(
                f"Batching Run() input tensors must have at least one dimension; {alias} is a scalar, send it as [1]."
            )
    counts = {alias: len(array) for alias, array in inputs.items()}
    rows = next(iter(counts.values()))
    if any(count != rows for count in counts.values()):
        listed = ", ".join(f"{alias}: {count}" for alias, count in counts.items())
        raise InvalidArgumentError(
            f"Batching Run() input tensors must have equal 0th-dimension size; the rows are {listed}."
        )
    return rows


def join(parts: Sequence[Inputs], rows: int, padding_value: float | None = None) -> Inputs:
    """The inputs of a batch: the parts one under the other, then copies of the last part's first row up to `rows`.

    Where other dimensions than the first differ, they are padded at their end up to the longest, each array with its
    own first element or with `padding_value`.
    """
    extra = rows - sum(len(next(iter(part.values()))) for part in parts)
    if len(parts) == 1 and not extra:
        return parts[0]
    joined = {}
    for alias in parts[0]:
        arrays = [part[alias] for part in parts]
        if len({array.shape[1:] for array in arrays}) > 1:
            longest = tuple(max(lengths) for lengths in zip(*(array.shape[1:] for array in arrays), strict=True))
            for index, array in enumerate(arrays):
                padding: object
                if array.dtype.hasobject:
                    # Text: serialized Examples, which are bytes, come as vectors, and those have nothing to pad.
                    padding = array.flat[0] if array.size and padding_value is None else ""
                elif padding_value is None:
                    padding = array.flat[0] if array.size else 0
                else:
                    padding = array.dtype.type(padding_value)
                padded = np.full((len(array), *longest), padding, array.dtype)
                padded[tuple(slice(length) for length in array.shape)] = array
                arrays[index] = padded
        if extra:
            arrays.append(np.repeat(arrays[-1][:1], extra, axis=0))
        joined[alias] = np.concatenate(arrays)
    return joined


def split(outputs: Outputs, sizes: Sequence[int], rows: int) -> list[Outputs]:
    """The outputs of each part of a batch; those of the rows beyond the parts are dropped.

    sizes: the rows of each part. rows: the rows the batch ran with.
    Raises FailedPreconditionError where an output's rows are not the batch's.
    """
    advice = "Serve the model without batching, or export it with the batch as every output's first dimension."
    for alias, array in outputs.items():
        if array.ndim == 0:
            raise FailedPreconditionError(f"Batched output tensor has 0 dimensions: {alias}. {advice}")
        if len(array) != rows:
            raise FailedPreconditionError(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the input "
                f"tensors: {alias} has {len(array)} rows for {rows}. {advice}"
            )
    bounds = np.cumsum([0, *sizes]).tolist()
    return [{alias: array[start:stop] for alias, array in outputs.items()} for start, stop in pairwise(bounds)]


def concatenate(parts: Sequence[Outputs]) -> Outputs:
    """The outputs of a request that ran in several batches, in the order of its rows."""
    return {alias: np.concatenate([part[alias] for part in parts]) for alias in parts[0]}
