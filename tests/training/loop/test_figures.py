import importlib.util

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from estimator_serving import training
from estimator_serving.training import figures

LABELS = np.int64([0, 1, 1, 0, 1, 0])
FEATURES = {"x": np.float32([-1.0, 2.0, 0.5, 0.25, 1.0, -3.0])}


def evaluated(tmp_path, labels, **arguments):
    columns = [training.feature_column.numeric_column("x")]
    config = training.RunConfig(tf_random_seed=1, model_dir=str(tmp_path))
    classifier = training.LinearClassifier(columns, config=config, **arguments)
    inputs = lambda: training.Dataset.from_tensor_slices((FEATURES, labels)).batch(4)  # noqa: E731
    classifier.train(inputs, steps=2)
    with_figures = training.add_metrics(classifier, figures.classifier_figures)
    return with_figures.evaluate(inputs), list(with_figures.predict(inputs))


def images(tmp_path):
    (path,) = (tmp_path / "eval").glob("events*")
    values = [value for event in EventFileLoader(str(path)).Load() for value in event.summary.value]
    return {v.tag: v.tensor.string_val or [v.image.encoded_image_string] for v in values if "figure" in v.tag}


def test_an_evaluation_counts_and_draws(tmp_path):
    found, predictions = evaluated(tmp_path, LABELS)
    predicted = [row["class_ids"][0] for row in predictions]
    expected = np.zeros((2, 2))
    np.add.at(expected, (LABELS, predicted), 1)
    assert found["confusion_matrix"].tolist() == expected.tolist()
    assert found["roc_curve"].shape == found["precision_recall_curve"].shape == (1, 2, 200)
    x, y = found["roc_curve"][0]
    area = np.sum((x[:-1] - x[1:]) * (y[:-1] + y[1:]) / 2)
    assert area == pytest.approx(found["auc"], abs=1e-6)
    drawn = images(tmp_path)
    names = ("confusion_matrix", "roc_curve", "precision_recall_curve")
    assert set(drawn) == {f"{name}/figure/0" for name in names}
    assert all(any(part.startswith(b"\x89PNG") for part in parts) for parts in drawn.values())


def test_classes_with_names_have_a_curve_each(tmp_path):
    words = np.array(["no", "yes", "é", "no", "yes", "é"], object)
    found, _ = evaluated(tmp_path, words, n_classes=3, label_vocabulary=["no", "yes", "é"])
    assert found["confusion_matrix"].sum(axis=1).tolist() == [2, 2, 2]
    assert found["roc_curve"].shape == (3, 2, 200)


def test_what_is_drawn():
    matrix = figures.draw_confusion_matrix(np.array([[3.0, 1.0], [0.0, 2.0]]), ["no", "yes"])
    (axes,) = matrix.axes
    assert [text.get_text() for text in axes.texts] == ["3", "1", "0", "2"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["no", "yes"]
    (axes,) = figures.draw_curves(np.array([[[0.0, 1.0], [0.0, 1.0]]]), ["yes"], "PR").axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("recall", "precision")
    assert axes.lines[0].get_label() == "yes"


def test_without_matplotlib_the_first_batch_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"pip install 'estimator-serving\[figures\]'"):
        figures.confusion_matrix(torch.tensor([0]), torch.tensor([0]), ["a"])


def test_misuse_is_refused():
    with pytest.raises(ValueError, match="classifier_figures needs the prediction 'class_ids'"):
        figures.classifier_figures(None, {"predictions": torch.zeros(1)})
    with pytest.raises(ValueError, match="kind must be 'ROC' or 'PR', got 'X'"):
        figures.curve(torch.zeros(1, 1), torch.zeros(1, 1), ["a"], "X")
    predictions = training.BinaryClassHead(label_vocabulary=["a", "b"]).predictions(torch.zeros(1, 1))
    with pytest.raises(ValueError, match=r"The labels \['c'\] are none of the classes \['a', 'b'\]"):
        figures.classifier_figures(np.array(["c"], object), predictions)
