"""The time of the compiled readers grows with what they read, not with its square, in however many pieces it comes."""

import json
import time

import numpy as np
import pytest

from estimator_serving.wire import native
from estimator_serving.wire.pb import serving_pb
from estimator_serving.wire.tensors import encode_tensor

FEW, TIMES = 2_000, 8


def read_inputs(count):
    tensor = encode_tensor(np.float32([1]))
    request = serving_pb.PredictRequest(model_spec=serving_pb.ModelSpec(name="m"))
    for index in range(count):
        request.inputs[f"i{index}"].CopyFrom(tensor)
    message = request.SerializeToString()
    return lambda: native.read_predict_request(message)


def read_output_filter(count):
    names = [f"o{index}" for index in range(count)]
    request = serving_pb.PredictRequest(model_spec=serving_pb.ModelSpec(name="m"), output_filter=names)
    message = request.SerializeToString()
    return lambda: native.read_predict_request(message)


def read_examples(count):
    request = serving_pb.ClassificationRequest(model_spec=serving_pb.ModelSpec(name="m"))
    request.input.example_list.examples.extend([b"e"] * count)
    message = request.SerializeToString()
    return lambda: native.read_examples_request(message)


def read_json_inputs(count):
    body = json.dumps({"inputs": {f"i{index}": 1 for index in range(count)}}).encode()
    return lambda: native.read_body(body)


def read_json_rows(count):
    body = json.dumps({"instances": [{f"i{index}": 1 for index in range(200)}] * (count // 200)}).encode()
    return lambda: native.read_columns(native.read_body(body)[2])


@pytest.mark.parametrize("reader", [read_inputs, read_output_filter, read_examples, read_json_inputs, read_json_rows])
def test_time_grows_with_the_number_of_pieces(reader):
    def shortest_s(count):
        read, times_s = reader(count), []
        for _ in range(5):
            begin_s = time.thread_time()
            assert read() is not None
            times_s.append(time.thread_time() - begin_s)
        return min(times_s)

    assert shortest_s(FEW * TIMES) < 3 * TIMES * max(shortest_s(FEW), 1e-5)
