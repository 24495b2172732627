"""Loads one version: looks at its files, opens it, warms it up, and sees that it answers as it was exported.

Owns the order of these steps, and which of their errors may pass by themselves.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from estimator_serving.serving.errors import Code, ResourceExhaustedError, ServingError, UnavailableError
from estimator_serving.serving.metrics import LoadMetrics
from estimator_serving.serving.models import memory, model_files, warmup
from estimator_serving.serving.models.warmup import Answer
from estimator_serving.serving.running.servable import MODEL_FILE, Servable
from estimator_serving.wire.onnx_model import OnnxModel

_log = logging.getLogger(__name__)

# Name, version and directory -> an open version.
Open = Callable[[str, int, Path], Servable]


@dataclass(frozen=True)
class Loader:
    """Callable as the manager's `load`.

    Attributes:
        open: opens the files as a Servable.
        answer: answers a replayed request.
        provider: the execution provider the version runs on.
        warmup_iterations: how often each warmup request is replayed; 0 leaves warmup out.
        drops_cache: whether the files leave the page cache once they are read.
        metrics: who takes note of warmups.
    """

    open: Open
    answer: Answer
    provider: str
    warmup_iterations: int = 1
    drops_cache: bool = False
    metrics: LoadMetrics | None = None

    def __call__(self, name: str, version: int, directory: Path) -> Servable:
        """The version, ready for traffic.

        Raises:
            UnavailableError: the disk failed; ResourceExhaustedError: no memory. Both may pass.
            ServingError: what is wrong with the files, or with a replayed request.
        """
        try:
            return self._load(name, version, directory)
        except OSError as error:
            raise UnavailableError(
                f"A file of {directory} cannot be read ({error.strerror}); check the disk and the permissions."
            ) from error
        except MemoryError as error:
            raise ResourceExhaustedError(
                f"Insufficient resources to load servable {name} version {version}: no memory is left."
            ) from error

    def _load(self, name: str, version: int, directory: Path) -> Servable:
        path = directory / MODEL_FILE
        model = model_files.check_files(path) if path.is_file() else OnnxModel()
        servable = self.open(name, version, directory)
        if self.warmup_iterations:
            self._warm_up(directory, servable)
        compared = warmup.compare(directory, servable, self.answer, self.provider, model.metadata)
        if compared:
            _log.info("Model %s version %d answers %d requests as it was exported.", name, version, compared)
        if self.drops_cache:
            model_files.drop_from_cache(directory)
        # To open a file takes as much memory again as the model keeps.
        memory.give_back()
        return servable

    def _warm_up(self, directory: Path, servable: Servable) -> None:
        started_s, code, count = time.perf_counter(), Code.OK, 0
        try:
            count = warmup.warm_up(directory, servable, self.answer, self.warmup_iterations)
        except ServingError as error:
            code = error.code
            raise
        finally:
            if self.metrics and (count or code):
                self.metrics.warmed_up(str(directory), time.perf_counter() - started_s, code, count)
        if count:
            _log.info("Model %s version %d was warmed up with %d requests.", servable.name, servable.version, count)
