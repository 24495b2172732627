"""Sample rows follow the receiver's spec and know what the columns know."""

from collections import defaultdict
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator_serving.exporter import (
    ServingInputReceiver,
    build_parsing_serving_input_receiver_fn,
    build_raw_serving_input_receiver_fn,
    parse_example,
    placeholder,
)
from estimator_serving.exporter.receivers.samples import (
    LENGTH_MAX,
    WORDS,
    accepted_inputs,
    graph_feeds,
    known_values,
    sample_examples,
    sample_inputs,
)
from estimator_serving.training import FixedLenFeature, VarLenFeature, feature_column
from estimator_serving.training.columns.transform import build_transform
from estimator_serving.wire.examples import decode_example
from estimator_serving.wire.features import FixedLenSequenceFeature, RaggedFeature, SparseFeature

SPEC = {"age": FixedLenFeature([2], float), "class": VarLenFeature(str), "n": FixedLenFeature([], int, 3)}


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


SEQUENCES = {
    "trips/step_count": {"use": "step_count", "column": {"key": "trips", "shape": [2]}},
    "stops/step_count": {"use": "step_count", "column": {"key": "stops"}},
}


def test_sequences_of_one_row_have_one_length():
    spec = {"trips": VarLenFeature(float), "stops": VarLenFeature(str), "free": VarLenFeature(int)}
    decoded = [defaultdict(list, decode_example(one)) for one in sample_examples(spec, SEQUENCES, 40)]
    assert all(len(one["trips"]) == 2 * len(one["stops"]) for one in decoded)
    assert {len(one["stops"]) for one in decoded} == set(range(LENGTH_MAX + 1))
    assert any(len(one["free"]) != len(one["stops"]) for one in decoded)


def test_sparse_and_ragged_features_lie_under_the_keys_that_carry_them():
    spec = {"s": SparseFeature(("row", "column"), "held", float, (5, 5)), "r": RaggedFeature(int, value_key="flat")}
    decoded = [defaultdict(list, decode_example(one)) for one in sample_examples(spec, {}, 30)]
    assert {key for one in decoded for key in one} == {"row", "column", "held", "flat"}
    for one in decoded:
        places = list(range(len(one["held"])))
        assert (list(one["row"]), list(one["column"])) == (places, places)


def test_steps_of_a_shape_are_whole():
    spec = {"x": FixedLenSequenceFeature([2, 3], float, allow_missing=True)}
    lengths = {len(decode_example(one).get("x", [])) for one in sample_examples(spec, {}, 40)}
    assert lengths == {0, 6, 12, 18}


def test_words_are_found_however_deep():
    nested = {"x": {"column": {"categorical": {"key": "a", "vocabulary_list": ["b"]}}, "parts": [{"key": "k"}]}}
    assert known_values(nested) == {"a": ("b",)}


def test_ids_are_known_below_their_bound():
    assert known_values({"x": {"kind": "identity", "key": "deck", "num_buckets": 3}}) == {"deck": (0, 1, 2)}
    assert known_values({}) == {}


def test_a_label_holds_no_other_word_than_its_vocabulary():
    receiver = build_raw_serving_input_receiver_fn({"y": np.array(["a"]), "x": np.array(["a"])})()
    definitions = {
        "label/y": {"key": "y", "vocabulary_list": ("no", "yes"), "is_label": True},
        "x/ids": {"key": "x", "vocabulary_list": ("no", "yes")},
    }
    inputs = sample_inputs(receiver, definitions, 60)
    assert set(inputs["y"]) == {b"no", b"yes"}
    assert set(inputs["x"]) > {b"no", b"yes"}


@pytest.mark.parametrize("rows", [0, 1, 7])
@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (np.zeros([1], np.float32), ()),
        (np.zeros([1, 2], np.int64), (2,)),
        (np.zeros([1, 2], bool), (2,)),
        (np.array([["a"]]), (1,)),
        (placeholder("uint8", [None, None], "v"), (LENGTH_MAX,)),
        (np.zeros([1, 2, 3], np.float16), (2, 3)),
    ],
)
def test_raw_samples_have_the_tensors_dtype_and_shape(value, shape, rows):
    receiver = build_raw_serving_input_receiver_fn({"v": value})()
    array = sample_inputs(receiver, {}, rows)["v"]
    assert array.shape == (rows, *shape)
    assert array.dtype == receiver.receiver_tensors["v"].info.dtype.numpy
    assert all(isinstance(word, bytes) for word in array.ravel()) or array.dtype != object


def test_raw_samples_of_two_tensors_differ():
    receiver = build_raw_serving_input_receiver_fn({"a": np.zeros([1]), "b": np.zeros([1])})()
    inputs = sample_inputs(receiver, {}, 20)
    assert not np.array_equal(inputs["a"], inputs["b"])


def test_raw_sequences_hold_no_empty_word():
    raw = {"stops": np.array([["a", "b"]]), "other": np.array([["a", "b"]])}
    inputs = sample_inputs(build_raw_serving_input_receiver_fn(raw)(), SEQUENCES, 60)
    assert b"" not in inputs["stops"]
    assert set(inputs["other"].ravel()) == {word.encode() for word in WORDS}


def test_numbers_are_zeros_and_ones_where_a_model_refuses_others():
    raw = {"id": np.zeros([1], np.int64), "x": np.zeros([1], np.float32), "known": np.zeros([1], np.int64)}
    receiver, known = build_raw_serving_input_receiver_fn(raw)(), {"a": {"key": "known", "vocabulary_list": (5, 7)}}

    def largest(bounded, inputs):
        if any(np.abs(inputs[key]).max() > 1 for key in bounded):
            raise IndexError("out of range")
        return {key: float(np.abs(array).max()) for key, array in inputs.items()}

    for bounded in ((), ("id",), ("id", "x")):
        _, found = accepted_inputs(receiver, [known], 40, partial(largest, bounded))
        assert found["known"] == 7
        assert [key for key in ("id", "x") if found[key] <= 1] == list(bounded)
    with pytest.raises(IndexError, match="out of range"):
        accepted_inputs(receiver, [known], 40, partial(largest, ("known",)))


def test_feeds_are_the_graphs_inputs():
    e, t, x = placeholder(str, [None], "e"), placeholder(str, [None], "t"), placeholder(float, [None], "x")
    features = parse_example(e, {"age": FixedLenFeature([], float)}) | {"t": t, "x": x}
    receiver = ServingInputReceiver(features, {"examples": e, "text": t, "number": x})
    inputs = {
        "examples": np.array([b"ab", b""], object),
        "text": np.array(["é".encode(), b""], object),
        "number": np.float32([1, 2]),
    }
    feeds = graph_feeds(receiver, inputs)
    assert set(feeds) == set(receiver.graph_inputs)
    assert (feeds["e/values"].tolist(), feeds["e/row_splits"].tolist()) == ([97, 98], [0, 2, 2])
    assert feeds["t"].tolist() == ["é", ""]
    assert feeds["x"] is inputs["number"]


FEATURES = st.one_of(
    st.builds(lambda dtype: VarLenFeature(dtype), st.sampled_from([int, float, str])),
    st.builds(lambda shape: FixedLenFeature(shape, float), st.lists(st.integers(0, 3), max_size=2)),
    st.builds(lambda shape: FixedLenSequenceFeature(shape, int, True), st.lists(st.integers(1, 2), max_size=1)),
)


@settings(max_examples=25)
@given(st.dictionaries(st.text("abé/", min_size=1, max_size=3), FEATURES, min_size=1, max_size=4), st.integers(0, 5))
def test_any_spec_gives_as_many_examples_as_asked(spec, rows):
    receiver = build_parsing_serving_input_receiver_fn(spec)()
    (examples,) = sample_inputs(receiver, {}, rows).values()
    assert len(examples) == rows
    for one in examples:
        decoded = decode_example(one)
        assert set(decoded) <= set(spec)
        for key, feature in spec.items():
            if isinstance(feature, FixedLenFeature) and np.prod(feature.shape, dtype=int):
                assert len(decoded[key]) == np.prod(feature.shape, dtype=int)
