"""TensorFlow's own client packages against a model exported here: `make oracle-clients TF=path/to/python`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from served import serve

from estimator_serving.examples.titanic import train

TENSORFLOW_PYTHON = os.environ.get("TENSORFLOW_PYTHON", "")
CLIENT = Path(__file__).with_name("tensorflow_client.py")

pytestmark = pytest.mark.skipif(
    not TENSORFLOW_PYTHON, reason="TENSORFLOW_PYTHON names no Python with tensorflow-serving-api"
)


@pytest.fixture(scope="module")
def base_path(tmp_path_factory):
    classifier = train.make_classifier(tmp_path_factory.mktemp("model"))
    train.train(classifier)
    base = tmp_path_factory.mktemp("servable")
    train.export(classifier, base)
    return base


def test_every_call(base_path, fronts):
    types = fronts["types"].server
    tensors = (f"http://127.0.0.1:{types.rest_port}", f"127.0.0.1:{types.grpc_port}")
    environment = {"PATH": os.environ["PATH"], "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    with serve(base_path, name="titanic", enable_config_reload=True) as served:
        command = [TENSORFLOW_PYTHON, CLIENT, "--examples", served.rest, served.grpc, "--tensors", *tensors]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
        print(ended.stdout)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert served.stop() == 0
