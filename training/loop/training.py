"""The training loop: one step a batch, with the hooks around it, until the input or a hook ends it.

The theory. A training has three parts. First model_fn is called once with the first batch, which makes or restores
every variable: a model that does not fit its checkpoint is refused here, before anything is written. Then model_dir is
locked against other trainings, and the hooks are put together. Then come the steps. On the way out, after an error too,
everything is closed in this order: the statistics of the training data (which writes them), the input, the hooks, the
event file.

The strategy is asked in a fixed order, which distribute/strategy.py describes. In a process that is not the chief
nothing is written into model_dir: the hooks that write are left out, and so are the statistics.

Owns the order of a training. Does not know columns, heads or file formats. Behaviour and error texts: TF 2.15
estimator.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext
from functools import partial
from typing import Any

import numpy as np

from estimator_serving.training.checkpoints.checkpoint import Checkpoints
from estimator_serving.training.checkpoints.lock import sole_training
from estimator_serving.training.data.inputs import InputContext, empty_batch
from estimator_serving.training.data.statistics import watch
from estimator_serving.training.distribute.strategy import Strategy
from estimator_serving.training.errors import CheckpointError, NanLossDuringTrainingError
from estimator_serving.training.hooks.base import RunHooks, SessionRunHook
from estimator_serving.training.hooks.logging import LoggingTensorHook, StepCounterHook
from estimator_serving.training.hooks.progress_bar import ProgressBarHook
from estimator_serving.training.hooks.run import Run
from estimator_serving.training.hooks.saving import CheckpointSaverHook, CheckpointSaverListener, SummarySaverHook
from estimator_serving.training.hooks.showing import has_bar
from estimator_serving.training.loop import hyperparameters, threads
from estimator_serving.training.loop.model import Batch, InputFn, Model, batches_of, to_tensors
from estimator_serving.training.loop.replay import may_be_replayed, replaying
from estimator_serving.training.model_fn import EstimatorSpec, ModeKeys
from estimator_serving.training.nn.summaries import EventWriter
from estimator_serving.training.nn.variables import GLOBAL_STEP
from estimator_serving.training.run_config import RunConfig

logger = logging.getLogger("estimator_serving.training")


def train(
    model: Model,
    session: Run,
    input_fn: InputFn,
    hooks: Sequence[SessionRunHook],
    listeners: Sequence[CheckpointSaverListener],
    strategy: Strategy,
) -> None:
    """Train on the batches of `input_fn`, from the variables of `session` on.

    `hooks` are the caller's and the one that stops after `steps`; the model's and the loop's own are added here.
    Raises what Estimator.train does.
    """
    config, recorder = model.config, session.recorder
    assert config.model_dir is not None
    session.on_chief = strategy.on_chief
    session.store.replicas = strategy if strategy.num_replicas > 1 else None
    input_context = InputContext(strategy.num_replicas, strategy.replica_id, strategy.num_replicas)
    skipped = session.global_step if config.resume_input else 0
    holding = sole_training(config.model_dir) if strategy.is_chief else nullcontext()
    with holding, model.seeded(), closing(EventWriter(config.model_dir)) as writer, ExitStack() as stack:
        made = model.call_input_fn(input_fn, ModeKeys.TRAIN, input_context)
        with batches_of(made, ModeKeys.TRAIN, recorder, skipped) as batches:
            first = next(batches, None)
            with threads.Flops() if may_be_replayed(model.model_fn) else nullcontext() as forward:
                built = _build(model, session, first, made)
            if forward is not None:
                session.forward_flops = threads.at_the_start(forward.total, session.forward_flops)
            if first is None:
                logger.warning(_NO_STEPS, "" if built is not None else _NOTHING_SAVED)
            if not strategy.agree(built is not None):
                return
            assert built is not None
            # The variables' shapes and the transform of the columns must be equal in all processes.
            described = {f"the variable {name}": f"{tuple(v.shape)}" for name, v in session.store.values().items()}
            digest = hashlib.sha256(session.transform_bytes or b"").hexdigest()[:12]
            strategy.check_alike({**described, "the transform of the feature columns": digest})
            every_hook = _hooks_of(config, [*hooks], built, writer, listeners, strategy)
            run_hooks = stack.enter_context(RunHooks(every_hook, session))
            batches = itertools.chain([] if first is None else [first], batches)
            is_chief = strategy.is_chief
            if is_chief and model.made_with:
                hyperparameters.write(config.model_dir, model.made_with, model.params)
            watching = closing(watch(batches, config.model_dir)) if is_chief else nullcontext(batches)
            with watching as watched, threads.enough_for(None if forward is None else session.forward_flops):
                run(model, session, watched, run_hooks, strategy)


def run(model: Model, session: Run, batches: Iterator[Batch], hooks: RunHooks, strategy: Strategy) -> None:
    """The steps. Raises NanLossDuringTrainingError before the step whose loss is NaN."""
    store = session.store
    call = replaying(model.model_fn, partial(model.call, store, mode=ModeKeys.TRAIN), store)
    hooks.begin()
    while True:
        batch = None
        if not session.stop_requested:
            hooks.before_run()
            batch = next(batches, None)
        if not strategy.agree(batch is not None):
            break
        assert batch is not None
        model.seed_step(store)
        spec = session.spec = call(*batch)
        assert spec.loss is not None
        assert spec.train_op is not None
        loss = session.loss = strategy.mean_loss(spec.loss.item())
        if loss != loss:
            logger.error("Model diverged with loss = NaN.")
            raise NanLossDuringTrainingError
        if store.summaries is not None:
            store.summaries["loss"] = loss
        spec.train_op.run(strategy)
        store.run_pending_updates()
        if strategy.num_replicas > 1 and (changed := store.changed_buffers()):
            for buffer, mean in zip(changed, strategy.reduce([each.clone() for each in changed]), strict=True):
                assert mean is not None
                buffer.copy_(mean)
        hooks.after_run()
    hooks.end()
    strategy.barrier()
    if session.spec is not None:
        logger.info("Loss for final step: %s.", np.float32(session.loss))


def _build(model: Model, session: Run, first: Batch | None, made: Any) -> EstimatorSpec | None:
    """model_fn's first spec, which makes or restores every variable; None where nothing tells what they are.

    The first step calls again: a hook may set variables between the two, and what a module counted here (nn.BatchNorm's
    averages) is taken back. Without a first batch, one without rows is worth a try: not every model_fn takes it.
    """
    batch = first or empty_batch(made, session.recorder)
    if batch is None:
        return None
    logger.info("Calling model_fn.")
    try:
        model.seed_step(session.store)
        session.first_spec = model.call(session.store, *to_tensors(batch), ModeKeys.TRAIN)
    except CheckpointError:
        raise
    except Exception:
        if first is not None:
            raise
        return None
    session.store.rewind_modules()
    logger.info("Done calling model_fn.")
    return session.first_spec


def _hooks_of(
    config: RunConfig,
    given: Sequence[SessionRunHook],
    built: EstimatorSpec,
    writer: EventWriter,
    listeners: Sequence[CheckpointSaverListener],
    strategy: Strategy,
) -> list[SessionRunHook]:
    """The caller's, the spec's and the loop's own, in TF's order; only those that write nothing if not the chief."""
    every_steps, summary_steps = config.log_step_count_steps, config.save_summary_steps
    logged = {"loss": "loss", "step": GLOBAL_STEP}
    logging_hooks = [LoggingTensorHook(logged, every_n_iter=every_steps)] if every_steps else []
    given = [*given, *logging_hooks, *(built.training_hooks or ())]
    of_chief = list(built.training_chief_hooks or ())
    # The default checkpoint hook, unless there is one already or the config wants none.
    savers: list[SessionRunHook] = []
    saver = next((hook for hook in (*given, *of_chief) if isinstance(hook, CheckpointSaverHook)), None)
    save_secs, save_steps = config.save_checkpoints_secs, config.save_checkpoints_steps
    if saver is not None:
        saver.add_listeners(listeners)
    elif save_secs or save_steps:
        assert config.model_dir is not None
        checkpoints = Checkpoints(
            config.model_dir,
            keep_max=config.keep_checkpoint_max,
            keep_every_n_hours=config.keep_checkpoint_every_n_hours,
        )
        savers.append(CheckpointSaverHook(None, save_secs, save_steps, checkpoints, listeners=listeners))
    elif listeners:
        raise ValueError(
            "There should be a CheckpointSaverHook to use saving_listeners. Please set one of the "
            "RunConfig.save_checkpoints_steps or RunConfig.save_checkpoints_secs."
        )
    counters = [StepCounterHook(every_steps, summary_writer=writer)] if every_steps else []
    summarisers = [SummarySaverHook(summary_steps, summary_writer=writer)] if summary_steps else []
    if not strategy.is_chief:
        return [hook for hook in given if not hook.is_chief_only]
    found = [*given, *savers, *of_chief, *counters, *summarisers]
    if has_bar(config.log) and not any(isinstance(hook, ProgressBarHook) for hook in found):
        found.append(ProgressBarHook())
    return found


_NO_STEPS = "Training with estimator made no steps. Perhaps input is empty or misspecified.%s"
_NOTHING_SAVED = (
    " No checkpoint was written either: only a batch tells what the model is made of. A Dataset tells without one."
)
