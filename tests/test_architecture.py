"""The one-way rule: green as it stands, red with a planted violation."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("wire", "ops", "training", "exporter", "serving", "cli", "examples")


def lint(tree):
    # -S: without what site-packages' .pth files add, the finder of an editable install among it, which would lead to
    # the checkout instead of the tree.
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-S", "-c", code]
    arguments = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tree), sysconfig.get_path("purelib")])}
    return subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=environment, cwd=tree, timeout=120, check=False
    )


@pytest.fixture
def tree(tmp_path):
    """The packages under their import name, `serving` and `wire` as copies that a test may spoil."""
    package = tmp_path / "estimator_serving"
    package.mkdir()
    for part in PARTS:
        if part in ("serving", "wire"):
            shutil.copytree(ROOT / part, package / part)
        else:
            (package / part).symlink_to(ROOT / part)
    return tmp_path


def test_every_contract_holds(tree):
    done = lint(tree)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("serving/predictor.py", "import torch", "Serving knows nothing of training"),
        ("serving/errors.py", "import estimator_serving.serving.models.manager", "Inside serving, top to bottom"),
        ("serving/predictor.py", "import estimator_serving.exporter", "Serving knows nothing of training"),
        ("wire/tensors.py", "import grpc", "wire holds messages, never a transport"),
        ("wire/tensors.py", "import estimator_serving.ops", "The arrow between the parts points one way"),
    ],
)
def test_a_planted_violation_fails(tree, file, line, broken):
    with open(tree / "estimator_serving" / file, "a") as source:
        source.write(f"\n{line}\n")
    done = lint(tree)
    assert done.returncode != 0
    assert f"{broken}" in done.stdout
    assert "BROKEN" in done.stdout
