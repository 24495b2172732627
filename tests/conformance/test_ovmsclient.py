"""A client nobody here wrote, `ovmsclient`, against a running server: predict, status and metadata over both fronts.

Its default version is 0, which OpenVINO's server takes for the newest; TensorFlow Serving, and so this server, takes it
for version 0. The calls name their version.
"""

from __future__ import annotations

import numpy as np
import ovmsclient
import pytest


@pytest.fixture(params=["grpc", "http"])
def client(request, fronts):
    server = fronts["matrix"].server
    if request.param == "grpc":
        return ovmsclient.make_grpc_client(f"127.0.0.1:{server.grpc_port}")
    return ovmsclient.make_http_client(f"127.0.0.1:{server.rest_port}")


def test_predict(client):
    answer = client.predict({"x": np.array([[1, 2, 3]], np.float32)}, "matrix", 123)
    np.testing.assert_array_equal(np.asarray(answer), [[22, 28]])


def test_predict_a_batch(client):
    answer = client.predict({"x": np.ones((4, 3), np.float32)}, "matrix", 123)
    np.testing.assert_array_equal(np.asarray(answer), [[9, 12]] * 4)


def test_status(client):
    assert client.get_model_status("matrix", 123) == {123: {"state": "AVAILABLE", "error_code": 0, "error_message": ""}}


def test_metadata_over_grpc(fronts):
    client = ovmsclient.make_grpc_client(f"127.0.0.1:{fronts['matrix'].server.grpc_port}")
    assert client.get_model_metadata("matrix", 123) == {
        "model_version": 123,
        "inputs": {"x": {"shape": [-1, 3], "dtype": "DT_FLOAT"}},
        "outputs": {"y": {"shape": [-1, 2], "dtype": "DT_FLOAT"}},
    }


def test_metadata_over_http(fronts):
    client = ovmsclient.make_http_client(f"127.0.0.1:{fronts['matrix'].server.rest_port}")
    # It looks for OpenVINO's spelling (modelSpec) and hands on what else it gets: TensorFlow Serving's document.
    assert client.get_model_metadata("matrix", 123)["model_spec"]["version"] == "123"


def test_unknown_model(client):
    with pytest.raises(ovmsclient.tfs_compat.base.errors.ModelNotFoundError):
        client.predict({"x": np.ones((1, 3), np.float32)}, "nope")


def test_wrong_shape(client):
    with pytest.raises(ovmsclient.tfs_compat.base.errors.InvalidInputError):
        client.predict({"x": np.ones((1, 4), np.float32)}, "matrix", 123)


def test_default_version(client):
    with pytest.raises(ovmsclient.tfs_compat.base.errors.ModelNotFoundError, match=r"Specific\(matrix, 0\)"):
        client.get_model_metadata("matrix")


@pytest.mark.parametrize("front", ["grpc", "http"])
@pytest.mark.parametrize(
    "inputs",
    [{"a": [1.0, 2.0], "b": [3, 4]}, {"a": np.array([1, 2], np.float32), "b": np.array([3, 4], np.int64)}],
    ids=["lists", "arrays"],
)
def test_several_inputs_and_outputs(fronts, front, inputs):
    server = fronts["two"].server
    port = {"grpc": server.grpc_port, "http": server.rest_port}[front]
    client = getattr(ovmsclient, f"make_{front}_client")(f"127.0.0.1:{port}")
    if front == "grpc" and isinstance(inputs["a"], list):
        inputs = inputs | {"a": np.array(inputs["a"], np.float32), "b": np.array(inputs["b"], np.int64)}
    answer = client.predict(inputs, "two", 123)
    assert np.asarray(answer["total"]).tolist() == [4, 6]
    assert np.asarray(answer["twice"]).tolist() == [6, 8]


def test_every_call_refuses_an_unknown_model(client):
    for ask in (client.get_model_status, client.get_model_metadata):
        with pytest.raises(ovmsclient.tfs_compat.base.errors.ModelNotFoundError):
            ask("nope", 123)


def test_unknown_version(client):
    with pytest.raises(ovmsclient.tfs_compat.base.errors.ModelNotFoundError):
        client.predict({"x": np.ones((1, 3), np.float32)}, "matrix", 99)
