"""tf.contrib.layers: names of variables, defaults, and the step of optimize_loss."""

import pytest
import torch

from estimator_serving.training import contrib, get_variable, losses, train
from estimator_serving.training.initializers import ones
from estimator_serving.training.layers import batch_normalization
from estimator_serving.training.nn.variables import VariableStore


def test_fully_connected_layers_and_stacks():
    store, inputs = VariableStore(seed=1), torch.tensor([[1.0, -2.0]])
    with store.activate(training=True):
        net = contrib.layers.fully_connected(inputs, 3, weights_regularizer=contrib.layers.l2_regularizer(1.0))
        normed = contrib.layers.fully_connected(inputs, 2, None, batch_normalization, scope="normed")
        deep = contrib.layers.stack(inputs, contrib.layers.fully_connected, [4, 2], activation_fn=None)
        penalty = losses.get_regularization_loss()
    assert sorted(store.trainable_variables) == [
        "fully_connected/biases",
        "fully_connected/weights",
        "normed/batch_normalization/beta",
        "normed/batch_normalization/gamma",
        "normed/weights",
        *(f"stack/fully_connected_{i}/{name}" for i in (1, 2) for name in ("biases", "weights")),
    ]
    weights = store.get("fully_connected/weights")
    torch.testing.assert_close(net, (inputs @ weights).relu())
    assert penalty.item() == pytest.approx(weights.square().sum().item() / 2, rel=1e-5)
    assert (normed.shape, deep.shape) == ((1, 2), (1, 2))


def test_embedded_sequences():
    store = VariableStore(seed=1)
    with store.activate(training=True):
        rows = contrib.layers.embed_sequence(torch.tensor([[2, 0]]), 3, 4)
    assert torch.equal(rows[0], store.get("EmbedSequence/embeddings")[[2, 0]])
    assert contrib.layers.dropout(rows, 0.5, is_training=False) is rows


def step(**arguments):
    store = VariableStore()
    with store.activate(training=True):
        w = get_variable("w", (2,), initializer=ones)
        loss = (w * torch.tensor([3.0, 4.0])).sum()
        contrib.layers.optimize_loss(loss, None, **arguments).run()
    return store.get("w").tolist()


def test_optimize_loss():
    assert step(learning_rate=0.1, optimizer="SGD") == pytest.approx([0.7, 0.6])
    assert step(learning_rate=0.1, optimizer="SGD", clip_gradients=1.0) == pytest.approx([0.94, 0.92])
    assert step(learning_rate=None, optimizer=train.GradientDescentOptimizer(0.2)) == pytest.approx([0.4, 0.2])
    decayed = {"learning_rate_decay_fn": lambda rate, _: rate / 2, "optimizer": train.GradientDescentOptimizer}
    assert step(learning_rate=0.2, **decayed) == pytest.approx([0.7, 0.6])
    with pytest.raises(ValueError, match="Optimizer name should be one of"):
        step(learning_rate=0.1, optimizer="Foo")
