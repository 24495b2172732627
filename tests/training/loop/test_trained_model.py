"""Which checkpoint is taken, what is kept, and checkpoints that do not fit the model."""

import importlib

import pytest
from xor import XOR, dnn, endless, files, rows

from estimator_serving import training
from estimator_serving.training import feature_column as fc


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"hidden_units": [5]},
            r"The variable dnn/hiddenlayer_0/kernel has shape \(2, 5\) in the model and \(2, 4\) in",
        ),
        ({"hidden_units": [4, 4]}, r"asks for dnn/hiddenlayer_1/kernel with shape \(4, 4\)"),
        ({"optimizer": "Adam"}, r"asks for training/Adam/dnn/hiddenlayer_0/kernel/m"),
    ],
)
def test_a_changed_model_is_refused_before_anything_is_written(change, text, tmp_path):
    dnn(tmp_path).train(endless, steps=2)
    before = files(tmp_path)
    with pytest.raises(
        training.CheckpointMismatchError, match=f"Restoring from checkpoint failed.*{text}.*new model_dir"
    ):
        dnn(tmp_path, **change).train(endless, steps=2)
    assert files(tmp_path) == before


def test_changed_columns_are_refused_by_name(tmp_path):
    dnn(tmp_path).train(endless, steps=2)
    before = files(tmp_path)
    with pytest.raises(ValueError, match="'c'.*new model_dir"):
        dnn(tmp_path, feature_columns=[fc.numeric_column("a"), fc.numeric_column("c")]).train(
            rows(4, {**XOR, "c": XOR["a"]}), steps=2
        )
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-10], lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda _: b""]
)
def test_a_damaged_checkpoint_is_one_sentence(damage, tmp_path):
    estimator = dnn(tmp_path).train(endless, steps=2)
    file = tmp_path / "model.ckpt-2.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    for call in (lambda: estimator.train(endless, steps=1), lambda: estimator.evaluate(rows(2)), estimator.load):
        with pytest.raises(
            training.CorruptCheckpointError, match=r"model.ckpt-2.safetensors.*(cut|does not hold).*Restore"
        ):
            call()


def test_predict_is_lazy_and_builds_a_model_once(tmp_path):
    estimator = dnn(tmp_path).train(endless, steps=2)
    estimator.predict(lambda: pytest.fail("input_fn was called"))
    list(estimator.predict(rows(2)))
    model = estimator.load()
    list(estimator.predict(rows(2)))
    assert estimator.load() is model
    estimator.train(endless, steps=1)
    assert estimator.load() is not model


def test_a_second_predict_reads_builds_and_makes_nothing(tmp_path, monkeypatch):
    estimator = dnn(tmp_path).train(endless, steps=2)
    first = list(estimator.predict(rows(2)))
    made = []
    for owner, name in (
        ("checkpoints.checkpoint", "safe_open"),
        ("loop.trained_model", "VariableStore"),
        ("loop.trained_model", "Transform"),
        ("columns.transform", "onnxruntime"),
    ):
        module = importlib.import_module(f"estimator_serving.training.{owner}")
        monkeypatch.setattr(module, name, lambda *_, name=name, **__: made.append(name))
    second = list(estimator.predict(rows(2)))
    assert [row["logits"] for row in second] == [row["logits"] for row in first]
    assert made == []


def test_an_untrained_model_is_evaluated_as_initialised(tmp_path, caplog):
    caplog.set_level("INFO")
    found = dnn(tmp_path).evaluate(rows(2))
    assert found["global_step"] == 0
    assert "Could not find trained model in model_dir" in caplog.text


def test_an_untrained_model_predicts_the_same_twice(tmp_path):
    estimator = training.LinearClassifier([fc.numeric_column("a")], tmp_path)
    first, second = ([row["logits"] for row in estimator.predict(rows(2))] for _ in range(2))
    assert first == second
