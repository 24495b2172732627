"""What a network takes and gives: names of outputs, arguments of model_fn, and the calls of it."""

import numpy as np
import pytest
import torch

from estimator_serving.exporter.network import (
    ModelFnArguments,
    ModelFnCaller,
    exports_of,
    list_outputs,
    output_tensors,
    select,
)
from estimator_serving.training.forward_features import ForwardedFeature
from estimator_serving.training.model_fn import (
    ClassificationOutput,
    ExportOutput,
    ModeKeys,
    PredictOutput,
    RegressionOutput,
    StringPrediction,
)

SCORES, VALUE, IDS = torch.zeros(2, 3), torch.zeros(2, 1), torch.zeros(2, 3, dtype=torch.int64)
WORDS = StringPrediction(IDS, ("a", "b"))


def names(exported, taken=()):
    outputs = list_outputs(exported, taken)
    return [one.name for one in outputs.distinct], outputs.aliases


def test_a_tensor_in_several_outputs_is_given_once():
    exported = {
        "serving_default": ClassificationOutput(SCORES, WORDS),
        "classification": ClassificationOutput(SCORES, WORDS),
        "predict": PredictOutput({"probabilities": SCORES, "words": WORDS}),
    }
    distinct, aliases = names(exported)
    assert distinct == ["probabilities", "words"]
    assert list(aliases) == list(exported)
    assert aliases["serving_default"] == {"classes": "words", "scores": "probabilities"}


def test_names_of_outputs_that_predict_lacks():
    exported = {"predict": PredictOutput({"p": VALUE}), "scores": ClassificationOutput(SCORES, None)}
    assert names(exported)[0] == ["p", "scores/scores"]


@pytest.mark.parametrize(
    ("taken", "name"),
    [((), "x"), (("x",), "predict/x"), (("x", "predict/x"), "predict/x/output")],
)
def test_an_output_gives_way_to_an_input_of_its_name(taken, name):
    assert names({"predict": PredictOutput({"x": VALUE})}, taken)[0] == [name]


def test_ids_as_numbers_and_as_words_are_two_outputs():
    outputs = list_outputs({"predict": PredictOutput({"ids": IDS, "words": WORDS})})
    assert [(one.name, one.vocabulary) for one in outputs.distinct] == [("ids", None), ("words", ("a", "b"))]


def test_two_predict_outputs_of_one_alias():
    exported = {"predict": PredictOutput({"p": SCORES}), "other": PredictOutput({"p": VALUE})}
    assert names(exported) == (["p", "other/p"], {"predict": {"p": "p"}, "other": {"p": "other/p"}})


def test_a_forwarded_feature_is_marked():
    feature = ForwardedFeature(IDS, (), "id")
    (output,) = list_outputs({"predict": PredictOutput({"id": feature})}).distinct
    assert output.forwarded is feature


def test_tensors_by_alias():
    assert dict(output_tensors(ClassificationOutput(SCORES, WORDS))) == {"classes": WORDS, "scores": SCORES}
    assert dict(output_tensors(ClassificationOutput(None, WORDS))) == {"classes": WORDS}
    assert dict(output_tensors(RegressionOutput(VALUE))) == {"outputs": VALUE}
    assert dict(output_tensors(PredictOutput(VALUE))) == {"output": VALUE}


def test_an_export_output_of_another_type_is_refused():
    with pytest.raises(TypeError, match="An export output of type ExportOutput came; use PredictOutput, Classificatio"):
        dict(output_tensors(ExportOutput()))


def test_values_are_selected_in_order():
    exported = {"predict": PredictOutput({"a": SCORES, "b": VALUE})}
    distinct = list_outputs(exported).distinct
    assert select(exported, distinct[::-1]) == [VALUE, SCORES]


ARGUMENTS = ModelFnArguments(("age/dense",), {"age": "age", "7": 7}, {"label/y": "y"})


@pytest.mark.parametrize(
    ("name", "read_keys", "is_read"),
    [("age/dense", (), True), ("label/y", (), True), ("age", (), False), ("age", {"age"}, True), ("7", {7}, True)],
)
def test_a_feature_that_model_fn_did_not_read_is_no_input(name, read_keys, is_read):
    assert ARGUMENTS.is_read(name, read_keys) is is_read


def test_a_bare_feature_is_always_read():
    assert ModelFnArguments((), {"x": "x"}, {}, is_bare=True).is_read("x", ())


def test_a_call_learns_what_model_fn_reads(trained):
    model = trained("custom").load()
    columns = {name: torch.from_numpy(array) for name, array in transformed(model, 4).items()}
    arguments = ModelFnArguments(tuple(columns), {"age": "age", "fare": "fare"}, {})
    caller = ModelFnCaller(model, ModeKeys.PREDICT, arguments)
    spec = caller({**columns, "age": torch.ones(4), "fare": torch.ones(4)})
    assert caller.read_keys == {"age"}
    assert set(exports_of(spec, ModeKeys.PREDICT)) == {"serving_default"}
    assert spec.predictions["probabilities"].shape == (4, 3)


def transformed(model, rows):
    from small_estimators import ROWS

    return model.transform({key: value[:rows] for key, value in ROWS.items()})


def test_labels_reach_a_head_as_ids_of_its_vocabulary(trained):
    model = trained("dnn multiclass").load()
    columns = {name: torch.from_numpy(array) for name, array in transformed(model, 3).items()}
    arguments = ModelFnArguments(tuple(columns), {}, {"label/y": "y"}, words=frozenset({"label/y"}))
    caller = ModelFnCaller(model, ModeKeys.EVAL, arguments)
    spec = caller({**columns, "label/y": torch.from_numpy(np.int64([0, 1, 2]))})
    assert caller.label_vocabularies == {"label/y": ("no", "yes", "é")}
    assert "loss" in exports_of(spec, ModeKeys.EVAL)["eval"].outputs


def test_a_training_call_gives_the_train_signature(trained):
    model = trained("dnn binary").load()
    columns = {name: torch.from_numpy(array) for name, array in transformed(model, 3).items()}
    caller = ModelFnCaller(model, ModeKeys.TRAIN, ModelFnArguments(tuple(columns), {}, {"label/y": "y"}))
    spec = caller({**columns, "label/y": torch.from_numpy(np.int64([0, 1, 1]))})
    (output,) = exports_of(spec, ModeKeys.TRAIN).values()
    assert output.outputs["loss"].shape == ()
