"""TensorFlow's graph as nodes with references, functions inlined, absent attributes filled from the ops' definitions.

Owns the reading of GraphDef, FunctionDef and AttrValue. Knows no op's meaning but those that call functions.
Source: TensorFlow's graph.proto, function.proto, op_def.proto.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator_serving.exporter.sources.saved_model.errors import SavedModelError, Unsupported
from estimator_serving.wire import dtypes
from estimator_serving.wire.tensors import TensorError, decode_tensor

Array = npt.NDArray[Any]

CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall"})
# A graph made of functions that call functions can be small on disk and endless in memory.
NODES_MAX = 200_000
DEPTH_MAX = 64
ELEMENTS_MAX = 1 << 28
_REF = 100


@dataclass(frozen=True)
class Ref:
    """Output `index` of a node."""

    node: str
    index: int


@dataclass
class Node:
    """A node of the graph.

    Attributes:
        inputs: what it reads, in order; control inputs apart.
        controls: the nodes that have to run before it.
        attributes: by name; use the typed readers.
        defaults: attributes of the op that the node leaves out.
        scope: the call that it was inlined for, "" in the main graph.
    """

    name: str
    op: str
    inputs: list[Ref]
    controls: list[str]
    attributes: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    scope: str = ""

    def _find(self, name: str) -> Any:
        found = self.attributes.get(name)
        return self.defaults.get(name) if found is None else found

    def has(self, name: str) -> bool:
        return self._find(name) is not None

    def integer(self, name: str, default: int | None = None) -> int:
        value = self._find(name)
        return int(value.i) if value is not None else self._default(name, default)

    def number(self, name: str, default: float | None = None) -> float:
        value = self._find(name)
        return float(value.f) if value is not None else self._default(name, default)

    def flag(self, name: str, default: bool | None = None) -> bool:
        value = self._find(name)
        return bool(value.b) if value is not None else self._default(name, default)

    def text(self, name: str, default: str | None = None) -> str:
        value = self._find(name)
        return str(value.s.decode("utf-8", "replace")) if value is not None else self._default(name, default)

    def texts(self, name: str) -> list[str]:
        value = self._find(name)
        return [] if value is None else [one.decode("utf-8", "replace") for one in value.list.s]

    def dtype(self, name: str, default: np.dtype[Any] | None = None) -> np.dtype[Any]:
        value = self._find(name)
        return self._dtype(value.type) if value is not None else self._default(name, default)

    def dtypes(self, name: str) -> list[np.dtype[Any]]:
        value = self._find(name)
        return [] if value is None else [self._dtype(number) for number in value.list.type]

    def integers(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        value = self._find(name)
        return [int(one) for one in value.list.i] if value is not None else self._default(name, default)

    def numbers(self, name: str) -> list[float]:
        value = self._find(name)
        return [] if value is None else [float(one) for one in value.list.f]

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Its sizes, -1 where open; None where the rank is."""
        value = self._find(name)
        return None if value is None else shape_of(value.shape)

    def shapes(self, name: str) -> list[tuple[int, ...] | None]:
        value = self._find(name)
        return [] if value is None else [shape_of(one) for one in value.list.shape]

    def tensor(self, name: str) -> Array:
        value = self._find(name)
        if value is None:
            raise SavedModelError(f"{self.op} at {self.name} has no attribute {name!r}; the file is damaged.")
        return tensor_of(value.tensor, f"{self.op} at {self.name}")

    def function(self, name: str) -> str:
        value = self._find(name)
        return "" if value is None else str(value.func.name)

    def refuse(self, reason: str) -> Unsupported:
        """The error of this node."""
        return Unsupported(self.op, self.name, reason)

    def _dtype(self, number: int) -> np.dtype[Any]:
        try:
            return dtypes.from_number(number % _REF if number > _REF else number).numpy
        except TypeError:
            raise self.refuse(f"DataType {number} is not converted") from None

    def _default(self, name: str, default: Any) -> Any:
        if default is None:
            raise SavedModelError(f"{self.op} at {self.name} has no attribute {name!r}; the file is damaged.")
        return default


def shape_of(proto: Any) -> tuple[int, ...] | None:
    """The sizes of a TensorShapeProto, -1 where open; None where the rank is."""
    return None if proto.unknown_rank else tuple(int(dim.size) for dim in proto.dim)


def tensor_of(proto: Any, where: str) -> Array:
    """The array of a TensorProto that is a constant of the graph. Raises SavedModelError."""
    shape = shape_of(proto.tensor_shape)
    if shape is None or any(size < 0 for size in shape) or math.prod(shape) > ELEMENTS_MAX:
        raise SavedModelError(f"{where} declares a tensor of shape {shape}, which no constant can have.")
    try:
        return decode_tensor(proto, filled_bytes_max=8 * ELEMENTS_MAX)
    except TensorError as error:
        raise SavedModelError(f"{where}: {error}") from None


@contextmanager
def without_collection() -> Iterator[None]:
    """Without Python's collector of cycles, which looks at all nodes of a graph again and again while more are made."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Graph:
    """The nodes of a MetaGraphDef by name, calls of functions inlined, and its functions to inline more.

    Raises SavedModelError for references that lead nowhere, functions that call themselves, and graphs without end.
    """

    def __init__(self, meta_graph: Any) -> None:
        self.nodes: dict[str, Node] = {}
        self._functions = {one.signature.name: one for one in meta_graph.graph_def.library.function}
        self._ops = {one.name: one for one in meta_graph.meta_info_def.stripped_op_list.op}
        self._defaults = {
            name: {attr.name: attr.default_value for attr in op.attr if attr.HasField("default_value")}
            for name, op in self._ops.items()
        }
        # By call, the nodes of its body that run whether or not something reads them.
        self._effects: dict[str, list[str]] = {}
        # A call's outputs: what they are behind its inlined body.
        self._returned: dict[Ref, Ref] = {}
        with without_collection():
            for proto in meta_graph.graph_def.node:
                if proto.name in self.nodes:
                    raise SavedModelError(f"The graph has two nodes of the name {proto.name!r}; the file is damaged.")
                refs = [self.parse(one) for one in proto.input if not one.startswith("^")]
                self._add(proto.name, proto, refs, [one[1:] for one in proto.input if one.startswith("^")])

    @cached_property
    def has_assertions(self) -> bool:
        return any(node.op == "Assert" for node in self.nodes.values())

    def resolve(self, ref: Ref) -> Ref:
        """A reference behind calls of functions."""
        seen = 0
        while ref in self._returned:
            ref = self._returned[ref]
            seen += 1
            if seen > len(self._returned):
                raise SavedModelError(f"The outputs of {ref.node} refer to each other; the file is damaged.")
        return ref

    def node(self, name: str) -> Node:
        try:
            return self.nodes[name]
        except KeyError:
            raise SavedModelError(
                f"The graph refers to the node {name!r}, which it has not; the file is damaged."
            ) from None

    def parse(self, text: str) -> Ref:
        """The reference of a tensor's name."""
        name, is_numbered, number = text.partition(":")
        index = _index(number) if is_numbered else 0
        if index is None:
            raise SavedModelError(f"The graph refers to {text!r}, which is no output of a node; the file is damaged.")
        return self.resolve(Ref(name, index))

    def ops_of(self, function: str, seen: set[str] | None = None) -> Iterator[str]:
        """The ops of a function's body and of those it calls, each function once."""
        seen = set() if seen is None else seen
        if function in seen or function not in self._functions:
            return
        seen.add(function)
        for node in self._functions[function].node_def:
            if node.op not in CALLS:
                yield node.op
            for name, value in node.attr.items():
                if value.HasField("func") and not name.startswith("_"):
                    yield from self.ops_of(value.func.name, seen)

    def inline(self, function: str, scope: str, arguments: Sequence[Ref], callers: tuple[str, ...]) -> list[Ref]:
        """Copies the body of a function; returns what its outputs are. Its nodes are called `scope:name`, which no node
        of the main graph can be."""
        if function in callers or len(callers) > DEPTH_MAX:
            chain = " → ".join((*callers[-4:], function))
            raise SavedModelError(
                f"The functions of the graph call each other without end ({chain}); nothing was read."
            )
        try:
            body = self._functions[function]
        except KeyError:
            raise SavedModelError(
                f"{scope} calls the function {function!r}, which the graph has not; the file is damaged."
            ) from None
        if len(body.signature.input_arg) != len(arguments):
            raise SavedModelError(
                f"{scope} calls {function!r} with {len(arguments)} arguments; it takes "
                f"{len(body.signature.input_arg)}. The file is damaged."
            )
        given = {arg.name: ref for arg, ref in zip(body.signature.input_arg, arguments, strict=True)}
        offsets = {node.name: self._offsets(node) for node in body.node_def}

        def ref_of(text: str) -> Ref:
            name, *rest = text.split(":")
            if name in given and not rest:
                return given[name]
            if name not in offsets or len(rest) > 2:
                raise SavedModelError(f"The function {function!r} refers to {text!r}, which it has not.")
            number = _index(rest[-1]) if rest else 0
            # The outputs of an op without a definition are counted from the first one, whatever it is called.
            places = offsets[name]
            first = 0 if len(rest) < 2 or places is None else places.get(rest[0])
            if number is None or first is None:
                raise SavedModelError(f"The function {function!r} refers to {text!r}, an output that is not there.")
            return Ref(f"{scope}:{name}", first + number)

        for proto in body.node_def:
            refs = [ref_of(one) for one in proto.input if not one.startswith("^")]
            controls = [one[1:] for one in proto.input if one.startswith("^")]
            inner = [f"{scope}:{one}" for one in controls if one in offsets]
            self._add(f"{scope}:{proto.name}", proto, refs, inner, (*callers, function), scope)
        self._effects[scope] = [f"{scope}:{name}" for name in body.control_ret.values() if name in offsets]
        return [ref_of(body.ret[output.name]) for output in body.signature.output_arg]

    def effects_of(self, scope: str) -> Iterator[str]:
        """The nodes that run with a call, with calls in it and around it, whether or not something reads them."""
        names = list[str]()
        while scope:
            names.extend(self._effects.get(scope, ()))
            scope = self.nodes[scope].scope if scope in self.nodes else ""
        while names:
            name = names.pop()
            names.extend(self._effects.get(name, ()))
            yield name

    def _add(
        self,
        name: str,
        proto: Any,
        refs: list[Ref],
        controls: list[str],
        callers: tuple[str, ...] = (),
        scope: str = "",
    ) -> None:
        if len(self.nodes) >= NODES_MAX:
            raise SavedModelError(f"The graph has more than {NODES_MAX} nodes once its functions are inlined.")
        node = Node(name, proto.op, refs, controls, proto.attr, self._defaults.get(proto.op, {}), scope)
        self.nodes[name] = node
        function = proto.op if proto.op in self._functions else node.function("f") if proto.op in CALLS else None
        if function is None:
            return
        returned = self.inline(function, name, refs, callers)
        self._returned |= {Ref(name, index): ref for index, ref in enumerate(returned)}

    def _offsets(self, proto: Any) -> dict[str, int] | None:
        """The first flat number of each output of a node, by its name; None where its op has no definition."""
        if proto.op in self._functions:
            return {arg.name: index for index, arg in enumerate(self._functions[proto.op].signature.output_arg)}
        if proto.op not in self._ops:
            return None
        offsets, count = {}, 0
        for arg in self._ops[proto.op].output_arg:
            offsets[arg.name] = count
            if arg.number_attr:
                count += int(proto.attr[arg.number_attr].i)
            elif arg.type_list_attr:
                count += len(proto.attr[arg.type_list_attr].list.type)
            else:
                count += 1
        return offsets


def _index(text: str) -> int | None:
    """The number of an output, None for a text that is none. More digits than nine only a damaged file has."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
