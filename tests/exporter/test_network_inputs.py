"""What a network takes: transform, features and labels behind a receiver."""

import numpy as np
import pytest
import torch
from small_estimators import ROWS, make_columns

from estimator_serving.exporter import (
    SupervisedInputReceiver,
    TensorServingInputReceiver,
    build_parsing_serving_input_receiver_fn,
    build_raw_serving_input_receiver_fn,
    build_raw_supervised_input_receiver_fn,
    parse_example,
    placeholder,
)
from estimator_serving.exporter.network_inputs import build_network_inputs, label_vocabularies, sample_definitions
from estimator_serving.exporter.receivers.receiver_graph import build_receiver_graph
from estimator_serving.training import FixedLenFeature, ModeKeys, VarLenFeature, feature_column
from estimator_serving.wire.examples import encode_example, join_examples
from estimator_serving.wire.features import FixedLenSequenceFeature


def inputs_of(model, receiver, vocabularies=None):
    return build_network_inputs(model, receiver, build_receiver_graph(receiver), vocabularies or {})


def test_the_transform_sees_what_training_saw(trained):
    model = trained("dnn binary").load()
    inputs = inputs_of(model, build_raw_serving_input_receiver_fn(ROWS)())
    assert set(inputs.arguments.transformed) == set(model.transform.output_names)
    assert set(inputs.arguments.direct) == {key for key, value in ROWS.items() if value.dtype != object}
    got = inputs.run(ROWS)
    for name, wanted in model.transform(ROWS).items():
        np.testing.assert_array_equal(got[name].numpy(), wanted, err_msg=name)
    assert got["age"].dtype == torch.float32


@pytest.mark.parametrize("rows", [0, 1])
def test_the_smallest_batches(trained, rows):
    model = trained("dnn binary").load()
    spec = feature_column.make_parse_example_spec(make_columns())
    inputs = inputs_of(model, build_parsing_serving_input_receiver_fn(spec)())
    values, row_splits = join_examples([encode_example({"age": 3.0})] * rows)
    got = inputs.run({"input_example_tensor/values": values, "input_example_tensor/row_splits": row_splits})
    assert {len(one) for one in got.values()} == {rows}
    assert got["fare"].tolist() == [[7.0]] * rows


def test_a_baseline_counts_rows_where_there_is_nothing_to_read(trained):
    receiver = build_parsing_serving_input_receiver_fn({"words": VarLenFeature(str)})()
    inputs = inputs_of(trained("baseline").load(), receiver)
    assert inputs.arguments.transformed == ("rows",)


def test_features_of_any_number_of_steps_are_open(trained):
    spec = {
        "steps": FixedLenSequenceFeature([], float, allow_missing=True),
        "pair": FixedLenFeature([2], float),
        "one": FixedLenFeature([], float),
    }
    inputs = inputs_of(trained("baseline").load(), build_parsing_serving_input_receiver_fn(spec)())
    assert inputs.arguments.open_axes == {"steps": (1,)}
    assert not inputs.arguments.has_one_label


def test_a_bare_receiver_is_told(trained):
    sent = placeholder(float, [None, 2], "x")
    inputs = inputs_of(trained("baseline").load(), TensorServingInputReceiver(sent, {"x": sent}))
    assert inputs.arguments.is_bare


def supervised(labels):
    return build_raw_supervised_input_receiver_fn(ROWS, labels)()


def test_labels_stand_beside_the_features(trained):
    model = trained("dnn binary").load()
    inputs = inputs_of(model, supervised(np.zeros(6, np.int32)))
    assert (inputs.arguments.labels, inputs.arguments.has_one_label) == ({"label/label": "label"}, True)
    got = inputs.run({**ROWS, "label": np.int32([0, 1, 1, 0, 0, 1])})
    assert got["label/label"].dtype == torch.int64
    several = inputs_of(model, supervised({"a": np.zeros(6), "b": np.zeros(6)})).arguments
    assert (set(several.labels), several.has_one_label) == ({"label/a", "label/b"}, False)


def test_words_become_their_places_in_the_vocabulary(trained):
    receiver = supervised(np.array(["a"] * 6, object))
    inputs = inputs_of(trained("dnn multiclass").load(), receiver, {"label/label": ("no", "é")})
    labels = np.array(["é", "no", "?", "", "no", "é"], object)
    assert inputs.run({**ROWS, "label": labels})["label/label"].tolist() == [1, 0, -1, -1, 0, 1]
    assert inputs.arguments.words == {"label/label"}


def test_a_label_of_any_number_of_values_is_refused(trained):
    serialized = placeholder(str, [None], "input_example_tensor")
    spec = {**feature_column.make_parse_example_spec(make_columns()), "y": VarLenFeature(int)}
    features = parse_example(serialized, spec)
    receiver = SupervisedInputReceiver(features, {"y": features.pop("y")}, {"examples": serialized})
    with pytest.raises(ValueError, match="The label y has any number of values a row; declare it as a Fixed"):
        inputs_of(trained("dnn binary").load(), receiver)


def vocabularies_of(model, receiver, mode=ModeKeys.EVAL):
    return label_vocabularies(model, receiver, build_receiver_graph(receiver), mode)


def test_heads_name_their_vocabularies(trained):
    model = trained("dnn multiclass").load()
    found = vocabularies_of(model, supervised(np.array(["a"] * 6, object)))
    assert found == {"label/label": ("no", "yes", "é")}


def test_labels_that_are_numbers_have_no_vocabulary(trained):
    model = trained("dnn binary").load()
    assert vocabularies_of(model, supervised(np.zeros(6, np.int64))) == {}
    assert vocabularies_of(model, build_raw_serving_input_receiver_fn(ROWS)(), ModeKeys.PREDICT) == {}


def test_samples_hold_labels_that_heads_take(trained):
    model = trained("dnn multiclass").load()
    words = supervised(np.array(["a"] * 6, object))
    definitions = sample_definitions(model, words, {"label/label": ("no", "é")})
    assert definitions["label/label"] == {"key": "label", "vocabulary_list": ("no", "é"), "is_label": True}
    assert set(definitions) == {"label/label", *model.transform.definitions}
    numbers = sample_definitions(model, supervised(np.zeros(6, np.int64)), {})
    assert numbers["label/label"]["vocabulary_list"] == (0, 1)
