"""tf.layers as functions: their variables are made on the first call of model_fn and found again on every later one.

Owns the layers' arithmetic and TensorFlow's names for layers and variables (`conv2d_1/kernel`, …). Images are
[batch, height, width, channels] unless data_format says "channels_first". Does not know the estimator.

All layers with variables share these arguments. `name` defaults to the function's name, with a number if that is taken.
A second layer of the same name needs reuse=True or AUTO_REUSE, and then shares the first one's variables. Regularizers
and constraints are functions of a variable (see regularizers). `activation` is a function of a tensor or one of
TensorFlow's names.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from estimator_serving.training.errors import InvalidArgumentError
from estimator_serving.training.nn.initializers import Initializer, glorot_uniform, ones, random_uniform, zeros
from estimator_serving.training.nn.lookups import gather_rows
from estimator_serving.training.nn.names import Reuse
from estimator_serving.training.nn.regularizers import Regularizer, add_regularization_loss
from estimator_serving.training.nn.variables import (
    claim_variable,
    current_store,
    get_variable,
    scoped_name,
    unique_name,
    variable_scope,
)

Activation = Callable[[Tensor], Tensor]
Constraint = Callable[[Tensor], Tensor]

CHANNELS_LAST, CHANNELS_FIRST = "channels_last", "channels_first"

# By the names of Keras' activations and of tf.nn's functions.
ACTIVATIONS: dict[str, Activation] = {
    "elu": functional.elu,
    "exponential": torch.exp,
    "gelu": functional.gelu,
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.2),
    "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0.0, 1.0),
    "linear": lambda x: x,
    "log_softmax": lambda x: torch.log_softmax(x, -1),
    "relu": torch.relu,
    "relu6": functional.relu6,
    "selu": functional.selu,
    "sigmoid": torch.sigmoid,
    "softmax": lambda x: torch.softmax(x, -1),
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
    "softsign": functional.softsign,
    "swish": functional.silu,
    "tanh": torch.tanh,
}


# -- dense ------------------------------------------------------------------------------------------------------------


def dense(
    inputs: Tensor,
    units: int,
    activation: Activation | str | None = None,
    use_bias: bool = True,
    kernel_initializer: Initializer | None = None,
    bias_initializer: Initializer = zeros,
    kernel_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    activity_regularizer: Regularizer | None = None,
    kernel_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
    name: str | None = None,
    reuse: Reuse = None,
) -> Tensor:
    """activation(inputs · kernel + bias): numbers [..., d] -> f32 [..., units].

    Variables `dense/kernel` [d, units], glorot_uniform by default, and `dense/bias` [units].
    Raises ValueError for units below 1, for inputs of fewer than two axes, and for a name used before without reuse.
    """
    _check_units(units)
    inputs = _floats(inputs)
    layer = name or unique_name("dense")
    if inputs.ndim < 2:
        raise ValueError(_ndim_text(layer, "min_ndim=2", inputs))
    kernel, bias = _kernel_and_bias(
        layer,
        (inputs.shape[-1], units),
        (kernel_initializer, kernel_regularizer, kernel_constraint),
        (bias_initializer, bias_regularizer, bias_constraint) if use_bias else None,
        trainable,
        reuse,
    )
    if bias is None:
        outputs = inputs @ kernel
    else:
        outputs = torch.addmm(bias, inputs, kernel) if inputs.ndim == 2 else inputs @ kernel + bias
    return _activated(outputs, activation, activity_regularizer)


def _check_units(units: int) -> None:
    if not isinstance(units, Integral) or units < 1:
        raise ValueError(f"Received an invalid value for `units`, expected a positive integer. Received: units={units}")


def relu_stack(inputs: Tensor, units: Sequence[int], names: Sequence[str]) -> Tensor:
    """dense layers one after the other, relu between them and none after the last: f32 [B, d] -> f32 [B, units[-1]].

    Variables, numbers and gradients are those of calls of `dense`, but the autograd graph has one node: for small
    layers autograd's own work is half of a training step.
    """
    variables: list[Tensor] = []
    width = inputs.shape[-1]
    for size, name in zip(units, names, strict=True):
        _check_units(size)
        variables.append(get_variable(f"{name}/kernel", (width, size), initializer=glorot_uniform))
        variables.append(get_variable(f"{name}/bias", (size,), initializer=zeros))
        width = size
    outputs: Tensor = _ReluStack.apply(inputs, *variables)  # type: ignore[no-untyped-call]
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
        saved = ctx.saved_tensors
        depth = len(saved) // 2
        values, kernels = saved[:depth], saved[depth:]
        found: list[Tensor | None] = []
        for i in reversed(range(depth)):
            found[:0] = (values[i].t() @ gradient, gradient.sum(0))
            if i:
                gradient = torch.ops.aten.threshold_backward(gradient @ kernels[i].t(), values[i], 0)
        return (gradient @ kernels[0].t() if ctx.needs_input_grad[0] else None, *found)


# -- images and sequences ---------------------------------------------------------------------------------------------


def conv2d(
    inputs: Tensor,
    filters: int,
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int] = (1, 1),
    padding: str = "valid",
    data_format: str = CHANNELS_LAST,
    dilation_rate: int | Sequence[int] = (1, 1),
    activation: Activation | str | None = None,
    use_bias: bool = True,
    kernel_initializer: Initializer | None = None,
    bias_initializer: Initializer = zeros,
    kernel_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    activity_regularizer: Regularizer | None = None,
    kernel_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
    name: str | None = None,
    reuse: Reuse = None,
) -> Tensor:
    """Two-dimensional convolution (cross-correlation, as in TF): [B, H, W, C] -> f32 [B, H', W', filters].

    `padding` "valid" adds nothing; "same" gives H' = ceil(H / stride), with the odd row or column of zeros at the
    bottom or right. Variables `conv2d/kernel` [kernel height, kernel width, C, filters], glorot_uniform by default,
    and `conv2d/bias` [filters]. Raises ValueError with TF 2.15's texts for arguments or shapes that do not fit.
    """
    size, stride = _pair(kernel_size, "kernel_size"), _pair(strides, "strides")
    dilation = _pair(dilation_rate, "dilation_rate")
    layer = name or unique_name("conv2d")
    images = _channels_first(_floats(inputs), layer, data_format, "min_ndim=4")
    kernel, bias = _kernel_and_bias(
        layer,
        (*size, images.shape[1], filters),
        (kernel_initializer, kernel_regularizer, kernel_constraint),
        (bias_initializer, bias_regularizer, bias_constraint) if use_bias else None,
        trainable,
        reuse,
    )
    made = _convolved(images, kernel.permute(3, 2, 0, 1), bias, size, stride, dilation, padding)
    return _activated(_as_given(made, data_format), activation, activity_regularizer)


def conv1d(
    inputs: Tensor,
    filters: int,
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int] = 1,
    padding: str = "valid",
    data_format: str = CHANNELS_LAST,
    dilation_rate: int | Sequence[int] = 1,
    activation: Activation | str | None = None,
    use_bias: bool = True,
    kernel_initializer: Initializer | None = None,
    bias_initializer: Initializer = zeros,
    kernel_regularizer: Regularizer | None = None,
    bias_regularizer: Regularizer | None = None,
    activity_regularizer: Regularizer | None = None,
    kernel_constraint: Constraint | None = None,
    bias_constraint: Constraint | None = None,
    trainable: bool = True,
    name: str | None = None,
    reuse: Reuse = None,
) -> Tensor:
    """One-dimensional convolution, for sequences: [B, steps, C] -> f32 [B, steps', filters].

    As conv2d along one axis. Variables `conv1d/kernel` [kernel size, C, filters] and `conv1d/bias` [filters].
    """
    size, stride = _row(kernel_size, "kernel_size"), _row(strides, "strides")
    dilation = _row(dilation_rate, "dilation_rate")
    layer = name or unique_name("conv1d")
    rows = _channels_first(_as_image(_floats(inputs), layer, "min_ndim=3", data_format), layer, data_format, "")
    kernel, bias = _kernel_and_bias(
        layer,
        (size[1], rows.shape[1], filters),
        (kernel_initializer, kernel_regularizer, kernel_constraint),
        (bias_initializer, bias_regularizer, bias_constraint) if use_bias else None,
        trainable,
        reuse,
    )
    made = _convolved(rows, kernel.permute(2, 1, 0).unsqueeze(2), bias, size, stride, dilation, padding)
    return _activated(_as_row(_as_given(made, data_format), data_format), activation, activity_regularizer)


def _convolved(
    images: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    size: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: str,
) -> Tensor:
    if max(stride) > 1 and max(dilation) > 1:
        raise ValueError(
            "`strides > 1` not supported in conjunction with `dilation_rate > 1`. "
            f"Received: strides={stride} and dilation_rate={dilation}"
        )
    return functional.conv2d(_padded(images, size, stride, dilation, padding, 0.0), kernel, bias, stride, 0, dilation)


def max_pooling2d(
    inputs: Tensor,
    pool_size: int | Sequence[int],
    strides: int | Sequence[int],
    padding: str = "valid",
    data_format: str = CHANNELS_LAST,
    name: str | None = None,
) -> Tensor:
    """The largest entry of each window: f32 [B, H, W, C] -> f32 [B, H', W', C].

    Padding as in conv2d; what "same" adds is never the largest.
    """
    size, stride = _pair(pool_size, "pool_size"), _pair(strides, "strides")
    images = _channels_first(_floats(inputs), name or "max_pooling2d", data_format, "ndim=4")
    images = _padded(images, size, stride, (1, 1), padding, -torch.inf)
    return _as_given(functional.max_pool2d(images, size, stride), data_format)


def average_pooling2d(
    inputs: Tensor,
    pool_size: int | Sequence[int],
    strides: int | Sequence[int],
    padding: str = "valid",
    data_format: str = CHANNELS_LAST,
    name: str | None = None,
) -> Tensor:
    """The mean of each window: f32 [B, H, W, C] -> f32 [B, H', W', C].

    Padding as in conv2d; what "same" adds does not count in the mean.
    """
    size, stride = _pair(pool_size, "pool_size"), _pair(strides, "strides")
    images = _channels_first(_floats(inputs), name or "average_pooling2d", data_format, "ndim=4")
    whole = _padded(images, size, stride, (1, 1), padding, 0.0)
    means = functional.avg_pool2d(whole, size, stride)
    if whole is not images:
        inside = _padded(torch.ones_like(images[:1, :1]), size, stride, (1, 1), padding, 0.0)
        means = means / functional.avg_pool2d(inside, size, stride)
    return _as_given(means, data_format)


def max_pooling1d(
    inputs: Tensor,
    pool_size: int | Sequence[int],
    strides: int | Sequence[int],
    padding: str = "valid",
    data_format: str = CHANNELS_LAST,
    name: str | None = None,
) -> Tensor:
    """The largest entry of each window of steps: f32 [B, steps, C] -> f32 [B, steps', C]. Padding as in conv1d."""
    rows = _as_image(inputs, name or "max_pooling1d", "ndim=3", data_format)
    size, stride = _row(pool_size, "pool_size"), _row(strides, "strides")
    return _as_row(max_pooling2d(rows, size, stride, padding, data_format), data_format)


def average_pooling1d(
    inputs: Tensor,
    pool_size: int | Sequence[int],
    strides: int | Sequence[int],
    padding: str = "valid",
    data_format: str = CHANNELS_LAST,
    name: str | None = None,
) -> Tensor:
    """The mean of each window of steps: f32 [B, steps, C] -> f32 [B, steps', C]. Padding as in average_pooling2d."""
    rows = _as_image(inputs, name or "average_pooling1d", "ndim=3", data_format)
    size, stride = _row(pool_size, "pool_size"), _row(strides, "strides")
    return _as_row(average_pooling2d(rows, size, stride, padding, data_format), data_format)


def flatten(inputs: Tensor, name: str | None = None, data_format: str = CHANNELS_LAST) -> Tensor:  # noqa: ARG001
    """[B, ...] -> [B, all the rest]; [B] -> [B, 1]. Channels come last in the result, whatever `data_format` says."""
    if inputs.ndim < 2:
        return inputs.reshape(-1, 1)
    if _checked_format(data_format) == CHANNELS_FIRST:
        inputs = inputs.movedim(1, -1)
    return inputs.flatten(1)


def _pair(value: int | Sequence[int], name: str) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(each, int) and each > 0 for each in pair):
        raise ValueError(
            f"The `{name}` argument must be a tuple of 2 integers. Received: {value}. Both must be at least 1."
        )
    return pair


def _row(value: int | Sequence[int], name: str) -> tuple[int, int]:
    """A length along steps as one of an image that is one pixel high."""
    (length,) = (value,) if isinstance(value, int) else tuple(value)
    return (1, _pair(length, name)[1])


def _as_image(inputs: Tensor, layer: str, wanted: str, data_format: str) -> Tensor:
    """Sequences as images that are one pixel high."""
    if inputs.ndim != 3:
        raise ValueError(_ndim_text(layer, wanted, inputs))
    return inputs.unsqueeze(1 if _checked_format(data_format) == CHANNELS_LAST else 2)


def _as_row(images: Tensor, data_format: str) -> Tensor:
    return images.squeeze(1 if data_format == CHANNELS_LAST else 2)


def _channels_first(inputs: Tensor, layer: str, data_format: str, wanted: str) -> Tensor:
    if inputs.ndim != 4:
        raise ValueError(_ndim_text(layer, wanted, inputs))
    return inputs.permute(0, 3, 1, 2) if _checked_format(data_format) == CHANNELS_LAST else inputs


def _as_given(images: Tensor, data_format: str) -> Tensor:
    return images.permute(0, 2, 3, 1) if data_format == CHANNELS_LAST else images


def _checked_format(data_format: str) -> str:
    if data_format not in (CHANNELS_LAST, CHANNELS_FIRST):
        raise ValueError(
            f'The `data_format` argument must be one of "channels_first", "channels_last". Received: {data_format}'
        )
    return data_format


def _padded(
    images: Tensor,
    size: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: str,
    fill: float,
) -> Tensor:
    """The images with what "same" adds around them; the images themselves if it adds nothing.

    Raises ValueError for another word, and for a window that is larger than the image with "valid".
    """
    spans = [(window - 1) * gap + 1 for window, gap in zip(size, dilation, strict=True)]
    if padding.lower() == "valid":
        for length, span in zip(images.shape[2:], spans, strict=True):
            if length < span:
                raise ValueError(
                    f"Negative dimension size caused by subtracting {span} from {length}: the window is larger than "
                    'the image. Use padding="same", a smaller window or larger images.'
                )
        return images
    if padding.lower() != "same":
        raise ValueError(
            'The `padding` argument must be a list/tuple or one of "valid", "same" (or "causal", only for `Conv1D). '
            f"Received: {padding}. Layers of images take the first two."
        )
    # TF's rule: as many windows as strides begin inside the image. The odd entry is added at the end.
    sides: list[int] = []
    for length, span, step in zip(images.shape[2:], spans, stride, strict=True):
        total = max((-(-length // step) - 1) * step + span - length, 0)
        sides = [total // 2, total - total // 2, *sides]  # functional.pad wants the last axis first
    return functional.pad(images, sides, value=fill) if any(sides) else images


# -- embedding --------------------------------------------------------------------------------------------------------


def embedding(
    inputs: Tensor,
    input_dim: int,
    output_dim: int,
    embeddings_initializer: Initializer | None = None,
    embeddings_regularizer: Regularizer | None = None,
    embeddings_constraint: Constraint | None = None,
    trainable: bool = True,
    name: str | None = None,
    reuse: Reuse = None,
) -> Tensor:
    """The rows of a table at the ids: integers [...] in [0, input_dim) -> f32 [..., output_dim] (Keras' Embedding).

    Variable `embedding/embeddings` [input_dim, output_dim], uniform in ±0.05 by default.
    In training an id out of range raises InvalidArgumentError, as TensorFlow does on a CPU. Outside training and in an
    exported graph it gives zeros, as TensorFlow does on a GPU: one bad id must not fail a whole batch.
    Raises ValueError for inputs that are not integers.
    """
    if inputs.is_floating_point():
        raise ValueError(f"embedding takes integer ids, got {inputs.dtype}: cast them with .long().")
    ids = inputs.long()
    outside = (ids < 0) | (ids >= input_dim)
    if current_store().training_mode and outside.any():
        first = outside.nonzero()[0].tolist()
        raise InvalidArgumentError(
            f"indices[{','.join(map(str, first))}] = {int(ids[tuple(first)])} is not in [0, {input_dim}): "
            "make input_dim larger, or map the ids into its range."
        )
    with variable_scope(name or unique_name("embedding")):
        table = make_weight(
            "embeddings",
            (input_dim, output_dim),
            embeddings_initializer or random_uniform(-0.05, 0.05),
            trainable,
            reuse,
            embeddings_regularizer,
            embeddings_constraint,
        )
    return gather_rows(table, ids.masked_fill(outside, -1))


# -- what changes between training and the rest ------------------------------------------------------------------------


def dropout(
    inputs: Tensor,
    rate: float = 0.5,
    noise_shape: Sequence[int | None] | None = None,
    seed: int | None = None,
    training: bool = False,
    name: str | None = None,  # noqa: ARG001  it has no variables to name
) -> Tensor:
    """Zero a share `rate` of the entries and scale the rest by 1/(1−rate). Does nothing unless `training`.

    The run's seed and global_step decide which entries, not torch's global generator; with a `seed` this layer's draws
    do not depend on other layers. An axis that is 1 in `noise_shape` is dropped as a whole; None there means the
    inputs' length. Raises ValueError unless 0 <= rate < 1.
    """
    if isinstance(noise_shape, bool):
        raise TypeError(f"noise_shape must be a shape, got {noise_shape}: pass training by its name.")
    if not 0.0 <= rate < 1.0:
        raise ValueError(
            f"Invalid value {rate} received for `rate`, expected a value between 0 and 1. It is the share that is "
            "dropped, so it must be less than 1."
        )
    if not training or rate == 0.0:
        return inputs
    store = current_store()
    if store.without_steps:
        return inputs
    generator = store.dropout_generator() if seed is None else torch.Generator().manual_seed(store.step_seed ^ seed)
    shape: Sequence[int] = inputs.shape
    if noise_shape is not None:
        shape = [own if wanted is None else wanted for wanted, own in zip(noise_shape, inputs.shape, strict=True)]
    kept = torch.empty(shape, dtype=inputs.dtype).bernoulli_(1.0 - rate, generator=generator)
    return inputs * kept.div_(1.0 - rate)


def batch_normalization(
    inputs: Tensor,
    axis: int = -1,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
    center: bool = True,
    scale: bool = True,
    beta_initializer: Initializer = zeros,
    gamma_initializer: Initializer = ones,
    moving_mean_initializer: Initializer = zeros,
    moving_variance_initializer: Initializer = ones,
    beta_regularizer: Regularizer | None = None,
    gamma_regularizer: Regularizer | None = None,
    beta_constraint: Constraint | None = None,
    gamma_constraint: Constraint | None = None,
    training: bool = False,
    trainable: bool = True,
    name: str | None = None,
    reuse: Reuse = None,
    fused: bool | None = None,
    synchronized: bool = False,
) -> Tensor:
    """(x − mean)/√(variance + ε)·gamma + beta over all axes but `axis`: f32 -> f32, the same shape.

    Mean and variance are the batch's with `training`, the moving ones otherwise. Moving values become
    moving·momentum + batch·(1−momentum) when the step is taken; no UPDATE_OPS are needed. `fused` (by default for four
    axes, as in TF) takes the unbiased variance for the moving one, n/(n−1) times the batch's. With several replicas the
    batch is that of the replica, and `synchronized` (as in Keras) takes the batches of all replicas together.
    Variables `batch_normalization/{gamma, beta, moving_mean, moving_variance}`.
    Raises ValueError for an axis that the inputs do not have.
    """
    if not isinstance(axis, int) or not -inputs.ndim <= axis < inputs.ndim:
        raise ValueError(f"axis must be one of the inputs' {inputs.ndim} axes, got {axis}: -1 is the last.")
    values = _floats(inputs).movedim(axis, -1)
    width = (values.shape[-1],)
    with variable_scope(name or unique_name("batch_normalization")):
        gamma = (
            make_weight("gamma", width, gamma_initializer, trainable, reuse, gamma_regularizer, gamma_constraint)
            if scale
            else None
        )
        beta = (
            make_weight("beta", width, beta_initializer, trainable, reuse, beta_regularizer, beta_constraint)
            if center
            else None
        )
        moving_mean = make_weight("moving_mean", width, moving_mean_initializer, False, reuse)
        moving_variance = make_weight("moving_variance", width, moving_variance_initializer, False, reuse)
    rows = values.reshape(-1, width[0])
    if training and not current_store().without_steps:
        unbiased = inputs.ndim == 4 if fused is None else fused
        replicas = current_store().replicas if synchronized else None
        if replicas is None:
            variance, average = torch.var_mean(rows.detach(), 0, correction=0)
            count: float = len(rows)
            # functional.batch_norm refuses a batch of one row, which TF takes.
            outputs = torch.batch_norm(rows, gamma, beta, None, None, True, 0.0, epsilon, False)
        else:
            own = rows.double()  # for the difference of two large numbers below
            sums = torch.cat([own.sum(0), own.square().sum(0), torch.tensor([float(len(rows))])])
            means = _MeanOverReplicas.apply(sums, replicas)  # type: ignore[no-untyped-call]
            total, squares, (mean_count,) = means.split([*width, *width, 1])
            average = (total / mean_count).float()
            variance = (squares / mean_count - (total / mean_count).square()).float()
            count = mean_count.item() * replicas.num_replicas
            outputs = (rows - average) * torch.rsqrt(variance + epsilon)
            outputs = outputs if gamma is None else outputs * gamma
            outputs = outputs if beta is None else outputs + beta
        if unbiased:
            variance = variance * (count / max(1, count - 1))
        now, spread = average.detach(), variance.detach()

        def follow_moments() -> None:
            moving_mean.lerp_(now, 1.0 - momentum)
            moving_variance.lerp_(spread, 1.0 - momentum)

        current_store().pending_updates.append(follow_moments)
    else:
        outputs = functional.batch_norm(rows, moving_mean, moving_variance, gamma, beta, False, 0.0, epsilon)
    return outputs.reshape(values.shape).movedim(-1, axis)


class _MeanOverReplicas(torch.autograd.Function):
    """The mean of a tensor over all replicas. So is its gradient, since the training takes the mean of the losses."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, replicas: Any) -> Tensor:
        ctx.replicas = replicas
        mean: Tensor = replicas.reduce([values.detach().clone()])[0]
        return mean

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.replicas.reduce([gradients[0].contiguous()])[0], None


# -- layers as objects ------------------------------------------------------------------------------------------------


class Layer:
    """A layer that is made first and called later: `hidden = Dense(10, "relu")`, then `net = hidden(net)`.

    A class is made of a function, whose arguments it takes except the inputs, and whose signature and documentation it
    has. A second call of the same object shares the variables of the first, as in TensorFlow; `hidden.kernel` is the
    variable `kernel` after the first call. Make the object inside model_fn, and call it in one scope. Further arguments
    of a call, such as `training`, go to the function.
    """

    function: ClassVar[Callable[..., Tensor]]
    __signature__: ClassVar[inspect.Signature]
    _has_variables: ClassVar[bool]

    def __init_subclass__(cls, function: Callable[..., Tensor] | None = None) -> None:
        if function is None:  # a program's own subclass of a layer
            return
        _, *parameters = inspect.signature(function).parameters.values()
        cls.function = staticmethod(function)
        cls.__signature__ = inspect.Signature(parameters)
        cls.__doc__ = f"{function.__name__} as an object; see Layer.\n\n{inspect.getdoc(function)}"
        cls._has_variables = "reuse" in cls.__signature__.parameters

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._arguments = self.__signature__.bind(*arguments, **named).arguments
        self._scope: str | None = None

    def __call__(self, inputs: Tensor, **more: Any) -> Tensor:
        arguments = {**self._arguments, **more}
        if not self._has_variables:
            return self.function(inputs, **arguments)
        if self._scope is None:
            arguments["name"] = arguments.get("name") or unique_name(self.function.__name__)
            self._arguments["name"], self._scope = arguments["name"], scoped_name(arguments["name"])
        elif self._scope != scoped_name(arguments["name"]):
            raise ValueError(
                f"The layer {self._scope} was first called in another variable_scope: call it in that one again, or "
                "make a second layer."
            )
        else:
            arguments["reuse"] = True
        return self.function(inputs, **arguments)

    def __getattr__(self, name: str) -> Tensor:
        scope = self.__dict__.get("_scope")
        if scope is None or name.startswith("_"):
            raise AttributeError(
                f"{type(self).__name__} has no {name!r}: its variables are there after the first call."
            )
        try:
            return current_store().get(f"{scope}/{name}")
        except KeyError:
            raise AttributeError(f"The layer {scope} has no variable {name!r}.") from None


class Dense(Layer, function=dense): ...


class Conv1D(Layer, function=conv1d): ...


class Conv2D(Layer, function=conv2d): ...


class MaxPooling1D(Layer, function=max_pooling1d): ...


class MaxPooling2D(Layer, function=max_pooling2d): ...


class AveragePooling1D(Layer, function=average_pooling1d): ...


class AveragePooling2D(Layer, function=average_pooling2d): ...


class Flatten(Layer, function=flatten): ...


class Embedding(Layer, function=embedding): ...


class Dropout(Layer, function=dropout): ...


class BatchNormalization(Layer, function=batch_normalization): ...


# -- what layers share ------------------------------------------------------------------------------------------------


def make_weight(
    name: str,
    shape: tuple[int, ...],
    initializer: Initializer,
    trainable: bool,
    reuse: Reuse,
    regularizer: Regularizer | None = None,
    constraint: Constraint | None = None,
) -> Tensor:
    """A layer's variable in the current scope, with its regularizer and constraint; `reuse` as in Names.claim."""
    is_first = claim_variable(name, reuse)
    variable = get_variable(name, shape, initializer=initializer, trainable=trainable)
    if is_first and regularizer is not None:
        add_regularization_loss(lambda: regularizer(variable))
    if is_first and constraint is not None:
        current_store().pending_updates.append(lambda: variable.copy_(constraint(variable)))
    return variable


_WeightRules = tuple[Initializer | None, Regularizer | None, Constraint | None]


def _kernel_and_bias(
    layer: str,
    shape: tuple[int, ...],
    of_kernel: _WeightRules,
    of_bias: _WeightRules | None,
    trainable: bool,
    reuse: Reuse,
) -> tuple[Tensor, Tensor | None]:
    """The variables of a dense layer or a convolution: a bias for each entry of the last axis, None without rules.

    Without an initializer either is glorot_uniform, as in Keras.
    """
    with variable_scope(layer):
        initializer, *rules = of_kernel
        kernel = make_weight("kernel", shape, initializer or glorot_uniform, trainable, reuse, *rules)
        if of_bias is None:
            return kernel, None
        initializer, *rules = of_bias
        return kernel, make_weight("bias", shape[-1:], initializer or glorot_uniform, trainable, reuse, *rules)


def as_activation(activation: Activation | str) -> Activation:
    """The function itself, or the one of that name. Raises ValueError for an unknown name."""
    if not isinstance(activation, str):
        return activation
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"Unknown activation function: {activation}. Known names are {sorted(ACTIVATIONS)}; any function of a "
            "tensor will do as well."
        )
    return ACTIVATIONS[activation]


def _activated(outputs: Tensor, activation: Activation | str | None, regularizer: Regularizer | None) -> Tensor:
    if activation is not None:
        outputs = as_activation(activation)(outputs)
    if regularizer is not None:
        # Divided by the batch size, as in Keras, so that its weight beside a mean loss does not depend on the size.
        add_regularization_loss(lambda: regularizer(outputs) / outputs.shape[0])
    return outputs


def _floats(inputs: Tensor) -> Tensor:
    return inputs if inputs.dtype == torch.float32 else inputs.float()


def _ndim_text(layer: str, wanted: str, inputs: Tensor) -> str:
    return (
        f'Input 0 of layer "{layer}" is incompatible with the layer: expected {wanted}, found ndim={inputs.ndim}. '
        f"Full shape received: {tuple(inputs.shape)}. Reshape it first."
    )
