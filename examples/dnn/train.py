"""A network learns a curve of two variables: regression with a learning rate that falls, and with example weights.

python examples/dnn/train.py
"""

import tempfile

import numpy as np
import torch

from estimator_serving.training import Dataset, DNNRegressor, RunConfig, optimizers
from estimator_serving.training import feature_column as fc

ROWS = 2000


def samples(seed):
    """y = sin 3a · b with noise; where the noise is large the weight is small."""
    random = np.random.default_rng(seed)
    a, b = random.uniform(-1, 1, (2, ROWS)).astype(np.float32)
    noise = random.choice([0.05, 1.0], ROWS)
    labels = (np.sin(3 * a) * b + noise * random.normal(size=ROWS)).astype(np.float32)
    return {"a": a, "b": b, "certainty": (0.05 / noise).astype(np.float32)}, labels


def main():
    # Layers this small lose more to the hand-over between threads than they gain.
    torch.set_num_threads(1)
    regressor = DNNRegressor(
        hidden_units=[32, 32],
        feature_columns=[fc.numeric_column("a"), fc.numeric_column("b")],
        weight_column="certainty",
        optimizer=lambda: optimizers.Adam(optimizers.schedules.CosineDecay(0.01, decay_steps=400)),
        model_dir=tempfile.mkdtemp(),
        config=RunConfig(tf_random_seed=1),
    )
    regressor.train(lambda: Dataset.from_tensor_slices(samples(1)).shuffle(seed=1).repeat().batch(64), steps=400)
    found = regressor.evaluate(lambda: Dataset.from_tensor_slices(samples(2)).batch(ROWS))
    print(f"weighted mean squared error: {found['average_loss']:.4f}")
    point = {"a": np.float32([0.5]), "b": np.float32([-1.0])}
    (answer,) = regressor.predict(lambda: Dataset.from_tensor_slices(point).batch(1))
    print(f"f(0.5, -1) = {answer['predictions'][0]:.2f}, without noise {-np.sin(1.5):.2f}")


if __name__ == "__main__":
    main()
