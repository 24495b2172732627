"""What is an accuracy worth? A model that sees no feature, beside one that does, on the Titanic list.

python examples/baseline/train.py
"""

import tempfile
from pathlib import Path

from estimator_serving.training import BaselineClassifier, Dataset, LinearClassifier, RunConfig
from estimator_serving.training import feature_column as fc

CSV = Path(__file__).parent.parent / "titanic" / "titanic.csv"


def passengers():
    return Dataset.from_csv(CSV, label_name="survived").shuffle(seed=7, reshuffle_each_iteration=False)


def main():
    config = RunConfig(tf_random_seed=1)
    gender = fc.categorical_column_with_vocabulary_list("gender", ["female", "male"])
    estimators = {
        "baseline": BaselineClassifier(model_dir=tempfile.mkdtemp(), config=config),
        "gender alone": LinearClassifier([gender], model_dir=tempfile.mkdtemp(), config=config),
    }
    for name, estimator in estimators.items():
        estimator.train(lambda: passengers().skip(441).repeat().batch(64), steps=200)
        found = estimator.evaluate(lambda: passengers().take(441).batch(441))
        print(f"{name}: accuracy {found['accuracy']:.3f}, loss {found['average_loss']:.3f}")


if __name__ == "__main__":
    main()
