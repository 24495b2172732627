"""Existing ONNX models: how features find their inputs, and weights of any size."""

import numpy as np
import onnx
import pytest
from catboost import CatBoostClassifier
from library_models import BINARY, EXAMPLES, GENERATOR, X, add_one, as_examples
from onnx import TensorProto, helper, numpy_helper

from estimator_serving.exporter import (
    export_model,
)
from estimator_serving.exporter.sources.onnx import OnnxSource
from estimator_serving.serving import load
from estimator_serving.wire import dtypes


@pytest.mark.parametrize("form", ["proto", "bytes", "file"])
def test_an_onnx_model(tmp_path, form):
    model = add_one()
    file = tmp_path / "model.onnx"
    onnx.save(model, file)
    given = {"proto": model, "bytes": model.SerializeToString(), "file": file}[form]
    loaded = load(export_model(given, tmp_path / "base", EXAMPLES))
    got = loaded.signatures["serving_default"](examples=as_examples(X[:4]))["y"]
    np.testing.assert_allclose(got, np.float32(X[:4]) + 1)


@pytest.mark.parametrize(("opset", "is_input"), [(13, False), (21, False), (21, True)])
def test_an_onnx_model_with_large_weights(tmp_path, opset, is_input):
    """In old models every weight is an input, too."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10000])
    weight = numpy_helper.from_array(np.float32(GENERATOR.normal(size=(3, 10000))), "w")
    inputs = [x, helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 10000])] if is_input else [x]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", inputs, [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    predict = load(export_model(model, tmp_path, EXAMPLES)).signatures["predict"]
    expected = np.float32(X[:4]) @ numpy_helper.to_array(weight)
    np.testing.assert_allclose(predict(examples=as_examples(X[:4]))["y"], expected, rtol=1e-5, atol=1e-5)


def two_inputs():
    infos = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch"]) for name in ("a", "b", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["y"])], "g", infos[:2], infos[2:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_features_find_inputs_by_name():
    inputs = OnnxSource(two_inputs()).inputs({"b": dtypes.float32, "c": dtypes.float32, "a": dtypes.float32})
    assert [(one.name, one.keys, one.dtype.name) for one in inputs] == [("a", ("a",), "int64"), ("b", ("b",), "int64")]


def test_one_input_takes_one_feature_or_all():
    source = OnnxSource(add_one())
    (one,) = source.inputs({"u": dtypes.int64})
    assert (one.name, one.keys, one.is_matrix) == ("x", ("u",), False)
    (matrix,) = source.inputs(dict.fromkeys("uvw", dtypes.int64))
    assert (matrix.name, matrix.keys, matrix.is_matrix) == ("x", ("u", "v", "w"), True)


def test_inputs_that_no_feature_feeds_are_refused():
    with pytest.raises(ValueError, match="The ONNX model takes a, b, and the receiver gives u; give the features"):
        OnnxSource(two_inputs()).inputs({"u": dtypes.int64})


def test_a_scalar_input_is_refused():
    model = add_one()
    del model.graph.input[0].type.tensor_type.shape.dim[:]
    with pytest.raises(ValueError, match="The input x of the ONNX model takes a scalar; export the model"):
        OnnxSource(model)


def test_the_given_model_stays_as_it_is():
    model = add_one()
    before = model.SerializeToString()
    source = OnnxSource(model)
    converted = source.convert([], {})
    del converted.graph.node[:]
    assert model.SerializeToString() == before
    assert source.answer({"x": np.zeros((1, 3), np.float32)})["y"].tolist() == [[1, 1, 1]]


def test_an_output_of_maps_becomes_a_matrix(tmp_path):
    """As CatBoost's own export and skl2onnx write it."""
    model = CatBoostClassifier(iterations=3, verbose=0, allow_writing_files=False).fit(X, BINARY)
    model.save_model(str(tmp_path / "model.onnx"), format="onnx")
    path = export_model(tmp_path / "model.onnx", tmp_path / "base", EXAMPLES, method="classify")
    got = load(path).signatures["serving_default"](inputs=as_examples(X))
    np.testing.assert_allclose(got["scores"], model.predict_proba(np.float32(X)), atol=1e-5)
    assert got["classes"][0].tolist() == ["0", "1"]
