"""What classify, regress and predict give for models without a head."""

import numpy as np
import pytest
import spox.opset.ai.onnx.v21 as op
from graphs import compute
from spox import Tensor, argument

from estimator_serving.exporter.model_outputs import classify_outputs, predict_outputs, regress_outputs

THREE = np.float32([[0.2, 0.5, 0.3], [0.9, 0.1, 0.0]])


def classified(answered, labels=None, rows=None):
    """The outputs' values for a model that gives the first rows of these arrays, and the outputs themselves."""
    made = {}

    def build(*values):
        made["outputs"] = classify_outputs(dict(zip(answered, values, strict=True)), answered, labels)
        return {name: op.identity(var) for name, var in made["outputs"].values.items()}

    return compute(build, *(array[:rows] for array in answered.values())), made["outputs"]


def aliases(outputs):
    """Method and output aliases by key."""
    return {
        key: (kind.method_name.rpartition("/")[2], dict(names) if kind.aliases else set(names))
        for key, (kind, names) in outputs.signatures.items()
    }


def test_three_classes():
    got, outputs = classified({"probabilities": THREE}, ["a", "b", "é"])
    assert got["class_ids"].tolist() == [[1], [0]]
    assert got["classes"].tolist() == [["b"], ["a"]]
    assert got["all_class_ids"].tolist() == [[0, 1, 2]] * 2
    assert got["all_classes"].tolist() == [["a", "b", "é"]] * 2
    np.testing.assert_array_equal(got["probabilities"], THREE)
    classification = ("classify", {"classes": "all_classes", "scores": "probabilities"})
    assert aliases(outputs) == {
        "serving_default": classification,
        "classification": classification,
        "predict": ("predict", set(got)),
    }
    assert set(outputs.expected) == {"probabilities"}


@pytest.mark.parametrize(
    "answer", [np.float32([[0.25], [1.0]]), np.float32([0.25, 1.0]), np.float32([[0.75, 0.25], [0.0, 1.0]])]
)
def test_two_classes_are_a_regression_too(answer):
    got, outputs = classified({"output": answer})
    np.testing.assert_array_equal(got["probabilities"], [[0.75, 0.25], [0.0, 1.0]])
    np.testing.assert_array_equal(got["logistic"], [[0.25], [1.0]])
    np.testing.assert_array_equal(outputs.expected["probabilities"], got["probabilities"])
    assert aliases(outputs)["regression"] == ("regress", {"outputs": "logistic"})
    assert got["classes"].tolist() == [["0"], ["1"]]
    assert "output" not in got


def test_the_models_own_classes_win():
    answered = {"probabilities": THREE, "class_ids": np.int64([[2], [2]]), "label": np.array(["x", "y"], object)}
    got, outputs = classified(answered)
    assert got["classes"].tolist() == [["2"], ["2"]]
    assert outputs.expected["class_ids"].tolist() == [[2], [2]]
    assert "label" not in got


def test_other_outputs_stay():
    got, _ = classified({"probabilities": THREE, "embedding": np.float64([[1.5], [2.5]])})
    assert got["embedding"].tolist() == [[1.5], [2.5]]
    assert got["embedding"].dtype == np.float64


@pytest.mark.parametrize("rows", [0, 1])
def test_the_smallest_batches(rows):
    got, _ = classified({"probabilities": THREE}, ["a", "b", "c"], rows)
    assert {name: one.shape for name, one in got.items()} == {
        "probabilities": (rows, 3),
        "class_ids": (rows, 1),
        "classes": (rows, 1),
        "all_class_ids": (rows, 3),
        "all_classes": (rows, 3),
    }


@pytest.mark.parametrize("labels", [[], ["a"], ["a", "b", "c", "d"]])
def test_labels_of_another_number_are_refused(labels):
    text = f"label_vocabulary names {len(labels)} classes, and the model gives 3 scores a row; name each class."
    with pytest.raises(ValueError, match=text):
        classified({"probabilities": THREE}, labels)


def some(*names):
    return {name: argument(Tensor(np.float32, (None, 1))) for name in names}


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda got: classify_outputs(got, {}, None),
            "The model gives a, b, and classify is about one of them; call it 'probabilities', or give the model one "
            "output.",
        ),
        (
            lambda got: regress_outputs(got, {}),
            "The model gives a, b, and regress is about one of them; call it 'predictions', or give the model one "
            "output.",
        ),
    ],
)
def test_several_outputs_need_a_name(make, text):
    with pytest.raises(ValueError, match="The model gives") as raised:
        make(some("a", "b"))
    assert str(raised.value) == text


@pytest.mark.parametrize("answer", [np.float64([1.5, 2.5]), np.float32([[1.5], [2.5]]), np.int64([[1], [2]])])
def test_a_regression_is_a_column_of_float32(answer):
    outputs = {}

    def build(value):
        outputs["made"] = regress_outputs({"output": value}, {"output": answer})
        return dict(outputs["made"].values)

    got = compute(build, answer)
    assert (list(got), got["predictions"].dtype) == (["predictions"], np.float32)
    np.testing.assert_array_equal(got["predictions"], answer.reshape(2, 1).astype(np.float32))
    np.testing.assert_array_equal(outputs["made"].expected["predictions"], got["predictions"])
    assert aliases(outputs["made"]) == {
        "serving_default": ("regress", {"outputs": "predictions"}),
        "regression": ("regress", {"outputs": "predictions"}),
        "predict": ("predict", {"predictions"}),
    }


def test_a_regression_hands_other_outputs_on():
    got = some("predictions", "deviation")
    answered = {name: np.zeros((2, 1), np.float32) for name in got}
    outputs = regress_outputs(got, answered)
    assert aliases(outputs)["predict"] == ("predict", {"predictions", "deviation"})
    assert outputs.values["deviation"] is got["deviation"]


def test_predict_gives_what_the_model_gives():
    got, answered = some("a", "b"), {"a": THREE, "b": THREE}
    outputs = predict_outputs(got, answered)
    assert aliases(outputs) == {"serving_default": ("predict", {"a", "b"}), "predict": ("predict", {"a", "b"})}
    assert (outputs.values, outputs.expected) == (got, answered)
