"""Checkpoints that TensorFlow's estimators wrote (goldens/make_checkpoint_goldens.py), read and trained on here."""

import json
import os
import shutil
from pathlib import Path

import bundles
import numpy as np
import pytest
import torch

from estimator_serving import serving, training
from estimator_serving.training import feature_column as fc
from estimator_serving.training import optimizers, train
from estimator_serving.training.checkpoints.checkpoint import read_checkpoint, write_checkpoint
from estimator_serving.training.errors import CheckpointError, CorruptCheckpointError
from estimator_serving.wire import dtypes
from estimator_serving.wire.pb import tensorflow_pb
from estimator_serving.wire.tensor_bundle import OBJECT_GRAPH

# TensorFlow's files as they were written once; `make oracle-training TF=…` has them written at that moment.
GOLDENS = Path(os.environ.get("ESTIMATOR_GOLDENS", Path(__file__).parents[1] / "goldens")) / "checkpoints"
ROWS = json.loads((GOLDENS / "rows.json").read_text())
FEATURES = {"age": np.array(ROWS["age"], np.float32), "city": np.array(ROWS["city"], object)}
EMBEDDING = "dnn/input_from_feature_columns/input_layer/city_embedding/embedding_weights"


def input_fn():
    return training.Dataset.from_tensor_slices((FEATURES, np.array(ROWS["label"]))).repeat().batch(16)


def make_columns():
    age = fc.numeric_column("age")
    hashed = fc.categorical_column_with_hash_bucket("city", 6)
    wide = [fc.categorical_column_with_vocabulary_list("city", ["aa", "bb", "cc"]), fc.bucketized_column(age, [0.0])]
    return wide, [age, fc.embedding_column(hashed, 2)]


def combined(model_dir=None, **arguments):
    wide, deep = make_columns()
    return training.DNNLinearCombinedClassifier(
        model_dir, linear_feature_columns=wide, dnn_feature_columns=deep, dnn_hidden_units=[4], **arguments
    )


def dnn(model_dir, **arguments):
    return training.DNNClassifier([4], make_columns()[1], model_dir, **arguments)


ESTIMATORS = {
    "combined": lambda d: combined(d),
    "combined_adam_rmsprop": lambda d: combined(
        d,
        linear_optimizer=optimizers.Adam(0.01),
        dnn_optimizer=optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    ),
    "dnn_momentum_batch_norm": lambda d: dnn(d, optimizer=optimizers.SGD(0.05, momentum=0.9), batch_norm=True),
    # TensorFlow 1 adds losses up where TensorFlow 2 takes their mean.
    "v1_combined": lambda d: combined(
        d,
        loss_reduction="sum",
        linear_optimizer=train.MomentumOptimizer(0.05, 0.9),
        dnn_optimizer=train.AdamOptimizer(0.01),
    ),
    "v1_dnn": lambda d: dnn(
        d, loss_reduction="sum", optimizer=train.RMSPropOptimizer(0.01, momentum=0.5, centered=True)
    ),
    "v1_linear": lambda d: training.LinearClassifier(
        make_columns()[0], d, loss_reduction="sum", optimizer=train.FtrlOptimizer(0.1)
    ),
}


@pytest.fixture
def model_dir(tmp_path):
    """A copy of a model_dir that TensorFlow left."""

    def copy(name):
        folder = tmp_path / name
        shutil.copytree(GOLDENS / name, folder, ignore=shutil.ignore_patterns("after"))
        return folder

    return copy


@pytest.mark.parametrize("name", ESTIMATORS)
def test_training_goes_on_as_tensorflows_own_did(name, model_dir):
    estimator = ESTIMATORS[name](model_dir(name))
    estimator.train(input_fn, steps=20)
    expected = read_checkpoint(GOLDENS / name / "after" / "model.ckpt-50").values
    found = read_checkpoint(estimator.latest_checkpoint()).values
    variables = [key for key in estimator.get_variable_names() if not key.startswith("training/")]
    assert set(variables) <= set(expected)
    assert found["global_step"] == expected["global_step"] == 50
    for key in variables:
        torch.testing.assert_close(
            found[key], expected[key], rtol=0, atol=2e-4, msg=lambda text, key=key: f"{key}: {text}"
        )


def test_tensorflows_files_stay_and_ours_stand_beside_them(model_dir):
    folder = model_dir("combined")
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "checkpoint"}
    combined(folder, config=training.RunConfig(keep_checkpoint_max=1)).train(input_fn, steps=1)
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.name in before} == before
    assert training.latest_checkpoint(folder) == str(folder / "model.ckpt-31")


def test_a_model_dir_that_moved_is_found(model_dir):
    folder = model_dir("combined")
    (folder / "checkpoint").write_text('model_checkpoint_path: "/where/it/was/trained/model.ckpt-30"\n')
    assert training.latest_checkpoint(folder) == str(folder / "model.ckpt-30")


def test_slots_of_another_optimizer_are_missed_by_name(model_dir):
    estimator = combined(model_dir("combined"), dnn_optimizer="Adam")
    with pytest.raises(CheckpointError, match=f"The model asks for training/Adam/{EMBEDDING}/m"):
        estimator.train(input_fn, steps=1)


# A start, and a model without a step.


def logits(estimator):
    return np.array([row["logits"] for row in estimator.predict(lambda: input_fn().take(2))])


def test_a_start_takes_variables_and_leaves_steps(model_dir, tmp_path):
    estimator = combined(tmp_path / "model", warm_start_from=GOLDENS / "combined" / "model.ckpt-30")
    continued = combined(model_dir("combined"))
    np.testing.assert_array_equal(logits(estimator), logits(continued))
    results = [each.evaluate(input_fn, steps=4) for each in (estimator, continued)]
    assert [result["global_step"] for result in results] == [0, 30]
    assert results[0]["loss"] == results[1]["loss"]


@pytest.mark.parametrize("ending", ["", ".index"])
def test_a_start_is_named_by_its_path_or_its_index(ending, tmp_path):
    start = f"{GOLDENS / 'v1_linear' / 'model.ckpt-30'}{ending}"
    estimator = training.LinearClassifier(make_columns()[0], tmp_path / "model", warm_start_from=start)
    np.testing.assert_array_equal(logits(estimator), logits(ESTIMATORS["v1_linear"](GOLDENS / "v1_linear")))


def test_a_saved_model_is_a_start(tmp_path):
    variables = tmp_path / "saved_model" / "variables"
    variables.mkdir(parents=True)
    for file in (GOLDENS / "combined").glob("model.ckpt-30.*"):
        shutil.copy(file, variables / file.name.replace("model.ckpt-30", "variables"))
    estimator = combined(tmp_path / "model", warm_start_from=tmp_path / "saved_model")
    np.testing.assert_array_equal(logits(estimator), logits(combined(GOLDENS / "combined")))


def receiver():
    spec = {"age": training.FixedLenFeature([1], "float32"), "city": training.VarLenFeature("string")}
    return training.export.build_parsing_serving_input_receiver_fn(spec)()


def served_logits(path):
    rows = [{"age": age, "city": city} for age, city in zip(ROWS["age"][:32], ROWS["city"][:32], strict=True)]
    return serving.load(path).signatures["predict"](examples=rows)["logits"]


@pytest.mark.parametrize("start", ["model_dir", "warm_start_from"])
def test_what_tensorflow_trained_is_exported_without_a_step(start, model_dir, tmp_path):
    estimator = combined(**{start: model_dir("combined")})
    path = estimator.export_saved_model(tmp_path / "export", receiver)
    np.testing.assert_allclose(served_logits(path), logits(estimator), atol=1e-6)


def test_a_renamed_start_is_exported_without_a_step(tmp_path):
    """What is evaluated is what is exported, where no checkpoint holds the model as it is."""
    names = {"linear/linear_model/city/weights": "linear/linear_model/cities/weights"}
    values = read_checkpoint(GOLDENS / "combined/model.ckpt-30").values
    renamed = {names.get(key, key): value for key, value in values.items()}
    write_checkpoint(str(tmp_path / "renamed"), renamed, None, [])
    start = training.WarmStartSettings(tmp_path / "renamed", var_name_to_prev_var_name=names)
    path = combined(tmp_path / "model", warm_start_from=start).export_saved_model(tmp_path / "export", receiver)
    np.testing.assert_allclose(served_logits(path), logits(combined(GOLDENS / "combined")), atol=1e-6)


def test_columns_whose_ids_have_a_range_are_recorded_without_ids_beyond_it(tmp_path):
    """Samples of any number would be refused by an identity column before it is known."""
    column = fc.categorical_column_with_identity("kind", 3)
    values = {
        "linear/linear_model/kind/weights": torch.tensor([[1.0], [2.0], [3.0]]),
        "linear/linear_model/bias_weights": torch.zeros(1),
    }
    write_checkpoint(str(tmp_path / "start"), values, None, [])
    estimator = training.LinearRegressor([column], tmp_path / "model", warm_start_from=tmp_path / "start")
    spec = {"kind": training.VarLenFeature("int64")}
    make_receiver = training.export.build_parsing_serving_input_receiver_fn(spec)
    path = estimator.export_saved_model(tmp_path / "export", make_receiver)
    answers = serving.load(path).signatures["predict"](examples={"kind": 1})
    assert answers["predictions"].tolist() == [[2.0]]


# What stands in a file.


def write_tensors(prefix, tensors, **options):
    return bundles.write_bundle(prefix, *bundles.make_bundle(tensors, **options))


def test_numbers_of_every_kind_are_variables_and_strings_are_not(tmp_path):
    brain = np.array([1.5, -2.0], dtypes.bfloat16.numpy)
    words = bundles.objects([b"a"])
    prefix = write_tensors(tmp_path / "x", {"b": np.array([True]), "brain": brain, "i": np.array(3), "words": words})
    values = read_checkpoint(prefix).values
    assert list(values) == ["b", "brain", "i"]
    assert values["brain"].dtype == torch.bfloat16
    assert values["brain"].tolist() == [1.5, -2.0]


def test_a_variable_is_not_the_file(tmp_path):
    """Training writes into it."""
    prefix = write_tensors(tmp_path / "x", {"w": np.ones(2, np.float32)})
    read_checkpoint(prefix).values["w"].zero_()
    assert read_checkpoint(prefix).values["w"].tolist() == [1, 1]


def test_slots_of_parts_become_one(tmp_path):
    parts = {"w/part_0/Ftrl": np.ones([3, 2], np.float32), "w/part_1/Ftrl": np.full([2, 2], 2, np.float32)}
    prefix = write_parts(tmp_path / "x", parts, [(0, 3), (3, 2)])
    values = read_checkpoint(prefix).values
    assert list(values) == ["w", "w/Ftrl"]
    assert values["w/Ftrl"].tolist() == [[1, 1]] * 3 + [[2, 2]] * 2


@pytest.mark.parametrize("rows", [[(0, 3)], [(0, 3), (3, 1)], [(0, 3), (0, 3)]])
def test_parts_that_are_not_the_whole_are_refused(rows, tmp_path):
    parts = {f"w/part_{n}/Ftrl": np.ones([length, 2], np.float32) for n, (_, length) in enumerate(rows)}
    prefix = write_parts(tmp_path / "x", parts, rows)
    with pytest.raises(CorruptCheckpointError, match=r"w/part_0/Ftrl.* do not (cover its|make up w/Ftrl of) shape"):
        _ = read_checkpoint(prefix).values["w/Ftrl"]


def write_parts(prefix, parts, rows):
    """A variable w of five rows, and slots of parts of it, each under a key with one slice."""
    whole = np.zeros([5, 2], np.float32)
    pairs, shards = bundles.make_bundle({"w": whole, **parts})
    for key, place in zip(parts, rows, strict=True):
        stored = pairs[key.encode()]
        pairs[bundles.slice_key(key, place, 2)] = stored
        pairs[key.encode()] = bundles.make_entry(whole, slices=[place]).SerializeToString()
    return bundles.write_bundle(prefix, pairs, shards)


def test_variables_of_objects_have_their_own_names(tmp_path):
    graph = tensorflow_pb.TrackableObjectGraph()
    for key, name in {"layer-1/kernel/.X": "dense/kernel", "a/.X": "twice", "b/.X": "twice"}.items():
        graph.nodes.add().attributes.add(name="VARIABLE_VALUE", checkpoint_key=key, full_name=name)
    tensors = {key: np.ones(1, np.float32) for key in ("layer-1/kernel/.X", "a/.X", "b/.X", "plain")}
    content = bundles.objects([graph.SerializeToString()]).reshape(())
    prefix = write_tensors(tmp_path / "x", {**tensors, OBJECT_GRAPH: content})
    assert sorted(read_checkpoint(prefix).values) == ["a/.X", "b/.X", "dense/kernel", "plain"]


def test_an_object_graph_that_is_none_is_refused(tmp_path):
    prefix = write_tensors(tmp_path / "x", {OBJECT_GRAPH: bundles.objects([b"\xff"])})
    with pytest.raises(CorruptCheckpointError, match="is not a TrackableObjectGraph"):
        read_checkpoint(prefix)


@pytest.mark.parametrize("file", ["model.ckpt-30.index", "model.ckpt-30.data-00000-of-00001"])
def test_a_damaged_file_is_refused_before_anything_is_written(file, model_dir):
    folder = model_dir("combined")
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])
    files = sorted(folder.iterdir())
    with pytest.raises(CorruptCheckpointError, match="checksum"):
        combined(folder).train(input_fn, steps=1)
    assert sorted(folder.iterdir()) == files
