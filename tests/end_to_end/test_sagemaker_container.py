"""The XOR tutorial as a container on SageMaker: train, serve and ask, with /opt/ml in a directory of its own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from served import free_ports, until_answered

PROGRAM = Path(__file__).resolve().parents[2] / "examples/xor/train.py"
ROWS = "a,b,label\n0,0,0\n0,1,1\n1,0,1\n1,1,0\n"


@pytest.fixture
def base(tmp_path):
    """What SageMaker mounts, and the program that the image brought."""
    for name, text in {
        "input/config/hyperparameters.json": json.dumps({"steps": "100", "sagemaker_program": "train.py"}),
        "input/data/training/xor.csv": ROWS,
        "code/train.py": PROGRAM.read_text(),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def command(action):
    return [sys.executable, "-m", "estimator_serving.cli", "sagemaker", action]


def environment(base, **more):
    return os.environ | {"SAGEMAKER_BASE_DIR": str(base), "PYTHONWARNINGS": "error"} | more


def run(action, base):
    return subprocess.run(
        command(action), env=environment(base), capture_output=True, text=True, timeout=120, check=False
    )


def ask(url, body, media_type):
    request = Request(f"{url}/invocations", body.encode(), {"Content-Type": media_type})
    with urlopen(request, timeout=20) as response:
        return json.load(response)["predictions"]


def test_xor_is_trained_and_served(base):
    trained = run("train", base)
    assert trained.returncode == 0, trained.stderr
    assert "accuracy: 1.0" in trained.stdout
    assert not (base / "output/failure").exists()
    (version,) = (base / "model").glob("*/model.onnx")
    assert version.parent.name.isdigit()

    (port,) = free_ports(1)
    given = environment(base, SAGEMAKER_BIND_TO_PORT=str(port), BIND_ADDRESS="127.0.0.1")
    with subprocess.Popen(command("serve"), stderr=subprocess.PIPE, env=given) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            until_answered(f"{url}/ping", process)
            by_csv = ask(url, "a,b\n0,0\n0,1\n1,0\n1,1\n", "text/csv; header=present")
            by_json = ask(url, '[{"a":0,"b":0},{"a":0,"b":1},{"a":1,"b":0},{"a":1,"b":1}]', "application/json")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, process.stderr.read().decode()
        finally:
            process.kill()
    assert by_csv == by_json
    assert [row["scores"][1] > 0.5 for row in by_csv] == [False, True, True, False]


@pytest.mark.parametrize(
    ("program", "code", "failure"),
    [
        ("raise RuntimeError('no rows')", 1, "RuntimeError: no rows\n\nTraceback"),
        ("import sys; sys.exit(3)", 3, "The program ended with exit code 3."),
        ("import sys; sys.exit('no rows')", 1, "no rows"),
        (None, 1, "ValueError: There is no program to train with at "),
    ],
)
def test_a_training_that_fails_leaves_its_reason(base, program, code, failure):
    (base / "code/train.py").unlink() if program is None else (base / "code/train.py").write_text(program)
    assert run("train", base).returncode == code
    assert (base / "output/failure").read_text().startswith(failure)


def test_hyperparameters_and_channels_reach_the_program(base):
    (base / "input/config/hyperparameters.json").write_text('{"rate": "0.1", "name": "\\"a b\\"", "on": "true"}')
    (base / "code/train.py").write_text(
        "import os, sys; print(sys.argv[1:], os.environ['SM_CHANNEL_TRAINING'], os.environ['SM_CHANNELS'])"
    )
    given = environment(base, SAGEMAKER_PROGRAM="train.py")
    done = subprocess.run(command("train"), env=given, capture_output=True, text=True, timeout=60, check=True)
    flags = ["--rate", "0.1", "--name", "a b", "--on", "true"]
    assert done.stdout == f'{flags} {base / "input/data/training"} ["training"]\n'


def test_serve_without_a_model_says_what_is_missing(base):
    (base / "model").mkdir()
    done = run("serve", base)
    assert done.returncode == 1
    assert "model holds no N/model.onnx; put the versions of one model there" in done.stderr
    for name in ("one", "two"):
        (base / "model" / name / "1").mkdir(parents=True)
        (base / "model" / name / "1" / "model.onnx").touch()
    assert "put the versions of one model there" in run("serve", base).stderr
