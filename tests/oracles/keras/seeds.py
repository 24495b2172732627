"""The networks of TensorFlow's tutorials, trained with many seeds and exported: none may be refused.

Trains a classifier of images (Flatten, Dense, Dropout, Dense, as in the Fashion-MNIST tutorial; with pixels of 0..255,
too, where the logits are sums of large numbers) and a tabular regression (Normalization, Dense) on data of
scikit-learn, exports them and asks them for every training row.

    KERAS_BACKEND=torch python tests/oracles/keras/seeds.py [--seeds 40] [--first 0]

The exit status is 1 if an export was refused.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import keras
import numpy as np
import torch
from sklearn.datasets import load_diabetes, load_digits

from estimator_serving.exporter import build_raw_serving_input_receiver_fn, export_model
from estimator_serving.serving import load


def images(seed, scale, units=128):
    """A classifier of 28 × 28 images with pixels up to `scale`, and its rows."""
    keras.utils.set_random_seed(seed)
    pixels, labels = load_digits(return_X_y=True)
    rows = np.kron(pixels.reshape(-1, 8, 8), np.ones((4, 4)))[:, 2:30, 2:30].astype(np.float32) / 16 * scale
    layers = [keras.layers.Flatten(), keras.layers.Dense(units, "relu"), keras.layers.Dropout(0.2)]
    model = keras.Sequential([keras.Input((28, 28)), *layers, keras.layers.Dense(10)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    model.fit(rows, labels, epochs=2, verbose=0)
    return model, rows


def table(seed):
    """A regression on the columns of `load_diabetes`, and its rows."""
    keras.utils.set_random_seed(seed)
    rows, labels = load_diabetes(return_X_y=True, scaled=False)
    rows = rows.astype(np.float32)
    normalizer = keras.layers.Normalization()
    normalizer.adapt(rows)
    hidden = [keras.layers.Dense(64, "relu"), keras.layers.Dropout(0.1), keras.layers.Dense(64, "relu")]
    model = keras.Sequential([keras.Input((rows.shape[1],)), normalizer, *hidden, keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.001), "mae")
    model.fit(rows, labels, epochs=5, verbose=0)
    return model, rows


def furthest(model, rows, directory):
    """Exports the model; returns how far the servable is from it at most, in parts of max(1, |x|)."""
    path = export_model(model, directory, build_raw_serving_input_receiver_fn({"rows": rows[:1]}))
    (served,) = load(path).signatures["serving_default"](rows=rows).values()
    wanted = model.predict(rows, verbose=0, batch_size=len(rows))
    return float(np.max(np.abs(served - wanted) / np.maximum(1, np.abs(wanted))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    # Layers this small lose more to the hand-over between threads than they gain.
    torch.set_num_threads(1)
    made = {
        "images of 0..1": lambda seed: images(seed, 1),
        "images of 0..255": lambda seed: images(seed, 255),
        "table": table,
    }
    refused = 0
    for name, make in made.items():
        started, worst = time.perf_counter(), 0.0
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            with tempfile.TemporaryDirectory() as directory:
                try:
                    worst = max(worst, furthest(*make(seed), directory))
                except Exception as error:
                    refused += 1
                    print(f"{name}, seed {seed}: {error}", flush=True)
        print(
            f"{name}: {arguments.seeds} seeds, furthest {worst:.1e}, {time.perf_counter() - started:.0f} s", flush=True
        )
    print(f"{refused} refused")
    return 1 if refused else 0


if __name__ == "__main__":
    raise SystemExit(main())
