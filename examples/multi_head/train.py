"""One network, two answers: whether a passenger of the Titanic survives, and how many relatives came along.

python examples/multi_head/train.py
"""

import tempfile
from pathlib import Path

import torch

from estimator_serving.training import (
    BinaryClassHead,
    Dataset,
    DNNEstimator,
    MultiHead,
    PoissonRegressionHead,
    RunConfig,
    optimizers,
)
from estimator_serving.training import feature_column as fc

CSV = Path(__file__).parent.parent / "titanic" / "titanic.csv"


def passengers():
    """Features, and one array of labels a head."""
    rows = Dataset.from_csv(CSV, label_name="survived").shuffle(seed=7, reshuffle_each_iteration=False)
    return rows.map(lambda row, survived: (row, {"survival": survived, "relatives": row["sibsp"] + row["parch"]}))


def main():
    torch.set_num_threads(1)
    head = MultiHead(
        [BinaryClassHead(name="survival"), PoissonRegressionHead(name="relatives")],
        head_weights=[1.0, 0.5],
    )
    columns = [
        fc.numeric_column("age", normalizer_fn=lambda years: (years - 30.0) / 12.0),
        fc.numeric_column("fare", normalizer_fn=lambda pounds: torch.log1p(pounds) - 2.0),
        fc.indicator_column(fc.categorical_column_with_vocabulary_list("gender", ["female", "male"])),
        fc.indicator_column(fc.categorical_column_with_hash_bucket("class", 32)),
    ]
    estimator = DNNEstimator(
        head,
        hidden_units=[32, 16],
        feature_columns=columns,
        optimizer=lambda: optimizers.Adam(0.006, clipnorm=1.0),
        model_dir=tempfile.mkdtemp(),
        config=RunConfig(tf_random_seed=1),
    )
    estimator.train(lambda: passengers().skip(441).shuffle(seed=1).repeat().batch(64), steps=250)
    found = estimator.evaluate(lambda: passengers().take(441).batch(441))
    for name in ("loss/survival", "accuracy/survival", "loss/relatives", "label/mean/relatives"):
        print(f"{name}: {found[name]:.3f}")
    first = next(estimator.predict(lambda: passengers().take(1).batch(1)))
    print(f"survives: {first['survival', 'logistic'][0]:.2f}, relatives: {first['relatives', 'predictions'][0]:.2f}")


if __name__ == "__main__":
    main()
