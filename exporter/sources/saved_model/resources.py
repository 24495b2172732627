"""The variables, tables and trees of a SavedModel, by the nodes that make them.

Owns which key of the bundle is whose value, found through the graph's own restore ops: names differ from keys in most
writers. Owns what fills a table, too: constants, or a vocabulary file among the assets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator_serving.exporter.sources.saved_model.errors import SavedModelError
from estimator_serving.exporter.sources.saved_model.graph import Graph, Node, Ref
from estimator_serving.exporter.sources.saved_model.reader import SavedModel

Array = npt.NDArray[Any]

VARIABLES = frozenset({"VarHandleOp", "VariableV2", "Variable", "TemporaryVariable"})
TABLES = frozenset({"HashTableV2", "HashTable"})
# What restores a resource of boosted trees from tensors of a checkpoint: those behind the handle.
_TREES = frozenset({"BoostedTreesDeserializeEnsemble", "BoostedTreesQuantileStreamResourceDeserialize"})
_PASSING = frozenset({"Identity", "ReadVariableOp", "StopGradient"})
_ASSIGNMENTS = frozenset({"AssignVariableOp", "Assign"})
_TABLE_IMPORTS = frozenset({"LookupTableImportV2", "LookupTableImport", "InitializeTableV2", "InitializeTable"})
_TABLE_FILES = frozenset({"InitializeTableFromTextFileV2", "InitializeTableFromTextFile"})
_WHOLE_LINE = -2
_LINE_NUMBER = -1
_HOPS_MAX = 10_000


@dataclass(frozen=True)
class Table:
    """The contents of a lookup table: keys [n] and values [n]."""

    keys: Array
    values: Array


class Resources:
    """The variables and tables of one graph; read when they are asked for."""

    def __init__(self, saved_model: SavedModel, graph: Graph) -> None:
        self._saved_model = saved_model
        self._graph = graph
        self._restored: dict[str, tuple[str, str]] = {}
        self._initializers: dict[str, Node] = {}
        self._arrays: dict[str, Array] = {}
        self._parts: dict[str, list[Ref]] = {}
        for node in list(graph.nodes.values()):
            if node.op in _ASSIGNMENTS:
                key = self._key(self.origin(node.inputs[1])) if len(node.inputs) > 1 else None
                if key is not None:
                    self._restored[self.origin(node.inputs[0]).node] = key
            elif node.op in _TABLE_IMPORTS | _TABLE_FILES and node.inputs:
                self._initializers[self.origin(node.inputs[0]).node] = node
            elif node.op in _TREES and node.inputs:
                self._parts[self.origin(node.inputs[0]).node] = node.inputs[1:]

    def origin(self, ref: Ref) -> Ref:
        """Where a handle comes from, behind calls and identities."""
        for _ in range(_HOPS_MAX):
            ref = self._graph.resolve(ref)
            node = self._graph.nodes.get(ref.node)
            if node is None or node.op not in _PASSING or not node.inputs:
                return ref
            ref = node.inputs[0]
        raise SavedModelError(f"The references at {ref.node} go round in a circle; the file is damaged.")

    def variable(self, node: str) -> Array:
        """The value of a variable. Raises SavedModelError where nothing restores it."""
        if node not in self._arrays:
            if node not in self._restored:
                raise SavedModelError(
                    f"The variable {node} gets no value from variables/; export the model again with all its variables."
                )
            key, part = self._restored[node]
            bundle = self._saved_model.variables
            self._arrays[node] = bundle.read_slice(key, part) if part else bundle.read(key)
        return self._arrays[node]

    def parts(self, node: str) -> list[Array]:
        """The tensors that a resource of boosted trees is restored from. Raises SavedModelError where none are."""
        keys = [self._key(self.origin(ref)) for ref in self._parts.get(node, ())]
        if not keys or None in keys:
            raise SavedModelError(
                f"{node} gets no value from variables/; export the model again with all its variables."
            )
        return [self._saved_model.variables.read(key[0]) for key in keys if key is not None]

    def table(self, node: str, constant: Callable[[Ref], Array]) -> Table:
        """The contents of a table; `constant` gives the elements of a reference. Raises SavedModelError."""
        initializer = self._initializers.get(node)
        if initializer is None:
            raise SavedModelError(f"Nothing in the graph fills the table {node}; export the model again.")
        if initializer.op not in _TABLE_FILES:
            return _table(node, *(constant(one).ravel() for one in initializer.inputs[1:3]))
        try:
            path = self._saved_model.assets[self.origin(initializer.inputs[1]).node]
        except KeyError:
            raise SavedModelError(
                f"The vocabulary file of {initializer.name} is none of the SavedModel's assets; export the model again."
            ) from None
        # Lines end in \n; the \r that some editors leave before it is part of none.
        lines = [line.removesuffix(b"\r") for line in path.read_bytes().split(b"\n")]
        if not lines[-1]:
            lines.pop()
        size = initializer.integer("vocab_size", -1)
        if size >= 0:
            if len(lines) < size:
                raise SavedModelError(
                    f"The vocabulary of {node} has {len(lines)} lines, and the graph reads {size}; copy the whole file."
                )
            lines = lines[:size]
        delimiter = initializer.text("delimiter", "\t").encode()
        offset = initializer.integer("offset", 0)
        table = self._graph.node(node)
        columns = [
            _column(lines, initializer.integer(name), delimiter, table.dtype(kind), initializer, offset)
            for name, kind in (("key_index", "key_dtype"), ("value_index", "value_dtype"))
        ]
        return _table(node, *columns)

    def _key(self, source: Ref) -> tuple[str, str] | None:
        """The key in the bundle, and the slice, of what a reference restores; None where it restores nothing."""
        restore = self._graph.nodes.get(source.node)
        if restore is None or restore.op != "RestoreV2":
            return None
        names = []
        for one in restore.inputs[1:3]:
            constant = self._graph.node(self.origin(one).node)
            if constant.op != "Const":
                raise SavedModelError(
                    f"{constant.name} names what is restored and is no constant; the file is damaged."
                )
            names.append(constant.tensor("value").ravel().tolist())
        try:
            key, part = (texts[source.index].decode() for texts in names)
            return key, part
        except (ValueError, IndexError, AttributeError):
            raise SavedModelError(
                f"{restore.name} names nothing to restore as tensor {source.index}; the file is damaged."
            ) from None


def _column(lines: list[bytes], index: int, delimiter: bytes, dtype: np.dtype[Any], node: Node, offset: int) -> Array:
    if index == _LINE_NUMBER:
        return np.arange(len(lines), dtype=dtype) + offset
    texts = lines
    if index != _WHOLE_LINE:
        split = [line.split(delimiter) for line in lines]
        if any(len(one) <= index for one in split):
            raise SavedModelError(f"A line of the vocabulary of {node.name} has no column {index}.")
        texts = [one[index] for one in split]
    array = np.empty(len(texts), dtype)
    for place, text in enumerate(texts):
        try:
            array[place] = text if dtype.kind == "O" else int(text) if dtype.kind in "iu" else float(text)
        except (ValueError, OverflowError):
            raise SavedModelError(
                f"Column {index} of the vocabulary of {node.name} has {text!r}, which is no {dtype}."
            ) from None
    return array


def _table(name: str, keys: Array, values: Array) -> Table:
    """Each key once: as in TensorFlow, one that comes again has to have the same value."""
    if len(keys) != len(values):
        raise SavedModelError(f"The table {name} has {len(keys)} keys and {len(values)} values.")
    places: dict[Any, int] = {}
    for place, key in enumerate(keys.tolist()):
        if values[places.setdefault(key, place)] != values[place]:
            raise SavedModelError(f"The table {name} has two values for the key {key!r}; export the model again.")
    if len(places) == len(keys):
        return Table(keys, values)
    return Table(*(array[list(places.values())] for array in (keys, values)))
