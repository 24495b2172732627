"""The smallest program: a DNNClassifier learns exclusive or from its four rows.

python examples/xor/train.py
"""

from __future__ import annotations

import numpy as np

from estimator_serving.training import DNNClassifier, RunConfig, feature_column, numpy_input_fn, optimizers

ROWS = {"a": np.float32([0, 0, 1, 1]), "b": np.float32([0, 1, 0, 1])}
LABELS = np.int64([0, 1, 1, 0])


def make_classifier(model_dir: str | None = None) -> DNNClassifier:
    return DNNClassifier(
        hidden_units=[10, 20, 10],
        feature_columns=[feature_column.numeric_column("a"), feature_column.numeric_column("b")],
        optimizer=optimizers.Adam(learning_rate=0.01),
        model_dir=model_dir,
        config=RunConfig(tf_random_seed=3),
    )


def main() -> None:
    classifier = make_classifier()
    classifier.train(numpy_input_fn(ROWS, LABELS, batch_size=4, num_epochs=None, shuffle=True), steps=500)
    print("accuracy:", classifier.evaluate(numpy_input_fn(ROWS, LABELS, shuffle=False))["accuracy"])
    for a, b, row in zip(ROWS["a"], ROWS["b"], classifier.predict(numpy_input_fn(ROWS, shuffle=False)), strict=True):
        print(f"{a:.0f} xor {b:.0f} = {row['class_ids'][0]}   ({row['probabilities'][1]:.3f})")


if __name__ == "__main__":
    main()
