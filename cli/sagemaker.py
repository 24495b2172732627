"""`estimator-serving sagemaker serve|train`: the entry points of an image that SageMaker runs, and its /opt/ml layout.

Owns that layout: where SageMaker puts hyperparameters and data, and where it takes models and reasons of failure from.
The server is `serve`'s; the program that trains is the user's, and runs in this process, so that it gets the signals.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import runpy
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

BASE_VARIABLE = "SAGEMAKER_BASE_DIR"
PROGRAM_VARIABLE = "SAGEMAKER_PROGRAM"
# SageMaker shows so much of a reason of failure.
FAILURE_CHARACTERS_MAX = 1024
_MODEL_FILE = "model.onnx"


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `sagemaker`."""
    parser.add_argument(
        "action",
        choices=["serve", "train"],
        help="serve: answer /invocations and /ping with the model below model/; train: run the program below code/",
    )
    parser.add_argument(
        "--base",
        default=os.environ.get(BASE_VARIABLE, "/opt/ml"),
        metavar="DIR",
        help=f"the directory that SageMaker mounts (default: {BASE_VARIABLE}, or /opt/ml)",
    )
    parser.add_argument(
        "--program",
        default=os.environ.get(PROGRAM_VARIABLE, ""),
        metavar="FILE",
        help=f"the Python program that trains, below code/ (default: {PROGRAM_VARIABLE}, or the hyperparameter "
        "sagemaker_program)",
    )


def main(chosen: argparse.Namespace) -> int:
    """Serves until a signal, or trains once; returns the exit code."""
    base = Path(chosen.base).absolute()
    return serve(base) if chosen.action == "serve" else train(base, chosen.program)


def serve(base: Path) -> int:
    """Settings beside the model come from the environment, as for `serve`; there is no gRPC behind SageMaker's port."""
    path = find_base_path(base / "model")
    name = "model" if path == base / "model" else path.name

    # Imported here because a training needs no server, and the program brings what it needs.
    from estimator_serving.serving.config import from_settings
    from estimator_serving.serving.process import main as process

    flags = {"enable_sagemaker": True, "model_name": name, "model_base_path": str(path), "port": 0}
    return process.main(from_settings(flags, os.environ))


def find_base_path(directory: Path) -> Path:
    """The base path at or below a directory: the one whose numbered children hold a model.

    Raises ValueError if there is none, or more than one.
    """
    models = [path.parent for path in directory.rglob(_MODEL_FILE) if re.fullmatch("[0-9]+", path.parent.name)]
    found = sorted({path.parent for path in models})
    if len(found) != 1:
        came = ", ".join(str(path) for path in found) if found else f"no N/{_MODEL_FILE}"
        raise ValueError(
            f"{directory} holds {came}; put the versions of one model there, as export_saved_model writes them."
        )
    return found[0]


def train(base: Path, program: str) -> int:
    """Run the program as a script, with hyperparameters as its flags and SageMaker's SM_ variables.

    What ends it is written to output/failure, for SageMaker to show.
    """
    failure = base / "output" / "failure"
    # The first process of a container is not ended by a signal that it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        hyperparameters = read_hyperparameters(base)
        path = base / "code" / (program or str(hyperparameters.get("sagemaker_program", "")))
        if not path.is_file():
            raise ValueError(
                f"There is no program to train with at {path}; copy it there when the image is built, and name it in "
                f"{PROGRAM_VARIABLE} or in the hyperparameter sagemaker_program."
            )
        own = {key: value for key, value in hyperparameters.items() if not key.startswith("sagemaker_")}
        os.environ.update(variables(base, own))
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in own.items()}
        sys.argv = [str(path), *(word for key, text in texts.items() for word in (f"--{key}", text))]
        sys.path.insert(0, str(path.parent))
        (base / "model").mkdir(parents=True, exist_ok=True)
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as ended:
        if ended.code in (None, 0):
            return 0
        code = ended.code if isinstance(ended.code, int) else 1
        reason = f"The program ended with exit code {code}." if isinstance(ended.code, int) else str(ended.code)
        _write_failure(failure, reason)
        return code
    except Exception as error:
        # The sentence first: of a long text, SageMaker shows the beginning.
        _write_failure(failure, f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}")
        return 1
    return 0


def read_hyperparameters(base: Path) -> dict[str, Any]:
    """The hyperparameters of a training job. SageMaker has only text; a text that is JSON is read as such.

    Raises ValueError for a file that is no JSON object.
    """
    path = base / "input" / "config" / "hyperparameters.json"
    if not path.is_file():
        return {}
    try:
        texts = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); write an object of hyperparameters.") from None
    if not isinstance(texts, dict):
        raise ValueError(f"{path} holds no JSON object; write one of hyperparameters.")
    read: dict[str, Any] = {}
    for key, value in texts.items():
        try:
            read[key] = json.loads(value) if isinstance(value, str) else value
        except ValueError:
            read[key] = value
    return read


def variables(base: Path, hyperparameters: dict[str, Any]) -> dict[str, str]:
    """What programs written for SageMaker read from the environment: SM_MODEL_DIR, SM_CHANNEL_TRAINING and others."""
    data = base / "input" / "data"
    channels = sorted(path.name for path in data.iterdir() if path.is_dir()) if data.is_dir() else []
    return {
        "SM_MODEL_DIR": str(base / "model"),
        "SM_OUTPUT_DATA_DIR": str(base / "output" / "data"),
        "SM_INPUT_DIR": str(base / "input"),
        "SM_INPUT_CONFIG_DIR": str(base / "input" / "config"),
        "SM_HPS": json.dumps(hyperparameters),
        "SM_CHANNELS": json.dumps(channels),
        **{f"SM_CHANNEL_{name.upper()}": str(data / name) for name in channels},
    }


def _write_failure(path: Path, reason: str) -> None:
    print(reason, file=sys.stderr)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(reason[:FAILURE_CHARACTERS_MAX])
