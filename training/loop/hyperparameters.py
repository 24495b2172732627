"""hyperparameters.json: what a model was made with, in words, for `estimator-serving report`.

Owns the file and how values are put into words. Does not know which arguments an estimator has.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from estimator_serving.training.aside import replacing
from estimator_serving.training.columns.base import FeatureColumn

_GIVEN = "_given"
FILE = "hyperparameters.json"
_TEXT_MAX = 500
_ENTRIES_MAX = 50
# What says where and how a run is made, and not what the model is; the config has its own line.
_LEFT_OUT = {"self", "model_dir", "config", "warm_start_from", "params", "model_fn"}


def remember_arguments(kind: Any) -> None:
    """Let the constructor of an estimator's class note what it is called with, for `describe`."""
    constructor = vars(kind).get("__init__")
    if constructor is None:
        return

    @functools.wraps(constructor)
    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        vars(self).setdefault(_GIVEN, (args, kwargs))  # the outermost constructor comes first
        constructor(self, *args, **kwargs)

    kind.__init__ = call


def describe(estimator: object, model_fn: Any) -> dict[str, Any]:
    """The class and the constructor's arguments by name, its defaults too, ready for JSON; of Estimator its model_fn.

    What was remembered of the constructor is forgotten.
    """
    kind = type(estimator)
    given: dict[str, Any] = {"model_fn": model_fn}
    if _GIVEN in vars(estimator):
        args, kwargs = vars(estimator).pop(_GIVEN)
        bound = inspect.signature(kind.__init__).bind(estimator, *args, **kwargs)
        bound.apply_defaults()
        given = {key: value for key, value in bound.arguments.items() if key not in _LEFT_OUT and value is not None}
    return {"estimator": kind.__name__, "arguments": {key: _in_words(value) for key, value in given.items()}}


def write(directory: str | os.PathLike[str], described: Mapping[str, Any], params: Any) -> None:
    """Write what `describe` gave, with the params of a model_fn."""
    # A dict, or an object with attributes, such as HParams.
    named = params if isinstance(params, Mapping) else vars(params)
    text = json.dumps({**described, "params": {str(key): _in_words(value) for key, value in named.items()}}, indent=1)
    with replacing(Path(directory) / FILE) as aside:
        aside.write_text(text + "\n")


def _in_words(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, FeatureColumn):
        return f"{value.name} ({type(value).__name__.removesuffix('Column')})"
    if isinstance(value, Mapping):
        return {str(key): _in_words(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        shown = [_in_words(one) for one in list(value)[:_ENTRIES_MAX]]
        return shown if len(value) <= _ENTRIES_MAX else [*shown, f"… {len(value)} in all"]
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)}"
    if callable(value) and hasattr(value, "__name__"):
        return str(value.__name__)
    # An object by its class and plain fields: its repr would have an address.
    fields = {key.lstrip("_"): one for key, one in getattr(value, "__dict__", {}).items()}
    plain = {key: one for key, one in fields.items() if isinstance(one, bool | int | float | str)}
    named = ", ".join(f"{key}={one!r}" for key, one in plain.items())
    return f"{type(value).__name__}({named})"[:_TEXT_MAX]
