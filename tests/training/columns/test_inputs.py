"""The inputs that follow from definitions, and the dense features in front of them."""

import numpy as np
import pytest

from estimator_serving.training import feature_column as fc
from estimator_serving.training.columns.inputs import inputs_of, integers_in
from estimator_serving.training.columns.transform import build_transform

hashed = fc.categorical_column_with_hash_bucket


def test_one_key_read_in_two_ways_is_refused():
    columns = [fc.indicator_column(hashed("k", 3)), fc.embedding_column(hashed("k", 3, dtype="int64"), 2)]
    with pytest.raises(ValueError, match="Two columns read the feature k differently: "):
        build_transform(columns)


def test_inputs_follow_from_definitions():
    cross = fc.crossed_column(["t", numbers := fc.categorical_column_with_identity("n", 3)], 9)
    weighted = fc.weighted_categorical_column(numbers, "w")
    columns = [cross, weighted, fc.numeric_column("x", shape=2), fc.sequence_numeric_column("s")]
    inputs = inputs_of([column.define() for column in columns])
    assert [(type(one).__name__, one.names[0]) for one in inputs] == [
        ("CategoricalInput", "n/values"),
        ("SequenceInput", "s/values"),
        ("TextInput", "t/text/values"),
        ("WeightInput", "w/values"),
        ("NumericInput", "x"),
    ]


def test_integers_that_a_cross_reads_are_in_the_definition():
    (ids,) = fc.crossed_column(["a", "b"], 9).outputs
    assert integers_in([ids.define()]) == frozenset()
    assert integers_in([ids.define({"b"})]) == {"b"}


@pytest.mark.parametrize("shape", [(2,), (2, 1), (2, 3)])
def test_dense_features_of_every_rank_give_the_ids_of_a_pair(shape):
    """[batch] and [batch, k] go through different padding nodes, with one result."""
    transform = build_transform([hashed("k", 3, dtype="int64")])
    values = np.arange(np.prod(shape)).reshape(shape)
    ids = transform({"k": values})["k/ids"]
    pair = {"k/values": values.reshape(2, -1), "k/lengths": np.full(2, values.size // 2)}
    assert ids.tolist() == transform(pair)["k/ids"].tolist()
