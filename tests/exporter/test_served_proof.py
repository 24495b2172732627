"""The server and the proof that an export carries: it replays it, and refuses a version that answers otherwise."""

import shutil
import time
from pathlib import Path

import lightgbm
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from served import serve
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from estimator_serving.exporter import build_parsing_serving_input_receiver_fn, export_model
from estimator_serving.serving import load
from estimator_serving.training import FixedLenFeature

X = np.random.default_rng(3).normal(size=(300, 3))
BINARY = (X[:, 0] > 0).astype(int)
EXAMPLES = build_parsing_serving_input_receiver_fn({key: FixedLenFeature([], float) for key in ("u", "v", "w")})
MODELS = {
    "pipeline": lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(X, BINARY),
    "trees": lambda: lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(X, BINARY),
}
# What a wrong version changes: the end of the name of the initializer or attribute that holds the model's numbers.
NUMBERS = {"pipeline": "coef", "trees": "nodes_values_as_tensor"}


def change_numbers(file, name):
    model = onnx.load(file)
    attributes = [(one.name, one.t) for node in model.graph.node for one in node.attribute]
    named = [*attributes, *((one.name, one) for one in model.graph.initializer)]
    (tensor,) = (one for key, one in named if key.endswith(name))
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 0.5, tensor.name))
    onnx.save(model, file)


def error_of(served, version):
    """What the server says of a version that it could not load, once it has tried."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        status, said = served.ask(f"/v1/models/m/versions/{version}")
        if status == 200 and (message := said["model_version_status"][0]["status"]["error_message"]):
            return message
        time.sleep(0.05)
    raise AssertionError(f"version {version} was not tried within 60 s")


@pytest.mark.parametrize("kind", MODELS)
def test_a_server_accepts_the_proof_and_refuses_another_model(tmp_path, kind):
    base = tmp_path / "base"
    path = Path(export_model(MODELS[kind](), base, EXAMPLES))
    wrong = base / str(int(path.name) + 1)
    shutil.copytree(path, tmp_path / "wrong")
    change_numbers(tmp_path / "wrong/model.onnx", NUMBERS[kind])
    load(tmp_path / "wrong")  # it runs: only its answers are others
    body = {"examples": [{"u": 1.0, "v": 2.0, "w": 3.0}]}
    with serve(base, file_system_poll_wait_seconds=1) as served:
        answered = served.ask("/v1/models/m:classify", body)
        assert answered[0] == 200
        (tmp_path / "wrong").rename(wrong)
        assert "does not answer as it was exported" in error_of(served, wrong.name)
        assert served.ask("/v1/models/m:classify", body) == answered
