"""Layers as functions: their variables are made on the first call of model_fn and found again on every later one.

Owns the layers' arithmetic and TensorFlow's variable names for them (`kernel`, `bias`, `beta`, `gamma`, …). Does not
know the estimator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from estimator_serving.training.initializers import Initializer, glorot_uniform, ones, zeros
from estimator_serving.training.variables import current_store, get_variable, unique_name, variable_scope

Activation = Callable[[Tensor], Tensor]


def dense(
    inputs: Tensor,
    units: int,
    activation: Activation | None = None,
    use_bias: bool = True,
    kernel_initializer: Initializer = glorot_uniform,
    bias_initializer: Initializer = zeros,
    trainable: bool = True,
    name: str | None = None,
) -> Tensor:
    """activation(inputs · kernel + bias): f32 [..., d] -> f32 [..., units].

    Variables `<name>/kernel` [d, units] and `<name>/bias` [units]; the name defaults to dense, dense_1, …
    """
    with variable_scope(name or unique_name("dense")):
        kernel = get_variable("kernel", (inputs.shape[-1], units), initializer=kernel_initializer, trainable=trainable)
        bias = get_variable("bias", (units,), initializer=bias_initializer, trainable=trainable) if use_bias else None
    outputs = _affine(inputs, kernel, bias)
    return outputs if activation is None else activation(outputs)


def _affine(inputs: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None:
        return inputs @ kernel
    return torch.addmm(bias, inputs, kernel) if inputs.ndim == 2 else inputs @ kernel + bias


def relu_stack(inputs: Tensor, units: Sequence[int], names: Sequence[str]) -> Tensor:
    """dense layers one after the other, relu between them and none after the last: f32 [B, d] -> f32 [B, units[-1]].

    The same variables, numbers and gradients as calls of `dense`, with one node in the autograd graph: for small layers
    autograd's own work is half of a training step.
    """
    variables: list[Tensor] = []
    width = inputs.shape[-1]
    for size, name in zip(units, names, strict=True):
        with variable_scope(name):
            variables.append(get_variable("kernel", (width, size), initializer=glorot_uniform))
            variables.append(get_variable("bias", (size,), initializer=zeros))
        width = size
    outputs: Tensor = _ReluStack.apply(inputs, *variables)
    return outputs


class _ReluStack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, *variables: Tensor) -> Tensor:
        kernels, biases = variables[::2], variables[1::2]
        values = [inputs]
        for kernel, bias in zip(kernels[:-1], biases[:-1], strict=True):
            values.append(torch.addmm(bias, values[-1], kernel).relu_())
        ctx.save_for_backward(*values, *kernels)
        return torch.addmm(biases[-1], values[-1], kernels[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        depth = len(ctx.saved_tensors) // 2
        values, kernels = ctx.saved_tensors[:depth], ctx.saved_tensors[depth:]
        found: list[Tensor | None] = []
        for i in reversed(range(depth)):
            found[:0] = (values[i].t() @ gradient, gradient.sum(0))
            if i:
                gradient = torch.ops.aten.threshold_backward(gradient @ kernels[i].t(), values[i], 0)
        return (gradient @ kernels[0].t() if ctx.needs_input_grad[0] else None, *found)


def dropout(inputs: Tensor, rate: float = 0.5, training: bool = False) -> Tensor:
    """Zero a share `rate` of the entries and scale the rest by 1/(1−rate), in training alone.

    Which ones depends on the run's seed and global_step, not on torch's global generator. Raises ValueError unless
    0 <= rate < 1.
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"rate must be at least 0 and below 1, got {rate}.")
    if not training or rate == 0.0:
        return inputs
    generator = current_store().dropout_generator()
    kept = torch.empty_like(inputs).bernoulli_(1.0 - rate, generator=generator)
    return inputs * kept.div_(1.0 - rate)


def batch_normalization(
    inputs: Tensor,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
    center: bool = True,
    scale: bool = True,
    training: bool = False,
    trainable: bool = True,
    name: str | None = None,
) -> Tensor:
    """(x − mean)/√(variance + ε)·gamma + beta over all axes but the last: f32 [..., d] -> f32 [..., d].

    The batch's own mean and variance in training, the moving ones otherwise. Moving values are
    moving·momentum + batch·(1−momentum) and change when the step is taken, not when the layer is called.
    Variables `<name>/{beta, gamma, moving_mean, moving_variance}`.
    """
    width = (inputs.shape[-1],)
    with variable_scope(name or unique_name("batch_normalization")):
        gamma = get_variable("gamma", width, initializer=ones, trainable=trainable) if scale else None
        beta = get_variable("beta", width, initializer=zeros, trainable=trainable) if center else None
        moving_mean = get_variable("moving_mean", width, initializer=zeros, trainable=False)
        moving_variance = get_variable("moving_variance", width, initializer=ones, trainable=False)
    rows = inputs.reshape(-1, inputs.shape[-1])
    if training:
        _follow_moments(rows, moving_mean, moving_variance, momentum)
        # functional.batch_norm refuses a batch of one row, which TF takes.
        outputs = torch.batch_norm(rows, gamma, beta, None, None, True, 0.0, epsilon, False)
    else:
        outputs = functional.batch_norm(rows, moving_mean, moving_variance, gamma, beta, False, 0.0, epsilon)
    return outputs.reshape(inputs.shape)


def _follow_moments(rows: Tensor, moving_mean: Tensor, moving_variance: Tensor, momentum: float) -> None:
    variance, average = torch.var_mean(rows.detach(), 0, correction=0)

    def update() -> None:
        moving_mean.lerp_(average, 1.0 - momentum)
        moving_variance.lerp_(variance, 1.0 - momentum)

    current_store().pending_updates.append(update)
