"""Fails when reading requests and writing answers has become slower: ratios to plain libraries, in one process.

    python benchmarks/guard.py

Ours is what the server does with a request beside the model's run; the other side of the ratio does the same work with
orjson, numpy and protobuf. Both take turns of a fraction of a millisecond on one thread. Time is processor time, and
the best turn of each side counts, so what else the machine does hardly matters. A case that seems to be over its limit
is measured on, because more turns only bring a best turn closer to what a quiet machine gives.

A case may take 1.5 times its committed ratio, which is that of Python 3.11 on x86-64. After a change that means to make
one slower or faster, commit the new ratio. The command exits with 1 where a case is over its limit. Needs `onnx`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc_predict
import numpy as np
import onnx.helper
import onnx.numpy_helper
import open_inference
import orjson
from loads import MATRIX, ROW, write_model
from rest_predict import open_session

from estimator_serving.serving.dialects.oip import proto_codec as inference_codec
from estimator_serving.serving.dialects.oip.json_codec import Exchange
from estimator_serving.serving.dialects.oip.shared_memory import Regions
from estimator_serving.serving.dialects.tfs import json_codec, proto_codec
from estimator_serving.serving.models.loader import open_servable
from estimator_serving.serving.predictor import Codec
from estimator_serving.serving.request import DEFAULT_SIGNATURE, ModelSpec
from estimator_serving.serving.running.servable import Servable
from estimator_serving.wire import dtypes
from estimator_serving.wire.examples import FixedLenFeature, encode_example
from estimator_serving.wire.pb import inference_pb, serving_pb
from estimator_serving.wire.signatures import CLASSIFY_METHOD, Metadata, Signature, TensorInfo, to_properties
from estimator_serving.wire.tensors import encode_tensor

WORSE = 1.5
TURN_S, TURNS, TURNS_MAX = 3e-4, 100, 2000
ROWS = 64
EXAMPLE = {"age": 29.5, "fare": 7.25, "class": "3rd"}


class Case(NamedTuple):
    """A request, answered by this server's code and by plain libraries. committed: the ratio of a quiet machine."""

    name: str
    committed: float
    ours: Callable[[], Any]
    plain: Callable[[], Any]


def beside_the_run(codec: Codec, payload: bytes, spec: ModelSpec | None, servable: Servable) -> Callable[[], bytes]:
    """The steps of a request but the run, whose outputs are made beforehand."""
    outputs = servable.run(codec.decode(codec.parse(payload, spec), servable))
    return lambda: codec.encode(outputs, codec.decode(codec.parse(payload, spec), servable), servable)


def open_classifier(directory: Path) -> Servable:
    """A version that takes Examples of three features and answers each with the same two scores."""
    texts, scores = np.array([["0", "1"]], object), np.array([[0.25, 0.75]], np.float32)
    constants = {"texts": texts, "numbers": scores, "one": np.array([1], np.int64), "two": np.array([2], np.int64)}
    value, node, kinds = onnx.helper.make_tensor_value_info, onnx.helper.make_node, onnx.TensorProto
    nodes = [
        node("Shape", ["inputs/row_splits"], ["splits"]), node("Sub", ["splits", "one"], ["rows"]),
        node("Concat", ["rows", "two"], ["shape"], axis=0), node("Expand", ["texts", "shape"], ["classes"]),
        node("Expand", ["numbers", "shape"], ["scores"]),
    ]  # fmt: skip
    graph = onnx.helper.make_graph(
        nodes,
        "classifier",
        [value("inputs/values", kinds.UINT8, ["bytes"]), value("inputs/row_splits", kinds.INT64, ["splits"])],
        [value("classes", kinds.STRING, ["rows", 2]), value("scores", kinds.FLOAT, ["rows", 2])],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
    signature = Signature(
        {"inputs": TensorInfo("inputs:0", dtypes.string, (-1,))},
        {"classes": TensorInfo("classes:0", dtypes.string, (-1, 2)),
         "scores": TensorInfo("scores:0", dtypes.float32, (-1, 2))},
        CLASSIFY_METHOD,
    )  # fmt: skip
    spec = {name: FixedLenFeature([], np.dtype("S") if name == "class" else np.float32) for name in EXAMPLE}
    onnx.helper.set_model_props(model, to_properties(Metadata({DEFAULT_SIGNATURE: signature}, spec)))
    (directory / "2").mkdir()
    onnx.save(model, directory / "2" / "model.onnx")
    return open_servable("m", 2, directory / "2", intra_op_threads=1)


def make_cases(directory: Path) -> list[Case]:
    """All cases, on a model that is made there."""
    write_model(directory, MATRIX)
    servable = open_servable("m", 1, directory / "1", intra_op_threads=1)
    spec = ModelSpec("m")
    y = np.array([ROW] * ROWS, np.float32) @ np.arange(1, 14, dtype=np.float32)[:, None] + np.float32(0.5)
    json_predict = json_codec.CODECS["predict"]
    one, many = (orjson.dumps({"instances": [ROW] * n}) for n in (1, ROWS))
    tensor = {"name": "x", "shape": [1, len(ROW)], "datatype": "FP32", "data": [ROW]}
    inference = orjson.dumps({"inputs": [tensor]})
    session = open_session(directory)

    def plain_one() -> bytes:
        x = np.asarray(orjson.loads(one)["instances"], np.float32)
        (predictions,) = session.run(["y"], {"x": x})
        return orjson.dumps({"predictions": predictions.tolist()})

    def plain_many() -> bytes:
        np.asarray(orjson.loads(many)["instances"], np.float32)
        return orjson.dumps({"predictions": y.tolist()})

    predict_bytes = grpc_predict.make_request(ROWS)

    def plain_predict() -> bytes:
        tensor = serving_pb.PredictRequest.FromString(predict_bytes).inputs["x"]
        np.frombuffer(tensor.tensor_content, np.float32).reshape([dim.size for dim in tensor.tensor_shape.dim])
        response = serving_pb.PredictResponse()
        response.outputs["y"].CopyFrom(encode_tensor(y))
        return response.SerializeToString()

    infer_bytes = open_inference.message(ROWS)

    def plain_infer() -> bytes:
        request = inference_pb.ModelInferRequest.FromString(infer_bytes)
        np.frombuffer(request.raw_input_contents[0], np.float32).reshape(request.inputs[0].shape)
        response = inference_pb.ModelInferResponse(model_name="m", model_version="1")
        response.outputs.add(name="y", datatype="FP32", shape=y.shape)
        response.raw_output_contents.append(y.tobytes())
        return response.SerializeToString()

    classifier = open_classifier(directory)
    classify = serving_pb.ClassificationRequest(model_spec=serving_pb.ModelSpec(name="m"))
    classify.input.example_list.examples.extend([encode_example(EXAMPLE)] * ROWS)
    classify_bytes = classify.SerializeToString()
    classes, scores = ["0", "1"], [0.25, 0.75]

    def plain_classify() -> bytes:
        request = serving_pb.ClassificationRequest.FromString(classify_bytes)
        examples = list(request.input.example_list.examples)
        np.cumsum([0, *map(len, examples)])
        b"".join(examples)
        response = serving_pb.ClassificationResponse()
        for _ in examples:
            of_row = response.result.classifications.add()
            for label, score in zip(classes, scores, strict=True):
                of_row.classes.add(label=label, score=score)
        return response.SerializeToString()

    features = orjson.dumps({"instances": [EXAMPLE] * ROWS})

    def plain_features() -> bytes:
        examples = [encode_example(row) for row in orjson.loads(features)["instances"]]
        return orjson.dumps({"predictions": [{"classes": classes, "scores": scores} for _ in examples]})

    return [
        Case("REST JSON, 1 row, with the run", 0.9, lambda: json_predict.at_once(one, spec, servable), plain_one),
        # Beside the same row in TF Serving's form.
        Case("Open Inference JSON, 1 row, with the run", 1.15,
             lambda: Exchange(None, Regions()).codec().at_once(inference, spec, servable),
             lambda: json_predict.at_once(one, spec, servable)),
        Case("REST JSON, 64 rows", 0.45, beside_the_run(json_predict, many, spec, servable), plain_many),
        Case("gRPC Predict, 64 rows", 0.5,
             beside_the_run(proto_codec.CODECS["Predict"], predict_bytes, None, servable), plain_predict),
        Case("gRPC ModelInfer, 64 rows", 1.7,
             beside_the_run(inference_codec.codec(Regions()), infer_bytes, None, servable), plain_infer),
        Case("gRPC Classify, 64 Examples", 0.075,
             beside_the_run(proto_codec.CODECS["Classify"], classify_bytes, None, classifier), plain_classify),
        Case("REST JSON, 64 feature dictionaries", 0.085,
             beside_the_run(json_predict, features, spec, classifier), plain_features),
    ]  # fmt: skip


def turn_s(call: Callable[[], Any], calls: int) -> float:
    """Processor time of a call, of so many one after the other."""
    began_s = time.thread_time()
    for _ in range(calls):
        call()
    return (time.thread_time() - began_s) / calls


def measure(case: Case) -> float:
    """The ratio of the best turns."""
    sides, best_s = (case.ours, case.plain), [float("inf")] * 2
    calls = [max(1, int(TURN_S / min(turn_s(side, 1) for _ in range(20)))) for side in sides]
    for turn in range(TURNS_MAX):
        for index, side in enumerate(sides):
            best_s[index] = min(best_s[index], turn_s(side, calls[index]))
        if turn + 1 >= TURNS and best_s[0] / best_s[1] <= WORSE * case.committed:
            break
    return best_s[0] / best_s[1]


def main() -> int:
    over = 0
    with tempfile.TemporaryDirectory() as folder:
        for case in make_cases(Path(folder)):
            ratio = measure(case)
            is_over = ratio > WORSE * case.committed
            over += is_over
            verdict = "   SLOWER than it may be; see the docstring of benchmarks/guard.py" if is_over else ""
            print(f"{case.name:38} {ratio:6.3f} of plain libraries, committed {case.committed:g}{verdict}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
