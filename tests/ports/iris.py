"""Irises by a custom Estimator: the program with which TensorFlow 1 introduced model functions."""

import argparse
import os

import numpy as np
from estimator_serving.training.compat import v1 as tf

COLUMN_NAMES = ["SepalLength", "SepalWidth", "PetalLength", "PetalWidth", "Species"]
SPECIES = ["Setosa", "Versicolor", "Virginica"]

parser = argparse.ArgumentParser()
parser.add_argument("--data_dir", default="iris")
parser.add_argument("--model_dir", default="iris_model")
parser.add_argument("--batch_size", default=30, type=int)
parser.add_argument("--train_steps", default=200, type=int)


def load(path):
    rows = np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.float32)
    columns = dict(zip(COLUMN_NAMES, rows.T))
    return columns, columns.pop("Species").astype(np.int64)


def train_input_fn(features, labels, batch_size):
    dataset = tf.data.Dataset.from_tensor_slices((dict(features), labels))
    return dataset.shuffle(1000).repeat().batch(batch_size)


def eval_input_fn(features, labels, batch_size):
    inputs = dict(features) if labels is None else (dict(features), labels)
    return tf.data.Dataset.from_tensor_slices(inputs).batch(batch_size)


def my_model(features, labels, mode, params):
    net = tf.feature_column.input_layer(features, params["feature_columns"])
    for units in params["hidden_units"]:
        net = tf.layers.dense(net, units=units, activation=tf.nn.relu)
    logits = tf.layers.dense(net, params["n_classes"], activation=None)

    predicted_classes = logits.argmax(1)
    if mode == tf.estimator.ModeKeys.PREDICT:
        predictions = {
            "class_ids": predicted_classes[:, None],
            "probabilities": tf.nn.softmax(logits),
            "logits": logits,
        }
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)

    loss = tf.losses.sparse_softmax_cross_entropy(labels=labels, logits=logits)
    accuracy = tf.metrics.accuracy(labels=labels, predictions=predicted_classes, name="acc_op")
    metrics = {"accuracy": accuracy}
    tf.summary.scalar("accuracy", accuracy[1])
    if mode == tf.estimator.ModeKeys.EVAL:
        return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)

    assert mode == tf.estimator.ModeKeys.TRAIN
    optimizer = tf.train.AdagradOptimizer(learning_rate=0.1)
    train_op = optimizer.minimize(loss, global_step=tf.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def main(argv=None):
    args = parser.parse_args(argv)
    train_x, train_y = load(os.path.join(args.data_dir, "iris.train.csv"))
    test_x, test_y = load(os.path.join(args.data_dir, "iris.test.csv"))
    my_feature_columns = [tf.feature_column.numeric_column(key=key) for key in train_x.keys()]
    classifier = tf.estimator.Estimator(
        model_fn=my_model,
        model_dir=args.model_dir,
        config=tf.estimator.RunConfig(tf_random_seed=1),
        params={"feature_columns": my_feature_columns, "hidden_units": [10, 10], "n_classes": 3},
    )
    classifier.train(input_fn=lambda: train_input_fn(train_x, train_y, args.batch_size), steps=args.train_steps)
    results = classifier.evaluate(input_fn=lambda: eval_input_fn(test_x, test_y, args.batch_size))
    for prediction, expected in zip(classifier.predict(lambda: eval_input_fn(test_x, None, 30)), test_y):
        class_id = prediction["class_ids"][0]
        probability = 100 * prediction["probabilities"][class_id]
        tf.logging.info("%s (%.1f%%), expected %s", SPECIES[class_id], probability, SPECIES[expected])
    return results


if __name__ == "__main__":
    tf.logging.set_verbosity(tf.logging.INFO)
    for key, value in sorted(main().items()):
        print(f"{key}: {value}")
