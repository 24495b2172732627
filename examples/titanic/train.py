"""Trains a DNNClassifier on the Titanic's passenger list, evaluates it on held-out rows and exports it.

python examples/titanic/train.py [--model_dir DIR] [--export_dir DIR]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from estimator_serving.exporter import build_parsing_serving_input_receiver_fn
from estimator_serving.training import Dataset, DNNClassifier, RunConfig, SessionRunHook, feature_column, optimizers

PASSENGERS = Path(__file__).with_name("titanic.csv")
HELD_OUT_ROWS = 441  # of 2,207: every fifth
TRAINING_STEPS = 2000

CLASSES = ["1st", "2nd", "3rd", "deck crew", "engineering crew", "restaurant staff", "victualling crew"]


def read_passengers() -> Dataset:
    """All rows in one fixed random order: features by name, `survived` as the label."""
    return Dataset.from_csv(PASSENGERS, label_name="survived").shuffle(seed=7, reshuffle_each_iteration=False)


def train_input_fn() -> Dataset:
    return read_passengers().skip(HELD_OUT_ROWS).shuffle(seed=1).repeat().batch(32)


def evaluation_input_fn() -> Dataset:
    return read_passengers().take(HELD_OUT_ROWS).batch(HELD_OUT_ROWS)


def make_columns() -> list[feature_column.FeatureColumn]:
    """What the network sees of a passenger."""
    age = feature_column.numeric_column("age", normalizer_fn=lambda years: (years - 30.0) / 12.0)
    fare = feature_column.numeric_column("fare", normalizer_fn=lambda pounds: torch.log1p(pounds) - 2.0)
    age_group = feature_column.bucketized_column(feature_column.numeric_column("age"), [6, 13, 18, 30, 45, 60])
    person_class = feature_column.categorical_column_with_vocabulary_list("class", CLASSES)
    gender = feature_column.categorical_column_with_vocabulary_list("gender", ["female", "male"])
    embarked = feature_column.categorical_column_with_hash_bucket("embarked", hash_bucket_size=16)
    return [
        age,
        fare,
        age_group,
        feature_column.indicator_column(gender),
        feature_column.indicator_column(embarked),
        feature_column.embedding_column(person_class, dimension=4),
        feature_column.numeric_column("sibsp"),
        feature_column.numeric_column("parch"),
    ]


def make_classifier(model_dir: str | Path) -> DNNClassifier:
    return DNNClassifier(
        hidden_units=[32, 16],
        feature_columns=make_columns(),
        model_dir=str(model_dir),
        optimizer=optimizers.Adam(learning_rate=0.001),
        config=RunConfig(tf_random_seed=11),
    )


def train(classifier: DNNClassifier, hooks: Sequence[SessionRunHook] = ()) -> None:
    """Trains up to TRAINING_STEPS; a second call with the same model_dir has nothing left to do."""
    # Layers this small lose more to the hand-over between threads than they gain.
    torch.set_num_threads(1)
    classifier.train(train_input_fn, max_steps=TRAINING_STEPS, hooks=list(hooks))


def export(classifier: DNNClassifier, export_dir: str | Path) -> str:
    """Exports a servable that takes serialized Examples; returns its version directory."""
    feature_spec = feature_column.make_parse_example_spec(make_columns())
    return classifier.export_saved_model(str(export_dir), build_parsing_serving_input_receiver_fn(feature_spec))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_dir", default="build/titanic/model")
    parser.add_argument("--export_dir", default="build/titanic/servable")
    arguments = parser.parse_args()
    classifier = make_classifier(arguments.model_dir)
    train(classifier)
    for name, value in sorted(classifier.evaluate(evaluation_input_fn).items()):
        print(f"{name:22} {value:.4f}")
    print("exported to", export(classifier, arguments.export_dir))


if __name__ == "__main__":
    main()
