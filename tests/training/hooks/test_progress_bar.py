"""The progress bar."""

import io

import numpy as np
import pytest
import rich.console
from watched import train

from estimator_serving import training


@pytest.mark.parametrize(("total", "expected"), [(None, "5/5"), (20, "5/20")])
def test_a_progress_bar_counts_and_shows_the_loss(total, expected, tmp_path):
    text = io.StringIO()
    console = rich.console.Console(file=text, width=200)
    train(tmp_path, training.ProgressBarHook(total, console), steps=5)
    assert expected in text.getvalue()
    assert "loss 0." in text.getvalue()


def test_a_progress_bar_in_predict_has_no_loss_and_no_end(tmp_path):
    estimator = train(tmp_path)
    text = io.StringIO()
    hook = training.ProgressBarHook(console=rich.console.Console(file=text, width=200))
    rows = training.Dataset.from_tensor_slices({"x": np.arange(4.0)}).batch(2)
    assert len(list(estimator.predict(lambda: rows, hooks=[hook]))) == 4
    assert "2/?" in text.getvalue()
    assert "loss" not in text.getvalue()
