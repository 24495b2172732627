"""Keras models, also as Estimators: how they are called and named, what a servable answers, and which are refused."""

import json
import zipfile

import keras
import numpy as np
import pytest
import torch
from keras import layers

from estimator_serving.exporter import (
    ExportMismatch,
    build_raw_serving_input_receiver_fn,
    export_model,
    placeholder,
)
from estimator_serving.exporter.sources.keras import KerasSource
from estimator_serving.serving import load
from estimator_serving.training import PredictOutput, model_to_estimator, numpy_input_fn
from estimator_serving.wire import dtypes

# Keras itself uses what numpy announces to remove.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

X = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)
TABLE = build_raw_serving_input_receiver_fn({"x": X})


def steps_of(width, dtype="float32"):
    """A receiver of rows with any number of steps."""
    shape = [None, None] if width is None else [None, None, width]
    return build_raw_serving_input_receiver_fn({"x": placeholder(dtype, shape, "x")})


def dense():
    return keras.Sequential([keras.Input((4,)), layers.Dense(8, "relu"), layers.Dense(2, "softmax", name="kind")])


def functional():
    x = keras.Input((4,), name="x")
    return keras.Model(x, layers.Dense(2, name="kind")(layers.concatenate([x, layers.Dense(3, "tanh")(x)])))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.out = layers.Dense(8, "relu"), layers.Dense(2)

    def call(self, x, training=None):
        return self.out(self.hidden(x)) + keras.ops.mean(x, axis=-1, keepdims=True)


def subclassed():
    model = Subclassed()
    model(X)
    return model


def asked(model, directory, receiver_fn=TABLE, **options):
    return load(export_model(model, directory, receiver_fn, **options)).signatures["serving_default"]


def assert_equal(signature, model, rows):
    wanted = model.predict(rows, verbose=0, batch_size=len(rows))
    (got,) = signature(x=rows).values()
    assert np.all(np.abs(got - wanted) <= 1e-5 * np.maximum(1, np.abs(wanted)))


@pytest.mark.parametrize(("make", "name"), [(dense, "kind"), (functional, "kind"), (subclassed, "output_1")])
def test_three_styles_are_served_with_the_numbers_of_keras(make, name, tmp_path):
    model = make()
    signature = asked(model, tmp_path)
    assert list(signature(x=X[:1])) == [name]
    for rows in (1, 7, 1000):
        assert_equal(signature, model, X[:rows])
    assert signature(x=X[:0])[name].shape == (0, 2)


def test_an_export_leaves_the_model_as_it_was(tmp_path):
    model = functional()
    before = [len(layer._inbound_nodes) for layer in model.layers]
    export_model(model, tmp_path, TABLE)
    assert [len(layer._inbound_nodes) for layer in model.layers] == before
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "model.keras").predict(X, verbose=0), model.predict(X, verbose=0)
    )


@pytest.mark.parametrize("ending", ["keras", "h5"])
@pytest.mark.filterwarnings("ignore")
def test_a_file(ending, tmp_path):
    model = dense()
    model.save(tmp_path / f"model.{ending}")
    assert_equal(asked(tmp_path / f"model.{ending}", tmp_path / "base"), model, X)


def test_outputs_are_renamed_by_argument(tmp_path):
    assert list(asked(dense(), tmp_path, output_names={"kind": "score"})(x=X)) == ["score"]
    with pytest.raises(ValueError, match="output_names renames sort, and the model gives kind"):
        export_model(dense(), tmp_path / "base", TABLE, output_names={"sort": "score"})
    assert not (tmp_path / "base").exists()


RECURRENT = {
    "lstm": [layers.LSTM(4)],
    "gru in both directions": [layers.Bidirectional(layers.GRU(4, return_sequences=True)), layers.SimpleRNN(3)],
    "masked": [layers.Masking(), layers.Bidirectional(layers.LSTM(4, return_sequences=True)), layers.GRU(3)],
    "each step": [layers.TimeDistributed(layers.Dense(4, "relu")), layers.LSTM(3, go_backwards=True)],
}


@pytest.mark.parametrize("kind", RECURRENT)
def test_any_number_of_steps(kind, tmp_path):
    model = keras.Sequential([keras.Input((None, 3)), *RECURRENT[kind], layers.Dense(2)])
    signature = asked(model, tmp_path, steps_of(3))
    random = np.random.default_rng(1)
    for rows, steps in ((1, 1), (7, 12), (1000, 3)):
        sequences = random.normal(size=(rows, steps, 3)).astype(np.float32)
        # Steps of zeros are masked: at the end, in the middle, at the start; and a whole row of them.
        sequences[random.random((rows, steps)) < 0.4] = 0
        sequences[rows // 2 :: 5] = 0
        assert_equal(signature, model, sequences)


def test_words_by_their_ids_with_a_mask(tmp_path):
    embedding = layers.Embedding(20, 4, mask_zero=True)
    model = keras.Sequential([keras.Input((None,), dtype="int32"), embedding, layers.LSTM(4), layers.Dense(1)])
    signature = asked(model, tmp_path, steps_of(None, "int64"))
    for rows, steps in ((1, 5), (7, 1), (1000, 12)):
        ids = np.random.default_rng(steps).integers(0, 20, (rows, steps))
        ids[:, steps // 2 :] *= ids[:, steps // 2 :] > 9
        assert_equal(signature, model, ids)


def test_a_layer_without_a_rule_is_traced(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: torch.tanh(x)), layers.Dense(2)])
    assert_equal(asked(model, tmp_path), model, X)


def test_inputs_by_name(tmp_path):
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    layer = layers.Dense(3)
    two = {"b": X[::-1].copy(), "a": X}
    features = dict.fromkeys(two, dtypes.float32)
    for inputs, given in (([a, b], [two["a"], two["b"]]), ({"a": a, "b": b}, two)):
        model = keras.Model(inputs, layer(a) - layer(b))
        source = KerasSource(model)
        assert [(one.name, one.keys) for one in source.inputs(features)] == [("a", ("a",)), ("b", ("b",))]
        signature = asked(model, tmp_path, build_raw_serving_input_receiver_fn(two))
        (got,) = signature(**two).values()
        np.testing.assert_allclose(got, model.predict(given, verbose=0), atol=1e-5)
    with pytest.raises(ValueError, match="The Keras model takes a, b, and the receiver gives c; "):
        source.inputs({"c": dtypes.float32})
    with pytest.raises(ValueError, match="The Keras model takes tensors of numbers, and the rece"):
        source.inputs({**features, "b": dtypes.string})


class Remembers(layers.Layer):
    """Another answer every time it is asked."""

    calls = 0.0

    def call(self, x):
        Remembers.calls += 1.0
        return x + Remembers.calls


class Leaves(layers.Layer):
    """Leaves torch for numpy."""

    def call(self, x):
        return torch.tensor(np.tanh(x.numpy()))


def stepwise():
    """Goes through its steps in Python."""
    return keras.Sequential([keras.Input((None, 3)), layers.Lambda(lambda x: sum(torch.unbind(x, 1)))])


@pytest.mark.parametrize(
    ("make", "receiver_fn", "error", "text"),
    [
        (lambda: keras.Sequential([layers.Dense(2)]), TABLE, ValueError, "does not know its inputs; call it once on"),
        (lambda: Subclassed(), TABLE, ValueError, "Subclassed does not know its inputs; call it once on data"),
        (
            lambda: keras.Sequential([keras.Input((4,)), Remembers(name="odd")]),
            TABLE,
            ExportMismatch,
            "output 'odd', at .* became .*a layer that draws random numbers outside training",
        ),
        (
            lambda: keras.Sequential([keras.Input((4,)), Leaves(name="leaves")]),
            TABLE,
            ValueError,
            "there is no rule for the layer leaves .Leaves.*functions of keras.ops.*it leaves torch for numpy",
        ),
        (stepwise, steps_of(3), ValueError, "there is no rule for the layer lambda.*one size for every axis"),
        (
            lambda: keras.Sequential([keras.Input(batch_shape=(2, 5, 3)), layers.LSTM(2, stateful=True)]),
            build_raw_serving_input_receiver_fn({"x": np.zeros((2, 5, 3), np.float32)}),
            ValueError,
            "remembers between calls, which a servable does not; build the model with stateful=False",
        ),
    ],
)
def test_what_is_refused(make, receiver_fn, error, text, tmp_path):
    with pytest.raises(error, match=text):
        export_model(make(), tmp_path / "base", receiver_fn)
    assert not (tmp_path / "base").exists()


def changed(path, member, change):
    """The `.keras` file with one of its JSON members changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[member] = json.dumps(change(json.loads(members[member]))).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_files_that_keras_does_not_load(tmp_path):
    base, path = tmp_path / "base", tmp_path / "model.keras"
    keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x * 2)]).save(path)
    with pytest.raises(ValueError, match="It has a Lambda layer.*safe_mode=False.*and pass the model"):
        export_model(path, base, TABLE)
    functional().save(path)
    changed(path, "config.json", lambda config: {**config, "module": "keras.src.engine.functional"})
    with pytest.raises(ValueError, match="cannot load .*Load it with keras.models.load_model.path, custom_objects="):
        export_model(path, base, TABLE)
    changed(path, "metadata.json", lambda _: {"keras_version": "2.15.0"})
    with pytest.raises(ValueError, match="Keras 2.15.0 saved it. Load it there and .*`estimator-serving import` takes"):
        export_model(path, base, TABLE)
    with pytest.raises(FileNotFoundError, match="There is no file .*other.keras"):
        export_model(tmp_path / "other.keras", base, TABLE)
    assert not base.exists()


def estimated(model, rows, folder, **options):
    """An Estimator of a Keras model, one step away from the model itself."""
    model.compile("adam", "mse")
    (*_, width) = model.output_shape
    estimator = model_to_estimator(model, model_dir=folder, **options)
    return estimator.train(numpy_input_fn({"x": rows}, np.ones((len(rows), width), np.float32), shuffle=False))


@pytest.mark.parametrize("kind", ["words", "masked"])
def test_an_estimator_is_served_over_any_number_of_steps(kind, tmp_path):
    random = np.random.default_rng(2)
    if kind == "words":
        embedding, receiver = layers.Embedding(9, 4, mask_zero=True), steps_of(None, "int64")
        stack = [keras.Input((None,), dtype="int32"), embedding, layers.GRU(4)]
    else:
        stack, receiver = [keras.Input((None, 3)), *RECURRENT[kind]], steps_of(3)

    def rows_of(rows, steps):
        ids = random.integers(0, 9, (rows, steps))
        numbers = np.where(ids[:, :, None] > 3, random.normal(size=(rows, steps, 3)), 0)
        return ids if kind == "words" else numbers.astype(np.float32)

    estimator = estimated(keras.Sequential([*stack, layers.Dense(2, name="out")]), rows_of(8, 5), tmp_path)
    signature = load(estimator.export_saved_model(tmp_path / "base", receiver)).signatures["serving_default"]
    for rows in (rows_of(1, 1), rows_of(7, 12), rows_of(1000, 4)):
        wanted = estimator.load().call({"x": torch.from_numpy(rows)}).predictions["out"].numpy()
        got = signature(x=rows)["out"]
        assert np.all(np.abs(got - wanted) <= 1e-5 * np.maximum(1, np.abs(wanted)))


def test_an_estimator_with_an_output_that_no_layer_gives_is_traced(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="out")])
    estimator = estimated(model, X, tmp_path, export_outputs={"out": lambda value: PredictOutput({"twice": 2 * value})})
    signatures = load(estimator.export_saved_model(tmp_path / "base", TABLE)).signatures
    wanted = estimator.load().call({"x": torch.from_numpy(X)}).predictions["out"].numpy()
    np.testing.assert_allclose(signatures["serving_default"](x=X)["out"], wanted, atol=1e-5)
    np.testing.assert_allclose(signatures["out"](x=X)["twice"], 2 * wanted, atol=1e-5)


def test_an_estimator_that_is_right_for_one_number_of_steps_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((None, 3)), *stepwise().layers, layers.Dense(1)])
    estimator = estimated(model, np.ones((8, 4, 3), np.float32), tmp_path)
    with pytest.raises(ValueError, match="there is no rule for the layer lambda.*one size for every axis"):
        estimator.export_saved_model(tmp_path / "base", steps_of(3))
    assert not (tmp_path / "base").exists()
