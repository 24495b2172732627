# /// script
# dependencies = ["mlserver==1.7.1", "onnxruntime==1.31.1", "numpy==2.4.6"]
# [tool.field]
# title = "MLServer {version}"
# path = "/v2/models/m/infer"
# body = "infer"
# grpc = true
# ///
"""MLServer with a custom runtime. Its inference workers are off: one process is the fastest on one core."""

import asyncio
import sys

import onnxruntime
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Runtime(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(sys.argv[1], options)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        x = NumpyCodec.decode_input(payload.inputs[0])
        (y,) = self.session.run(["y"], {"x": x})
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", y)])


async def main() -> None:
    rest_port, grpc_port, metrics_port = map(int, sys.argv[2:5])
    settings = Settings(
        host="127.0.0.1", http_port=rest_port, grpc_port=grpc_port, metrics_port=metrics_port, parallel_workers=0,
        debug=False, load_models_at_startup=False,
    )  # fmt: skip
    await MLServer(settings).start([ModelSettings(name="m", implementation=Runtime)])


asyncio.run(main())
