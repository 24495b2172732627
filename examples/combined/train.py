"""Wide and deep on the Titanic list: a linear model of crosses beside a network of embeddings, trained together.

python examples/combined/train.py
"""

import tempfile
from pathlib import Path

import torch

from estimator_serving.training import Dataset, DNNLinearCombinedClassifier, RunConfig
from estimator_serving.training import feature_column as fc

CSV = Path(__file__).parent.parent / "titanic" / "titanic.csv"


def passengers():
    return Dataset.from_csv(CSV, label_name="survived").shuffle(seed=7, reshuffle_each_iteration=False)


def main():
    torch.set_num_threads(1)
    age = fc.numeric_column("age", normalizer_fn=lambda years: (years - 30.0) / 12.0)
    gender = fc.categorical_column_with_vocabulary_list("gender", ["female", "male"])
    person_class = fc.categorical_column_with_hash_bucket("class", 32)
    classifier = DNNLinearCombinedClassifier(
        linear_feature_columns=[gender, fc.crossed_column(["gender", "class", "embarked"], 256)],
        linear_optimizer="Ftrl",
        dnn_feature_columns=[age, fc.indicator_column(gender), fc.embedding_column(person_class, 4)],
        dnn_optimizer="Adam",
        dnn_hidden_units=[32, 16],
        dnn_dropout=0.1,
        model_dir=tempfile.mkdtemp(),
        config=RunConfig(tf_random_seed=1),
    )
    classifier.train(lambda: passengers().skip(441).shuffle(seed=1).repeat().batch(64), steps=250)
    found = classifier.evaluate(lambda: passengers().take(441).batch(441))
    print(f"accuracy: {found['accuracy']:.3f}, area under the ROC curve: {found['auc']:.3f}")
    for name in classifier.get_variable_names():
        if name.startswith(("dnn/", "linear/")):
            print(f"{name} {list(classifier.get_variable_value(name).shape)}")


if __name__ == "__main__":
    main()
