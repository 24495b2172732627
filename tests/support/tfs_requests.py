"""Requests of TensorFlow Serving's gRPC API as messages, and the arrays that they carry. Knows no server."""

from __future__ import annotations

import numpy as np

from estimator_serving.wire.examples import encode_example
from estimator_serving.wire.pb import serving_pb, tensorflow_pb
from estimator_serving.wire.tensors import encode_tensor


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def text(*values: bytes) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


TYPES = {
    "f": f32(1.5, -0.0), "d": np.array([1e300, 0.1]), "h": np.array([0.5, 65504], np.float16),
    "i8": np.array([-128, 127], np.int8), "i16": np.array([-(2**15), 2**15 - 1], np.int16),
    "i32": np.array([-(2**31), 2**31 - 1], np.int32), "i64": i64(-(2**63), 2**63 - 1),
    "u8": np.array([0, 255], np.uint8), "u32": np.array([0, 2**32 - 1], np.uint32),
    "u64": np.array([0, 2**64 - 1], np.uint64), "b": np.array([True, False]), "s": text(b"a", b"b"),
}  # fmt: skip

X = np.ones(1, np.float32)
MODEL_SERVICE = "tensorflow.serving.ModelService"
X2 = encode_example({"x": [2.0]})
X3 = encode_example({"x": [3.0], "y": [0.25]})


def spec(name: str, version: int | None = None, signature: str = "") -> serving_pb.ModelSpec:
    message = serving_pb.ModelSpec(name=name, signature_name=signature)
    if version is not None:
        message.version.value = version
    return message


def predict(
    model: str = "half", version: int | None = None, signature: str = "", **inputs
) -> serving_pb.PredictRequest:
    request = serving_pb.PredictRequest(model_spec=spec(model, version, signature))
    for alias, value in inputs.items():
        tensor = value if isinstance(value, tensorflow_pb.TensorProto) else encode_tensor(value)
        request.inputs[alias].CopyFrom(tensor)
    return request


def filtered(*aliases: str) -> serving_pb.PredictRequest:
    request = predict("two", a=np.ones(1, np.float32), b=np.ones(1, np.int64))
    request.output_filter.extend(aliases)
    return request


def example_list(*examples: bytes) -> serving_pb.Input:
    return serving_pb.Input(example_list=serving_pb.ExampleList(examples=examples))


def with_context(context: bytes, *examples: bytes) -> serving_pb.Input:
    message = serving_pb.ExampleListWithContext(examples=examples, context=context)
    return serving_pb.Input(example_list_with_context=message)


def classify(examples: serving_pb.Input | None, signature: str = "") -> serving_pb.ClassificationRequest:
    return serving_pb.ClassificationRequest(model_spec=spec("examples", signature=signature), input=examples)


def regress(examples: serving_pb.Input | None, signature: str = "regression") -> serving_pb.RegressionRequest:
    return serving_pb.RegressionRequest(model_spec=spec("examples", signature=signature), input=examples)


def multi(tasks: list[tuple[str, str, str]], *examples: bytes) -> serving_pb.MultiInferenceRequest:
    """Tasks as (model, signature, method)."""
    request = serving_pb.MultiInferenceRequest(input=example_list(*examples))
    for model, signature, method in tasks:
        request.tasks.add(model_spec=spec(model, signature=signature), method_name=method)
    return request


def tensor(dtype: int, *dims: int, **fields) -> tensorflow_pb.TensorProto:
    """A TensorProto field by field, as no library would write it."""
    proto = tensorflow_pb.TensorProto(dtype=dtype, **fields)
    proto.tensor_shape.SetInParent()
    proto.tensor_shape.dim.extend([type(proto.tensor_shape).Dim(size=size) for size in dims])
    return proto


def types_request(**changed) -> serving_pb.PredictRequest:
    return predict("types", **TYPES | changed)
