"""A Keras model as an Estimator gives the numbers that Keras itself gives."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import re
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from estimator_serving.exporter import build_raw_serving_input_receiver_fn
from estimator_serving.serving import load
from estimator_serving.training import (
    ClassificationOutput,
    Dataset,
    Estimator,
    ModeKeys,
    RegressionOutput,
    model_to_estimator,
    numpy_input_fn,
)
from estimator_serving.training.keras_model import keras_on_torch

# Keras itself uses what numpy announces to remove.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

X = np.random.default_rng(0).normal(size=(96, 4)).astype(np.float32)
Y = (X.sum(axis=1) + X[:, 0] ** 2).astype(np.float32)
CLASSES = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(8, "relu")
        self.normed = keras.layers.BatchNormalization()
        self.dropped = keras.layers.Dropout(0.25, seed=3)
        self.out = keras.layers.Dense(1)

    def call(self, inputs, training=None):
        x = inputs["x"] if isinstance(inputs, dict) else inputs
        return self.out(self.dropped(self.normed(self.hidden(x)), training=training))


def sequential():
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((4,), name="x"),
            layers.Dense(8, "relu", kernel_regularizer="l2", kernel_constraint=keras.constraints.MaxNorm(1.0)),
            layers.BatchNormalization(),
            layers.Dropout(0.25, seed=3),
            layers.Dense(1, name="out"),
        ]
    )


def functional():
    x = keras.Input((4,), name="x")
    return keras.Model(x, keras.layers.Dense(1, name="out")(keras.layers.Dense(8, "relu")(x)))


def two_heads():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    both = keras.layers.concatenate([a, b])
    value = keras.layers.Dense(1, name="value")(both)
    kind = keras.layers.Dense(3, "softmax", name="kind")(both)
    return keras.Model([a, b], [value, kind])


def compiled(make, optimizer="adam", loss="mse", **options):
    keras.utils.set_random_seed(1)
    model = make()
    model.compile(keras.optimizers.get(optimizer), loss, **options)
    return model


def input_fn(labels=Y, features=None, epochs=1):
    return numpy_input_fn(features or {"x": X}, labels, batch_size=32, num_epochs=epochs, shuffle=False)


def fit(model, labels=Y, x=X, **options):
    model.fit(x, labels, batch_size=32, shuffle=False, verbose=0, **options)


def predicted(estimator, features=None):
    rows = estimator.predict(numpy_input_fn(features or {"x": X}, batch_size=40, shuffle=False))
    rows = list(rows)
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def huber(labels, predictions):
    return keras.losses.huber(labels, predictions, delta=0.5)


@pytest.mark.parametrize("make", [sequential, functional, Subclassed])
def test_it_trains_resumes_and_exports_as_keras_fits(make, tmp_path):
    model = compiled(make)
    model_to_estimator(compiled(make), model_dir=tmp_path).train(input_fn())
    resumed = model_to_estimator(compiled(make), model_dir=tmp_path)
    resumed.train(input_fn())
    fit(model, x=X if make is not Subclassed else {"x": X}, epochs=2)
    wanted = model.predict(X if make is not Subclassed else {"x": X}, verbose=0)
    (name, got), *_ = predicted(resumed).items()
    assert name == ("output_1" if make is Subclassed else "out")
    np.testing.assert_array_equal(got, wanted)
    servable = load(resumed.export_saved_model(tmp_path / "export", build_raw_serving_input_receiver_fn({"x": X})))
    assert list(servable.signatures) == ["serving_default"]
    for rows in (1, 7, 1000):
        batch = np.resize(X, (rows, 4))
        served = servable.signatures["serving_default"](x=batch)[name]
        wanted = model.predict(batch if make is not Subclassed else {"x": batch}, verbose=0)
        assert np.all(np.abs(served - wanted) <= 1e-5 * np.maximum(1, np.abs(wanted)))


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
        keras.optimizers.RMSprop(keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.5)),
        keras.optimizers.AdamW(0.01, clipnorm=0.1),
        keras.optimizers.Adagrad(0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2),
        keras.optimizers.Nadam(0.01, gradient_accumulation_steps=2),
        keras.optimizers.Ftrl(0.1),
        keras.optimizers.Lion(0.01),
    ],
    ids=lambda one: one.name,
)
def test_optimizers(optimizer, tmp_path):
    config = optimizer.get_config()
    model = compiled(functional, type(optimizer).from_config(config))
    for _ in range(2):
        model_to_estimator(compiled(functional, type(optimizer).from_config(config)), model_dir=tmp_path).train(
            input_fn()
        )
    fit(model, epochs=2)
    estimator = model_to_estimator(compiled(functional), model_dir=tmp_path)
    np.testing.assert_allclose(predicted(estimator)["out"], model.predict(X, verbose=0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("loss", ["mae", keras.losses.LogCosh(), huber], ids=["text", "object", "function"])
def test_losses_and_metrics(loss):
    metrics = ["mae", keras.metrics.RootMeanSquaredError(name="rmse"), huber]
    model = compiled(functional, loss=loss, metrics=metrics)
    got = model_to_estimator(compiled(functional, loss=loss, metrics=metrics)).evaluate(input_fn())
    wanted = model.evaluate(X, Y, batch_size=32, verbose=0, return_dict=True)
    assert set(got) == {*wanted, "global_step"}
    np.testing.assert_allclose([got[key] for key in wanted], list(wanted.values()), rtol=1e-6)


def test_two_inputs_and_outputs(tmp_path):
    how = {"loss": {"value": "mse", "kind": "sparse_categorical_crossentropy"}, "loss_weights": {"kind": 0.3}}
    how |= {"metrics": {"kind": ["accuracy"], "value": ["mae"]}}
    how["loss_weights"]["value"] = 1.0
    model, features, labels = compiled(two_heads, **how), {"b": X[::-1].copy(), "a": X}, {"value": Y, "kind": CLASSES}
    estimator = model_to_estimator(compiled(two_heads, **how), model_dir=tmp_path)
    estimator.train(input_fn(labels, features))
    fit(model, [Y, CLASSES], [X, features["b"]])
    wanted = model.predict([X, features["b"]], verbose=0)
    got = predicted(estimator, features)
    np.testing.assert_allclose(got["value"], wanted[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(got["kind"], wanted[1], rtol=1e-6, atol=1e-6)
    evaluated = estimator.evaluate(input_fn(labels, features))
    assert {"kind_accuracy", "value_mae"} < set(evaluated)


def test_sample_weights(tmp_path):
    weights = np.arange(96, dtype=np.float32) / 96
    model, estimator = compiled(functional), model_to_estimator(compiled(functional), model_dir=tmp_path)
    estimator.train(input_fn(features={"features": X, "sample_weights": weights}))
    fit(model, sample_weight=weights)
    np.testing.assert_allclose(predicted(estimator)["out"], model.predict(X, verbose=0), rtol=1e-6, atol=1e-6)


def test_sample_weights_beside_several_features():
    model = compiled(two_heads, loss=["mse", "sparse_categorical_crossentropy"])
    weights, labels = np.arange(96, dtype=np.float32), {"value": Y, "kind": CLASSES}
    got = model_to_estimator(model).evaluate(input_fn(labels, {"a": X, "b": X, "sample_weights": weights}))
    wanted = model.evaluate([X, X], [Y, CLASSES], sample_weight=weights, batch_size=32, verbose=0)[0]
    np.testing.assert_allclose(got["loss"], wanted, rtol=1e-6)


def test_it_starts_from_the_weights_and_the_optimizer_of_the_model(tmp_path):
    model = compiled(functional)
    fit(model)
    estimator = model_to_estimator(model, model_dir=tmp_path)
    before = model.predict(X, verbose=0)
    np.testing.assert_array_equal(predicted(estimator)["out"], before)
    estimator.train(input_fn())
    np.testing.assert_array_equal(model.predict(X, verbose=0), before)
    assert estimator.get_variable_value("training/Adam/iteration") == 6
    fit(model)
    np.testing.assert_array_equal(predicted(estimator)["out"], model.predict(X, verbose=0))


def test_the_first_weights_are_kept_in_model_dir(tmp_path):
    first = predicted(model_to_estimator(compiled(functional), model_dir=tmp_path))["out"]
    assert (tmp_path / "keras" / "keras_model.ckpt.safetensors").exists()
    other = functional()
    other.compile("sgd", "mse")
    np.testing.assert_array_equal(predicted(model_to_estimator(other, model_dir=tmp_path))["out"], first)


def test_metric_names_map():
    named = model_to_estimator(compiled(functional, metrics=["mae"]), metric_names_map={"mae": "distance"})
    assert set(named.evaluate(input_fn())) == {"distance", "loss", "global_step"}
    wrong = {"mae": "distance", "mse": "square"}
    estimator = model_to_estimator(compiled(functional, metrics=["mae"]), metric_names_map=wrong)
    with pytest.raises(ValueError, match="There are unexpected keys in the `metric_names_map`"):
        estimator.evaluate(input_fn())


def test_export_outputs(tmp_path):
    model = compiled(two_heads, loss=["mse", "sparse_categorical_crossentropy"])
    outputs = {"value": RegressionOutput, "kind": lambda scores: ClassificationOutput(scores=scores)}
    estimator = model_to_estimator(model, model_dir=tmp_path, export_outputs=outputs)
    features = {"a": X, "b": X}
    estimator.train(input_fn({"value": Y, "kind": CLASSES}, features))
    spec = estimator.load().call(
        {key: keras.ops.convert_to_tensor(one) for key, one in features.items()}, ModeKeys.PREDICT
    )
    assert set(spec.export_outputs) == {"serving_default", "value", "kind"}


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.filterwarnings("ignore")
def test_a_saved_model(ending, tmp_path):
    model = compiled(functional, loss=keras.losses.MeanSquaredError())
    model.save(tmp_path / f"model.{ending}")
    estimator = model_to_estimator(keras_model_path=str(tmp_path / f"model.{ending}"))
    np.testing.assert_array_equal(predicted(estimator)["out"], model.predict(X, verbose=0))


def test_a_dataset():
    model = compiled(functional)
    estimator = model_to_estimator(model)
    assert isinstance(estimator, Estimator)
    estimator.train(lambda: Dataset.from_tensor_slices(({"x": X}, Y)).repeat().batch(16), steps=8)
    assert estimator.evaluate(input_fn())["global_step"] == 8


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_keras_takes_the_loader_of_a_dataset():
    data, by_data, by_arrays = Dataset.from_tensor_slices((X, Y)), compiled(functional), compiled(functional)
    by_data.fit(data.batch(32).torch_loader(), epochs=2, shuffle=False, verbose=0)
    by_arrays.fit(X, Y, batch_size=32, epochs=2, shuffle=False, verbose=0)
    rows = Dataset.from_tensor_slices(X).batch(50).torch_loader()
    np.testing.assert_array_equal(by_data.predict(rows, verbose=0), by_arrays.predict(X, verbose=0))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "Either `keras_model` or `keras_model_path` needs to be provided."),
        ({"keras_model": functional(), "keras_model_path": "a"}, "Please specity either"),
        ({"keras_model": functional()}, "The given keras model has not been compiled yet."),
        (
            {"keras_model": compiled(functional), "checkpoint_format": "x"},
            'must be one of "checkpoint" or "saver". Got x',
        ),
    ],
)
def test_refused(arguments, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        model_to_estimator(**arguments)


def test_refused_batches():
    without_loss = model_to_estimator(compiled(functional, loss=None))
    with pytest.raises(ValueError, match="Provide a `loss` argument in `compile"):
        without_loss.train(input_fn())
    with pytest.raises(KeyError, match="does not cover requested inputs keys"):
        model_to_estimator(compiled(two_heads)).train(input_fn(features={"a": X}))


def test_training_does_not_import_keras():
    assert not hasattr(sys.modules["estimator_serving.training.keras_model"], "keras")


def test_the_migration_guides_program(capsys):
    guide = Path(__file__).parents[2] / "docs" / "how-to" / "migrate.md"
    programs = re.findall(r"```python\n(.*?)```", guide.read_text(), re.DOTALL)
    exec(next(one for one in programs if "model_to_estimator" in one), {})
    assert "'mae'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("keras", "text"),
    [
        ("import tensorflow_of_no_version", "cannot be imported without tensorflow_of_no_version"),
        ("class backend: backend = staticmethod(lambda: 'jax')", "runs on the backend 'jax'"),
    ],
)
def test_keras_on_another_backend_is_refused(keras, text, tmp_path, monkeypatch):
    (tmp_path / "keras.py").write_text(keras)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "keras")
    with pytest.raises(ValueError, match=f"Keras {text}; start the process with KERAS_BACKEND=torch"):
        keras_on_torch()
