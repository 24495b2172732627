"""TensorFlow's tutorial "Premade Estimators", as far as the export: made the SavedModel beside this file.

    python make_saved_model.py iris.csv        in an environment that has tensorflow 2.15

The first line of the file names the columns: SepalLength, SepalWidth, PetalLength, PetalWidth, Species (0, 1 or 2).
"""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

SPECIES = ["Setosa", "Versicolor", "Virginica"]
KEYS = ["SepalLength", "SepalWidth", "PetalLength", "PetalWidth"]


def main():
    table = np.genfromtxt(sys.argv[1], delimiter=",", names=True)
    features = {key: table[key].astype(np.float32) for key in KEYS}
    labels = np.array(SPECIES)[table["Species"].astype(int)]
    columns = [tf.feature_column.numeric_column(key) for key in KEYS]

    def input_fn():
        return tf.data.Dataset.from_tensor_slices((features, labels)).shuffle(1000, seed=1).repeat().batch(256)

    with tempfile.TemporaryDirectory() as work:
        config = tf.estimator.RunConfig(tf_random_seed=1)
        classifier = tf.estimator.DNNClassifier(
            [30, 10], columns, work, n_classes=3, label_vocabulary=SPECIES, config=config
        )
        classifier.train(input_fn, steps=5000)
        spec = tf.feature_column.make_parse_example_spec(columns)
        receiver_fn = tf.estimator.export.build_parsing_serving_input_receiver_fn(spec)
        exported = Path(classifier.export_saved_model(f"{work}/export", receiver_fn).decode())
        shutil.copytree(exported, Path(__file__).parent / "saved_model", dirs_exist_ok=True)


if __name__ == "__main__":
    main()
