"""Values people hand over -> numpy arrays: numbers keep their dtype, text becomes object arrays of `str`.

And arrays -> what a model_fn computes with: numbers as tensors.

ONNX Runtime's Python binding takes `str` alone (it turns `bytes` into the text "b'..'"), so text is decoded here, once.
Bytes that are not UTF-8 become lone surrogates (Python's surrogateescape), from which `as_bytes` gets them back.
Knows nothing of columns, batches or files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, np.dtype[Any]]


def as_array(value: Any, name: str) -> Array:
    """One feature as an array.

    Lists of Python floats become float32 (TensorFlow's default); arrays keep their dtype. Text of any kind
    (str, bytes, numpy's U and S) becomes an object array of str.

    Args:
        value: an array, a torch tensor, a pandas Series, a list or a scalar.
        name: how messages call it.

    Raises:
        ValueError: lists of different lengths, or an entry that is neither text nor a number.
    """
    if isinstance(value, torch.Tensor):
        if value.is_sparse:
            raise ValueError(
                f"Feature {name} is a sparse tensor; pad its rows to one length, ids with -1. Labels of a "
                "MultiLabelHead become dense with heads.multi_hot."
            )
        return value.detach().cpu().numpy()
    if type(value).__module__.startswith("scipy.sparse"):
        raise ValueError(
            f"Feature {name} is a sparse matrix of scipy. Give value.toarray() to a numeric_column of that shape; if "
            "that is too large, give the column numbers of each row as ids, padded with -1, and the values as weights "
            "to a weighted_categorical_column."
        )
    is_typed = hasattr(value, "dtype")
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(
            f"Feature {name} has rows of different lengths; pad them to one length, text with '' and ids with -1."
        ) from None
    if array.dtype.kind in "OSUT":
        return as_text(array, name)
    return array if is_typed or array.dtype != np.float64 else array.astype(np.float32)


def as_text(array: Array, name: str) -> Array:
    """An object array of str, the same shape. The array itself where it is one already.

    Raises:
        ValueError: an entry that is not text (None, NaN).
    """
    flat = array.ravel().tolist()
    if array.dtype == object and set(map(type, flat)) <= {str}:
        return array
    decoded: list[str] = []
    for row, entry in enumerate(flat):
        if isinstance(entry, str):
            decoded.append(str(entry))
            continue
        if not isinstance(entry, bytes):
            raise ValueError(
                f"Feature {name} holds {entry!r} (a {type(entry).__name__}) at entry {row} where text was expected; "
                "write '' for what is missing and str(...) for the rest."
            )
        decoded.append(entry.decode(errors="surrogateescape"))
    text = np.empty(len(flat), dtype=object)
    text[:] = decoded
    return text.reshape(array.shape)


def as_bytes(array: Array, name: str) -> Array:
    """Text as numpy's S, which ONNX Runtime takes with any bytes but NUL. Raises ValueError for a NUL."""
    encoded = [text.encode(errors="surrogateescape") for text in array.ravel().tolist()]
    for row, entry in enumerate(encoded):
        if b"\0" in entry:
            raise ValueError(
                f"Feature {name} holds the bytes {entry[:32]!r} at entry {row}, with a NUL among text that is not "
                "UTF-8. One of the two can be fed: remove the NUL, or hash the feature to a number first."
            )
    # One byte more than the longest has: ONNX Runtime reads each entry up to a NUL.
    width = max(map(len, encoded), default=0) + 1
    return np.array(encoded, dtype=f"S{width}").reshape(array.shape)


def as_tensors(given: Any) -> Any:
    """Numbers as bool, int64 or float32 tensors, text as an object array; dicts of them alike, None as it is."""
    if given is None or isinstance(given, torch.Tensor):
        return given
    if isinstance(given, Mapping):
        return {key: as_tensors(value) for key, value in given.items()}
    array = np.asarray(given)
    kind = array.dtype.kind
    if kind in "OSU":
        return array.astype(object)
    wanted = np.bool_ if kind == "b" else np.int64 if kind in "iu" else np.float32
    # A copy, so that a model_fn working in place does not write into the data set.
    return torch.from_numpy(np.array(array, wanted))
