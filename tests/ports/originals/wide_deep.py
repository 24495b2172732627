"""A wide and deep classifier of incomes, as the official models repository of TensorFlow 1 had one."""

import argparse
import os

import tensorflow.compat.v1 as tf

CSV_COLUMNS = [
    "age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship", "race",
    "gender", "capital_gain", "capital_loss", "hours_per_week", "native_country", "income_bracket",
]  # fmt: skip
CSV_DEFAULTS = [[0.0], [""], [0], [""], [0.0], [""], [""], [""], [""], [""], [0.0], [0], [0.0], [""], [""]]

parser = argparse.ArgumentParser()
parser.add_argument("--data_dir", default="census_data")
parser.add_argument("--model_dir", default="census_model")
parser.add_argument("--export_dir", default=None)
parser.add_argument("--model_type", default="wide_deep", choices=["wide", "deep", "wide_deep"])
parser.add_argument("--train_epochs", type=int, default=4)
parser.add_argument("--epochs_per_eval", type=int, default=2)
parser.add_argument("--batch_size", type=int, default=40)
parser.add_argument("--seed", type=int, default=1)


def build_model_columns():
    age = tf.feature_column.numeric_column("age")
    education_num = tf.feature_column.numeric_column("education_num")
    hours_per_week = tf.feature_column.numeric_column("hours_per_week")
    education = tf.feature_column.categorical_column_with_vocabulary_list(
        "education", ["HS-grad", "Some-college", "Bachelors", "Masters", "Doctorate", "11th", "Assoc-voc"]
    )
    marital_status = tf.feature_column.categorical_column_with_vocabulary_list(
        "marital_status", ["Married-civ-spouse", "Divorced", "Never-married", "Widowed"]
    )
    relationship = tf.feature_column.categorical_column_with_vocabulary_list(
        "relationship", ["Husband", "Not-in-family", "Wife", "Own-child", "Unmarried"]
    )
    workclass = tf.feature_column.categorical_column_with_vocabulary_list(
        "workclass", ["Private", "Self-emp-not-inc", "Local-gov", "Federal-gov", "?"]
    )
    occupation = tf.feature_column.categorical_column_with_hash_bucket("occupation", hash_bucket_size=1000)
    age_buckets = tf.feature_column.bucketized_column(age, boundaries=[18, 25, 30, 35, 40, 45, 50, 55, 60, 65])
    base_columns = [education, marital_status, relationship, workclass, occupation, age_buckets]
    crossed_columns = [
        tf.feature_column.crossed_column(["education", "occupation"], hash_bucket_size=1000),
        tf.feature_column.crossed_column([age_buckets, "education", "occupation"], hash_bucket_size=1000),
    ]
    wide_columns = base_columns + crossed_columns
    deep_columns = [
        age,
        education_num,
        hours_per_week,
        tf.feature_column.indicator_column(workclass),
        tf.feature_column.indicator_column(education),
        tf.feature_column.indicator_column(marital_status),
        tf.feature_column.indicator_column(relationship),
        tf.feature_column.embedding_column(occupation, dimension=8),
    ]
    return wide_columns, deep_columns


def build_estimator(model_dir, model_type, seed):
    wide_columns, deep_columns = build_model_columns()
    hidden_units = [32, 16]
    run_config = tf.estimator.RunConfig(tf_random_seed=seed).replace(
        session_config=tf.ConfigProto(device_count={"GPU": 0})
    )
    if model_type == "wide":
        return tf.estimator.LinearClassifier(model_dir=model_dir, feature_columns=wide_columns, config=run_config)
    if model_type == "deep":
        return tf.estimator.DNNClassifier(
            model_dir=model_dir, feature_columns=deep_columns, hidden_units=hidden_units, config=run_config
        )
    return tf.estimator.DNNLinearCombinedClassifier(
        model_dir=model_dir,
        linear_feature_columns=wide_columns,
        dnn_feature_columns=deep_columns,
        dnn_hidden_units=hidden_units,
        dnn_optimizer=tf.train.AdagradOptimizer(learning_rate=0.05),
        config=run_config,
    )


def input_fn(data_file, num_epochs, shuffle, batch_size):
    assert tf.gfile.Exists(data_file), f"{data_file} not found."

    def parse_csv(value):
        columns = tf.decode_csv(value, record_defaults=CSV_DEFAULTS)
        features = dict(zip(CSV_COLUMNS, columns))
        labels = features.pop("income_bracket")
        return features, tf.equal(labels, ">50K")

    dataset = tf.data.TextLineDataset(data_file)
    if shuffle:
        dataset = dataset.shuffle(buffer_size=1600)
    dataset = dataset.map(parse_csv, num_parallel_calls=5)
    dataset = dataset.repeat(num_epochs)
    dataset = dataset.batch(batch_size)
    return dataset


def export_model(model, export_dir):
    wide_columns, deep_columns = build_model_columns()
    feature_spec = tf.feature_column.make_parse_example_spec(wide_columns + deep_columns)
    serving_fn = tf.estimator.export.build_parsing_serving_input_receiver_fn(feature_spec)
    return model.export_savedmodel(export_dir, serving_fn)


def main(argv=None):
    flags = parser.parse_args(argv)
    model = build_estimator(flags.model_dir, flags.model_type, flags.seed)
    train_file = os.path.join(flags.data_dir, "adult.train.csv")
    test_file = os.path.join(flags.data_dir, "adult.test.csv")

    def train_input_fn():
        return input_fn(train_file, flags.epochs_per_eval, True, flags.batch_size)

    def eval_input_fn():
        return input_fn(test_file, 1, False, flags.batch_size)

    for _ in range(flags.train_epochs // flags.epochs_per_eval):
        model.train(input_fn=train_input_fn)
        results = model.evaluate(input_fn=eval_input_fn)
        tf.logging.info("accuracy: %s", results["accuracy"])
    if flags.export_dir:
        export_model(model, flags.export_dir)
    return results


if __name__ == "__main__":
    tf.logging.set_verbosity(tf.logging.INFO)
    for key, value in sorted(main().items()):
        print(f"{key}: {value}")
