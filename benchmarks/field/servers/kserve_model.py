# /// script
# dependencies = ["kserve==0.21.0", "onnxruntime==1.31.1", "numpy==2.4.6"]
# [tool.field]
# title = "KServe {version}"
# path = "/v1/models/m:predict"
# body = "instances"
# grpc = true
# ///
"""KServe's Python server with a custom model, asked by its first protocol over REST and its second one over gRPC."""

import sys

import kserve
import numpy as np
import onnxruntime


class Model(kserve.Model):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.load()

    def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(sys.argv[1], options)
        self.ready = True
        return self.ready

    async def predict(self, payload, headers=None):
        if isinstance(payload, dict):
            (y,) = self.session.run(["y"], {"x": np.array(payload["instances"], np.float32)})
            return {"predictions": y.tolist()}
        (y,) = self.session.run(["y"], {"x": payload.inputs[0].as_numpy()})
        output = kserve.InferOutput("y", list(y.shape), "FP32")
        output.set_data_from_numpy(y)
        return kserve.InferResponse(payload.id, self.name, [output])


rest_port, grpc_port = map(int, sys.argv[2:4])
server = kserve.ModelServer(http_port=rest_port, grpc_port=grpc_port, enable_latency_logging=False)
server.start([Model("m")])
