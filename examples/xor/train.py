"""The smallest program: a DNNClassifier learns exclusive or from its four rows.

python examples/xor/train.py

It runs on SageMaker too, which passes hyperparameters as flags, data as a directory and the place of the model.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from estimator_serving.exporter import build_parsing_serving_input_receiver_fn
from estimator_serving.training import DNNClassifier, RunConfig, feature_column, numpy_input_fn, optimizers

ROWS = {"a": np.float32([0, 0, 1, 1]), "b": np.float32([0, 1, 0, 1])}
LABELS = np.int64([0, 1, 1, 0])


COLUMNS = [feature_column.numeric_column("a"), feature_column.numeric_column("b")]


def make_classifier(model_dir: str | None = None) -> DNNClassifier:
    return DNNClassifier(
        hidden_units=[10, 20, 10],
        feature_columns=COLUMNS,
        optimizer=optimizers.Adam(learning_rate=0.01),
        model_dir=model_dir,
        config=RunConfig(tf_random_seed=3),
    )


def read_csv(path: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The rows and labels of a file with the columns a, b, label."""
    table = np.genfromtxt(path, delimiter=",", names=True, dtype=np.float32)
    return {name: table[name] for name in ("a", "b")}, table["label"].astype(np.int64)


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--train_dir", default=os.environ.get("SM_CHANNEL_TRAINING"), help="holds xor.csv")
    parser.add_argument("--export_dir", default=os.environ.get("SM_MODEL_DIR"))
    given = parser.parse_args(arguments)
    rows, labels = read_csv(Path(given.train_dir) / "xor.csv") if given.train_dir else (ROWS, LABELS)
    classifier = make_classifier()
    classifier.train(numpy_input_fn(rows, labels, batch_size=4, num_epochs=None, shuffle=True), steps=given.steps)
    print("accuracy:", classifier.evaluate(numpy_input_fn(rows, labels, shuffle=False))["accuracy"])
    for a, b, row in zip(ROWS["a"], ROWS["b"], classifier.predict(numpy_input_fn(ROWS, shuffle=False)), strict=True):
        print(f"{a:.0f} xor {b:.0f} = {row['class_ids'][0]}   ({row['probabilities'][1]:.3f})")
    if given.export_dir:
        spec = feature_column.make_parse_example_spec(COLUMNS)
        receiver_fn = build_parsing_serving_input_receiver_fn(spec)
        print("exported to", classifier.export_saved_model(given.export_dir, receiver_fn))


if __name__ == "__main__":
    main(sys.argv[1:])
