"""Open Inference requests and answers, written and read by hand: by no codec of this project and no client's.

Owns the ways in which one request can be asked. Inputs and outputs are arrays, strings in them bytes.
"""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import ml_dtypes
import numpy as np

from estimator_serving.wire.pb import inference_pb

SERVICE = "inference.GRPCInferenceService"
NAMES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "float32": "FP32", "float64": "FP64",
    "bfloat16": "BF16", "object": "BYTES",
}  # fmt: skip
DTYPES = {name: np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype) for dtype, name in NAMES.items()}
FIELDS = {
    "BOOL": "bool_contents", "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents",
    "UINT64": "uint64_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents",
    "INT64": "int64_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


def datatype(array: np.ndarray) -> str:
    return NAMES[array.dtype.name]


def raw(array: np.ndarray) -> bytes:
    if array.dtype == object:
        return b"".join(struct.pack("<I", len(value)) + value for value in array.ravel())
    return array.tobytes()


def unraw(content: bytes, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name != "BYTES":
        return np.frombuffer(content, DTYPES[name]).reshape(shape)
    values = []
    while content:
        (length,) = struct.unpack_from("<I", content)
        values.append(content[4 : 4 + length])
        content = content[4 + length :]
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def parameters(signature: str) -> dict[str, Any]:
    return {"parameters": {"signature_name": signature}} if signature else {}


def json_request(inputs: dict[str, np.ndarray], signature: str = "", *, nested: bool = False) -> bytes:
    """Strings go as base64, since not every one of them is text."""
    tensors = []
    for name, array in inputs.items():
        tensor: dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": datatype(array)}
        if array.dtype == object:
            flat = [base64.b64encode(value).decode() for value in array.ravel()]
            array = np.array(flat, object).reshape(array.shape)
            tensor["parameters"] = {"content_type": "base64"}
        tensor["data"] = array.tolist() if nested else array.ravel().tolist()
        tensors.append(tensor)
    return json.dumps({"id": "one", "inputs": tensors, **parameters(signature)}).encode()


def binary_request(inputs: dict[str, np.ndarray], signature: str = "") -> tuple[bytes, int]:
    """The body, and how many bytes of it are JSON. Outputs are asked for in binary, too."""
    tensors = [
        {"name": name, "shape": list(array.shape), "datatype": datatype(array),
         "parameters": {"binary_data_size": len(raw(array))}}
        for name, array in inputs.items()
    ]  # fmt: skip
    given = parameters(signature).get("parameters", {}) | {"binary_data_output": True}
    head = json.dumps({"id": "one", "inputs": tensors, "parameters": given}).encode()
    return head + b"".join(map(raw, inputs.values())), len(head)


def read_answer(body: bytes, json_length: int | None = None) -> dict[str, np.ndarray]:
    """The outputs of a REST answer."""
    answer = json.loads(body[:json_length])
    assert answer["id"] == "one"
    tail = body[json_length:] if json_length else b""
    outputs = {}
    for output in answer["outputs"]:
        name, shape = output["datatype"], tuple(output["shape"])
        if "data" in output:
            values = [one.encode() for one in output["data"]] if name == "BYTES" else output["data"]
            array = np.empty(len(values), DTYPES[name])
            array[:] = values
            outputs[output["name"]] = array.reshape(shape)
        else:
            size = output["parameters"]["binary_data_size"]
            outputs[output["name"]] = unraw(tail[:size], name, shape)
            tail = tail[size:]
    assert not tail
    return outputs


def message(model: str, inputs: dict[str, np.ndarray], signature: str = "", *, typed: bool = False) -> Any:
    """A ModelInferRequest with raw or typed contents."""
    request = inference_pb.ModelInferRequest(model_name=model, id="one")
    if signature:
        request.parameters["signature_name"].string_param = signature
    for name, array in inputs.items():
        tensor = request.inputs.add(name=name, datatype=datatype(array), shape=array.shape)
        if typed:
            tensor.contents.SetInParent()
            getattr(tensor.contents, FIELDS[datatype(array)]).extend(array.ravel().tolist())
        else:
            request.raw_input_contents.append(raw(array))
    return request


def read_message(response: Any) -> dict[str, np.ndarray]:
    assert response.id == "one"
    assert len(response.raw_output_contents) == len(response.outputs)
    return {
        output.name: unraw(content, output.datatype, tuple(output.shape))
        for output, content in zip(response.outputs, response.raw_output_contents, strict=True)
    }
