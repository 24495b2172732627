"""`report`: the page of a model_dir, and what it says of one that lacks something."""

import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import small_estimators

from estimator_serving.cli import main
from estimator_serving.training import numpy_input_fn


def trained(kind, directory):
    inputs = numpy_input_fn(small_estimators.ROWS, small_estimators.labels_for(kind), batch_size=3, shuffle=False)
    estimator = small_estimators.train_steps(kind, directory)
    estimator.evaluate(inputs)
    return directory


def page(directory, capsys, *more):
    assert main(["report", str(directory), *more]) == 0
    return (directory / "report.html").read_text(), capsys.readouterr().out


class Elements(HTMLParser):
    """Checks that elements close in order, and collects what a page refers to."""

    VOID = ("meta", "link", "br")

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.described, self.loaded = [], set(), set(), []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids |= {given["id"]} if "id" in given else set()
        self.described |= {given[key] for key in ("aria-labelledby", "aria-describedby") if key in given}
        self.loaded += [given[key] for key in ("src", "href") if key in given]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_of_a_classifier_is_whole(tmp_path, capsys):
    text, said = page(trained("dnn every column", tmp_path), capsys)
    assert said == f"{tmp_path / 'report.html'}\n"
    elements = Elements()
    elements.feed(text)
    assert (elements.open, elements.loaded) == ([], ["data:,"])
    assert elements.described <= elements.ids
    figures = json.loads(re.search(r"const FIGURES = (.*);\n", text)[1])
    assert text.count("<figure") == text.count("The numbers as a table") == len(figures) == 4
    for title in ("Loss", "Calibration", "ROC curve", "Precision and recall"):
        assert f">{title}</h3>" in text
    for words in ("Confusion matrix: ", "hidden_units", "Not in the vocabulary of <b>port</b>: Q (1).", "Plotly.react"):
        assert words in text


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("linear multiclass", "Each class against the others"),
        ("multi_head", "<h3>Head prices</h3>.*>Residuals</h3>.*<h3>Head survived</h3>"),
    ],
)
def test_other_models(kind, words, tmp_path, capsys):
    text, _ = page(trained(kind, tmp_path), capsys)
    assert re.search(words, text, re.DOTALL)


def test_text_from_the_data_is_escaped(tmp_path, capsys):
    directory = trained("baseline", tmp_path)
    file = directory / "eval" / "last_evaluation.json"
    found = json.loads(file.read_text())
    found["targets"][0]["classes"][0] = found["targets"][0]["scores"][0]["class"] = "</script><b>"
    file.write_text(json.dumps(found))
    text, _ = page(directory, capsys)
    assert "</script><b>" not in text
    assert "&lt;/script&gt;&lt;b&gt;" in text


def test_what_is_not_there_is_said(tmp_path, capsys):
    estimator = small_estimators.make_estimator("linear binary", tmp_path)
    estimator.evaluate(numpy_input_fn(small_estimators.ROWS, np.int64([0, 1, 0, 1, 0, 1]), shuffle=False))
    (tmp_path / "eval" / "last_evaluation.json").write_text("{")
    text, said = page(tmp_path, capsys)
    for sentence in (
        "There is no training loss",
        "There is no hyperparameters.json",
        "last_evaluation.json cannot be read",
    ):
        assert sentence in text
        assert sentence in said


def test_a_note_of_an_evaluation_is_said(tmp_path, capsys):
    directory = trained("linear binary", tmp_path)
    file = directory / "eval" / "last_evaluation.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "targets": [], "note": "It has no predictions."}))
    text, said = page(directory, capsys)
    assert "<p>It has no predictions.</p>" in text
    assert said.splitlines()[1:] == ["  eval: It has no predictions."]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda _: None, "There is no directory"),
        (lambda path: path.write_text(""), "is a file. Give the model_dir"),
        (lambda path: path.mkdir(), "holds no run: no event files of a training and no evaluation"),
    ],
)
def test_a_directory_without_a_run(make, sentence, tmp_path, capsys):
    path = tmp_path / "model"
    make(path)
    assert main(["report", str(path)]) == 1
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.html"))


def test_a_place_that_cannot_be_written(tmp_path, capsys):
    directory = trained("baseline", tmp_path)
    assert main(["report", str(directory), f"--output={tmp_path / 'nowhere' / 'page.html'}"]) == 1
    assert "Give another place with --output." in capsys.readouterr().err


def test_without_plotly(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert main(["report", str(tmp_path)]) == 1
    assert "pip install 'estimator-serving[report]'" in capsys.readouterr().err
