"""A trainer of a custom Estimator on the census, in the shape of those that ran on Google's Cloud ML Engine."""

import argparse

import numpy as np
from estimator_serving.training.compat import v1 as tf

CSV_COLUMNS = [
    "age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship", "race",
    "gender", "capital_gain", "capital_loss", "hours_per_week", "native_country", "income_bracket",
]  # fmt: skip
CSV_DEFAULTS = [[0], [""], [0], [""], [0], [""], [""], [""], [""], [""], [0], [0], [0], [""], [""]]
LABEL_COLUMN = "income_bracket"
LABELS = ["<=50K", ">50K"]
UNUSED_COLUMNS = set(CSV_COLUMNS) - {
    "age", "education", "education_num", "hours_per_week", "marital_status", "occupation", LABEL_COLUMN
}  # fmt: skip

AGE = tf.feature_column.numeric_column("age")
EDUCATION_NUM = tf.feature_column.numeric_column("education_num")
HOURS = tf.feature_column.numeric_column("hours_per_week")
EDUCATION = tf.feature_column.categorical_column_with_hash_bucket("education", hash_bucket_size=50)
MARITAL = tf.feature_column.categorical_column_with_vocabulary_list(
    "marital_status", ["Married-civ-spouse", "Divorced", "Never-married", "Widowed"]
)
OCCUPATION = tf.feature_column.categorical_column_with_hash_bucket("occupation", hash_bucket_size=100)
INPUT_COLUMNS = [AGE, EDUCATION_NUM, HOURS, EDUCATION, MARITAL, OCCUPATION]

parser = argparse.ArgumentParser()
parser.add_argument("--train-files", required=True, nargs="+")
parser.add_argument("--eval-files", required=True, nargs="+")
parser.add_argument("--job-dir", required=True)
parser.add_argument("--first-layer-size", type=int, default=32)
parser.add_argument("--num-layers", type=int, default=2)
parser.add_argument("--scale-factor", type=float, default=0.5)
parser.add_argument("--learning-rate", type=float, default=0.05)
parser.add_argument("--train-batch-size", type=int, default=40)
parser.add_argument("--train-steps", type=int, default=240)
parser.add_argument("--eval-steps", type=int, default=None)
parser.add_argument("--export-format", choices=["JSON"], default=None)


def model_fn(features, labels, mode, params):
    deep_columns = [
        AGE,
        EDUCATION_NUM,
        HOURS,
        tf.feature_column.embedding_column(EDUCATION, dimension=8),
        tf.feature_column.indicator_column(MARITAL),
        tf.feature_column.embedding_column(OCCUPATION, dimension=8),
    ]
    net = tf.feature_column.input_layer(features, deep_columns)
    net = tf.layers.batch_normalization(net, training=mode == tf.estimator.ModeKeys.TRAIN)
    for units in params["hidden_units"]:
        net = tf.layers.dense(net, units, activation=tf.nn.relu)
    logits = tf.layers.dense(net, len(LABELS), activation=None)

    if mode == tf.estimator.ModeKeys.PREDICT:
        probabilities = tf.nn.softmax(logits)
        predicted = probabilities.argmax(1)
        names = tf.contrib.lookup.index_to_string_table_from_tensor(LABELS)
        return tf.estimator.EstimatorSpec(
            mode,
            predictions={
                "predictions": names.lookup(predicted),
                "confidence": probabilities.amax(1),
            },
        )

    table = tf.lookup.StaticVocabularyTable(tf.lookup.KeyValueTensorInitializer(LABELS, range(2)), num_oov_buckets=1)
    label_indices = table.lookup(labels)
    loss = tf.losses.sparse_softmax_cross_entropy(labels=label_indices, logits=logits)
    tf.summary.scalar("cross_entropy", loss)
    if mode == tf.estimator.ModeKeys.TRAIN:
        optimizer = tf.train.AdagradOptimizer(learning_rate=params["learning_rate"])
        train_op = optimizer.minimize(loss, global_step=tf.train.get_global_step())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    probabilities = tf.nn.softmax(logits)
    metrics = {
        "accuracy": tf.metrics.accuracy(label_indices, logits.argmax(1), name="accuracy_op"),
        "auc": tf.metrics.auc(label_indices, probabilities[:, 1]),
    }
    return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)


def input_fn(filenames, num_epochs=None, shuffle=True, batch_size=200):
    def parse_csv(rows):
        columns = tf.decode_csv(rows[:, None], record_defaults=CSV_DEFAULTS)
        features = dict(zip(CSV_COLUMNS, columns))
        for column in UNUSED_COLUMNS:
            features.pop(column)
        label = features.pop(LABEL_COLUMN)
        return features, label[:, 0]

    dataset = tf.data.TextLineDataset(filenames)
    if shuffle:
        dataset = dataset.shuffle(buffer_size=batch_size * 10)
    return dataset.map(parse_csv).repeat(num_epochs).batch(batch_size).prefetch(1)


def json_serving_input_fn():
    rows = {column.name: np.zeros(1, column.dtype.numpy) for column in INPUT_COLUMNS}
    return tf.estimator.export.build_raw_serving_input_receiver_fn(rows)()


def main(argv=None):
    args = parser.parse_args(argv)
    hidden_units = [max(2, int(args.first_layer_size * args.scale_factor**i)) for i in range(args.num_layers)]
    config = tf.estimator.RunConfig(model_dir=args.job_dir, tf_random_seed=1)
    estimator = tf.estimator.Estimator(
        model_fn, config=config, params={"hidden_units": hidden_units, "learning_rate": args.learning_rate}
    )
    train_spec = tf.estimator.TrainSpec(
        lambda: input_fn(args.train_files, batch_size=args.train_batch_size), max_steps=args.train_steps
    )
    exporter = tf.estimator.FinalExporter("census", json_serving_input_fn)
    eval_spec = tf.estimator.EvalSpec(
        lambda: input_fn(args.eval_files, num_epochs=1, shuffle=False),
        steps=args.eval_steps,
        exporters=[exporter] if args.export_format else None,
        name="census-eval",
    )
    results, _ = tf.estimator.train_and_evaluate(estimator, train_spec, eval_spec)
    return results


if __name__ == "__main__":
    tf.logging.set_verbosity(tf.logging.INFO)
    for key, value in sorted(main().items()):
        print(f"{key}: {value}")
