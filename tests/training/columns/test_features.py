"""Features and TransformRecorder: what a model_fn reads, what is recorded, what a checkpoint refuses."""

import numpy as np
import pytest
import torch

from estimator_serving.training import feature_column as fc
from estimator_serving.training.columns.base import Ids
from estimator_serving.training.columns.features import Features, TransformRecorder, prepare
from estimator_serving.training.columns.transform import Transform, build_transform

age = fc.numeric_column("age")
buckets = fc.bucketized_column(age, [18])
deck = fc.categorical_column_with_vocabulary_list("deck", ["A", "B"])
RAW = {"age": np.array([17.0, 18.0]), "deck": np.array(["B", "x"], dtype=object)}


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([True]), torch.bool),
        (np.array([1], np.uint8), torch.int64),
        (np.array([1]), torch.int64),
        (np.array([1.0]), torch.float32),
        (np.array([1.0], np.float16), torch.float32),
        ([1.5], torch.float32),
        (torch.ones(1), torch.float32),
    ],
)
def test_numbers_read_as_tensors(array, dtype):
    recorder = TransformRecorder()
    value = Features({"x": array}, recorder)["x"]
    assert (value.dtype, tuple(value.shape)) == (dtype, (1,))
    assert recorder.read_keys == {"x"}


@pytest.mark.parametrize(
    ("keys", "ids"),
    [(["k", "s"], [[152], [265], [258]]), (["s", "k"], [[486], [690], [857]])],
)
def test_a_cross_takes_integers_as_they_are(keys, ids):
    """TF 2.15's ids; -1 is a value here."""
    raw = {"k": np.array([3, 4, -1], np.int32), "s": np.array(["a", "b", "a"], object)}
    recorder = TransformRecorder()
    cross = fc.crossed_column(keys, 1000)
    assert Features(raw, recorder).output(Ids(cross)).tolist() == ids
    again = TransformRecorder(Transform.from_bytes(recorder.transform.model_bytes))
    assert Features(raw, again).output(Ids(cross)).tolist() == ids
    with pytest.raises(ValueError, match="key: k, column dtype: <dtype: 'int64'>, tensor dtype: <dtype: 'string'>"):
        Features({**raw, "k": raw["s"]}, again).output(Ids(cross))


def test_text_stays_numpy_and_is_not_recorded():
    recorder = TransformRecorder()
    value = Features({"deck": np.array([b"A", b"B"])}, recorder)["deck"]
    assert value.dtype == object
    assert value.tolist() == ["A", "B"]
    assert recorder.read_keys == set()


def test_a_tensor_does_not_share_memory_with_the_data():
    data = np.zeros(2, np.float32)
    features = Features({"x": data}, TransformRecorder())
    features["x"].add_(1)
    assert data.tolist() == [0, 0]
    assert features["x"] is features["x"]


def test_is_a_mapping():
    features = Features(RAW, TransformRecorder())
    assert (sorted(features), len(features), "age" in features, "x" in features) == (["age", "deck"], 2, True, False)
    assert features.batch_size == 2
    with pytest.raises(KeyError):
        features["x"]


def test_columns_are_transformed_and_recorded():
    recorder = TransformRecorder()
    found = Features(RAW, recorder).transformed([buckets, deck, Ids(buckets)])
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "age_bucketized/dense": [[1, 0], [0, 1]],
        "age_bucketized/ids": [[0], [1]],
        "deck/ids": [[1], [-1]],
    }
    assert recorder.transform.sha256 == build_transform([deck, buckets, Ids(buckets)]).sha256


def test_the_transform_grows_only_with_new_columns():
    recorder = TransformRecorder()
    first = recorder.require([age])
    assert recorder.require([age, fc.numeric_column("age")]) is first
    assert set(recorder.require([deck]).definitions) == {"age/dense", "deck/ids"}


def test_results_made_ahead_are_used():
    recorder = TransformRecorder()
    recorder.require([age])
    features = prepare(RAW, recorder)
    recorder.transform = None  # a run would now fail
    assert features.transformed([age])["age/dense"].tolist() == [[17], [18]]


def test_one_name_for_two_columns():
    hashed = [fc.categorical_column_with_hash_bucket("deck", size) for size in (3, 1000)]
    recorder = TransformRecorder()
    features = Features(RAW, recorder)
    for column in hashed:
        alone = build_transform([column])(RAW)["deck/ids"]
        assert features.transformed([column])["deck/ids"].tolist() == alone.tolist()
    assert recorder.transform.output_names == ("deck/ids", "deck/ids#2")


def frozen(*columns):
    return TransformRecorder(Transform.from_bytes(build_transform(columns).model_bytes))


def test_a_checkpoints_transform_serves_equal_columns():
    recorder = frozen(age, buckets, deck)
    before = recorder.transform
    found = prepare(RAW, recorder).transformed([fc.bucketized_column(fc.numeric_column("age"), [18.0])])
    assert found["age_bucketized/dense"].tolist() == [[1, 0], [0, 1]]
    assert recorder.transform is before


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (fc.bucketized_column(age, [21]),
         r"The column 'age_bucketized' differs from the one this model was trained with: boundaries was \[18.0\] and "
         r"is now \[21.0\]. Train the changed columns in a new model_dir, or give the old columns back."),
        (fc.numeric_column("fare"), "The column 'fare' is not among the columns this model was trained with. Train"),
    ],
)  # fmt: skip
def test_a_checkpoints_transform_refuses_other_columns_by_name(column, text):
    with pytest.raises(ValueError, match=text):
        frozen(age, buckets).require([column])


def test_under_export_features_are_the_given_tensors():
    dense, direct = torch.ones(3, 1), torch.zeros(3)
    features = Features.traced({"age/dense": dense}, {"fare": direct}, frozen(age))
    assert features.transformed([age])["age/dense"] is dense
    assert features["fare"] is direct
    assert features.batch_size == 3


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (
            lambda features: features["deck"],
            r"The model_fn reads features\['deck'\] in export. A text feature never enters",
        ),
        (
            lambda features: features.transformed([deck]),
            "The column 'deck' is asked for in export but was not in training",
        ),
        (lambda features: features.batch_size, "The model reads no feature, so its batch size is unknown"),
    ],
)
def test_under_export_nothing_else_is_there(use, text):
    with pytest.raises(ValueError, match=text):
        use(Features.traced({}, {}))


def test_features_are_a_dict_that_reads_when_asked():
    features = Features({"a": np.float32([1, 2]), "b": np.array(["x", "y"], object)}, TransformRecorder())
    assert isinstance(features, dict)
    assert (list(features), len(features), "a" in features, "z" in features) == (["a", "b"], 2, True, False)
    assert {**features}.keys() == dict(features).keys() == features.copy().keys() == {"a", "b"}
    assert [key for key, _ in features.items()] == ["a", "b"]
    assert features.get("z", 3) == 3
    assert features.pop("b").tolist() == ["x", "y"]
    features["c"] = features["a"] * 2
    assert (list(features), features["c"].tolist()) == (["a", "c"], [2.0, 4.0])
    with pytest.raises(KeyError):
        features["b"]
    del features["a"]
    with pytest.raises(KeyError):
        del features["a"]
