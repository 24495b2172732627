# /// script
# dependencies = ["litserve==0.2.19", "onnxruntime==1.31.1", "numpy==2.4.6"]
# [tool.field]
# title = "LitServe {version}"
# path = "/predict"
# body = "instances"
# ///
"""LitServe: an API object in a worker process behind its web server."""

import sys

import litserve
import numpy as np
import onnxruntime


class Api(litserve.LitAPI):
    def setup(self, device):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(sys.argv[1], options)

    def decode_request(self, request):
        return np.array(request["instances"], np.float32)

    def predict(self, x):
        return self.session.run(["y"], {"x": x})[0]

    def encode_response(self, output):
        return {"predictions": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Api(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[2]), num_api_servers=1, generate_client_file=False, log_level="error"
    )
