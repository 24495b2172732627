# /// script
# dependencies = [
#   "fastapi==0.165.0", "pydantic==2.14.3", "uvicorn[standard]==0.54.0", "onnxruntime==1.31.1", "numpy==2.4.6",
# ]
# [tool.field]
# title = "FastAPI {version} + pydantic"
# path = "/v1/models/m:predict"
# body = "instances"
# ///
"""A server written by hand with FastAPI and pydantic, as FastAPI's tutorial does it."""

import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

model, rest_port = sys.argv[1:3]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(model, options)
app = FastAPI()


class Instances(BaseModel):
    instances: list[list[float]]


class Predictions(BaseModel):
    predictions: list[list[float]]


@app.post("/v1/models/m:predict")
async def predict(body: Instances) -> Predictions:
    (y,) = session.run(["y"], {"x": np.array(body.instances, np.float32)})
    return Predictions(predictions=y.tolist())


uvicorn.run(app, host="127.0.0.1", port=int(rest_port), log_level="error", access_log=False)
