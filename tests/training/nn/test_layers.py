"""tf.layers' functions against TensorFlow 2.15 (goldens/make_layer_goldens.py), and what they refuse."""

import inspect
import json
import math
import os
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from layer_cases import CASES, fixed_value

from estimator_serving.training import initializers, layers, losses, regularizers
from estimator_serving.training.errors import InvalidArgumentError
from estimator_serving.training.nn import rnn
from estimator_serving.training.nn.names import AUTO_REUSE
from estimator_serving.training.nn.variables import VariableStore, variable_scope

DIRECTORY = Path(os.environ.get("ESTIMATOR_GOLDENS", Path(__file__).parents[1] / "goldens"))
GOLDENS = json.loads((DIRECTORY / "layers.json").read_text())

OTHER = types.SimpleNamespace(
    relu=torch.relu,
    tanh="tanh",
    concat=lambda parts: torch.cat(parts, -1),
    variable_scope=variable_scope,
    auto_reuse=AUTO_REUSE,
    l1=regularizers.l1,
    l2=regularizers.l2,
    l1_l2=regularizers.l1_l2,
    rnn_cell=rnn,
    dynamic_rnn=rnn.dynamic_rnn,
    bidirectional_dynamic_rnn=rnn.bidirectional_dynamic_rnn,
    integers=torch.tensor,
    float32=torch.float32,
)


def run(case, shape, training, store):
    with store.activate(training=training):
        outputs = case(layers, torch.tensor(fixed_value("inputs", shape)), training, OTHER)
        return outputs, losses.get_regularization_loss()


@pytest.mark.parametrize("key", GOLDENS)
def test_outputs_gradients_names_and_moving_values_are_tensorflows(key):
    name, _, mode = key.partition("/")
    (case, shape), golden, store = CASES[name], GOLDENS[key], VariableStore()
    run(case, shape, mode == "training", store)
    assert {k: list(v.shape) for k, v in store.values().items() if k != "global_step"} == golden["variables"]
    with torch.no_grad():
        for variable in golden["variables"]:
            store.get(variable).copy_(torch.tensor(fixed_value(variable, golden["variables"][variable])))
    outputs, regularization = run(case, shape, mode == "training", store)
    np.testing.assert_allclose(outputs.detach(), golden["outputs"], rtol=1e-5, atol=1e-5)
    assert regularization.item() == pytest.approx(golden["regularization"], rel=1e-5)
    if golden["gradients"]:
        variables = [store.get(name) for name in golden["gradients"]]
        found = torch.autograd.grad(outputs.square().sum() / 2, variables)
        for gradient, (name, expected) in zip(found, golden["gradients"].items(), strict=True):
            np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4, err_msg=name)
    store.run_pending_updates()
    for name, expected in golden["moving"].items():
        np.testing.assert_allclose(store.get(name), expected, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["conv_net", "valid_padding", "same_pooling"])
def test_channels_first_is_the_same_numbers_in_another_order(name, training):
    class ChannelsFirst:
        def __getattr__(self, layer):
            made = getattr(layers, layer)
            if layer == "batch_normalization":
                return lambda *a, **k: made(*a, axis=1, **k)
            return lambda *a, **k: made(*a, **k, **({} if layer == "dense" else {"data_format": "channels_first"}))

    case, shape = CASES[name]
    store = VariableStore(seed=1)
    inputs = torch.tensor(fixed_value("inputs", shape))
    other = types.SimpleNamespace(**{**vars(OTHER), "concat": lambda parts: torch.cat(parts, 1)})
    with store.activate(training=training):
        expected = case(layers, inputs, training, OTHER)
    with store.activate(training=training):
        found = case(ChannelsFirst(), inputs.movedim(-1, 1), training, other)
    torch.testing.assert_close(found if found.ndim == 2 else found.movedim(1, -1), expected)


def test_embedding_rows_and_names():
    store = VariableStore(seed=1)
    with store.activate(training=True):
        rows = layers.embedding(torch.tensor([[1, 0], [2, 2]]), 3, 4)
        layers.embedding(torch.tensor([0]), 3, 4)
    table = store.get("embedding/embeddings")
    assert torch.equal(rows, table[torch.tensor([[1, 0], [2, 2]])])
    assert table.abs().max() <= 0.05
    assert "embedding_1/embeddings" in store.values()
    with store.activate(training=False):
        rows = layers.embedding(torch.tensor([-1, 2, 3]), 3, 4)
    assert torch.equal(rows, torch.stack([torch.zeros(4), table[2], torch.zeros(4)]))


def test_a_constraint_holds_after_the_step():
    store = VariableStore(seed=1)
    with store.activate(training=True):
        layers.dense(torch.ones(1, 2), 3, kernel_constraint=lambda w: w.clamp(min=0.0), name="d")
    assert store.get("d/kernel").min() < 0
    store.run_pending_updates()
    assert store.get("d/kernel").min() == 0


def test_dropout_of_whole_rows_and_with_a_seed_of_its_own():
    store = VariableStore(seed=3)

    def dropped(**arguments):
        with store.activate(training=True):
            return layers.dropout(torch.ones(50, 4), 0.5, training=True, **arguments)

    rows = dropped(noise_shape=[None, 1])
    assert (rows == rows[:, :1]).all()
    assert torch.equal(dropped(seed=5), dropped(seed=5))
    assert not torch.equal(dropped(seed=5), dropped())


@pytest.mark.parametrize("name", sorted(layers.ACTIVATIONS))
def test_activations_by_name(name):
    x = torch.linspace(-3, 3, 7)
    formulas = {
        "elu": torch.where(x > 0, x, x.expm1()),
        "exponential": x.exp(),
        "gelu": x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
        "hard_sigmoid": (0.2 * x + 0.5).clamp(0, 1),
        "leaky_relu": torch.where(x > 0, x, 0.2 * x),
        "linear": x,
        "log_softmax": x - x.exp().sum().log(),
        "relu": x * (x > 0),
        "relu6": x.clamp(0, 6),
        "selu": 1.05070098 * torch.where(x > 0, x, 1.67326324 * x.expm1()),
        "sigmoid": 1 / (1 + (-x).exp()),
        "softmax": x.exp() / x.exp().sum(),
        "softplus": (1 + x.exp()).log(),
        "softsign": x / (1 + x.abs()),
        "swish": x / (1 + (-x).exp()),
        "tanh": x.tanh(),
    }
    torch.testing.assert_close(layers.ACTIVATIONS[name](x), formulas[name])


IMAGE = torch.ones(2, 2, 2, 3)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: layers.dense(torch.ones(2, 3), -4), "Received an invalid value for `units`, expected a positive"),
        (lambda: layers.relu_stack(torch.ones(2, 3), [4, -4], ["a", "b"]), "Received an invalid value for `units`"),
        (lambda: layers.relu_stack(torch.ones(2, 3), [2.0], ["a"]), "Received an invalid value .* Received: units=2.0"),
        (
            lambda: layers.dense(torch.ones(2), 4),
            'Input 0 of layer "dense" is incompatible with the layer: expected min',
        ),
        (lambda: layers.dense(torch.ones(2, 3), 4, "cube"), "Unknown activation function: cube"),
        (lambda: rnn.GRUCell(4, "cube"), "Unknown activation function: cube"),
        (
            lambda: layers.conv2d(IMAGE[0], 4, 1),
            'Input 0 of layer "conv2d" is incompatible with the layer: expected min',
        ),
        (lambda: layers.conv2d(IMAGE, 4, (1, 1, 1)), "The `kernel_size` argument must be a tuple of 2 integers"),
        (lambda: layers.conv2d(IMAGE, 4, 0), "The `kernel_size` argument must be a tuple of 2 integers"),
        (lambda: layers.conv2d(IMAGE, 4, 3), "Negative dimension size caused by subtracting 3 from 2"),
        (lambda: layers.conv2d(IMAGE, 4, 1, padding="bad"), "The `padding` argument must be a list/tuple or one of"),
        (lambda: layers.conv2d(IMAGE, 4, 1, data_format="x"), "The `data_format` argument must be one of"),
        (lambda: layers.conv2d(IMAGE, 4, 1, 2, dilation_rate=2), "`strides > 1` not supported in conjunction with"),
        (lambda: layers.max_pooling2d(IMAGE[0], 2, 2), 'Input 0 of layer "max_pooling2d" is incompatible'),
        (lambda: layers.dropout(IMAGE, 1.5), "Invalid value 1.5 received for `rate`, expected a value between 0 and 1"),
        (lambda: layers.batch_normalization(IMAGE, axis=0.999), "axis must be one of the inputs' 4 axes, got 0.999"),
        (lambda: layers.embedding(IMAGE, 3, 2), "embedding takes integer ids"),
        (lambda: layers.embedding(torch.tensor([[0, 3]]), 3, 2), r"indices\[0,1\] = 3 is not in \[0, 3\)"),
        (lambda: [layers.dense(IMAGE, 2, name="a") for _ in range(2)], "Variable a/kernel already exists, disallowed"),
        (lambda: layers.dense(IMAGE, 2, name="a", reuse=True), "Variable a/kernel does not exist, or was not created"),
        (lambda: initializers.variance_scaling(mode="in"), "Invalid `mode` argument: in"),
        (lambda: initializers.variance_scaling(distribution="x"), "Invalid `distribution` argument: x"),
    ],
)
def test_what_layers_refuse(call, text):
    with VariableStore().activate(training=True), pytest.raises(ValueError, match=f"^{text}"):
        call()


def test_an_id_out_of_range_is_an_invalid_argument():
    with VariableStore().activate(training=True), pytest.raises(InvalidArgumentError):
        layers.embedding(torch.tensor([-1]), 3, 2)


def test_a_scope_needs_a_name():
    with pytest.raises(TypeError, match="^If default_name is None then name_or_scope is required"):
        variable_scope()


def test_training_is_not_taken_for_a_shape():
    with pytest.raises(TypeError, match="^noise_shape must be a shape, got True: pass training by its name"):
        layers.dropout(IMAGE, 0.5, True)


def test_dense_is_an_affine_map():
    store = VariableStore()
    inputs = torch.randn(4, 5, 2)
    with store.activate(training=True):
        outputs = layers.dense(inputs, 3, torch.relu, name="d", bias_initializer=initializers.ones)
        flat = layers.dense(inputs[:, 0], 3, torch.relu, name="d", reuse=True)
        bare = layers.dense(inputs, 3, use_bias=False, name="bare")
    expected = torch.relu(inputs @ store.get("d/kernel") + 1)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(flat, expected[:, 0])
    torch.testing.assert_close(bare, inputs @ store.get("bare/kernel"))


def test_a_layers_class_has_the_signature_and_the_documentation_of_its_function():
    assert [*inspect.signature(layers.Dense).parameters][:2] == ["units", "activation"]
    assert "glorot_uniform by default" in inspect.getdoc(layers.Dense)
    with pytest.raises(TypeError, match="missing a required argument: 'units'"):
        layers.Dense()


def test_dropout_scales_and_follows_seed_and_step():
    def dropped(step):
        store = VariableStore(seed=3)
        store.global_step = step
        with store.activate(training=True):
            return layers.dropout(torch.ones(1000), 0.25, training=True)

    first = dropped(0)
    assert sorted(set(first.tolist())) == pytest.approx([0, 1 / 0.75])
    assert first.mean().item() == pytest.approx(1, abs=0.06)
    assert torch.equal(dropped(0), first)
    assert not torch.equal(dropped(1), first)
    assert layers.dropout(first, 0.25) is first
    with pytest.raises(ValueError, match="^Invalid value 1.0 received for `rate`"):
        layers.dropout(first, 1.0, training=True)


def test_batch_normalization_follows_moments_when_the_step_is_taken():
    store = VariableStore()
    inputs = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    with store.activate(training=True):
        outputs = layers.batch_normalization(inputs, momentum=0.9, epsilon=0.0, training=True, name="bn")
    torch.testing.assert_close(outputs.detach(), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    assert store.get("bn/moving_mean").tolist() == [0, 0]
    store.run_pending_updates()
    torch.testing.assert_close(store.get("bn/moving_mean"), torch.tensor([0.2, 2.0]))
    torch.testing.assert_close(store.get("bn/moving_variance"), torch.tensor([1.0, 10.9]))
    with store.activate(training=False):
        outputs = layers.batch_normalization(inputs, epsilon=0.0, name="bn")
    torch.testing.assert_close(outputs[0, 0].item(), 0.8, check_dtype=False)


@pytest.mark.parametrize("input_gradient", [True, False])
@pytest.mark.parametrize("units", [[2], [4, 3, 1]])
def test_a_relu_stack_is_dense_layers_in_one_node(units, input_gradient):
    inputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).requires_grad_(input_gradient)
    names = [f"layer_{i}" for i in range(len(units))]
    store = VariableStore(seed=2)
    with store.activate(training=True):
        stacked = layers.relu_stack(inputs, units, names)
        single = inputs
        for size, name in zip(units, names, strict=True):
            single = layers.dense(single, size, None if name == names[-1] else torch.relu, name=name)
    assert torch.equal(stacked, single)
    wanted = [*store.parameters(), *([inputs] if input_gradient else [])]
    left, right = (torch.autograd.grad(outputs.square().sum(), wanted) for outputs in (stacked, single))
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, other)
