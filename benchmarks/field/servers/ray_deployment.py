# /// script
# dependencies = ["ray[serve]==2.60.0", "onnxruntime==1.31.1", "numpy==2.4.6"]
# [tool.field]
# title = "Ray Serve {version}"
# path = "/"
# body = "instances"
# ///
"""A Ray Serve deployment with one replica, on a cluster of this machine only."""

import sys
import time

import numpy as np
import onnxruntime
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=100, logging_config={"enable_access_log": False})
class Deployment:
    def __init__(self, model: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options)

    async def __call__(self, request: Request) -> dict[str, list[list[float]]]:
        rows = (await request.json())["instances"]
        (y,) = self.session.run(["y"], {"x": np.array(rows, np.float32)})
        return {"predictions": y.tolist()}


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False, configure_logging=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[2])}, logging_config={"enable_access_log": False}
    )
    serve.run(Deployment.bind(sys.argv[1]))
    time.sleep(3600)
