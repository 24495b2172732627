"""The scan of a model's file: what it says, every place external tensors hide in, and bytes that are no model."""

from __future__ import annotations

import contextlib

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from estimator_serving.wire.onnx_model import OnnxError, OnnxModel, read_model, scan

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
