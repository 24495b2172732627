"""Exporters: what train_and_evaluate exports after an evaluation (TF 2.15).

Owns when each kind exports and how many exports stay. Does not know when evaluations happen. An exporter of your own
derives from Exporter; for example one that keeps the variables' names beside each evaluation:

    class NamesExporter(Exporter):
        name = "names"

        def export(self, estimator, export_path, checkpoint_path, eval_result, is_the_final_export):
            Path(export_path).mkdir(parents=True, exist_ok=True)
            file = Path(export_path) / "names.txt"
            file.write_text("\\n".join(estimator.get_variable_names()))
            return str(file)
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from estimator_serving.training.aside import replacing
from estimator_serving.training.estimator import Estimator
from estimator_serving.training.model_fn import argument_names
from estimator_serving.training.nn.event_files import read_scalars

logger = logging.getLogger("estimator_serving.training")

EvalResult = Mapping[str, Any]
CompareFn = Callable[..., bool]

BEST_FILE = "best_eval_result.json"
"""Beside the exports of a BestExporter: the metrics of the best one, so that a new process goes on from them."""


class Exporter(ABC):
    """Exports an estimator after an evaluation, or decides not to."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The directory of its exports: `<model_dir>/export/<name>`."""

    @abstractmethod
    def export(
        self,
        estimator: Estimator,
        export_path: str,
        checkpoint_path: str,
        eval_result: EvalResult,
        is_the_final_export: bool,
    ) -> str | None:
        """Export the checkpoint into a new directory under `export_path` and return its path; None if it does not.

        `eval_result` is what `evaluate` returned for the checkpoint. `is_the_final_export` is True for the evaluation
        at TrainSpec.max_steps, and never without max_steps.
        """


class _ServableExporter(Exporter):
    def __init__(
        self,
        name: str,
        serving_input_receiver_fn: Callable[[], Any] | None,
        assets_extra: Mapping[str, str] | None,
        exports_to_keep: int | None,
    ) -> None:
        self._name = name
        self._serving_input_receiver_fn = serving_input_receiver_fn
        self._assets_extra = assets_extra
        self._exports_to_keep = exports_to_keep

    @property
    def name(self) -> str:
        return self._name

    def _export(self, estimator: Estimator, export_path: str, checkpoint_path: str) -> str:
        """Export, then remove the oldest exports beyond `exports_to_keep`."""
        receiver_fn: Any = self._serving_input_receiver_fn  # export_saved_model refuses None with TF's text
        made = estimator.export_saved_model(
            export_path, receiver_fn, assets_extra=self._assets_extra, checkpoint_path=checkpoint_path
        )
        if self._exports_to_keep is not None:
            for old in versions(export_path)[: -self._exports_to_keep]:
                shutil.rmtree(old, ignore_errors=True)
        return made


class LatestExporter(_ServableExporter):
    """Exports after every evaluation and keeps the newest `exports_to_keep` exports; all of them with None.

    Raises ValueError for exports_to_keep below 1.
    """

    def __init__(
        self,
        name: str,
        serving_input_receiver_fn: Callable[[], Any],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        exports_to_keep: int | None = 5,
    ) -> None:
        del as_text  # only a SavedModel has a text form
        if exports_to_keep is not None and exports_to_keep <= 0:
            raise ValueError(
                f"`exports_to_keep`, if provided, must be positive number. Got {exports_to_keep}; None keeps all."
            )
        super().__init__(name, serving_input_receiver_fn, assets_extra, exports_to_keep)

    def export(
        self,
        estimator: Estimator,
        export_path: str,
        checkpoint_path: str,
        eval_result: EvalResult,
        is_the_final_export: bool,
    ) -> str | None:
        return self._export(estimator, export_path, checkpoint_path)


class FinalExporter(_ServableExporter):
    """Exports once, after the evaluation at TrainSpec.max_steps; without max_steps it never exports (as in TF)."""

    def __init__(
        self,
        name: str,
        serving_input_receiver_fn: Callable[[], Any],
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
    ) -> None:
        del as_text
        super().__init__(name, serving_input_receiver_fn, assets_extra, None)

    def export(
        self,
        estimator: Estimator,
        export_path: str,
        checkpoint_path: str,
        eval_result: EvalResult,
        is_the_final_export: bool,
    ) -> str | None:
        if not is_the_final_export:
            return None
        logger.info("Performing the final export in the end of training.")
        return self._export(estimator, export_path, checkpoint_path)


def _loss_smaller(best_eval_result: EvalResult, current_eval_result: EvalResult) -> bool:
    """Whether the current loss is the smaller one. Raises ValueError for a result without a loss."""
    for name, result in (("best_eval_result", best_eval_result), ("current_eval_result", current_eval_result)):
        if not result or "loss" not in result:
            raise ValueError(
                f"{name} cannot be empty or no loss is found in it. Give BestExporter a compare_fn that reads the "
                "metrics that there are."
            )
    return bool(best_eval_result["loss"] > current_eval_result["loss"])


class BestExporter(_ServableExporter):
    """Exports when `compare_fn(best_eval_result, current_eval_result)` is true, and the first time.

    A new process goes on from the best evaluation so far: the metrics of the best export are kept beside the exports.
    Where exports are without that file, the best result is looked up in the event files that match `event_file_pattern`
    under model_dir. With event_file_pattern=None every process starts anew. (TensorFlow exports at the first evaluation
    of every process, even if it is worse.)

    Raises ValueError for exports_to_keep below 1 and a compare_fn with other arguments.
    """

    def __init__(
        self,
        name: str = "best_exporter",
        serving_input_receiver_fn: Callable[[], Any] | None = None,
        event_file_pattern: str | None = "eval/*.tfevents.*",
        compare_fn: CompareFn = _loss_smaller,
        assets_extra: Mapping[str, str] | None = None,
        as_text: bool = False,
        exports_to_keep: int | None = 5,
    ) -> None:
        del as_text
        if compare_fn is None:
            raise ValueError("`compare_fn` must not be None.")
        arguments = {"best_eval_result", "current_eval_result"}
        taken = argument_names(compare_fn)
        for argument in sorted(arguments - taken):
            raise ValueError(f"compare_fn ({compare_fn}) must include {argument} argument.")
        if taken - arguments:
            raise ValueError(f"compare_fn ({compare_fn}) has following not expected args: {sorted(taken - arguments)}")
        if exports_to_keep is not None and exports_to_keep <= 0:
            raise ValueError(f"`exports_to_keep`, if provided, must be a positive number. Got {exports_to_keep}")
        super().__init__(name, serving_input_receiver_fn, assets_extra, exports_to_keep)
        self._compare_fn = compare_fn
        self._event_file_pattern = event_file_pattern
        self._best: EvalResult | None = None
        self._looked_in: str | None = None

    def export(
        self,
        estimator: Estimator,
        export_path: str,
        checkpoint_path: str,
        eval_result: EvalResult,
        is_the_final_export: bool,
    ) -> str | None:
        if self._event_file_pattern and self._looked_in != export_path:
            self._looked_in = export_path
            self._best = self._earlier_best(estimator.model_dir, export_path, int(eval_result["global_step"]))
        if self._best is not None and not self._compare_fn(
            best_eval_result=self._best, current_eval_result=eval_result
        ):
            return None
        logger.info("Performing best model export.")
        made = self._export(estimator, export_path, checkpoint_path)
        self._best = eval_result
        numbers = {key: float(value) for key, value in eval_result.items() if np.ndim(value) == 0}
        with replacing(Path(export_path) / BEST_FILE) as aside:
            aside.write_text(json.dumps(numbers))
        return made

    def _earlier_best(self, model_dir: str, export_path: str, current_step: int) -> EvalResult | None:
        """The best result of earlier processes; None if they have exported nothing."""
        if not versions(export_path):
            return None
        kept = Path(export_path) / BEST_FILE
        if kept.is_file():
            best: dict[str, float] = json.loads(kept.read_text())
            return best
        logger.info("Loading best metric from event files.")
        found: EvalResult | None = None
        assert self._event_file_pattern is not None
        for step, numbers in read_scalars(model_dir, self._event_file_pattern):
            # The evaluation that is to be compared has been written too.
            if step == current_step:
                continue
            if found is None or self._compare_fn(best_eval_result=found, current_eval_result=numbers):
                found = numbers
        return found


def versions(export_path: str | os.PathLike[str]) -> list[Path]:
    """The exports in a directory, oldest first: what is named by a number of ten digits (TF 2.15)."""
    base = Path(export_path)
    if not base.is_dir():
        return []
    return sorted(path for path in base.iterdir() if len(path.name) == 10 and path.name.isdigit())
