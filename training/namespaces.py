"""Modules under TensorFlow's names, and the AttributeError of a name that is not in them.

Owns how a module gets the two. Which names there are is said where the modules are made (training/__init__, contrib,
compat); what takes the place of the others, in replacements.py.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from estimator_serving.training.replacements import sentence

_TRAINING = __name__.rpartition(".")[0]


def namespace(path: str, names: Mapping[str, Any], doc: str = "") -> ModuleType:
    """A module that stands for `tf.<path>` with these names, and can be imported as a submodule of training."""
    module = ModuleType(f"{_TRAINING}.{path}", doc or f"tf.{path}'s names.")
    vars(module).update(names)
    vars(module)["__all__"] = sorted(names)
    sys.modules[module.__name__] = module
    announce(module, path)
    return module


def announce(module: ModuleType, path: str, also: Mapping[str, Any] | None = None) -> None:
    """Let `module` stand for `tf.<path>`.

    A name that it lacks is looked for in `also`; otherwise the AttributeError says what to use instead.
    """
    before = vars(module).get("__getattr__")

    def find(name: str) -> Any:
        if also is not None and name in also:
            return also[name]
        text = sentence(path, name)
        if text is None and before is not None:
            return before(name)
        raise AttributeError(text or f"module {module.__name__!r} has no attribute {name!r}")

    vars(module)["__getattr__"] = find
