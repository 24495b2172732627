"""The kserve SDK's v2 clients against a running server: `make oracle-kserve KSERVE=path/to/python`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

KSERVE_PYTHON = os.environ.get("KSERVE_PYTHON", "")
CLIENT = Path(__file__).with_name("kserve_client.py")
LINKS = Path(__file__).parents[2] / ".links"
OURS = "from estimator_serving.wire.pb import inference_pb as ours; ours.ModelInferRequest()"
THEIRS = "from kserve.protocol.grpc import grpc_predict_v2_pb2 as theirs; theirs.ModelInferRequest()"

pytestmark = pytest.mark.skipif(not KSERVE_PYTHON, reason="KSERVE_PYTHON names no Python with kserve")


def run(*arguments):
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(LINKS), "HOME": os.environ.get("HOME", "/")}
    ended = subprocess.run(
        [KSERVE_PYTHON, *arguments], capture_output=True, text=True, timeout=200, check=False, env=environment
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_call(fronts):
    server = fronts.all_models().server
    run(CLIENT, f"http://127.0.0.1:{server.rest_port}", f"127.0.0.1:{server.grpc_port}")


@pytest.mark.parametrize("lines", [(OURS, THEIRS), (THEIRS, OURS)], ids=["ours first", "theirs first"])
def test_lives_beside_kserves_messages(lines):
    run("-W", "ignore", "-c", "\n".join(lines))
