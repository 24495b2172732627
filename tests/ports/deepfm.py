"""Clicks by a factorization machine beside a DNN: a model_fn with its own variables, as many advertising teams have."""

import argparse
import os

import numpy as np
import torch
from estimator_serving.training.compat import v1 as tf

parser = argparse.ArgumentParser()
parser.add_argument("--data_dir", default="clicks")
parser.add_argument("--model_dir", default="clicks_model")
parser.add_argument("--servable_dir", default=None)
parser.add_argument("--feature_size", type=int, default=60)
parser.add_argument("--field_size", type=int, default=6)
parser.add_argument("--embedding_size", type=int, default=4)
parser.add_argument("--deep_layers", default="32,16")
parser.add_argument("--dropout", type=float, default=0.1)
parser.add_argument("--l2_reg", type=float, default=0.0001)
parser.add_argument("--learning_rate", type=float, default=0.01)
parser.add_argument("--batch_size", type=int, default=50)
parser.add_argument("--num_epochs", type=int, default=8)


def input_fn(filenames, batch_size=32, num_epochs=1, perform_shuffle=False):
    def decode_libsvm(line):
        rows = [row.replace(":", " ").split() for row in line]
        labels = np.float32([row[0] for row in rows])
        feat_ids = np.int32([row[1::2] for row in rows])
        feat_vals = np.float32([row[2::2] for row in rows])
        return {"feat_ids": feat_ids, "feat_vals": feat_vals}, labels

    dataset = tf.data.TextLineDataset(filenames).map(decode_libsvm, num_parallel_calls=4).prefetch(1000)
    if perform_shuffle:
        dataset = dataset.shuffle(buffer_size=256)
    return dataset.repeat(num_epochs).batch(batch_size)


def model_fn(features, labels, mode, params):
    field_size = params["field_size"]
    feature_size = params["feature_size"]
    embedding_size = params["embedding_size"]
    l2_reg = params["l2_reg"]
    layers = [int(units) for units in params["deep_layers"].split(",")]
    training = mode == tf.estimator.ModeKeys.TRAIN

    bias = tf.get_variable("fm_bias", shape=[1], initializer=tf.constant_initializer(0.0))
    weights = tf.get_variable("fm_w", shape=[feature_size], initializer=tf.glorot_normal_initializer())
    vectors = tf.get_variable("fm_v", shape=[feature_size, embedding_size], initializer=tf.glorot_normal_initializer())
    feat_ids = features["feat_ids"].reshape(-1, field_size)
    feat_vals = features["feat_vals"].reshape(-1, field_size)

    with tf.variable_scope("first-order"):
        feat_weights = weights[feat_ids]
        y_w = (feat_weights * feat_vals).sum(1)

    with tf.variable_scope("second-order"):
        embeddings = vectors[feat_ids]
        embeddings = embeddings * feat_vals.unsqueeze(-1)
        sum_square = embeddings.sum(1).square()
        square_sum = embeddings.square().sum(1)
        y_v = 0.5 * (sum_square - square_sum).sum(1)

    with tf.variable_scope("deep-part"):
        deep_inputs = embeddings.reshape(-1, field_size * embedding_size)
        for i, units in enumerate(layers):
            deep_inputs = tf.layers.dense(deep_inputs, units, activation=tf.nn.relu, name=f"mlp{i}")
            deep_inputs = tf.layers.batch_normalization(deep_inputs, momentum=0.9, training=training, name=f"bn{i}")
            deep_inputs = tf.layers.dropout(deep_inputs, rate=params["dropout"], training=training)
        y_deep = tf.layers.dense(deep_inputs, 1, activation=None, name="deep_out")
        y_d = y_deep.reshape(-1)

    with tf.variable_scope("out"):
        y = bias + y_w + y_v + y_d
        pred = torch.sigmoid(y)

    predictions = {"prob": pred}
    export_outputs = {"serving_default": tf.estimator.export.PredictOutput(predictions)}
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode=mode, predictions=predictions, export_outputs=export_outputs)

    loss = torch.nn.functional.binary_cross_entropy_with_logits(y, labels)
    loss += l2_reg * weights.square().sum() / 2 + l2_reg * vectors.square().sum() / 2
    eval_metric_ops = {"auc": tf.metrics.auc(labels, pred), "mean_label": tf.metrics.mean(labels)}
    if mode == tf.estimator.ModeKeys.EVAL:
        return tf.estimator.EstimatorSpec(mode=mode, loss=loss, eval_metric_ops=eval_metric_ops)

    global_step = tf.train.get_or_create_global_step()
    learning_rate = tf.train.exponential_decay(params["learning_rate"], global_step, 100, 0.96)
    optimizer = tf.train.AdamOptimizer(learning_rate=learning_rate, beta1=0.9, beta2=0.999, epsilon=1e-8)
    gradients, variables = zip(*optimizer.compute_gradients(loss))
    clipped, norm = tf.clip_by_global_norm(gradients, 5.0)
    tf.summary.scalar("gradient_norm", norm)
    train_op = optimizer.apply_gradients(zip(clipped, variables), global_step=global_step)
    return tf.estimator.EstimatorSpec(mode=mode, loss=loss, train_op=train_op)


def main(argv=None):
    flags = parser.parse_args(argv)
    config = tf.estimator.RunConfig(tf_random_seed=1).replace(log_step_count_steps=100, save_summary_steps=100)
    estimator = tf.estimator.Estimator(
        model_fn=model_fn, model_dir=flags.model_dir, params=dict(vars(flags)), config=config
    )
    train_file = os.path.join(flags.data_dir, "clicks.train.libsvm")
    test_file = os.path.join(flags.data_dir, "clicks.test.libsvm")
    estimator.train(lambda: input_fn(train_file, flags.batch_size, flags.num_epochs, perform_shuffle=True))
    results = estimator.evaluate(lambda: input_fn(test_file, flags.batch_size))
    if flags.servable_dir:
        feature_spec = {
            "feat_ids": np.zeros((1, flags.field_size), np.int64),
            "feat_vals": np.zeros((1, flags.field_size), np.float32),
        }
        serving_fn = tf.estimator.export.build_raw_serving_input_receiver_fn(feature_spec)
        estimator.export_savedmodel(flags.servable_dir, serving_fn)
    return results


if __name__ == "__main__":
    tf.logging.set_verbosity(tf.logging.INFO)
    for key, value in sorted(main().items()):
        print(f"{key}: {value}")
