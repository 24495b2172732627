"""Two trainings in one model_dir, and what a killed one leaves behind."""

import signal
import subprocess
import sys
from functools import partial

import pytest
from xor import dnn, endless

from estimator_serving.training import FailedPreconditionError
from estimator_serving.training.checkpoints.lock import sole_training
from estimator_serving.training.loop import training as loop

HOLD = """
import sys, time
from estimator_serving.training.checkpoints.lock import sole_training
with sole_training(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_training_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "sole_training", partial(sole_training, wait_s=0))
    with sole_training(tmp_path), pytest.raises(FailedPreconditionError, match="Another training is writing to"):
        dnn(tmp_path).train(endless, steps=1)
    assert list(tmp_path.glob("*")) == []
    assert dnn(tmp_path).train(endless, steps=1).get_variable_value("global_step") == 1


def test_a_training_in_another_process_counts_until_it_is_killed(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(FailedPreconditionError), sole_training(tmp_path, wait_s=0):
            pass
        other.send_signal(signal.SIGKILL)
        other.wait()
    with sole_training(tmp_path):
        pass


def test_two_trainings_one_after_the_other_in_one_program(tmp_path):
    estimator = dnn(tmp_path).train(endless, steps=1).train(endless, steps=1)
    assert estimator.get_variable_value("global_step") == 2


def test_what_a_killed_training_left_is_removed(tmp_path):
    dnn(tmp_path).train(endless, steps=1)
    kept = set(tmp_path.iterdir())
    for name in (".model.ckpt-7.safetensors.4711.tmp", ".checkpoint.4711.tmp", ".notes.tmp"):
        (tmp_path / name).write_bytes(b"half")
    dnn(tmp_path).train(endless, max_steps=2)
    assert {tmp_path / ".notes.tmp", *kept} <= set(tmp_path.iterdir())
    assert not list(tmp_path.glob(".*.4711.tmp"))
