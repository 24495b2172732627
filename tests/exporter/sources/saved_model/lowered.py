"""Small TensorFlow graphs, imported and run: what the tests of the importer's ops are written with.

Owns the way from a line such as `run("AddV2", [x, y])` to numbers: a SavedModel is written, imported through
`import_saved_model` and run by ONNX Runtime. Knows nothing of what ops mean.

A graph is made of sources and ops. An array among an op's inputs is a tensor that clients send, in the sizes of the
array; `Fed` gives it open sizes; `Const` is a constant of the graph, `Variable` the handle of a variable. Another `Op`
stands for its first output, `op.at(1)` for its second one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bundles
import numpy as np

from estimator_serving import ops
from estimator_serving.exporter import SavedModelError, UnsupportedOps, import_saved_model
from estimator_serving.wire import dtypes, signatures
from estimator_serving.wire.examples import join_examples
from estimator_serving.wire.pb import tensorflow_pb

KEY = "serving_default"


@dataclass(eq=False)
class Fed:
    """A tensor that clients send; a size of None is open. Without `shape` it has the sizes of the array."""

    array: Any
    shape: Sequence[int | None] | None = None


@dataclass(eq=False)
class Const:
    """A constant of the graph."""

    array: Any


@dataclass(eq=False)
class Variable:
    """The handle of a variable that is restored from `variables/`."""

    array: Any


@dataclass(eq=False)
class Op:
    """A node; it runs after the nodes in `after`, which it does not read."""

    op: str
    inputs: Sequence[Any] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    after: Sequence[Op] = ()

    def at(self, index: int) -> Output:
        return Output(self, index)


@dataclass(eq=False)
class Output:
    """An output of a node."""

    op: Op
    index: int


@dataclass(frozen=True)
class Type:
    """An attribute that is a DataType: "float32", "string", …"""

    name: str


@dataclass(frozen=True)
class Shape:
    """An attribute that is a shape; None stands for an open rank, -1 for an open size."""

    sizes: Sequence[int] | None


@dataclass(eq=False)
class Function:
    """An attribute that is a function.

    Attributes:
        arguments: the dtypes of what it takes, by name; a name stands for its argument among the inputs of its ops.
        outputs: what it gives: an op, an output or the name of an argument.
    """

    name: str
    arguments: Mapping[str, str]
    outputs: Sequence[Any]


@dataclass(frozen=True)
class Imported:
    """An imported graph; called with arrays in the order in which the graph reads them, or with those it was made of.

    Strings may be bytes or str; serialized Examples are bytes. Strings come back as str.
    """

    session: Any
    sources: Mapping[str, np.ndarray]
    outputs: Sequence[str]

    def __call__(self, *arrays: Any) -> list[np.ndarray]:
        there = {one.name for one in self.session.get_inputs()}
        feeds = {}
        for name, array in zip(self.sources, arrays or self.sources.values(), strict=True):
            if f"{name}/values" in there:
                values, row_splits = join_examples(list(array))
                feeds |= {f"{name}/values": values, f"{name}/row_splits": row_splits}
            else:
                feeds[name] = _as_text(np.asarray(array))
        return self.session.run(list(self.outputs), feeds)


def run(
    op: str,
    inputs: Sequence[Any],
    outputs: str | Sequence[str] | None = None,
    *,
    shapes: Sequence[Sequence[int | None] | None] | None = None,
    **attributes: Any,
) -> Any:
    """What an op gives for its inputs.

    Args:
        inputs: arrays (sent by a client), `Const`, `Variable`, or other ops.
        outputs: the dtype of its output, without it that of the first input; several dtypes give a list of arrays.
        shapes: for each input the sizes that it is declared with; None keeps those of the array.
        attributes: the op's own; `Type`, `Shape` and `Function` are for what Python has no type for.
    """
    if shapes is not None:
        inputs = [one if shape is None else Fed(one, shape) for one, shape in zip(inputs, shapes, strict=True)]
    types = [_dtype_of(inputs[0]).name] if outputs is None else [outputs] if isinstance(outputs, str) else outputs
    node = Op(op, inputs, attributes)
    found = load([(node.at(index), dtype) for index, dtype in enumerate(types)])()
    return found[0] if outputs is None or isinstance(outputs, str) else found


def run_rows(op: str, inputs: Sequence[Any], outputs: str | Sequence[str] | None = None, **attributes: Any) -> Any:
    """As `run`, with the first size of every array open."""
    shapes = [(None, *one.shape[1:]) if isinstance(one, np.ndarray) and one.ndim else None for one in inputs]
    return run(op, inputs, outputs, shapes=shapes, **attributes)


def refusal(op: str, inputs: Sequence[Any], outputs: str | Sequence[str] = "float32", **options: Any) -> str:
    """Why an op is not converted. `options` are those of `run`."""
    return why_not(lambda: run(op, inputs, outputs, **options))


def why_not(load_it: Any) -> str:
    """The reason for which `load_it` refuses to import a graph."""
    try:
        load_it()
    except UnsupportedOps as error:
        return "; ".join(one.reason for refusals in error.blocked.values() for one in refusals)
    except SavedModelError as error:
        return str(error)
    raise AssertionError("it was imported")


def load(
    outputs: Sequence[tuple[Any, str]], *, beside: Sequence[Op] = (), assets: Mapping[str, bytes] | None = None
) -> Imported:
    """Imports the graph of some outputs, each given with its dtype.

    Args:
        beside: nodes that no output needs: those that fill a table, for example.
        assets: the files of `assets/` by name; the string constant that is equal to a name is the path of the file.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "saved_model"
        sources = write(path, outputs, beside=beside, assets=assets)
        version = import_saved_model(path, Path(directory) / "base")
        session = ops.session(Path(version) / "model.onnx")
    infos = signatures.from_properties(session.get_modelmeta().custom_metadata_map).signatures[KEY].outputs
    return Imported(session, sources, [infos[f"output_{index}"].value_name for index in range(len(outputs))])


def write(
    path: Path,
    outputs: Sequence[tuple[Any, str]],
    *,
    beside: Sequence[Op] = (),
    assets: Mapping[str, bytes] | None = None,
) -> dict[str, np.ndarray]:
    """Writes a SavedModel into a new directory; returns the arrays that it is fed by the names of their nodes."""
    saved_model = tensorflow_pb.SavedModel(saved_model_schema_version=1)
    meta_graph = saved_model.meta_graphs.add()
    meta_graph.meta_info_def.tags.append("serve")
    signature = meta_graph.signature_def[KEY]
    signature.method_name = "tensorflow/serving/predict"
    writer = _Writer(meta_graph.graph_def)
    for index, (output, dtype) in enumerate(outputs):
        info = signature.outputs[f"output_{index}"]
        name = writer.reference(output)
        info.name, info.dtype = name if ":" in name else f"{name}:0", dtypes.as_dtype(dtype).number
        info.tensor_shape.unknown_rank = True
    for one in beside:
        writer.reference(one)
    for name, source in writer.fed.items():
        info = signature.inputs[name]
        info.name, info.dtype = f"{name}:0", _dtype_of(source).number
        for size in np.shape(source.array) if source.shape is None else source.shape:
            info.tensor_shape.dim.add(size=-1 if size is None else size)
    path.mkdir()
    for file, content in (assets or {}).items():
        (path / "assets").mkdir(exist_ok=True)
        (path / "assets" / file).write_bytes(content)
        meta_graph.asset_file_def.add(filename=file).tensor_info.name = f"{writer.constants[file.encode()]}:0"
    if writer.variables:
        (path / "variables").mkdir()
        bundles.write_bundle(path / "variables" / "variables", *bundles.make_bundle(writer.variables))
    (path / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    return {name: np.asarray(source.array) for name, source in writer.fed.items()}


class _Writer:
    """Sources and ops as the nodes of a GraphDef, each written once.

    Attributes:
        fed: the sources of Placeholders by the names of these.
        constants: the names of string constants of one element by their value.
        variables: arrays by their keys in the checkpoint.
    """

    def __init__(self, graph: Any) -> None:
        self.fed: dict[str, Fed] = {}
        self.constants: dict[bytes, str] = {}
        self.variables: dict[str, np.ndarray] = {}
        self._library = graph.library.function
        self._nodes = graph.node
        self._names: dict[int, str] = {}
        # Keeps what is named by its identity alive.
        self._named: list[Any] = []

    def reference(self, source: Any) -> str:
        """How a node's input names a source; writes its node first."""
        if isinstance(source, str):
            return source
        if isinstance(source, Output):
            name = self.reference(source.op)
            return f"{name}:{source.index}" if source.index else name
        if id(source) not in self._names:
            self._named.append(source)
            self._names[id(source)] = self._write(source)
        return self._names[id(source)]

    def _write(self, source: Any) -> str:
        if isinstance(source, Op):
            inputs = [self.reference(one) for one in source.inputs]
            inputs += [f"^{self.reference(one)}" for one in source.after]
            return self._add(source.op, inputs, source.attributes)
        if isinstance(source, Const):
            name = self._add("Const", [], {"value": np.asarray(source.array)})
            if _dtype_of(source).is_string and np.size(source.array) == 1:
                self.constants[np.asarray(source.array, object).ravel()[0]] = name
            return name
        if isinstance(source, Variable):
            return self._write_variable(source)
        fed = source if isinstance(source, Fed) else Fed(source)
        name = self._add("Placeholder", [], {"dtype": Type(_dtype_of(fed).name)})
        self.fed[name] = fed
        return name

    def _write_variable(self, source: Variable) -> str:
        key = f"variable_{len(self.variables)}"
        self.variables[key] = np.asarray(source.array)
        handle = self._add("VarHandleOp", [], {"shared_name": key})
        strings = [Const(np.array([text], object)) for text in (b"prefix", key.encode(), b"")]
        restored = self._add("RestoreV2", [self.reference(one) for one in strings], {})
        self._add("AssignVariableOp", [handle, restored], {})
        return handle

    def _add(self, op: str, inputs: Sequence[str], attributes: Mapping[str, Any]) -> str:
        node = self._nodes.add(name=f"{op}_{len(self._nodes)}", op=op, input=inputs)
        for key, value in attributes.items():
            if isinstance(value, Function):
                self._write_function(value)
            _set_attribute(node.attr[key], value)
        return node.name

    def _write_function(self, function: Function) -> None:
        if any(one.signature.name == function.name for one in self._library):
            return
        body = self._library.add()
        body.signature.name = function.name
        for name, dtype in function.arguments.items():
            body.signature.input_arg.add(name=name, type=dtypes.as_dtype(dtype).number)
        outer, self._nodes = self._nodes, body.node_def
        for index, output in enumerate(function.outputs):
            body.signature.output_arg.add(name=f"result_{index}")
            body.ret[f"result_{index}"] = self.reference(output)
        self._nodes = outer


def _set_attribute(attribute: Any, value: Any) -> None:
    match value:
        case bool():
            attribute.b = value
        case int():
            attribute.i = value
        case float():
            attribute.f = value
        case str():
            attribute.s = value.encode()
        case bytes():
            attribute.s = value
        case Type():
            attribute.type = dtypes.as_dtype(value.name).number
        case Shape():
            _set_shape(attribute.shape, value.sizes)
        case Function():
            attribute.func.name = value.name
        case np.ndarray():
            _set_tensor(attribute.tensor, value)
        case _:
            _set_list(attribute.list, value)


def _set_list(message: Any, values: Sequence[Any]) -> None:
    message.SetInParent()
    for value in values:
        match value:
            case int():
                message.i.append(value)
            case float():
                message.f.append(value)
            case str() | bytes():
                message.s.append(value.encode() if isinstance(value, str) else value)
            case Type():
                message.type.append(dtypes.as_dtype(value.name).number)
            case Shape():
                _set_shape(message.shape.add(), value.sizes)


def _set_shape(message: Any, sizes: Sequence[int] | None) -> None:
    message.SetInParent()
    message.unknown_rank = sizes is None
    for size in sizes or ():
        message.dim.add(size=size)


def _set_tensor(message: Any, array: np.ndarray) -> None:
    dtype = dtypes.from_numpy(array.dtype)
    message.dtype = dtype.number
    _set_shape(message.tensor_shape, array.shape)
    if dtype.is_string:
        message.string_val.extend(one if isinstance(one, bytes) else str(one).encode() for one in array.ravel())
    else:
        message.tensor_content = array.tobytes()


def _dtype_of(source: Any) -> dtypes.DType:
    array = source.array if isinstance(source, Fed | Const | Variable) else source
    if isinstance(array, Op | Output):
        raise TypeError("give the dtypes of the outputs: the first input is an op")
    return dtypes.from_numpy(np.asarray(array).dtype)


def _as_text(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "OSU":
        return array
    texts = [one.decode() if isinstance(one, bytes) else str(one) for one in array.ravel().tolist()]
    made = np.empty(len(texts), object)
    made[:] = texts
    return made.reshape(array.shape)
