"""Clicks by a factorization machine beside a DNN: a model_fn with its own variables, as many advertising teams have."""

import argparse
import os

import tensorflow.compat.v1 as tf

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
        columns = tf.string_split([line], " ").values
        labels = tf.string_to_number(columns[0], out_type=tf.float32)
        pairs = tf.string_split(columns[1:], ":")
        id_vals = tf.reshape(pairs.values, pairs.dense_shape)
        feat_ids, feat_vals = tf.split(id_vals, num_or_size_splits=2, axis=1)
        feat_ids = tf.string_to_number(tf.squeeze(feat_ids, 1), out_type=tf.int32)
        feat_vals = tf.string_to_number(tf.squeeze(feat_vals, 1), out_type=tf.float32)
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
    feat_ids = tf.reshape(features["feat_ids"], shape=[-1, field_size])
    feat_vals = tf.reshape(features["feat_vals"], shape=[-1, field_size])

    with tf.variable_scope("first-order"):
        feat_weights = tf.nn.embedding_lookup(weights, feat_ids)
        y_w = tf.reduce_sum(tf.multiply(feat_weights, feat_vals), 1)

    with tf.variable_scope("second-order"):
        embeddings = tf.nn.embedding_lookup(vectors, feat_ids)
        embeddings = tf.multiply(embeddings, tf.expand_dims(feat_vals, -1))
        sum_square = tf.square(tf.reduce_sum(embeddings, 1))
        square_sum = tf.reduce_sum(tf.square(embeddings), 1)
        y_v = 0.5 * tf.reduce_sum(tf.subtract(sum_square, square_sum), 1)

    with tf.variable_scope("deep-part"):
        deep_inputs = tf.reshape(embeddings, shape=[-1, field_size * embedding_size])
        for i, units in enumerate(layers):
            deep_inputs = tf.layers.dense(deep_inputs, units, activation=tf.nn.relu, name=f"mlp{i}")
            deep_inputs = tf.layers.batch_normalization(deep_inputs, momentum=0.9, training=training, name=f"bn{i}")
            deep_inputs = tf.layers.dropout(deep_inputs, rate=params["dropout"], training=training)
        y_deep = tf.layers.dense(deep_inputs, 1, activation=None, name="deep_out")
        y_d = tf.reshape(y_deep, shape=[-1])

    with tf.variable_scope("out"):
        y = bias + y_w + y_v + y_d
        pred = tf.sigmoid(y)

    predictions = {"prob": pred}
    export_outputs = {"serving_default": tf.estimator.export.PredictOutput(predictions)}
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode=mode, predictions=predictions, export_outputs=export_outputs)

    loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(logits=y, labels=labels))
    loss += l2_reg * tf.nn.l2_loss(weights) + l2_reg * tf.nn.l2_loss(vectors)
    eval_metric_ops = {"auc": tf.metrics.auc(labels, pred), "mean_label": tf.metrics.mean(labels)}
    if mode == tf.estimator.ModeKeys.EVAL:
        return tf.estimator.EstimatorSpec(mode=mode, loss=loss, eval_metric_ops=eval_metric_ops)

    global_step = tf.train.get_or_create_global_step()
    learning_rate = tf.train.exponential_decay(params["learning_rate"], global_step, 100, 0.96)
    optimizer = tf.train.AdamOptimizer(learning_rate=learning_rate, beta1=0.9, beta2=0.999, epsilon=1e-8)
    gradients, variables = zip(*optimizer.compute_gradients(loss))
    clipped, norm = tf.clip_by_global_norm(gradients, 5.0)
    tf.summary.scalar("gradient_norm", norm)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
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
            "feat_ids": tf.placeholder(dtype=tf.int64, shape=[None, flags.field_size], name="feat_ids"),
            "feat_vals": tf.placeholder(dtype=tf.float32, shape=[None, flags.field_size], name="feat_vals"),
        }
        serving_fn = tf.estimator.export.build_raw_serving_input_receiver_fn(feature_spec)
        estimator.export_savedmodel(flags.servable_dir, serving_fn)
    return results


if __name__ == "__main__":
    tf.disable_eager_execution()
    tf.logging.set_verbosity(tf.logging.INFO)
    for key, value in sorted(main().items()):
        print(f"{key}: {value}")
