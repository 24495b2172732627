"""Torch's threads sleep while they wait, unless the environment says otherwise."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("given", "policy"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_wait_as_the_environment_says(given, policy):
    """OpenMP says how it is set up when torch loads it."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", "from estimator_serving.training import openmp"],
        env={**environment, "OMP_DISPLAY_ENV": "TRUE", **given}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"OMP_WAIT_POLICY = '{policy}'" in done.stderr
