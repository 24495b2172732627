"""Boosted trees on the Titanic list: accuracy, which features matter, and why one passenger got their probability.

Needs the extra `trees` (LightGBM).
"""

import tempfile
from pathlib import Path

import torch

from estimator_serving.training import BoostedTreesClassifier, Dataset, RunConfig
from estimator_serving.training import feature_column as fc

CSV = Path(__file__).parent.parent / "titanic" / "titanic.csv"
ROWS = 2207


def passengers():
    return Dataset.from_csv(CSV, label_name="survived")


def main():
    torch.set_num_threads(1)
    columns = [
        fc.numeric_column("age"),
        fc.numeric_column("fare"),
        fc.bucketized_column(fc.numeric_column("sibsp"), [1, 2, 4]),
        fc.indicator_column(fc.categorical_column_with_vocabulary_list("gender", ["female", "male"])),
        fc.indicator_column(fc.categorical_column_with_vocabulary_list("class", ["1st", "2nd", "3rd", "deck crew"])),
    ]
    # All rows in one batch: each step grows one layer from all of them.
    estimator = BoostedTreesClassifier(
        columns, n_batches_per_layer=1, n_trees=50, max_depth=3, center_bias=True,
        model_dir=tempfile.mkdtemp(), config=RunConfig(tf_random_seed=1),
    )  # fmt: skip
    estimator.train(lambda: passengers().batch(ROWS).repeat())
    print(f"accuracy: {estimator.evaluate(lambda: passengers().batch(ROWS))['accuracy']:.3f}")
    for name, gain in estimator.experimental_feature_importances(normalize=True).items():
        print(f"importance of {name}: {gain:.2f}")
    explained = next(estimator.experimental_predict_with_explanations(lambda: passengers().batch(ROWS)))
    print(f"first passenger: {explained['logistic'][0]:.2f} = {explained['bias']:.2f} for everyone", end="")
    print("".join(f" {value:+.2f} for {name}" for name, value in explained["dfc"].items()))


if __name__ == "__main__":
    main()
