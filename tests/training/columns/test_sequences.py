"""Sequence columns: TF 2.15's SequenceFeatures, as a function."""

import numpy as np
import pytest
import torch

from estimator_serving.training import feature_column as fc
from estimator_serving.training.columns.features import Features, TransformRecorder
from estimator_serving.training.errors import InvalidArgumentError
from estimator_serving.training.nn.variables import VariableStore

TABLE = [[1.0, 2.0], [3.0, 5.0], [7.0, 11.0]]
NUMBERS = {"x/values": np.float32([[1, 2], [3, 77], [77, 77]]), "x/lengths": np.array([2, 1, 0])}
WORDS = {
    "k/values": np.array([["a", "zz"], ["c", "b"], ["a", "a"]], object),
    "k/lengths": np.array([2, 1, 0]),
}
numeric = fc.sequence_numeric_column
words = fc.sequence_categorical_column_with_vocabulary_list("k", ["a", "b", "c"])
embedded = fc.embedding_column(words, 2, initializer=lambda *_: torch.tensor(TABLE))


def call(raw, columns, store=None):
    with (store or VariableStore()).activate(training=False):
        values, counts = fc.sequence_input_layer(Features(raw, TransformRecorder()), columns)
    assert (values.dtype, counts.dtype) == (torch.float32, torch.int64)
    return values.tolist(), counts.tolist()


@pytest.mark.parametrize(
    ("raw", "column", "values", "counts"),
    [
        (NUMBERS, numeric("x"), [[[1], [2]], [[3], [0]], [[0], [0]]], [2, 1, 0]),
        (NUMBERS, numeric("x", default_value=9.0), [[[1], [2]], [[3], [9]], [[9], [9]]], [2, 1, 0]),
        (
            {"x/values": np.float32([[1, 2, 3, 4], [5, 6, 0, 0], [7, 0, 0, 0]]), "x/lengths": np.array([4, 2, 1])},
            numeric("x", shape=2, default_value=-1.0),
            [[[1, 2], [3, 4]], [[5, 6], [-1, -1]], [[7, -1], [-1, -1]]],
            [2, 1, 1],
        ),
        # dense: 0 counts as nothing behind the last number
        (
            {"x": np.array([[1, 0, 2], [3, 0, 0], [0, 0, 0]])},
            numeric("x", dtype="int64"),
            [[[1], [0], [2]], [[3], [0], [0]], [[0], [0], [0]]],
            [3, 1, 0],
        ),
        (
            NUMBERS,
            numeric("x", default_value=9.0, normalizer_fn=lambda x: x * 10.0),
            [[[10], [20]], [[30], [9]], [[9], [9]]],
            [2, 1, 0],
        ),
        (
            WORDS,
            fc.indicator_column(words),
            [[[1, 0, 0], [0, 0, 0]], [[0, 0, 1], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]],
            [2, 1, 0],
        ),
        (WORDS, embedded, [[[1, 2], [0, 0]], [[7, 11], [0, 0]], [[0, 0], [0, 0]]], [2, 1, 0]),
        ({"x": np.empty((0, 3), np.float32)}, numeric("x", shape=3), [], []),
    ],
)
def test_sequences_are_tensorflows(raw, column, values, counts):
    assert call(raw, [column]) == (values, counts)


def test_side_by_side_in_the_order_of_their_names():
    store = VariableStore()
    values, _ = call(NUMBERS | WORDS, [numeric("x"), embedded], store)
    assert values[0] == [[1, 2, 1], [0, 0, 2]]
    assert list(store.trainable_variables) == ["sequence_input_layer/k_embedding/embedding_weights"]


def test_vectors_are_clipped():
    column = fc.embedding_column(words, 2, max_norm=1.0, initializer=lambda *_: torch.tensor(TABLE))
    values, _ = call(WORDS, [column])
    np.testing.assert_allclose(values[0], [[0.4472136, 0.8944272], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("raw", "columns", "error", "text"),
    [
        (
            NUMBERS,
            [fc.numeric_column("x")],
            ValueError,
            "Items of feature_columns must be a SequenceDenseColumn. You can",
        ),
        (WORDS, [words], ValueError, "Items of feature_columns must be a SequenceDenseColumn."),
        (
            WORDS,
            [fc.embedding_column(fc.categorical_column_with_hash_bucket("k", 3), 2)],
            ValueError,
            "In embedding_column: k_embedding. categorical_column must be of type SequenceCategoricalColumn to use",
        ),
        (
            NUMBERS | WORDS | {"x/lengths": np.array([1, 1, 0])},
            [numeric("x"), embedded],
            InvalidArgumentError,
            r"The sequences k_embedding and x have different lengths in a row: \[2, 1, 0\] and \[1, 1, 0\]",
        ),
        (
            {"x": np.array(["a"], object)},
            [numeric("x")],
            ValueError,
            "Feature x holds text where sequence_numeric_column",
        ),
    ],
)
def test_refusals(raw, columns, error, text):
    with pytest.raises(error, match=text):
        call(raw, columns)
