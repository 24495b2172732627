"""Input functions: TF 2.15's rules and texts, and the transform run ahead."""

import functools
import itertools
import logging

import numpy as np
import pandas as pd
import pytest
import torch

from estimator_serving.training import feature_column as fc
from estimator_serving.training.columns.features import TransformRecorder
from estimator_serving.training.columns.transform import Transform, build_transform
from estimator_serving.training.data.dataset import Dataset
from estimator_serving.training.data.inputs import (
    InputContext,
    call_input_fn,
    iterate_batches,
    numpy_input_fn,
    pandas_input_fn,
    prepared_batches,
)

FIVE = np.arange(5)


def test_batches_cross_epochs():
    batches = numpy_input_fn({"x": FIVE}, FIVE * 10, batch_size=3, num_epochs=2, shuffle=False)()
    assert [(features["x"].tolist(), labels.tolist()) for features, labels in batches] == [
        ([0, 1, 2], [0, 10, 20]),
        ([3, 4, 0], [30, 40, 0]),
        ([1, 2, 3], [10, 20, 30]),
        ([4], [40]),
    ]


def test_shapes_of_x_and_y():
    assert [batch.tolist() for batch in numpy_input_fn(FIVE, shuffle=False)()] == [[0, 1, 2, 3, 4]]
    ((features, labels),) = numpy_input_fn({"x": FIVE}, {"y": FIVE}, shuffle=True)()
    assert features["x"].tolist() == labels["y"].tolist() != []
    assert (
        next(itertools.islice(numpy_input_fn(FIVE, batch_size=2, num_epochs=None, shuffle=False)(), 99, None)).size == 2
    )


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"x": FIVE}, ValueError, "shuffle must be provided and explicitly set as boolean .*; got None"),
        ({"x": FIVE, "shuffle": 1}, ValueError, "shuffle must be provided .*; got 1"),
        ({"x": [1], "shuffle": True}, TypeError, "x must be a dict or array; got list"),
        ({"x": {}, "shuffle": True}, ValueError, "x cannot be an empty dict"),
        ({"x": np.array([]), "shuffle": True}, ValueError, "x cannot be an empty array"),
        ({"x": {"a": FIVE}, "y": {}, "shuffle": True}, ValueError, "y cannot be empty dict, use None instead."),
        ({"x": {"a": FIVE}, "y": {"a": FIVE}, "shuffle": True}, ValueError,
         "1 duplicate keys are found in both x and y: {'a'}"),
        ({"x": {"a": FIVE}, "y": FIVE[:2], "shuffle": True}, ValueError,
         r"Length of tensors in x and y is mismatched. All elements in x and y must have the same length.\n"
         r"Shapes in x: {'a': \(5,\)}\nShapes in y: \(2,\)\n"),
        ({"x": {"a": FIVE, "b": FIVE[:2]}, "shuffle": True}, ValueError, "Length of tensors in x and y is mismatched"),
    ],
)  # fmt: skip
def test_numpy_input_fn_refusals(arguments, error, text):
    with pytest.raises(error, match=text):
        numpy_input_fn(**arguments)()


class Source:
    def read(self, mode, config):
        return mode, None, config


@pytest.mark.parametrize(
    ("input_fn", "got"),
    [
        (lambda: "nothing", "nothing"),
        (lambda params: params, {"a": 1}),
        (lambda mode, params, config: (mode, params, config), ("train", {"a": 1}, "config")),
        (Source().read, ("train", None, "config")),
        (functools.partial(lambda mode, params: (mode, params), mode="eval"), ("eval", {"a": 1})),
        (functools.partial(lambda path, mode: (path, mode), "a.csv"), ("a.csv", "train")),
        (lambda batch=3, **rest: (batch, rest), (3, {})),
    ],
)
def test_input_fn_gets_what_it_declares(input_fn, got):
    assert call_input_fn(input_fn, mode="train", params={"a": 1}, config="config") == got


def test_input_fn_must_be_a_function():
    with pytest.raises(ValueError, match="input_fn must be a function that returns the data; got Dataset"):
        call_input_fn(Dataset.from_tensor_slices(FIVE), mode="train", params={}, config=None)


X = {"x": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("result", "mode", "features", "labels"),
    [
        ((X, [1, 2]), "train", {"x": [1, 2]}, [1, 2]),
        ([X, torch.tensor([1, 2])], "eval", {"x": [1, 2]}, [1, 2]),
        (X, "infer", {"x": [1, 2]}, None),
        ((X, [1, 2]), "infer", {"x": [1, 2]}, None),
        (np.array([1, 2]), "train", [1, 2], None),
        (torch.tensor([1, 2]), "train", [1, 2], None),
        (iter([(X, {"a": [1, 2]})]), "train", {"x": [1, 2]}, {"a": [1, 2]}),
        (iter([X]), "train", {"x": [1, 2]}, None),
        ((each for each in [[{"x": [b"a"]}, None]]), "train", {"x": ["a"]}, None),
        (Dataset.from_tensor_slices((X, [1, 2])).batch(2), "train", {"x": [1, 2]}, [1, 2]),
        (Dataset.from_tensor_slices((X, [1, 2])).batch(2), "infer", {"x": [1, 2]}, None),
        (Dataset.from_tensor_slices(X).batch(2), "eval", {"x": [1, 2]}, None),
    ],
)
def test_batches_of_any_result(result, mode, features, labels):
    found = next(iterate_batches(result, mode))
    assert (plain(found[0]), plain(found[1])) == (features, labels)


def plain(value):
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return None if value is None else value.tolist()


def test_one_batch_comes_for_ever(caplog):
    with caplog.at_level(logging.WARNING):
        assert len(list(itertools.islice(iterate_batches(X, "infer"), 5))) == 5
    assert "That means predict yields forever" in caplog.text


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ((X,), r"input_fn should return \(features, labels\) as a len 2 tuple. It returned 1 values"),
        (iter([(X, [1], [2])]), r"input_fn should return \(features, labels\) as a len 2 tuple. It returned 3 values"),
        (Dataset.from_tensor_slices(([1], [1], [1])).batch(1), "as a len 2 tuple"),
        (None, "input_fn returned None; it should return a Dataset"),
    ],
)
def test_results_that_do_not_fit(result, text):
    with pytest.raises(ValueError, match=text):
        next(iterate_batches(result, "train"))


age = fc.numeric_column("age")
words = fc.categorical_column_with_vocabulary_list("word", ["a", "b"])


def passengers(rows):
    words = np.array(list("abx") * rows, dtype=object)[:rows]
    return Dataset.from_tensor_slices(
        ({"age": np.arange(rows), "word": words, "more": np.ones((rows, 2))}, np.arange(rows))
    )


@pytest.mark.parametrize("size", [1, 7, 32, 2000])
def test_running_ahead_changes_no_number(size):
    recorder, transform, seen = TransformRecorder(), build_transform([age, words]), 0
    for features, labels in prepared_batches(passengers(500).repeat(3).batch(size), "train", recorder):
        found = features.transformed([age, words])
        alone = transform({"age": labels, "word": features["word"]})
        assert {name: tensor.tolist() for name, tensor in found.items()} == {
            name: a.tolist() for name, a in alone.items()
        }
        assert features["age"].tolist() == labels.tolist()
        seen += len(labels)
    assert seen == 1500


class CountingTransform(Transform):
    def __init__(self, transform, rows):
        super().__init__(transform.model_bytes, transform.definitions)
        self.rows = rows

    def __call__(self, raw):
        self.rows.append(len(raw["age"]))
        return super().__call__(raw)


def test_the_transform_runs_once_for_many_batches():
    recorder, rows = TransformRecorder(), []
    recorder.transform = CountingTransform(recorder.require([age]), rows)
    for features, _ in prepared_batches(passengers(3200).batch(32), "train", recorder):
        features.transformed([age])
    assert rows == [32, 64, 128, 256, 512, 1024, 1024, 160]


def test_lists_that_a_cross_alone_reads_are_transformed_ahead():
    def one(letters):
        return {
            "values": np.array([[letter] for letter in letters], object),
            "lengths": np.ones(len(letters), np.int64),
        }

    columns = {f"{key}/{part}": array for key in "ab" for part, array in one("xyxyxy").items()}
    cross = fc.crossed_column(["a", "b"], 1000)
    batches = prepared_batches(Dataset.from_tensor_slices(columns).batch(2), "train", TransformRecorder())
    assert len({str(features.transformed([cross])["a_X_b/ids"].tolist()) for features, _ in batches}) == 1


def test_batches_of_other_widths_run_alone():
    def pad(features):
        rows = len(features["word"])
        return {"word": np.repeat(features["word"][:, None], rows, axis=1)}

    data = Dataset.from_tensor_slices({"word": np.array(list("abxab"), dtype=object)}).batch(2).map(pad)
    recorder = TransformRecorder()
    recorder.require([words])
    shapes = [f.transformed([words])["word/ids"].shape for f, _ in prepared_batches(data, "infer", recorder)]
    assert shapes == [(2, 2), (2, 2), (1, 1)]


def test_nothing_is_taken_from_an_iterator_before_it_is_needed():
    taken = []

    def batches():
        for number in range(5):
            taken.append(number)
            yield {"age": np.ones(1)}, None

    recorder = TransformRecorder()
    found = prepared_batches(batches(), "train", recorder)
    for count in range(1, 4):
        next(found)[0].transformed([age])
        assert len(taken) == count


def test_features_that_are_no_mapping_pass():
    ((features, labels),) = prepared_batches(
        Dataset.from_tensor_slices((FIVE, FIVE)).batch(5), "train", TransformRecorder()
    )
    assert features.tolist() == labels.tolist() == FIVE.tolist()


def frame():
    return pd.DataFrame({"x": [1.0, 2.0, 3.0], "w": ["a", "b", "c"]}, index=[7, 8, 9])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (None, None),
        (pd.Series([1, 2, 3], index=[7, 8, 9]), [1, 2, 3]),
        (pd.DataFrame({"y": [1, 2, 3]}, index=[7, 8, 9]), {"y": [1, 2, 3]}),
    ],
)
def test_pandas_input_fn(labels, expected):
    batches = list(pandas_input_fn(frame(), labels, batch_size=2, num_epochs=2, shuffle=False)())
    first = batches[0]
    features, given = first if labels is not None else (first, None)
    assert (features["x"].tolist(), features["w"].tolist(), len(batches)) == ([1, 2], ["a", "b"], 3)
    assert features["x"].dtype == np.float64
    if isinstance(expected, dict):
        assert given["y"].tolist() == expected["y"][:2]
    elif expected is not None:
        assert given.tolist() == expected[:2]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({}, ValueError, "shuffle must be provided and explicitly set as boolean"),
        ({"target_column": 3, "shuffle": True}, TypeError, "target_column must be a string type"),
        ({"y": pd.Series([1, 2, 3]), "shuffle": True}, ValueError, "Index for x and y are mismatched."),
        ({"y": pd.Series([1, 2, 3], index=[7, 8, 9]), "target_column": "x", "shuffle": True}, ValueError,
         "Cannot use name x for target column: DataFrame already has a column with that name"),
    ],
)  # fmt: skip
def test_pandas_input_fn_refusals(arguments, error, text):
    with pytest.raises(error, match=text):
        pandas_input_fn(frame(), **arguments)


def test_pandas_text_with_nothing_in_it():
    with pytest.raises(ValueError, match="Feature w holds .* at entry 1 where text was expected"):
        pandas_input_fn(pd.DataFrame({"w": ["a", None]}), shuffle=False)()


def test_input_context():
    context = call_input_fn(lambda input_context: input_context, mode="train", params={}, config=None)
    assert (context.num_input_pipelines, context.input_pipeline_id) == (1, 0)
    assert InputContext(num_replicas_in_sync=4).get_per_replica_batch_size(8) == 2
    with pytest.raises(ValueError, match="`global_batch_size` 7 is not divisible"):
        InputContext(num_replicas_in_sync=4).get_per_replica_batch_size(7)
