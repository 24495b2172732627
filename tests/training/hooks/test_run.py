"""What hooks read of a run."""

import numpy as np
import pytest
from watched import train

from estimator_serving import training


@pytest.mark.parametrize("what", ["zz", np.zeros(2)])
def test_what_cannot_be_fetched(what, tmp_path):
    with pytest.raises(ValueError, match="'loss', 'global_step'"):
        train(tmp_path, training.LoggingTensorHook({"zz": what}, every_n_iter=1))


def test_a_run_answers_like_a_session(tmp_path):
    seen = []

    class Ask(training.SessionRunHook):
        def after_run(self, run_context, run_values):
            seen.append(run_context.session.run(["global_step", "loss"]))

    train(tmp_path, Ask(), steps=2)
    assert [step for step, _ in seen] == [1, 2]
    assert seen[0][1] == pytest.approx(np.log(2))
