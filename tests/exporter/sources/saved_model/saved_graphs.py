"""SavedModels put together by hand for tests: nodes, functions, signatures, variables and assets.

Attributes are given as Python values: numbers, text, numpy dtypes, arrays (tensors), tuples (shapes), lists of these,
and `function(name)`.
"""

from functools import partial

import bundles
import numpy as np

from estimator_serving.exporter.sources.builder import Builder
from estimator_serving.exporter.sources.saved_model.graph import Graph, Ref
from estimator_serving.exporter.sources.saved_model.lowering import Lowering
from estimator_serving.exporter.sources.saved_model.reader import SavedModel
from estimator_serving.exporter.sources.saved_model.resources import Resources
from estimator_serving.exporter.sources.saved_model.values import Tensor
from estimator_serving.wire import dtypes
from estimator_serving.wire.pb import tensorflow_pb
from estimator_serving.wire.tensors import encode_tensor

PREDICT = "tensorflow/serving/predict"
FLOAT = np.dtype(np.float32)
INT64 = np.dtype(np.int64)
TEXT = np.dtype(object)


def meta_graph(*tags):
    made = tensorflow_pb.MetaGraphDef()
    made.meta_info_def.tags.extend(tags or ["serve"])
    return made


def add(where, name, op, inputs="", **attributes):
    """A node of a MetaGraphDef or of a function's body; `inputs` are its references, apart by blanks."""
    nodes = where.graph_def.node if hasattr(where, "graph_def") else where.node_def
    made = nodes.add(name=name, op=op, input=inputs.split())
    for key, value in attributes.items():
        made.attr[key].CopyFrom(attribute(value))
    return made


def constant(where, name, value, dtype=None):
    array = np.asarray(value, dtype)
    return add(where, name, "Const", value=array, dtype=array.dtype)


def attribute(value):
    """The AttrValue of a Python value."""
    if isinstance(value, tensorflow_pb.NameAttrList):
        return tensorflow_pb.AttrValue(func=value)
    if isinstance(value, list):
        kind = _field(value[0])[0] if value else "i"
        return tensorflow_pb.AttrValue(
            list=tensorflow_pb.AttrValue.ListValue(**{kind: [_field(one)[1] for one in value]})
        )
    kind, made = _field(value)
    return tensorflow_pb.AttrValue(**{kind: made})


def _field(value):
    if isinstance(value, np.dtype):
        return "type", dtypes.from_numpy(value).number
    if isinstance(value, np.ndarray):
        return "tensor", encode_tensor(value)
    if isinstance(value, tuple):
        return "shape", shape(value)
    kinds = {bool: "b", int: "i", float: "f", str: "s", bytes: "s"}
    return kinds[type(value)], value.encode() if isinstance(value, str) else value


def shape(sizes):
    made = tensorflow_pb.TensorShapeProto(unknown_rank=sizes is None)
    for size in sizes or ():
        made.dim.add(size=size)
    return made


def call(name):
    """The attribute that names a function."""
    return tensorflow_pb.NameAttrList(name=name)


def function(where, name, arguments, returns):
    """A function of a MetaGraphDef's library, without nodes yet: argument names, and outputs by name."""
    made = where.graph_def.library.function.add()
    made.signature.name = name
    for one in arguments.split():
        made.signature.input_arg.add(name=one)
    for output, ref in returns.items():
        made.signature.output_arg.add(name=output)
        made.ret[output] = ref
    return made


def define(where, name, *outputs, **defaults):
    """The definition of an op: its outputs by name, and the defaults of its attributes."""
    made = where.meta_info_def.stripped_op_list.op.add(name=name)
    for one in outputs:
        made.output_arg.add(name=one)
    for key, value in defaults.items():
        made.attr.add(name=key, default_value=attribute(value))
    return made


def signature(where, key, inputs, outputs, method=PREDICT):
    """A signature: (tensor name, dtype, shape) by alias."""
    made = where.signature_def[key]
    made.method_name = method
    for infos, given in ((made.inputs, inputs), (made.outputs, outputs)):
        for alias, (name, dtype, sizes) in given.items():
            number = dtypes.from_numpy(dtype).number
            infos[alias].CopyFrom(tensorflow_pb.TensorInfo(name=name, dtype=number, tensor_shape=shape(sizes)))
    return made


def restore(where, variables):
    """The nodes of 1.x that restore variables: by variable its key in the checkpoint, `key slice` for a part of one."""
    constant(where, "save/Const", b"", object)
    for index, (node, key) in enumerate(variables.items()):
        name, _, part = key.partition(" ")
        constant(where, f"save/keys_{index}", [name.encode()], object)
        constant(where, f"save/slices_{index}", [part.encode()], object)
        add(where, f"save/restore_{index}", "RestoreV2", f"save/Const save/keys_{index} save/slices_{index}")
        add(where, f"save/assign_{index}", "AssignVariableOp", f"{node} save/restore_{index}")


def write(directory, *meta_graphs, variables=None, assets=None):
    """A SavedModel directory; returns it."""
    message = tensorflow_pb.SavedModel(saved_model_schema_version=1, meta_graphs=meta_graphs)
    (directory / "variables").mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(message.SerializeToString())
    if variables:
        bundles.write_bundle(directory / "variables" / "variables", *bundles.make_bundle(variables))
    for name, content in (assets or {}).items():
        (directory / "assets").mkdir(exist_ok=True)
        (directory / "assets" / name).write_bytes(content)
    return directory


def lowering(where, fed=None):
    """The lowering of a graph to which numbers are fed by reference, as constants."""
    graph, builder = Graph(where), Builder()
    arrays = {ref: np.float32(number) for ref, number in (fed or {}).items()}
    values = {ref: Tensor(one.dtype, (), partial(builder.constant, one), one) for ref, one in arrays.items()}
    return Lowering(graph, Resources(SavedModel(None, where, {}), graph), builder, values, None)


def value_of(context, name):
    """The elements of a node's first output, which have to be known."""
    return context.value(Ref(name, 0)).constant
