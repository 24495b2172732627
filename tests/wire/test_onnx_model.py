"""The scan of a model's file: what it says, every place external tensors hide in, and bytes that are no model."""

from __future__ import annotations

import contextlib
import time

import onnx
import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from estimator_serving.wire.onnx_model import OnnxError, OnnxModel, Other, kind_of, read_model, scan

MODEL = onnx.parser.parse_model(
    '<ir_version: 9, opset_import: ["" : 17, "estimator.ops" : 1]>\n'
    "g (float[N] x) => (float[N] y) <float[1] v = {1}> { y = Add(x, v) }"
)


def external(name, location="w.bin", **places):
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    for key, value in ({"location": location} | places).items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def graph(*nodes, **parts):
    return helper.make_graph(list(nodes), "g", [], [], **parts)


def node(**attributes):
    made = onnx.NodeProto(op_type="Constant", output=["c"])
    made.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
    return made


def sparse(tensor):
    return onnx.SparseTensorProto(values=tensor, indices=external("indices"), dims=[1])


def function(*nodes):
    return onnx.FunctionProto(name="f", domain="d", node=nodes)


def test_what_a_model_says(tmp_path):
    MODEL.metadata_props.add(key="k", value="é")
    path = tmp_path / "model.onnx"
    path.write_bytes(MODEL.SerializeToString())
    model = read_model(path)
    assert (model.ir_version, model.opsets, model.external) == (9, {"": 17, "estimator.ops": 1}, [])
    assert model.metadata["k"] == "é"


@pytest.mark.parametrize(
    ("part", "needs_rows"),
    [
        (onnx.NodeProto(op_type="LSTM"), True),
        (onnx.NodeProto(op_type="GRU"), True),
        (node(body=graph(onnx.NodeProto(op_type="GRU"))), True),
        (onnx.NodeProto(op_type="RNN", name="LSTM", input=["GRU"]), False),
    ],
)
def test_what_must_not_run_on_nothing(part, needs_rows):
    assert scan(onnx.ModelProto(graph=graph(part)).SerializeToString()).needs_rows == needs_rows
    assert scan(onnx.ModelProto(functions=[function(part)]).SerializeToString()).needs_rows == needs_rows


@pytest.mark.parametrize(
    ("hidden", "names"),
    [
        (onnx.ModelProto(graph=graph(initializer=[external("w")])), ["w"]),
        (onnx.ModelProto(graph=graph(node(value=external("c")))), ["c"]),
        (onnx.ModelProto(graph=graph(node(values=[external("c"), external("d")]))), ["c", "d"]),
        (onnx.ModelProto(graph=graph(node(body=graph(initializer=[external("deep")])))), ["deep"]),
        (onnx.ModelProto(graph=graph(node(bodies=[graph(node(value=external("deeper")))]))), ["deeper"]),
        (onnx.ModelProto(graph=graph(sparse_initializer=[sparse(external("s"))])), ["indices", "s"]),
        (onnx.ModelProto(graph=graph(node(value=sparse(external("s"))))), ["indices", "s"]),
        (onnx.ModelProto(functions=[function(node(value=external("f")))]), ["f"]),
        (onnx.ModelProto(training_info=[onnx.TrainingInfoProto(algorithm=graph(initializer=[external("t")]))]), ["t"]),
    ],
    ids=[
        "initializer",
        "constant",
        "tensors",
        "subgraph",
        "subgraphs",
        "sparse",
        "sparse constant",
        "function",
        "training",
    ],
)
def test_every_hiding_place(hidden, names):
    assert sorted(tensor.name for tensor in scan(hidden.SerializeToString()).external) == names


def test_places_are_told_as_they_stand():
    hidden = onnx.ModelProto(graph=graph(initializer=[external("w", "../w", offset=-1, length=2**70)]))
    (tensor,) = scan(hidden.SerializeToString()).external
    assert tensor == ("w", "../w", "-1", str(2**70))


def test_a_tensor_that_says_external_without_a_place():
    tensor = TensorProto(name="w", data_location=TensorProto.EXTERNAL)
    (found,) = scan(onnx.ModelProto(graph=graph(initializer=[tensor])).SerializeToString()).external
    assert found == ("w", "", "", "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"<html><body>404", "is no whole ONNX model"),
        (MODEL.SerializeToString()[:-3], "ends inside the field"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "ends inside the field"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "ends inside the number"),
        (b"\x3a\x00", "holds no graph"),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "holds no graph"),
        (b"\x00" * 64, "begins no field"),
    ],
    ids=["empty", "html", "cut", "long length", "long number", "no version", "no graph", "zeros"],
)
def test_files_that_are_no_models(tmp_path, content, said):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(OnnxError, match=said) as refused:
        read_model(path)
    assert str(path) in str(refused.value)


def wrap(number, content):
    """The content as a field of its own; written by hand, because protobuf refuses to write so deep a message."""
    length, varint = len(content), bytearray()
    while length > 0x7F:
        varint.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([number << 3 | 2, *varint, length]) + content


@pytest.mark.parametrize(("levels", "is_read"), [(30, True), (40, False)])
def test_depth_is_bounded(levels, is_read):
    content = wrap(5, external("deep").SerializeToString())
    for _ in range(levels):
        content = wrap(1, wrap(5, wrap(6, content)))  # node, attribute, graph
    if is_read:
        assert scan(wrap(7, content)).external[0].name == "deep"
    else:
        with pytest.raises(OnnxError, match="more than 100 messages inside each other"):
            scan(wrap(7, content))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content):
    with contextlib.suppress(OnnxError):
        assert isinstance(scan(content), OnnxModel)


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
def test_a_changed_model_is_read_or_refused(position, change):
    content = bytearray(MODEL.SerializeToString())
    content[position % len(content) : position % len(content) + len(change)] = change
    with contextlib.suppress(OnnxError):
        assert isinstance(scan(bytes(content)), OnnxModel)


# --- against protobuf ---


def lists(values, most=2):
    return st.lists(values, max_size=most)


NAMES = st.sampled_from(["", "a", "b", "é"])
ENTRIES = st.builds(
    onnx.StringStringEntryProto, key=st.sampled_from(["location", "offset", "length", "k"]), value=NAMES
)
TENSORS = st.builds(
    TensorProto,
    name=NAMES,
    data_location=st.sampled_from([0, 1]),
    external_data=lists(ENTRIES),
    string_data=lists(st.binary(max_size=2)),
    int64_data=lists(st.integers(-1, 300)),
)
SPARSE = st.builds(onnx.SparseTensorProto, values=TENSORS, indices=TENSORS)
LEAVES = st.builds(
    onnx.AttributeProto,
    t=TENSORS,
    tensors=lists(TENSORS),
    sparse_tensor=SPARSE,
    sparse_tensors=lists(SPARSE),
    strings=lists(st.binary(max_size=2)),
    floats=lists(st.floats(width=32)),
)


def nodes(attributes):
    return st.builds(onnx.NodeProto, op_type=st.sampled_from(["Add", "Sub", "GRU"]), attribute=lists(attributes))


def graphs(attributes, **parts):
    return st.builds(
        onnx.GraphProto,
        node=lists(nodes(attributes)),
        initializer=lists(TENSORS),
        sparse_initializer=lists(SPARSE, 1),
        **parts,
    )


def types(text):
    return st.just(onnx.parser.parse_graph(f"g ({text} x) => () {{}}").input[0].type)


KINDS = {
    "float[N]": "",
    "seq(float[N])": "a sequence",
    "seq(map(int64, float))": "a sequence of maps",
    "map(int64, float)": "a map",
    "optional(seq(float))": "an optional",
    "sparse_tensor(float[N])": "a sparse tensor",
}
VALUES = st.builds(onnx.ValueInfoProto, name=NAMES, type=st.one_of(map(types, KINDS)))
ATTRIBUTES = st.recursive(
    LEAVES, lambda inner: st.builds(onnx.AttributeProto, g=graphs(inner), graphs=lists(graphs(inner), 1)), max_leaves=3
)
MODELS = st.builds(
    onnx.ModelProto,
    ir_version=st.integers(0, 2**63 - 1),
    opset_import=lists(st.builds(onnx.OperatorSetIdProto, domain=NAMES, version=st.integers(0, 300))),
    metadata_props=lists(ENTRIES),
    graph=graphs(ATTRIBUTES, input=lists(VALUES), output=lists(VALUES)),
    functions=lists(
        st.builds(onnx.FunctionProto, node=lists(nodes(ATTRIBUTES)), attribute_proto=lists(ATTRIBUTES, 1)), 1
    ),
    training_info=lists(st.builds(onnx.TrainingInfoProto, initialization=graphs(LEAVES)), 1),
)


def parts_of(message):
    """The message and all messages in it, whatever they are in."""
    yield message
    for _, value in message.ListFields():
        for part in [value] if isinstance(value, Message) else value if hasattr(value, "add") else []:
            yield from parts_of(part)


def is_external(tensor):
    return tensor.data_location == TensorProto.EXTERNAL or len(tensor.external_data) > 0


def places_of(tensor):
    places = {entry.key: entry.value for entry in tensor.external_data}
    return (tensor.name, *(places.get(key, "") for key in ("location", "offset", "length")))


@settings(max_examples=50)
@given(MODELS)
def test_a_model_is_read_as_protobuf_reads_it(model):
    found, parts = scan(model.SerializeToString()), list(parts_of(model))
    assert (found.ir_version, found.has_graph) == (model.ir_version, True)
    assert found.opsets == {one.domain: one.version for one in model.opset_import}
    assert found.metadata == {one.key: one.value for one in model.metadata_props}
    assert found.needs_rows == any(getattr(part, "op_type", "") == "GRU" for part in parts)
    tensors = [part for part in parts if isinstance(part, TensorProto)]
    attributes = [part for part in parts if isinstance(part, onnx.AttributeProto)]
    words = [word for tensor in tensors for word in tensor.string_data]
    assert sorted(found.words) == sorted(words + [word for attribute in attributes for word in attribute.strings])
    places = [
        (one.name, {entry.key: entry.value for entry in one.external_data}) for one in tensors if is_external(one)
    ]
    told = [(name, *(of.get(key, "") for key in ("location", "offset", "length"))) for name, of in places]
    assert sorted(found.external) == sorted(told)


@pytest.mark.parametrize(("text", "kind"), KINDS.items())
def test_inputs_and_outputs_that_are_no_tensors(text, kind):
    model = onnx.parser.parse_model(f"<ir_version: 9> g ({text} x) => ({text} y) {{ y = Identity(x) }}")
    expected = {"x": Other(kind, is_input=True), "y": Other(kind, is_input=False)} if kind else {}
    assert scan(model.SerializeToString()).others == expected


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tensor(float)", ""),
        ("seq(tensor(float))", "a sequence"),
        ("seq(map(int64,tensor(float)))", "a sequence of maps"),
        ("map(string,tensor(float))", "a map"),
        ("optional(tensor(float))", "an optional"),
        ("sparse_tensor(float)", "a sparse tensor"),
        ("opaque(test_domain,test_name)", "a value of a private type"),
    ],
)
def test_names_of_types(name, kind):
    assert kind_of(name) == kind


def test_a_model_of_trees_is_read_about_as_fast_as_protobuf_reads_it():
    trees = onnx.AttributeProto(name="nodes_nodeids", type=onnx.AttributeProto.INTS, ints=range(200_000))
    trees.strings.extend([b"BRANCH_LEQ"] * 50_000)
    content = onnx.ModelProto(graph=graph(onnx.NodeProto(attribute=[trees]))).SerializeToString()

    def shortest_s(read):
        times_s = []
        for _ in range(5):
            begin_s = time.thread_time()
            read(content)
            times_s.append(time.thread_time() - begin_s)
        return min(times_s)

    assert shortest_s(scan) < 3 * shortest_s(onnx.ModelProto.FromString)
