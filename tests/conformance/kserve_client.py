"""Calls of the kserve SDK against a running server, run by a Python that has kserve; exits with 1 at a surprise.

python kserve_client.py REST_URL GRPC_ADDRESS     with the models of conftest: matrix, examples
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

X = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
Y = [[22, 28], [49, 64]]


def request(
    model: str, *, binary: bool, name: str = "x", array: np.ndarray = X, datatype: str = "FP32"
) -> InferRequest:
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return InferRequest(model, [tensor], request_id="one")


async def refused(call: Awaitable[object], text: str) -> None:
    said = ""
    try:
        await call
    except Exception as error:
        said = str(error)
    if text not in said:
        raise AssertionError(f"{text!r} was expected, and {said!r} was said")


async def rest(url: str) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    assert await client.is_server_live(url)
    assert await client.is_server_ready(url)
    assert await client.is_model_ready(url, "matrix")
    assert not await client.is_model_ready(url, "nope")
    for binary in (False, True):
        response = await client.infer(url, request("matrix", binary=binary), model_name="matrix")
        assert (response.id, response.model_name) == ("one", "matrix")
        np.testing.assert_array_equal(response.outputs[0].as_numpy().reshape(2, 2), Y)
    for model, text in (("nope", "unknown model: 'nope'"), ("examples", "unexpected inference input 'x'")):
        await refused(client.infer(url, request(model, binary=False), model_name=model), text)
    await client.close()


async def grpc(address: str) -> None:
    client = InferenceGRPCClient(address, retries=0)
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("matrix")
    assert not await client.is_model_ready("nope")
    for binary in (False, True):
        response = await client.infer(request("matrix", binary=binary))
        assert (response.id, response.model_name) == ("one", "matrix")
        np.testing.assert_array_equal(response.outputs[0].as_numpy().reshape(2, 2), Y)
    await refused(client.infer(request("nope", binary=True)), "unknown model: 'nope'")
    await client.close()


async def main(rest_url: str, grpc_address: str) -> None:
    await rest(rest_url)
    await grpc(grpc_address)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
