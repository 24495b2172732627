"""Messages of the package `tensorflow.boosted_trees`: the ensembles of TensorFlow 1.x's boosted trees."""

from estimator_serving.wire.pb import load_messages

globals().update(load_messages("tensorflow/core/kernels/boosted_trees.proto"))
