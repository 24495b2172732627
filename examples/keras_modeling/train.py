"""The Keras tutorial from data to a served answer: three styles of model, callbacks, files, a search, figures.

KERAS_BACKEND=torch python examples/keras_modeling/train.py [--directory DIR] [--epochs 30] [--no-serving]

The directory gets checkpoints, saved models, figures and servables. README.md explains each step.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import argparse
import tempfile
from pathlib import Path

import keras
import matplotlib.figure
import numpy as np
import torch
from keras import layers
from sklearn.datasets import load_diabetes, load_digits, load_wine
from sklearn.metrics import ConfusionMatrixDisplay, classification_report, confusion_matrix
from sklearn.model_selection import train_test_split

from estimator_serving.examples.keras_modeling.ask import asked, served
from estimator_serving.exporter import build_raw_serving_input_receiver_fn, export_model
from estimator_serving.training import Dataset

# -- three styles of model ---------------------------------------------------------------------------------------------


def sequential(rows):
    """Sequential: a regression on a table, which normalizes its own columns."""
    normalizer = layers.Normalization(name="normalize")
    normalizer.adapt(rows)
    hidden = [layers.Dense(32, "relu"), layers.Dropout(0.1, seed=1)]
    model = keras.Sequential(
        [keras.Input(rows.shape[1:], name="patient"), normalizer, *hidden, layers.Dense(1, name="progression")]
    )
    model.compile(keras.optimizers.Adam(0.05), "mse", metrics=[within_fifty])
    return model


def functional():
    """Functional: digits, with a path around a convolution and two outputs of one network."""
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Rescaling(1 / 16)(image)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    x = layers.add([x, layers.Conv2D(16, 3, padding="same", activation="relu")(layers.BatchNormalization()(x))])
    x = layers.Dropout(0.2, seed=1)(layers.Flatten()(layers.MaxPooling2D()(x)))
    model = keras.Model(image, layers.Dense(10, "softmax", name="digit")(x))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@keras.saving.register_keras_serializable("examples")
class Wines(keras.Model):
    """Subclassed: which of three growers a wine is from."""

    def __init__(self, units=16, rate=0.01, **kwargs):
        super().__init__(**kwargs)
        self.units, self.rate = units, rate
        self.normed = layers.BatchNormalization()
        self.hidden = layers.Dense(units, "relu")
        self.grower = layers.Dense(3, name="grower")

    def call(self, wine, training=None):
        return self.grower(self.hidden(self.normed(wine, training=training)))

    def get_config(self):
        return {**super().get_config(), "units": self.units, "rate": self.rate}

    def ready(self):
        self.compile(keras.optimizers.Adam(self.rate), focal_loss, metrics=["accuracy"])
        return self


# -- a loss and a metric of one's own ----------------------------------------------------------------------------------


@keras.saving.register_keras_serializable("examples")
def focal_loss(labels, logits):
    """Cross entropy in which rows that are clear already count little."""
    labels = keras.ops.one_hot(keras.ops.cast(keras.ops.reshape(labels, (-1,)), "int32"), 3)
    right = keras.ops.sum(labels * keras.ops.softmax(logits), axis=-1)
    return -((1 - right) ** 2) * keras.ops.log(right + 1e-7)


@keras.saving.register_keras_serializable("examples")
def within_fifty(labels, values):
    """The part of the rows whose error is at most 50."""
    return keras.ops.cast(keras.ops.abs(labels - values) <= 50, "float32")


# -- training ----------------------------------------------------------------------------------------------------------


def callbacks(directory, monitored="val_loss"):
    """Stop when nothing improves, learn slower before that, and keep the best weights on disk."""
    return [
        keras.callbacks.EarlyStopping(monitored, patience=8, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau(monitored, factor=0.5, patience=3),
        keras.callbacks.ModelCheckpoint(
            directory / "best.weights.h5", monitored, save_best_only=True, save_weights_only=True
        ),
    ]


def fit(model, train, held_out, directory, epochs):
    """Trains on Datasets; returns the learning curve."""
    directory.mkdir(parents=True, exist_ok=True)
    batches = train.shuffle(seed=1).batch(32).torch_loader()
    checked = held_out.batch(256).torch_loader()
    return model.fit(batches, validation_data=checked, epochs=epochs, callbacks=callbacks(directory), verbose=0)


def draw(history, directory):
    """The learning curve as a figure."""
    figure = matplotlib.figure.Figure()
    axes = figure.subplots()
    for name in ("loss", "val_loss"):
        axes.plot(history.history[name], label=name)
    axes.set_xlabel("epoch")
    axes.legend()
    figure.savefig(directory / "learning_curve.png")


def report(labels, classes, names, directory):
    """Prints the classification report and draws the confusion matrix."""
    print(classification_report(labels, classes, target_names=names, zero_division=0))
    figure = matplotlib.figure.Figure()
    ConfusionMatrixDisplay(confusion_matrix(labels, classes), display_labels=names).plot(ax=figure.subplots())
    figure.savefig(directory / "confusion_matrix.png")


# -- files -------------------------------------------------------------------------------------------------------------


def saved_and_loaded(model, make, rows, directory):
    """Saves a model in four ways and loads it again. Raises AssertionError where one predicts something else."""
    model.save(directory / "model.keras")
    model.save_weights(directory / "model.weights.h5")
    with_weights = make()
    with_weights.load_weights(directory / "model.weights.h5")
    loaded = {".keras": keras.models.load_model(directory / "model.keras"), ".weights.h5": with_weights}
    if getattr(model, "inputs", None):
        # A subclassed model is Python code, which neither of these holds.
        model.save(directory / "model.h5")
        (directory / "model.json").write_text(model.to_json())
        from_json = keras.models.model_from_json((directory / "model.json").read_text())
        from_json.load_weights(directory / "model.weights.h5")
        loaded |= {".h5": keras.models.load_model(directory / "model.h5", compile=False), "JSON": from_json}
    wanted = model.predict(rows, verbose=0)
    for other in loaded.values():
        np.testing.assert_allclose(other.predict(rows, verbose=0), wanted, rtol=1e-6, atol=1e-6)
    print("saved and loaded as", ", ".join(loaded))


# -- the search for better hyperparameters -----------------------------------------------------------------------------


def search(rows, labels, directory, epochs):
    """The best units and rate of `Wines` that Hyperband finds; the defaults where keras-tuner is not installed."""
    try:
        import keras_tuner
    except ImportError as missing:
        print(f"No search ({missing}): pip install keras-tuner six")
        return {}

    def build(choices):
        units, rate = choices.Int("units", 8, 64, step=8), choices.Float("rate", 1e-3, 1e-1, sampling="log")
        return Wines(units, rate).ready()

    tuner = keras_tuner.Hyperband(build, "val_accuracy", max_epochs=epochs, directory=directory, project_name="search")
    tuner.search(rows, labels, validation_split=0.25, verbose=0)
    (best,) = tuner.get_best_hyperparameters()
    print("Hyperband found", best.values["units"], "units and a rate of", best.values["rate"])
    return {"units": best.values["units"], "rate": best.values["rate"]}


# -- all of it ---------------------------------------------------------------------------------------------------------


def split(data):
    """(rows, labels) to train on, and held-out ones."""
    rows, labels = data
    train_rows, test_rows, train_labels, test_labels = train_test_split(np.float32(rows), labels, random_state=1)
    return (train_rows, train_labels), (test_rows, test_labels)


def run(directory, epochs):
    """Trains, saves and exports the three models; returns held-out rows and Keras's predictions by the model's name."""
    # Layers this small lose more to the hand-over between threads than they gain.
    torch.set_num_threads(1)
    keras.utils.set_random_seed(1)
    wanted = {}

    def finish(name, model, make, history, rows, alias):
        draw(history, directory / name)
        saved_and_loaded(model, make, rows, directory / name)
        receiver_fn = build_raw_serving_input_receiver_fn({alias: rows[:1]})
        export_model(model, directory / "servables" / name, receiver_fn)
        wanted[name] = (alias, rows[:5], model.predict(rows[:5], verbose=0))

    train, (rows, progression) = split(load_diabetes(return_X_y=True, scaled=False))
    train = train[0], np.float32(train[1])[:, None]
    held_out = Dataset.from_tensor_slices((rows, np.float32(progression)[:, None]))
    model = sequential(train[0])
    history = fit(model, Dataset.from_tensor_slices(train), held_out, directory / "diabetes", epochs)
    found = model.evaluate(held_out.batch(256).torch_loader(), verbose=0, return_dict=True)
    print(f"diabetes: mean squared error {found['loss']:.0f}, {found['within_fifty']:.0%} within 50")
    finish("diabetes", model, lambda: sequential(train[0]), history, rows, "patient")

    train, (rows, digits) = split((load_digits().images[..., None], load_digits().target))
    held_out = Dataset.from_tensor_slices((rows, digits))
    model = functional()
    history = fit(model, Dataset.from_tensor_slices(train), held_out, directory / "digits", max(2, epochs // 3))
    report(digits, model.predict(rows, verbose=0).argmax(axis=1), [str(one) for one in range(10)], directory / "digits")
    finish("digits", model, functional, history, rows, "image")

    train, (rows, growers) = split(load_wine(return_X_y=True))
    held_out = Dataset.from_tensor_slices((rows, growers))
    (directory / "wine").mkdir(parents=True, exist_ok=True)
    chosen = search(*train, directory / "wine", min(epochs, 9))
    model = Wines(**chosen).ready()
    history = fit(model, Dataset.from_tensor_slices(train), held_out, directory / "wine", epochs)
    report(growers, model.predict(rows, verbose=0).argmax(axis=1), list(load_wine().target_names), directory / "wine")

    def built():
        other = Wines(**chosen)
        other(rows[:1])
        return other

    finish("wine", model, built, history, rows, "wine")
    return wanted


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--no-serving", action="store_true", help="do not start a server and ask it")
    arguments = parser.parse_args()
    directory = arguments.directory or Path(tempfile.mkdtemp())
    wanted = run(directory, arguments.epochs)
    print("written to", directory)
    if arguments.no_serving:
        return
    with served(directory / "servables", wanted) as url:
        for name, (alias, rows, predictions) in wanted.items():
            answers = asked(url, name, [{alias: row.tolist()} for row in rows])
            np.testing.assert_allclose(
                np.float32(answers).reshape(predictions.shape), predictions, rtol=1e-4, atol=1e-4
            )
            print(f"{name} over REST:", np.round(np.float32(answers[0]).ravel(), 3).tolist())


if __name__ == "__main__":
    main()
