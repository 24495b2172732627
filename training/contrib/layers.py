"""tf.contrib.layers' functions that Estimator programs use: fully connected layers, embeddings of ids, optimize_loss.

Owns TensorFlow's names of their variables (`fully_connected/weights`, …) and their defaults, which differ from those of
tf.layers: activations are relu.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from estimator_serving.training.nn import regularizers, summaries
from estimator_serving.training.nn.initializers import Initializer, glorot_normal, glorot_uniform, zeros
from estimator_serving.training.nn.initializers import variance_scaling as variance_scaling_initializer
from estimator_serving.training.nn.layers import dropout as _dropout
from estimator_serving.training.nn.layers import embedding, make_weight
from estimator_serving.training.nn.layers import flatten as flatten
from estimator_serving.training.nn.names import Reuse
from estimator_serving.training.nn.regularizers import Regularizer
from estimator_serving.training.nn.variables import current_store, unique_name, variable_scope
from estimator_serving.training.optimizers import v1
from estimator_serving.training.optimizers.base import Optimizer, TrainOp
from estimator_serving.training.optimizers.gradients import clip_by_global_norm

__all__ = [
    "dropout",
    "embed_sequence",
    "flatten",
    "fully_connected",
    "l1_regularizer",
    "l2_regularizer",
    "optimize_loss",
    "stack",
    "variance_scaling_initializer",
    "xavier_initializer",
]

l1_regularizer = regularizers.l1


def l2_regularizer(scale: float) -> Regularizer:
    """scale · Σw² / 2."""
    return regularizers.l2(scale / 2)


def xavier_initializer(uniform: bool = True) -> Initializer:
    """Glorot's, uniform or normal."""
    return glorot_uniform if uniform else glorot_normal


def fully_connected(
    inputs: Tensor,
    num_outputs: int,
    activation_fn: Callable[[Tensor], Tensor] | None = torch.relu,
    normalizer_fn: Callable[..., Tensor] | None = None,
    normalizer_params: Mapping[str, Any] | None = None,
    weights_initializer: Initializer = glorot_uniform,
    weights_regularizer: Regularizer | None = None,
    biases_initializer: Initializer | None = zeros,
    biases_regularizer: Regularizer | None = None,
    reuse: Reuse = None,
    trainable: bool = True,
    scope: str | None = None,
) -> Tensor:
    """activation_fn(inputs · weights + biases): f32 [..., d] -> f32 [..., num_outputs].

    With a `normalizer_fn`, which is called with `normalizer_params`, there are no biases. Variables
    `fully_connected/weights` [d, num_outputs] and `fully_connected/biases` [num_outputs].
    """
    with variable_scope(scope or unique_name("fully_connected"), reuse=reuse):
        shape = (inputs.shape[-1], num_outputs)
        net = inputs @ make_weight("weights", shape, weights_initializer, trainable, None, weights_regularizer)
        if normalizer_fn is not None:
            net = normalizer_fn(net, **(normalizer_params or {}))
        elif biases_initializer is not None:
            net = net + make_weight("biases", shape[1:], biases_initializer, trainable, None, biases_regularizer)
    return net if activation_fn is None else activation_fn(net)


def stack(
    inputs: Tensor, layer: Callable[..., Tensor], stack_args: Sequence[Any], scope: str | None = None, **arguments: Any
) -> Tensor:
    """`layer` once for each of stack_args (one argument, or a list of them), each on the outputs of the one before.

    Their scopes are `stack/<layer>_1`, `stack/<layer>_2`, …
    """
    with variable_scope(scope or unique_name("stack")):
        for number, given in enumerate(stack_args, start=1):
            args = given if isinstance(given, list | tuple) else [given]
            inputs = layer(inputs, *args, scope=f"{layer.__name__}_{number}", **arguments)
    return inputs


def embed_sequence(
    ids: Tensor,
    vocab_size: int,
    embed_dim: int,
    initializer: Initializer | None = None,
    regularizer: Regularizer | None = None,
    trainable: bool = True,
    scope: str | None = None,
    reuse: Reuse = None,
) -> Tensor:
    """Rows of a table by ids: integers [B, steps] -> f32 [B, steps, embed_dim]. Variable `EmbedSequence/embeddings`."""
    return embedding(
        ids,
        vocab_size,
        embed_dim,
        initializer or glorot_uniform,
        regularizer,
        trainable=trainable,
        name=scope or unique_name("EmbedSequence"),
        reuse=reuse,
    )


def dropout(
    inputs: Tensor,
    keep_prob: float = 0.5,
    noise_shape: Sequence[int | None] | None = None,
    is_training: bool = True,
    seed: int | None = None,
) -> Tensor:
    """As layers.dropout, with the share that is kept."""
    return _dropout(inputs, 1.0 - keep_prob, noise_shape, seed, training=is_training)


_OPTIMIZERS: dict[str, Callable[[float], Optimizer]] = {
    **v1.BY_NAME,
    "Momentum": lambda rate: v1.MomentumOptimizer(rate, momentum=0.9),
}


def optimize_loss(
    loss: Tensor,
    global_step: Tensor | None,
    learning_rate: float | None,
    optimizer: str | Optimizer | Callable[[Any], Optimizer],
    clip_gradients: float | None = None,
    learning_rate_decay_fn: Callable[[float, Any], Any] | None = None,
    variables: Sequence[Tensor] | None = None,
    name: str | None = None,  # noqa: ARG001
) -> TrainOp:
    """The step that lowers `loss`, by an optimizer's name, object, class or function of the learning rate.

    `clip_gradients` limits the length of all gradients together. `learning_rate_decay_fn(learning_rate, global_step)`
    gives the rate of this step. TensorFlow returns the loss; this is the train_op. Raises ValueError for an unknown
    name, and for a decay without a learning rate.
    """
    store = current_store()
    rate: Any = learning_rate
    if learning_rate_decay_fn is not None:
        if learning_rate is None:
            raise ValueError("learning_rate_decay_fn needs the learning_rate that it lowers.")
        rate = learning_rate_decay_fn(learning_rate, torch.tensor(store.global_step))
        rate = rate if callable(rate) else float(rate)
    summaries.scalar("loss", loss.detach())
    if isinstance(optimizer, str):
        if optimizer not in _OPTIMIZERS:
            known = ", ".join(sorted(_OPTIMIZERS))
            raise ValueError(f"Optimizer name should be one of [{known}], you provided {optimizer}.")
        optimizer = _OPTIMIZERS[optimizer]
    made = optimizer if isinstance(optimizer, Optimizer) else optimizer(rate)
    if clip_gradients is None:
        return made.minimize(loss, global_step, variables)
    gradients, trained = zip(*made.compute_gradients(loss, variables), strict=True)
    clipped, _ = clip_by_global_norm(gradients, clip_gradients)
    return made.apply_gradients(zip(clipped, trained, strict=True), global_step)
