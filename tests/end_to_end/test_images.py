"""A model_fn of convolutions on images, with every layer, from training to the exported graph."""

import numpy as np
import torch

from estimator_serving import ops, training
from estimator_serving.exporter import build_parsing_serving_input_receiver_fn
from estimator_serving.training import layers, losses, metrics, regularizers, train
from estimator_serving.wire.examples import encode_example, join_examples

RANDOM = np.random.default_rng(3)
LABELS = RANDOM.integers(0, 2, 48)
# Class 1 is brighter on the left.
IMAGES = (
    RANDOM.random((48, 8, 7, 2)) + LABELS[:, None, None, None] * np.linspace(1, 0, 7)[None, None, :, None]
).astype(np.float32)
SIZES = RANDOM.integers(0, 4, (48, 1))


def model_fn(features, labels, mode):
    in_training = mode == training.ModeKeys.TRAIN
    net = layers.conv2d(features["image"], 4, 3, padding="same", kernel_regularizer=regularizers.l2(1e-4))
    net = torch.relu(layers.batch_normalization(net, momentum=0.8, training=in_training))
    net = layers.max_pooling2d(net, 2, 2, padding="same")
    net = layers.average_pooling2d(layers.conv2d(net, 4, (2, 2), activation="relu"), 2, 1)
    sizes = layers.embedding(features["size"], 4, 3)
    net = layers.dropout(torch.cat([layers.flatten(net), layers.flatten(sizes)], 1), 0.2, training=in_training)
    logits = layers.dense(net, 2)
    if mode == training.ModeKeys.PREDICT:
        return training.EstimatorSpec(mode, {"probabilities": torch.softmax(logits, 1)})
    loss = losses.sparse_softmax_cross_entropy(labels, logits) + losses.get_regularization_loss()
    accuracy = metrics.accuracy(labels, logits.argmax(1))
    train_op = train.AdamOptimizer(0.02).minimize(loss)
    return training.EstimatorSpec(mode, loss=loss, train_op=train_op, eval_metric_ops={"accuracy": accuracy})


def input_fn():
    features = {"image": IMAGES, "size": SIZES}
    return training.Dataset.from_tensor_slices((features, LABELS)).shuffle(seed=1).repeat().batch(16)


def test_a_network_on_images_learns_and_exports(tmp_path):
    config = training.RunConfig(model_dir=str(tmp_path / "model"), tf_random_seed=1)
    estimator = training.Estimator(model_fn, config=config)
    estimator.train(input_fn, steps=40)
    assert estimator.evaluate(input_fn, steps=3)["accuracy"] > 0.9
    expected = estimator.predictor()({"image": IMAGES[:5], "size": SIZES[:5]})["probabilities"]

    spec = {
        "image": training.FixedLenFeature(IMAGES.shape[1:], "float32"),
        "size": training.FixedLenFeature([1], "int64"),
    }
    version = estimator.export_saved_model(tmp_path / "servable", build_parsing_serving_input_receiver_fn(spec))
    examples = [
        encode_example({"image": image.ravel().tolist(), "size": size.tolist()})
        for image, size in zip(IMAGES[:5], SIZES[:5], strict=True)
    ]
    session = ops.session(f"{version}/model.onnx")
    feeds = dict(zip([one.name for one in session.get_inputs()], join_examples(examples), strict=True))
    outputs = dict(zip([one.name for one in session.get_outputs()], session.run(None, feeds), strict=True))
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=1e-5)
