"""The op's answer to a case of random_examples, in the form TensorFlow's side gives its own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from random_examples import as_feature

from estimator_serving.wire.features import VarLenFeature

InvalidArgument = ort.capi.onnxruntime_pybind11_state.InvalidArgument


def answer(
    parser: Callable[..., Callable[[Sequence[bytes]], Mapping[str, Any]]], case: Mapping[str, Any]
) -> dict[str, Any]:
    """{"outputs": {name: nested lists}} or {"error": text}; `parser` makes a parse function of a spec and lists."""
    spec = {key: as_feature(feature) for key, feature in case["spec"].items()}
    lists = {key: as_feature(feature) for key, feature in case["lists"].items()} if "lists" in case else None
    try:
        parsed = dict(parser(spec, lists)([bytes.fromhex(example) for example in case["examples"]]))
    except InvalidArgument as error:
        return {"error": str(error).split("Status Message: ", 1)[1]}
    padded = [key for key, feature in spec.items() if isinstance(feature, VarLenFeature)]
    padded += [f"lists/{key}" for key, feature in (lists or {}).items() if isinstance(feature, VarLenFeature)]
    rows = {key: without_padding(parsed.pop(f"{key}/values"), parsed.pop(f"{key}/lengths")) for key in padded}
    return {"outputs": rows | {name: as_recorded(array.tolist()) for name, array in parsed.items()}}


def without_padding(values: np.ndarray[Any, Any], lengths: np.ndarray[Any, Any]) -> list[Any]:
    """The rows of a padded output as lists; asserts that the padding is zeros or ''."""
    behind = np.arange(values.shape[-1]) >= lengths[..., None]
    assert not values[behind].any()
    if lengths.ndim == 2:
        return [without_padding(row, own) for row, own in zip(values, lengths, strict=True)]
    return [as_recorded(row[:length].tolist()) for row, length in zip(values, lengths, strict=True)]


def as_recorded(value: Any) -> Any:
    """Strings as hex, as the recorded cases have them."""
    if isinstance(value, list):
        return [as_recorded(one) for one in value]
    return value.encode().hex() if isinstance(value, str) else value


def agree(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """The same outputs, or a refusal that starts with TensorFlow's text."""
    if "error" in theirs:
        return "error" in ours and ours["error"].startswith(theirs["error"])
    return ours == theirs
