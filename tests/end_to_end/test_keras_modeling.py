"""The Keras tutorial of examples/: trained shortly, saved, exported, and asked over REST."""

import sys

import pytest

from estimator_serving.examples.keras_modeling import train


@pytest.mark.filterwarnings("ignore")
def test_the_keras_tutorial(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", "--directory", str(tmp_path), "--epochs", "1"])
    train.main()
    said = capsys.readouterr().out
    assert said.count("saved and loaded as .keras, .weights.h5, .h5, JSON") == 2
    assert "Hyperband found" in said
    assert [line.split(" over REST")[0] for line in said.splitlines()[-3:]] == ["diabetes", "digits", "wine"]
    for name in ("diabetes", "digits", "wine"):
        assert (tmp_path / name / "learning_curve.png").exists()
        assert (tmp_path / name / "best.weights.h5").exists()
