"""Evaluation within a training."""

import pytest
from watched import input_fn, train

from estimator_serving import training
from estimator_serving.training import feature_column as fc


def test_evaluation_within_training_sees_the_weights_as_they_are(tmp_path):
    train(tmp_path, steps=5)
    config = training.RunConfig(log_step_count_steps=None, save_summary_steps=2, save_checkpoints_steps=100)
    estimator = training.LinearClassifier([fc.numeric_column("x")], tmp_path, config=config)
    steps, losses = [], []

    class Watch(training.SessionRunHook):
        def end(self, session):
            steps.append(session.global_step)

    class Losses(training.SessionRunHook):
        def after_run(self, run_context, run_values):
            losses.append(run_context.session.loss)

    evaluator = training.experimental.InMemoryEvaluatorHook(
        estimator, input_fn, steps=2, hooks=[Watch()], name="live", every_n_iter=2
    )
    estimator.train(input_fn, steps=4, hooks=[Losses(), evaluator])
    assert steps == [5, 7, 9, 9]
    assert evaluator.last_results == estimator.evaluate(input_fn, steps=2)
    assert len(list((tmp_path / "eval_live").glob("*tfevents*"))) == 4
    # It has disturbed neither the training nor its summaries.
    train(tmp_path / "alone", steps=5)
    alone = []

    class Alone(training.SessionRunHook):
        def after_run(self, run_context, run_values):
            alone.append(run_context.session.loss)

    train(tmp_path / "alone", Alone(), steps=4)
    assert losses == alone


@pytest.mark.parametrize("every_n_iter", [None, 0, -1])
def test_an_evaluator_without_a_period(every_n_iter, tmp_path):
    estimator = training.LinearClassifier([fc.numeric_column("x")], tmp_path)
    with pytest.raises(ValueError, match=f"^invalid every_n_iter={every_n_iter}"):
        training.experimental.InMemoryEvaluatorHook(estimator, input_fn, every_n_iter=every_n_iter)
    with pytest.raises(TypeError, match="^Hooks must be a SessionRunHook, given: 3"):
        training.experimental.InMemoryEvaluatorHook(estimator, input_fn, hooks=[3])
