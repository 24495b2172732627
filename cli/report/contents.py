"""What the runs in a model_dir have left: numbers by step, the last evaluations, hyperparameters.

Owns finding and reading the files, and the sentences about those that are not there. Does not know how they are shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from estimator_serving.training.data.statistics import FILE as TRAINING_DATA_FILE
from estimator_serving.training.loop.hyperparameters import FILE as HYPERPARAMETERS_FILE
from estimator_serving.training.loop.last_evaluation import FILE as EVALUATION_FILE
from estimator_serving.training.loop.last_evaluation import FORMAT
from estimator_serving.training.nn.event_files import read_evaluations

BySteps = Mapping[int, Mapping[str, float]]


@dataclass
class Contents:
    """What there is in a model_dir.

    Attributes:
        directory: the model_dir.
        training: the numbers of the training by step.
        evaluations: the metrics by step of each evaluation directory, by its name.
        last: what the last evaluation of each of these directories counted.
        hyperparameters: the estimator and what it was made with.
        training_data: the statistics of the training data's features.
        lacking: a sentence for everything that is not there, with what to do.
    """

    directory: Path
    training: BySteps = field(default_factory=dict)
    evaluations: dict[str, BySteps] = field(default_factory=dict)
    last: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    training_data: Mapping[str, Any] = field(default_factory=dict)
    lacking: list[str] = field(default_factory=list)


def read_contents(directory: Path) -> Contents:
    """Raises FileNotFoundError or NotADirectoryError for a directory that is not there, ValueError for one without a
    run."""
    if not directory.exists():
        raise FileNotFoundError(
            f"There is no directory {directory}. Give the model_dir of an estimator that has been trained."
        )
    if not directory.is_dir():
        raise NotADirectoryError(f"{directory} is a file. Give the model_dir of an estimator, which is a directory.")
    found = Contents(directory)
    found.training = read_evaluations(directory)
    for folder in sorted(directory.glob("eval*")):
        if not folder.is_dir():
            continue
        if metrics := read_evaluations(folder):
            found.evaluations[folder.name] = metrics
        counted, problem = _read(folder / EVALUATION_FILE)
        if counted.get("format", FORMAT) != FORMAT:
            counted, problem = {}, f"{folder / EVALUATION_FILE} has another format than this version reads"
        if counted:
            found.last[folder.name] = counted
        elif problem:
            found.lacking.append(f"{problem}. Call evaluate again with this version, which writes it anew.")
    found.hyperparameters, problem = _read(directory / HYPERPARAMETERS_FILE)
    if not (found.training or found.evaluations or found.last or found.hyperparameters):
        raise ValueError(
            f"{directory} holds no run: no event files of a training and no evaluation. Give the model_dir that the "
            "estimator was made with, after train, evaluate or train_and_evaluate."
        )
    found.training_data = _read(directory / TRAINING_DATA_FILE)[0]
    found.lacking += what_is_lacking(found)
    return found


def what_is_lacking(found: Contents) -> list[str]:
    lacking = []
    if not any("loss" in numbers for numbers in found.training.values()):
        lacking.append(
            "There is no training loss, because no training wrote summaries here. Train in this model_dir with "
            "RunConfig(save_summary_steps=…) to have the learning curve."
        )
    if not found.evaluations:
        lacking.append("There is no evaluation. Call evaluate or train_and_evaluate to have metrics by step.")
    if not found.last:
        lacking.append(
            f"No evaluation left {EVALUATION_FILE}, from which calibration, curves, the confusion matrix or residuals, "
            "and the coverage of columns are made. Earlier versions did not write it: call evaluate once more. If the "
            "file is not there then, evaluate has logged why."
        )
    if not found.hyperparameters:
        lacking.append(f"There is no {HYPERPARAMETERS_FILE}. The next training in this model_dir writes it.")
    return lacking


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """The object in a JSON file, {} if there is none; and what is wrong with a file that is there."""
    if not path.exists():
        return {}, ""
    try:
        read = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        return {}, f"{path} cannot be read ({error})"
    return (read, "") if isinstance(read, dict) else ({}, f"{path} holds no JSON object")
