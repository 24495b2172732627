"""What a run shows by itself: lines on standard error, and a bar on a terminal."""

import io
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from watched import train

from estimator_serving.training.hooks import showing

SUPPORT = Path(__file__).parents[2] / "support"
LINES = (
    "Using config: {'_model_dir': '",
    "Create CheckpointSaverHook.",
    "Saving checkpoints for 0 into ",
    "loss = 0.6931472, step = 0",
    "Loss for final step: ",
)


def without_handlers(monkeypatch):
    """As in a program that has set up no logging: pytest's handlers, which it adds for each test, are away."""
    monkeypatch.setattr(logging.root, "handlers", [])


def test_a_program_without_logging_shows_what_tensorflow_says(tmp_path):
    program = f"""
import sys
sys.path.insert(0, {str(SUPPORT)!r})
import watched
from estimator_serving import cli
estimator = watched.train({str(tmp_path)!r}, steps=3, log_step_count_steps=100)
estimator.evaluate(watched.input_fn, steps=2)
assert not {{"plotly", "optuna"}} & set(sys.modules), "imported before they are needed"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    expected = [*LINES, "Starting evaluation at ", "Evaluation [1/2]", "Evaluation [2/2]", "Finished evaluation at "]
    expected += ["Saving dict for global step 3: accuracy = ", "Saving 'checkpoint_path' summary for global step 3: "]
    for line in expected:
        assert done.stderr.count(f"INFO:estimator_serving.training:{line}") == 1, line
    assert done.stdout == ""


def test_log_false_ends_it(tmp_path, capsys, monkeypatch):
    without_handlers(monkeypatch)
    train(tmp_path, steps=2, log=False)
    assert capsys.readouterr().err == ""


def test_a_programs_own_handler_is_the_only_one(tmp_path, capsys, monkeypatch):
    without_handlers(monkeypatch)
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    logging.root.addHandler(handler)
    train(tmp_path, steps=2)
    assert capsys.readouterr().err == ""
    assert text.getvalue() == ""  # the root's level is WARNING, as the program left it
    logging.root.setLevel(logging.INFO)
    try:
        train(tmp_path, steps=2)
    finally:
        logging.root.setLevel(logging.WARNING)
    assert text.getvalue().count("Loss for final step") == 1


def test_a_handler_that_comes_during_a_run_doubles_nothing(capsys, monkeypatch):
    without_handlers(monkeypatch)
    logger = logging.getLogger("estimator_serving.training")
    with showing.shown(True):
        logger.info("first")
        logging.root.addHandler(logging.StreamHandler(text := io.StringIO()))
        logger.info("second")
    assert capsys.readouterr().err == "INFO:estimator_serving.training:first\n"
    assert text.getvalue() == "second\n"


def test_a_level_that_the_program_chose_stays(capsys, monkeypatch):
    without_handlers(monkeypatch)
    ours = logging.getLogger("estimator_serving")
    ours.setLevel(logging.ERROR)
    with showing.shown(True):
        logging.getLogger("estimator_serving.training").warning("no")
    assert (ours.level, capsys.readouterr().err) == (logging.ERROR, "")
    ours.setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("environment", "is_terminal", "expected"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"TERM": "xterm", "CI": "true"}, True, False),
    ],
)
def test_where_there_is_a_bar(environment, is_terminal, expected, monkeypatch):
    without_handlers(monkeypatch)

    class Stream(io.StringIO):
        def isatty(self):
            return is_terminal

    monkeypatch.delenv("CI", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stderr", Stream())
    assert showing.has_bar(True) is expected
    assert not showing.has_bar(False)


def test_a_run_on_a_terminal_draws_one_bar(tmp_path, monkeypatch):
    without_handlers(monkeypatch)

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    train(tmp_path, steps=3)
    assert "3/3" in stream.getvalue()
    assert "Loss for final step" in stream.getvalue()
