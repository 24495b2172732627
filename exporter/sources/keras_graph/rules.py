"""The rules of operations and layers, by the name of Keras's class; each registers where it is written.

Owns the two tables. A rule of an operation gets the writer, the operation with its attributes, its symbolic output with
shape and dtype, and the arguments of its `call`; it returns the names of its outputs. A rule of a layer gets the graph,
the layer and the arguments of its `call`; it returns values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Rule = TypeVar("Rule", bound=Callable[..., Any])

OPERATIONS: dict[str, Callable[..., Any]] = {}
LAYERS: dict[str, Callable[..., Any]] = {}


def lowers(*names: str, rules: dict[str, Callable[..., Any]] = OPERATIONS) -> Callable[[Rule], Rule]:
    """Registers a function as the rule of these classes of Keras: of operations, or of layers with rules=LAYERS."""

    def register(rule: Rule) -> Rule:
        rules.update(dict.fromkeys(names, rule))
        return rule

    return register
