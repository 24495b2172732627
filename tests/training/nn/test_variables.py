import numpy as np
import pytest
import torch
from torch import nn

from estimator_serving import training
from estimator_serving.training import layers, summaries
from estimator_serving.training.nn.variables import (
    VariableStore,
    get_variable,
    module,
    variable_scope,
)


def test_names_scopes_and_reuse():
    store = VariableStore(seed=1)
    for _ in range(2):
        with store.activate(training=True), variable_scope("dnn"):
            with variable_scope("layer.0"):
                first = get_variable("w", (2, 3))
            layers.dense(torch.ones(1, 2), 3)
            layers.dense(torch.ones(1, 3), 2)
    names = ["dnn/layer.0/w", "dnn/dense/kernel", "dnn/dense/bias", "dnn/dense_1/kernel", "dnn/dense_1/bias"]
    assert list(store.trainable_variables) == names
    assert store.get("dnn/layer.0/w") is first
    assert set(store.values()) == {*names, "global_step"}


def test_modules_are_variables_too():
    global_state = torch.random.get_rng_state()
    store = VariableStore(seed=5)
    with store.activate(training=True), variable_scope("net"):
        made = module("block", lambda: nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
        assert module("block", lambda: pytest.fail("made twice")) is made
        assert made.training
    assert torch.equal(torch.random.get_rng_state(), global_state)
    assert set(store.trainable_variables) == {
        f"net/block/{name}" for name in ("0/weight", "0/bias", "1/weight", "1/bias")
    }
    restored = VariableStore(values={k: v.clone() + 1 for k, v in store.values().items()}, frozen=True)
    with restored.activate(training=False), variable_scope("net"):
        again = module("block", lambda: nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
    assert torch.equal(again[0].weight, made[0].weight + 1)
    assert not again.training
    assert not any(p.requires_grad for p in restored.parameters())
    assert restored.global_step == 1


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: get_variable("a", (3,)),
            r"Trying to share variable a, but specified shape \(3,\) and found",
        ),
        (lambda: get_variable("modules", (3,)), "Variable name modules is reserved"),
    ],
)
def test_names_that_clash(call, text):
    store = VariableStore()
    with store.activate(training=True):
        get_variable("a", (2,))
        with pytest.raises(ValueError, match=f"^{text}"):
            call()


def test_outside_a_model_fn():
    for call in (lambda: get_variable("a", (2,)), lambda: summaries.scalar("a", 1.0)):
        with pytest.raises(ValueError, match="inside a model_fn"):
            call()


class Tied(torch.nn.Module):
    """Two names for one parameter, and two parameters with one memory."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(2, 2, bias=False)
        self.second = torch.nn.Linear(2, 2, bias=False)
        self.third = torch.nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight
        self.third.weight.data = self.first.weight.data

    def forward(self, x):
        return self.third(self.second(self.first(x)))


def test_tied_parameters_are_saved_once_and_restored_tied(tmp_path):
    def model_fn(features, labels, mode):
        net = training.module("net", Tied)
        assert net.first.weight is net.second.weight is net.third.weight
        loss = (net(features).sum(1) - labels).square().mean()
        return training.EstimatorSpec(mode, loss=loss, train_op=training.optimizers.SGD(0.01).minimize(loss))

    def input_fn():
        return np.float32([[1, 2], [3, 1]]), np.float32([1, 0])

    made = training.Estimator(model_fn, str(tmp_path)).train(input_fn, steps=2)
    assert [name for name in made.get_variable_names() if name.startswith("net/")] == ["net/first/weight"]
    before = made.get_variable_value("net/first/weight")
    training.Estimator(model_fn, str(tmp_path)).train(input_fn, steps=1)
    assert (made.get_variable_value("net/first/weight") != before).all()


def test_a_lazy_module_is_named(tmp_path):
    def model_fn(features, mode):
        training.module("net", lambda: torch.nn.Sequential(torch.nn.LazyLinear(3)))

    with pytest.raises(ValueError, match=r"^module\('net', …\) has a lazy module, LazyLinear '0', whose shapes"):
        training.Estimator(model_fn, str(tmp_path)).train(lambda: np.ones((2, 2), np.float32), steps=1)
