"""Reviews of films, good or bad: embedding columns of words and of hashed pairs of words, under a DNN."""

import argparse
import os

import numpy as np
import tensorflow.compat.v1 as tf

SENTENCE_SIZE = 12

parser = argparse.ArgumentParser()
parser.add_argument("--data_dir", default="reviews")
parser.add_argument("--model_dir", default="reviews_model")
parser.add_argument("--embedding_size", type=int, default=8)
parser.add_argument("--steps", type=int, default=150)


def load(path):
    labels, texts, pairs = [], [], []
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            label, text = line.rstrip("\n").split("\t")
            words = text.split()[:SENTENCE_SIZE]
            labels.append(int(label))
            padding = [""] * (SENTENCE_SIZE - len(words))
            texts.append(words + padding)
            pairs.append([f"{one} {other}" for one, other in zip(words, words[1:])] + padding)
    return {"words": np.array(texts), "pairs": np.array(pairs)}, np.array(labels)


def build_columns(vocabulary_file, embedding_size):
    known = tf.feature_column.categorical_column_with_vocabulary_file(
        key="words", vocabulary_file=vocabulary_file, num_oov_buckets=1
    )
    hashed = tf.feature_column.categorical_column_with_hash_bucket("pairs", 200)
    return [
        tf.feature_column.embedding_column(known, dimension=embedding_size, combiner="sqrtn"),
        tf.feature_column.embedding_column(
            hashed, dimension=embedding_size // 2, initializer=tf.truncated_normal_initializer(stddev=0.1)
        ),
    ]


class LossCollector(tf.train.SessionRunHook):
    """What TensorBoard shows later, in memory."""

    def __init__(self):
        self.steps = []

    def before_run(self, run_context):
        return tf.train.SessionRunArgs(tf.train.get_or_create_global_step())

    def after_run(self, run_context, run_values):
        self.steps.append(int(run_values.results))


def main(argv=None):
    flags = parser.parse_args(argv)
    train_x, train_y = load(os.path.join(flags.data_dir, "reviews.train.tsv"))
    test_x, test_y = load(os.path.join(flags.data_dir, "reviews.test.tsv"))
    columns = build_columns(os.path.join(flags.data_dir, "words.txt"), flags.embedding_size)
    classifier = tf.estimator.DNNClassifier(
        hidden_units=[16],
        feature_columns=columns,
        n_classes=2,
        optimizer=tf.train.AdamOptimizer(learning_rate=0.01),
        dropout=0.2,
        model_dir=flags.model_dir,
        config=tf.estimator.RunConfig(tf_random_seed=1),
    )
    train_input_fn = tf.estimator.inputs.numpy_input_fn(
        x=train_x, y=train_y, batch_size=32, num_epochs=None, shuffle=True
    )
    test_input_fn = tf.estimator.inputs.numpy_input_fn(x=test_x, y=test_y, batch_size=100, shuffle=False)
    seen = LossCollector()
    classifier.train(train_input_fn, hooks=[seen], steps=flags.steps)
    results = classifier.evaluate(test_input_fn)
    predicted = [int(each["classes"][0]) for each in classifier.predict(test_input_fn)]
    tf.logging.info("%s of %s right", np.sum(np.array(predicted) == test_y), len(test_y))
    return results


if __name__ == "__main__":
    tf.logging.set_verbosity(tf.logging.INFO)
    for key, value in sorted(main().items()):
        print(f"{key}: {value}")
