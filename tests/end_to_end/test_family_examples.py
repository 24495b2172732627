"""The programs of examples/, one a family."""

import importlib
import sys

import pytest


@pytest.mark.parametrize(
    ("name", "said", "least"),
    [
        ("linear", "accuracy: ", 0.75),
        ("dnn", "f(0.5, -1) = -", 0.8),
        ("combined", "accuracy: ", 0.75),
        ("baseline", "gender alone: accuracy ", 0.75),
        ("multi_head", "accuracy/survival: ", 0.75),
    ],
)
def test_a_family_is_learned(name, said, least, capsys, monkeypatch, tmp_path):
    made = iter(range(9))
    monkeypatch.setattr("tempfile.mkdtemp", lambda *_, **__: str(tmp_path / str(next(made))))
    importlib.import_module(f"estimator_serving.examples.{name}.train").main()
    assert float(capsys.readouterr().out.split(said)[1].split()[0].strip(",")) > least


def test_the_tutorials_flowers_are_told_apart(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["import_iris.py", "--base", str(tmp_path)])
    importlib.import_module("estimator_serving.examples.imported_saved_model.import_iris").main()
    said = capsys.readouterr().out
    assert [line.split()[4] for line in said.splitlines()[1:]] == ["Setosa", "Versicolor", "Virginica"]
