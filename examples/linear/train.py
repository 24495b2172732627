"""A linear model of the Titanic list: which passengers it expects to survive, and what each class and gender weighs.

python examples/linear/train.py [--figures]         --figures needs the extra `figures` (matplotlib)
"""

import argparse
import tempfile
from pathlib import Path

from estimator_serving.training import Dataset, LinearClassifier, RunConfig, add_metrics, figures, optimizers
from estimator_serving.training import feature_column as fc

CSV = Path(__file__).parent.parent / "titanic" / "titanic.csv"
CLASSES = ["1st", "2nd", "3rd", "deck crew"]


def passengers():
    return Dataset.from_csv(CSV, label_name="survived").shuffle(seed=7, reshuffle_each_iteration=False)


def main(draw=False):
    columns = [
        fc.bucketized_column(fc.numeric_column("age"), [6, 13, 18, 30, 45, 60]),
        fc.categorical_column_with_vocabulary_list("gender", ["female", "male"]),
        fc.categorical_column_with_vocabulary_list("class", CLASSES),
        fc.crossed_column(["gender", "class"], hash_bucket_size=64),
    ]
    classifier = LinearClassifier(
        columns,
        optimizer=lambda: optimizers.Ftrl(0.1, l1_regularization_strength=0.01),
        model_dir=tempfile.mkdtemp(),
        config=RunConfig(tf_random_seed=1),
    )
    classifier.train(lambda: passengers().skip(441).repeat().batch(64), steps=200)
    if draw:
        classifier = add_metrics(classifier, figures.classifier_figures)
    found = classifier.evaluate(lambda: passengers().take(441).batch(441))
    print(f"accuracy: {found['accuracy']:.3f} (always the same answer: {found['accuracy_baseline']:.3f})")
    if draw:
        print(f"confusion matrix: {found['confusion_matrix'].tolist()}")
        print(f"figures: tensorboard --logdir {classifier.model_dir}")
    for name, words in (("gender", ["female", "male"]), ("class", CLASSES)):
        weights = classifier.get_variable_value(f"linear/linear_model/{name}/weights")[:, 0]
        print(f"{name}:", ", ".join(f"{word} {weight:+.2f}" for word, weight in zip(words, weights, strict=True)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", action="store_true", help="draw a confusion matrix and curves for TensorBoard")
    main(parser.parse_args().figures)
