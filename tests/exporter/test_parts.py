"""Receivers, sample Examples and the comparison: the small parts."""

from collections import defaultdict

import numpy as np
import pytest

from estimator_serving.exporter.receivers.receivers import (
    Padded,
    ServingInputReceiver,
    build_parsing_serving_input_receiver_fn,
)
from estimator_serving.exporter.receivers.samples import known_values, sample_examples
from estimator_serving.exporter.servable.verify import ExportMismatch, check_outputs
from estimator_serving.training import FixedLenFeature, VarLenFeature, feature_column
from estimator_serving.training.columns.transform import build_transform
from estimator_serving.wire.examples import decode_example

SPEC = {"age": FixedLenFeature([2], float), "class": VarLenFeature(str), "n": FixedLenFeature([], int, 3)}


def test_a_parsing_receiver():
    receiver = build_parsing_serving_input_receiver_fn(SPEC)()
    assert set(receiver.graph_inputs) == {"input_example_tensor/values", "input_example_tensor/row_splits"}
    assert receiver.takes_examples
    assert isinstance(receiver.features["class"], Padded)
    assert receiver.features["age"].unwrap_tensor().shape[1:] == (2,)
    assert receiver.receiver_tensors["examples"].info.shape == (-1,)


def test_a_default_batch_size_stands_in_the_signature():
    receiver = build_parsing_serving_input_receiver_fn(SPEC, default_batch_size=8)()
    assert receiver.receiver_tensors["examples"].info.shape == (8,)


def test_an_empty_receiver_is_refused():
    with pytest.raises(ValueError, match="nothing to parse"):
        build_parsing_serving_input_receiver_fn({})
    with pytest.raises(ValueError, match=r"features must be defined\."):
        ServingInputReceiver({}, {})
    receiver = build_parsing_serving_input_receiver_fn(SPEC)()
    with pytest.raises(ValueError, match=r"receiver_tensors must be defined\."):
        ServingInputReceiver(receiver.features, {})


def test_samples_follow_the_spec_and_know_the_words():
    definitions = {"c/ids": {"use": "ids", "column": {"key": "class", "vocabulary_list": ["1st", "2nd"]}}}
    decoded = [decode_example(one) for one in sample_examples(SPEC, definitions, 50)]
    assert all(len(one["age"]) == 2 for one in decoded)
    words = {word for one in decoded for word in one.get("class", [])}
    assert {b"1st", b"2nd"} < words
    assert {len(one.get("class", [])) for one in decoded} == {0, 1, 2, 3}
    assert any("n" not in one for one in decoded)
    assert sample_examples(SPEC, definitions, 50) == sample_examples(SPEC, definitions, 50)


AGE = feature_column.bucketized_column(feature_column.numeric_column("age", shape=2), [10])


def test_samples_have_a_weight_for_each_id_and_ids_in_range():
    columns = [
        feature_column.weighted_categorical_column(
            feature_column.categorical_column_with_identity("deck", 4), "deck_weight"
        ),
        feature_column.weighted_categorical_column(
            feature_column.crossed_column(["a", "b", AGE], 10), "cross_weight", dtype="int64"
        ),
        feature_column.weighted_categorical_column(AGE, "age_weight"),
    ]
    spec = feature_column.make_parse_example_spec(columns)
    samples = sample_examples(spec, build_transform(columns).definitions, 50)
    decoded = [defaultdict(list, decode_example(one)) for one in samples]
    assert {id_ for one in decoded for id_ in one["deck"]} == {0, 1, 2, 3}
    for one in decoded:
        assert len(one["deck_weight"]) == len(one["deck"])
        assert len(one["cross_weight"]) == len(one["a"]) * len(one["b"]) * 2
        assert len(one["age_weight"]) == 2


def test_words_are_found_however_deep():
    nested = {"x": {"column": {"categorical": {"key": "a", "vocabulary_list": ["b"]}}, "parts": [{"key": "k"}]}}
    assert known_values(nested) == {"a": ("b",)}


NAN = float("nan")


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        (np.float32([1, NAN, np.inf]), np.float32([1 + 1e-6, NAN, np.inf])),
        (np.float32([1e4]), np.float32([1e4 + 0.05])),
        (np.array(["a"], object), np.array(["a"], object)),
        (np.int64([]), np.int64([])),
    ],
)
def test_what_agrees(wanted, got):
    check_outputs({"y": wanted}, {"y": got}, "a batch")


@pytest.mark.parametrize(
    ("wanted", "got", "text"),
    [
        (np.float32([1, 2]), np.float32([1, 2.1]), r"at \[1\] np.float32\(2.0\) became np.float32\(2.1\)"),
        (np.float32([NAN]), np.float32([0]), "nan"),
        (np.float32([[1]]), np.float32([1]), r"shape \[1, 1\] became \[1\]"),
        (np.array(["a"], object), np.array(["b"], object), "'a' became 'b'"),
        (np.int64([3]), np.int64([4]), "3"),
    ],
)
def test_what_differs(wanted, got, text):
    with pytest.raises(ExportMismatch, match=f"'y'.*{text}.*Nothing was written"):
        check_outputs({"y": wanted}, {"y": got}, "a batch")
