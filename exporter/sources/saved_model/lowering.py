"""The walk over TensorFlow's graph: each node becomes values, by the function that its op's name is registered with.

Owns the order, what was lowered already, and the helpers that every op's lowering uses: folded constants, sizes, views
of sparse tensors in full. What an op does is in `lower/`, one file a subject.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from estimator_serving.exporter.sources.builder import Builder, onnx_type
from estimator_serving.exporter.sources.saved_model.errors import SavedModelError, Unsupported
from estimator_serving.exporter.sources.saved_model.graph import ELEMENTS_MAX, Graph, Node, Ref
from estimator_serving.exporter.sources.saved_model.resources import Resources
from estimator_serving.exporter.sources.saved_model.values import (
    Cells,
    Coordinates,
    Dim,
    Flat,
    Handle,
    Positions,
    Shape,
    StackedList,
    Symbol,
    Tensor,
    TensorList,
    Value,
    known,
    multiply,
)
from estimator_serving.wire.features import FeatureSpec
from estimator_serving.wire.tensor_bundle import TensorBundleError

Array = npt.NDArray[Any]
Lowered: TypeAlias = Value | Sequence[Value]
Lower: TypeAlias = "Callable[[Lowering, Node, list[Value]], Lowered]"


@dataclass(frozen=True)
class SequenceSpec:
    """What is parsed from SequenceExamples: features of the whole, and of each step."""

    context: FeatureSpec
    lists: FeatureSpec


TakeExamples: TypeAlias = Callable[[Value, Node, "FeatureSpec | SequenceSpec"], tuple[str, str]]
"""Gives the graph inputs that carry a value's serialized messages, which the features are parsed from."""

LOWERINGS: dict[str, Lower] = {}
"""What each op becomes, by TensorFlow's name."""

STATEFUL = frozenset(
    {
        "Assign", "AssignAdd", "AssignSub", "AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp",
        "ResourceScatterUpdate", "ResourceScatterAdd", "ResourceScatterSub", "ScatterUpdate", "ScatterAdd",
        "LookupTableInsertV2",
    }
)  # fmt: skip
STATEFUL_REASON = "it changes a variable or a table while a request is answered"

# What a lowering raises for inputs or attributes that its op never has; a damaged graph has them.
MISFITS = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError)

INT64 = np.dtype(np.int64)
BOOL = np.dtype(np.bool_)
FLOAT = np.dtype(np.float32)


def lowers(*ops: str) -> Callable[[Lower], Lower]:
    """Registers a function as the lowering of these ops."""

    def register(function: Lower) -> Lower:
        for op in ops:
            LOWERINGS[op] = function
        return function

    return register


class Lowering:
    """The lowering of one graph for one set of fed tensors.

    `fed` are the values of the references that a signature's clients send. Several lowerings share a builder, which
    writes what they have in common once.
    """

    def __init__(
        self,
        graph: Graph,
        resources: Resources,
        builder: Builder,
        fed: Mapping[Ref, Value],
        examples: TakeExamples,
    ) -> None:
        self.graph = graph
        self.resources = resources
        self.builder = builder
        self.examples = examples
        self._fed = dict(fed)
        self._done: dict[str, list[Value]] = {}
        self.cache: dict[Any, Any] = {}

    # ---- the walk ----

    def value(self, ref: Ref) -> Value:
        """The value of a reference; lowers what it needs first. Raises Unsupported, SavedModelError."""
        ref = self.graph.resolve(ref)
        waiting, open_nodes = [ref.node], set[str]()
        if ref in self._fed:
            return self._fed[ref]
        while waiting:
            name = waiting[-1]
            if name in self._done:
                waiting.pop()
                continue
            node = self.graph.node(name)
            needed = [self.graph.resolve(one) for one in node.inputs]
            missing = [one.node for one in needed if one not in self._fed and one.node not in self._done]
            if not missing:
                self._done[name] = self._lower(node, [self._get(one) for one in needed])
                open_nodes.discard(name)
                waiting.pop()
            elif name in open_nodes:
                raise SavedModelError(f"The graph runs in a circle through {name}; loops of this form are not read.")
            else:
                open_nodes.add(name)
                waiting.extend(missing)
        return self._get(ref)

    def call(self, function: str, scope: str, arguments: Sequence[Value]) -> list[Value]:
        """The outputs of a function's body for given values; for branches and loops that are unrolled."""
        refs = arguments_of(scope, len(arguments))
        self.feed(dict(zip(refs, arguments, strict=True)))
        returned = self.graph.inline(function, scope, refs, ())
        for node in map(self.graph.node, self.graph.effects_of(scope)):
            if node.op in STATEFUL:
                raise node.refuse(STATEFUL_REASON)
        return [self.value(one) for one in returned]

    def feed(self, values: Mapping[Ref, Value]) -> None:
        """Gives the values of references, from now on."""
        self._fed |= values

    def _get(self, ref: Ref) -> Value:
        if ref in self._fed:
            return self._fed[ref]
        outputs = self._done[ref.node]
        if ref.index >= len(outputs):
            raise SavedModelError(f"The graph refers to output {ref.index} of {ref.node}, which has {len(outputs)}.")
        return outputs[ref.index]

    def _lower(self, node: Node, inputs: list[Value]) -> list[Value]:
        try:
            lower = LOWERINGS[node.op]
        except KeyError:
            raise node.refuse("this op is not converted") from None
        try:
            made = lower(self, node, inputs)
        except MISFITS as error:
            if isinstance(error, SavedModelError | TensorBundleError):
                raise
            raise node.refuse(f"it cannot be converted as it stands here ({error})") from error
        outputs = list(made) if isinstance(made, Sequence) else [made]
        for value in outputs:
            tensor = value.grid if isinstance(value, Flat) else value
            if not isinstance(tensor, Tensor) or any(value is one for one in inputs):
                continue
            if tensor.constant is None and tensor.sizes is None and tensor.looked_up is None:
                # Written now, so that a long chain of computed values is no deep recursion at its end. What is only
                # wanted by an op that is refused later may stay unwritten.
                with suppress(Unsupported):
                    _ = tensor.name
        return outputs

    # ---- making values ----

    def constant(self, array: Array, dtype: np.dtype[Any] | None = None) -> Tensor:
        """A tensor of known elements."""
        array = np.asarray(array) if dtype is None else np.asarray(array, dtype)
        made = Tensor(array.dtype, array.shape, lambda: self.builder.constant(array), array)
        if array.dtype.kind in "iu" and array.size:
            made.low, made.high = int(array.min()), int(array.max())
            if array.ndim < 2 and array.size <= 64:
                made.sizes = tuple(int(one) for one in array.ravel())
        elif array.dtype.kind in "iu" and array.ndim == 1:
            made.sizes = ()
        return made

    def tensor(
        self, dtype: np.dtype[Any], shape: Sequence[Dim | None], emit: Callable[[], str], **facts: Any
    ) -> Tensor:
        """A tensor that a function emits when it is needed; a size of None becomes a symbol of the tensor's own."""
        made = Tensor(dtype, (), emit, **facts)
        made.shape = tuple(self.size_of(made, axis) if dim is None else dim for axis, dim in enumerate(shape))
        return made

    def written(self, name: str, dtype: np.dtype[Any], shape: Sequence[Dim | None], **facts: Any) -> Tensor:
        """A tensor whose ONNX value is there already."""
        return self.tensor(dtype, shape, lambda: name, **facts)

    def op(
        self, op_type: str, inputs: Sequence[Tensor], dtype: np.dtype[Any], shape: Sequence[Dim | None], **values: Any
    ) -> Tensor:
        """The one output of an ONNX node of these inputs."""
        return self.tensor(dtype, shape, lambda: self.builder.one(op_type, *(one.name for one in inputs), **values))

    def size_of(self, tensor: Tensor, axis: int) -> Symbol:
        """The size of an axis as a symbol: Shape of the tensor, once the graph runs."""
        return Symbol(lambda: self.builder.one("Shape", tensor.name, start=axis, end=axis + 1))

    def sizes(self, dims: Sequence[Dim], dtype: np.dtype[Any], rank: int = 1) -> Tensor:
        """Integers that are sizes: a vector, or a scalar where `rank` is 0."""
        numbers = known(tuple(dims))
        if numbers is not None:
            return self.constant(np.array(numbers if rank else numbers[0], dtype))

        def emit() -> str:
            name = self.shape_name(dims)
            if rank == 0:
                name = self.builder.one("Squeeze", name, self.int64(0))
            return name if dtype == INT64 else self.builder.one("Cast", name, to=onnx_type(dtype))

        made = Tensor(dtype, (len(dims),) if rank else (), emit)
        made.sizes = tuple(dims)
        made.low = 0
        return made

    def dim_name(self, dim: Dim) -> str:
        """The ONNX value, int64 [1], of a size."""
        if isinstance(dim, int):
            return self.builder.constant(np.array([dim], np.int64))
        if isinstance(dim, Symbol):
            if dim not in self.cache:
                self.cache[dim] = dim.emit()
            return str(self.cache[dim])
        name = self.builder.constant(np.array([dim.factor], np.int64)) if dim.factor != 1 else ""
        for symbol in dim.symbols:
            name = self.builder.one("Mul", name, self.dim_name(symbol)) if name else self.dim_name(symbol)
        return name

    def shape_name(self, shape: Sequence[Dim]) -> str:
        """The ONNX value, int64 [rank], of a shape."""
        numbers = known(tuple(shape))
        if numbers is not None:
            return self.builder.constant(np.array(numbers, np.int64))
        names = [self.dim_name(dim) for dim in shape]
        return names[0] if len(names) == 1 else self.builder.one("Concat", *names, axis=0)

    def int64(self, *numbers: int) -> str:
        """A vector of numbers as an initializer."""
        return self.builder.constant(np.array(numbers, np.int64))

    def scalar(self, number: Any, dtype: np.dtype[Any]) -> str:
        return self.builder.constant(np.array(number, dtype))

    # ---- reading values ----

    def dense(self, value: Value, node: Node) -> Tensor:
        """A value in full, as the dense tensor that TensorFlow has.

        Raises Unsupported for what is no tensor, and for a sparse value whose order or number is open.
        """
        if isinstance(value, Tensor):
            return value
        if isinstance(value, Handle | TensorList | StackedList):
            raise node.refuse("it reads a resource or a list as a tensor")
        if value in self.cache:
            known: Tensor = self.cache[value]
            return known
        if isinstance(value, Positions):
            if value.among.distinct is not None:
                raise node.refuse("it reads the places of distinct values in full")
            made = self.tensor(value.dtype, value.shape, lambda: _positions_in_full(self, value, node))
        elif isinstance(value, Coordinates):
            columns = [self.dense(one, node) for one in value.columns]
            axis = 0 if value.is_transposed else 1
            names = [self.builder.one("Unsqueeze", one.name, self.int64(axis)) for one in columns]
            made = self.tensor(value.dtype, value.shape, lambda: self.builder.one("Concat", *names, axis=axis))
        else:
            if value.cells.distinct is not None:
                raise node.refuse("it reads distinct values in full; they are converted only in front of a lookup")
            if value.cells.is_loose:
                raise node.refuse("it depends on the order of entries that were sorted by their ids")
            made = self.tensor(value.dtype, value.shape, lambda: _flat_in_full(self, value))
        self.cache[value] = made
        return made

    def array(self, value: Value, node: Node, what: str) -> Array:
        """The elements of a value that has to be known. Raises Unsupported where it is computed."""
        if isinstance(value, Tensor) and value.constant is not None:
            return value.constant
        raise node.refuse(f"its {what} is computed by the graph; only constants are converted")

    def dims(self, value: Value, node: Node, what: str) -> tuple[Dim, ...]:
        """Sizes given by a value: its elements where they are known as such. Raises Unsupported."""
        if isinstance(value, Tensor):
            if value.sizes is not None:
                return value.sizes
            if value.constant is not None:
                return tuple(int(one) for one in value.constant.ravel())
            if value.rank == 1 and isinstance(value.shape[0], int) and value.dtype.kind in "iu":
                return tuple(self._element(value, index) for index in range(value.shape[0]))
            if value.rank == 0 and value.dtype.kind in "iu":
                return (self._element(value, None),)
        raise node.refuse(f"its {what} has a length that is computed by the graph")

    def _element(self, value: Tensor, index: int | None) -> Symbol:
        def emit() -> str:
            name = value.name if value.dtype == INT64 else self.builder.one("Cast", value.name, to=onnx_type(INT64))
            if index is None:
                return self.builder.one("Unsqueeze", name, self.int64(0))
            return self.builder.one("Slice", name, self.int64(index), self.int64(index + 1))

        key = ("element", value, index)
        if key not in self.cache:
            self.cache[key] = Symbol(emit)
        symbol: Symbol = self.cache[key]
        return symbol

    def check_elements(self, shape: Shape, node: Node) -> None:
        """Refuses a constant that nobody can mean. Raises Unsupported."""
        numbers = known(shape)
        if numbers is not None and int(np.prod([max(n, 0) for n in numbers], dtype=object)) > ELEMENTS_MAX:
            raise node.refuse(f"it makes a tensor of shape {list(numbers)}")

    # ---- grids ----

    def spread(self, tensor: Tensor, shape: Shape) -> str:
        """The ONNX value of a tensor broadcast to a shape."""
        if tensor.shape == shape:
            return tensor.name
        return self.builder.one("Expand", tensor.name, self.shape_name(shape))

    def range_of(self, dim: Dim, dtype: np.dtype[Any] = INT64) -> Tensor:
        """0, 1, … as many as a size says."""
        if isinstance(dim, int):
            return self.constant(np.arange(dim, dtype=dtype))

        def emit() -> str:
            end = self.builder.one("Squeeze", self.dim_name(dim), self.int64(0))
            made = self.builder.one("Range", self.scalar(0, INT64), end, self.scalar(1, INT64))
            return made if dtype == INT64 else self.builder.one("Cast", made, to=onnx_type(dtype))

        return self.tensor(dtype, (dim,), emit, low=0, row_numbers=True)

    def cells_of(
        self, rows: Dim, width: Dim, mask: Tensor | None, lengths: Tensor | None = None, **facts: Any
    ) -> Cells:
        """Cells of a grid; their count is a symbol of its own where there is a mask."""

        def emit() -> str:
            assert mask is not None
            number = self.builder.one("Cast", mask.name, to=onnx_type(INT64))
            return self.builder.one("Reshape", self.builder.one("ReduceSum", number, keepdims=0), self.int64(1))

        if mask is None:
            return Cells(rows, width, mask, multiply([rows, width]), lengths, **facts)
        count = Symbol(emit)
        count.cells = Cells(rows, width, mask, count, lengths, **facts)
        return count.cells


def arguments_of(scope: str, count: int) -> list[Ref]:
    """What stands for the arguments of a function that is inlined under `scope`."""
    return [Ref(f"{scope}/argument", index) for index in range(count)]


# ---- sparse values in full ----


def _flat_in_full(context: Lowering, value: Flat) -> str:
    """The grid with the filler of empty rows in front, as a vector of entries, and of these the kept ones."""
    cells, one = value.cells, context.builder.one
    grid = context.spread(value.grid, (cells.rows, cells.width, *value.tail))
    mask = None if cells.mask is None else cells.mask.name
    if cells.empty is not None:
        if value.place == "row":
            filler = one("Unsqueeze", context.range_of(cells.rows).name, context.int64(1))
            filler = filler if value.dtype == INT64 else one("Cast", filler, to=onnx_type(value.dtype))
        else:
            assert value.filler is not None
            filler = one("Expand", value.filler.name, context.shape_name((cells.rows, 1, *value.tail)))
        grid = one("Concat", filler, grid, axis=1)
        empty = one("Unsqueeze", cells.empty.name, context.int64(1))
        assert mask is not None
        mask = one("Concat", empty, mask, axis=1)
    if all(isinstance(dim, int) and dim != 0 for dim in value.tail):
        flat = one("Reshape", grid, context.shape_name((-1, *value.tail)), allowzero=0)
    else:
        width = context.dim_name(cells.width)
        if cells.empty is not None:
            width = one("Add", width, context.int64(1))
        count = one("Mul", context.dim_name(cells.rows), width)
        shape = one("Concat", count, *(context.dim_name(dim) for dim in value.tail), axis=0)
        flat = one("Reshape", grid, shape, allowzero=1)
    if mask is None:
        return flat
    return one("Compress", flat, one("Reshape", mask, context.int64(-1)), axis=0)


def _positions_in_full(context: Lowering, value: Positions, node: Node) -> str:
    cells, among, one = value.cells, value.among, context.builder.one
    if cells.same(among):
        every = context.range_of(among.count, value.dtype).name
        return one("Unsqueeze", every, context.int64(1)) if value.is_column else every
    if among.empty is not None or cells.empty is not None:
        raise node.refuse("it reads positions among filled rows")
    whole = context.shape_name((cells.rows, cells.width))
    inner = one("Expand", context.scalar(True, BOOL), whole) if cells.mask is None else cells.mask.name
    kept = one("Reshape", inner, context.int64(-1))
    if among.mask is not None:
        kept = one("Compress", kept, one("Reshape", among.mask.name, context.int64(-1)))
    found = one("NonZero", kept)
    found = found if value.dtype == INT64 else one("Cast", found, to=onnx_type(value.dtype))
    return one("Transpose", found, perm=[1, 0]) if value.is_column else one("Squeeze", found, context.int64(0))


__all__ = ["BOOL", "FLOAT", "INT64", "LOWERINGS", "Lowering", "Unsupported", "lowers"]
