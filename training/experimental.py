"""tf.estimator.experimental's names."""

from estimator_serving.training.hooks.base import make_stop_at_checkpoint_step_hook
from estimator_serving.training.in_memory_evaluator_hook import InMemoryEvaluatorHook

__all__ = ["InMemoryEvaluatorHook", "make_stop_at_checkpoint_step_hook"]
