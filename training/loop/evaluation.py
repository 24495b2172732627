"""Evaluation, and the loop over a trained model's batches that it shares with prediction.

Owns adding up metrics and losses, and where the result is written. Does not know heads or how metrics are computed.
Behaviour and error texts: TF 2.15 estimator.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
import torch

from estimator_serving.training.data.inputs import empty_batch
from estimator_serving.training.errors import CheckpointError
from estimator_serving.training.hooks.base import RunHooks, SessionRunHook
from estimator_serving.training.hooks.progress_bar import ProgressBar
from estimator_serving.training.hooks.run import Run
from estimator_serving.training.hooks.showing import has_bar
from estimator_serving.training.loop import figures
from estimator_serving.training.loop.last_evaluation import LastEvaluation
from estimator_serving.training.loop.model import Batch, InputFn, Model, batches_of, to_tensors
from estimator_serving.training.loop.trained_model import TrainedModel
from estimator_serving.training.model_fn import EstimatorSpec, ModeKeys
from estimator_serving.training.nn.metrics import Metric
from estimator_serving.training.nn.summaries import EventWriter
from estimator_serving.training.nn.variables import GLOBAL_STEP

logger = logging.getLogger("estimator_serving.training")


def evaluate(
    model: Model,
    trained: TrainedModel,
    input_fn: InputFn,
    steps: int | None,
    hooks: Sequence[SessionRunHook],
    directory: str | os.PathLike[str] | None,
) -> dict[str, Any]:
    """The metrics of `steps` batches of input_fn; they are written, with figures, into `directory` unless it is None.

    `model` says how input_fn is called and torch seeded, `trained` computes. See Estimator.evaluate for the result.
    """
    session = Run(trained.store, trained.recorder(), model.config)
    totals: dict[str, Metric] = {}
    losses: list[float] = []
    last = None if directory is None else LastEvaluation(session)
    with model.seeded(), torch.no_grad(), _said(steps, has_bar(model.config.log)) as progress:
        made = model.call_input_fn(input_fn, ModeKeys.EVAL)
        with batches_of(made, ModeKeys.EVAL, session.recorder) as batches:
            for spec in run(session, trained, itertools.islice(batches, steps), ModeKeys.EVAL, hooks):
                metrics = spec.eval_metric_ops or {}
                for reserved in ("loss", GLOBAL_STEP):
                    if reserved in metrics:
                        raise ValueError(_RESERVED_METRIC.format(reserved))
                losses.append(session.loss)
                for key, metric in metrics.items():
                    totals[key] = totals[key] + metric if key in totals else metric
                if last is not None:
                    last.add(*session.batch, spec.predictions)
                progress(session.loss)
        if not losses:
            totals = _totals_of_nothing(trained, made)
    results: dict[str, Any] = {key: totals[key].result() for key in sorted(totals)}
    results["loss"] = np.float32(np.mean(losses) if losses else 0.0)
    results[GLOBAL_STEP] = np.int64(trained.global_step)
    said = ", ".join(f"{key} = {value!s}" for key, value in sorted(results.items()) if np.ndim(value) == 0)
    step, checkpoint_path = trained.global_step, trained.checkpoint_path
    logger.info("Saving dict for global step %d: %s", step, said)
    if directory is not None:
        written = {key: value for key, value in results.items() if key != GLOBAL_STEP}
        written |= figures.pictures(totals, results)
        if checkpoint_path is not None:
            written["checkpoint_path"] = checkpoint_path
            logger.info("Saving 'checkpoint_path' summary for global step %d: %s", step, checkpoint_path)
        with closing(EventWriter(directory)) as writer:
            writer.add_metrics(written, step)
        assert last is not None
        last.write(directory, results, checkpoint_path)
    return results


@contextmanager
def _said(steps: int | None, has_bar: bool) -> Iterator[Callable[[float], None]]:
    """Say when an evaluation begins and ends, and how far it is: what is given takes the loss of each batch."""
    logger.info("Starting evaluation at %s", time.strftime("%Y-%m-%dT%H:%M:%S"))
    began_s = time.monotonic()
    bar = ProgressBar("evaluation", steps) if has_bar else None
    done = 0

    def advance(loss: float) -> None:
        nonlocal done
        done += 1
        if bar is not None:
            bar.advance(loss)
        if steps is not None and (done == steps or done % max(steps // 10, 1) == 0):
            logger.info("Evaluation [%d/%d]", done, steps)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.stop()
    logger.info("Inference Time : %.5fs", time.monotonic() - began_s)
    logger.info("Finished evaluation at %s", time.strftime("%Y-%m-%d-%H:%M:%S"))


def run(
    session: Run, trained: TrainedModel, batches: Iterator[Batch], mode: str, hooks: Sequence[SessionRunHook]
) -> Iterator[EstimatorSpec]:
    """The spec of each batch, with the hooks' life cycle around it.

    The first call makes the variables and returns the model's own hooks. If there are hooks, the first batch is run
    again after they have begun, since they may set variables.
    """
    own_hooks: Iterable[SessionRunHook] | None = None
    first = next(batches, None)
    if first is not None:
        spec = session.first_spec = trained.call(first[0], mode, first[1])
        own_hooks = spec.evaluation_hooks if mode == ModeKeys.EVAL else spec.prediction_hooks
        batches = itertools.chain([first], batches)
    every_hook = [*hooks, *(own_hooks or ())]
    ready = None if every_hook else session.first_spec
    with RunHooks(every_hook, session) as run_hooks:
        run_hooks.begin()
        while not session.stop_requested:
            run_hooks.before_run()
            batch = next(batches, None)
            if batch is None:
                break
            session.batch = batch
            spec = session.spec = ready or trained.call(batch[0], mode, batch[1])
            ready = None
            session.loss = math.nan if spec.loss is None else spec.loss.item()
            yield spec
            run_hooks.after_run()
        run_hooks.end()


def _totals_of_nothing(trained: TrainedModel, made: Any) -> dict[str, Metric]:
    """The metrics of no example, which are 0 in TF. Empty where only a batch could tell which metrics there are."""
    batch = empty_batch(made, trained.recorder())
    try:
        if batch is not None:
            features, labels = to_tensors(batch)
            spec = trained.call(features, ModeKeys.EVAL, labels)
            logger.warning("Evaluation saw no batch, so its metrics are those of no example. %s", _IS_EMPTY)
            return dict(spec.eval_metric_ops or {})
    except CheckpointError:
        raise
    except Exception as error:
        # Not every model_fn takes a batch without rows.
        logger.debug("model_fn did not take a batch without rows: %s", error)
    logger.warning("Evaluation saw no batch, so it reports no metric but a loss of 0. %s", _IS_EMPTY)
    return {}


_RESERVED_METRIC = (
    'Metric with name "{}" is not allowed, because Estimator already defines a default metric with the same name. '
    "Give it another key in eval_metric_ops."
)
_IS_EMPTY = "Perhaps input is empty or misspecified."
