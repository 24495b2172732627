import pytest
import torch

from estimator_serving.training import CheckpointMismatchError
from estimator_serving.training.nn.variables import VariableStore, get_global_step, get_variable


def test_a_seed_fixes_first_values_whatever_the_order():
    def values(*names):
        store = VariableStore(seed=5)
        with store.activate(training=True):
            return {name: get_variable(name, (4, 4)).detach() for name in names}

    forth, back = values("a", "b"), values("b", "a")
    assert all(torch.equal(forth[name], back[name]) for name in "ab")
    assert not torch.equal(forth["a"], forth["b"])


def test_another_seed_gives_other_first_values_and_another_dropout():
    stores = [VariableStore(seed=seed) for seed in (5, 6)]
    seeds = [store.first_values.generator("w").initial_seed() for store in stores]
    seeds += [store.step_seed for store in stores]
    assert len({seed & 0xFFFFFFFF for seed in seeds}) == 4  # torch's generator ignores higher bits


def test_a_checkpoint_that_does_not_fit():
    store = VariableStore(values={"a": torch.zeros(2), "global_step": torch.tensor(3)}, source="model.ckpt-3")
    with store.activate(training=True):
        assert get_global_step() == 3
        with pytest.raises(CheckpointMismatchError, match=r"asks for b with shape \(2,\), and model.ckpt-3 holds"):
            get_variable("b", (2,))
        with pytest.raises(CheckpointMismatchError, match=r"variable a has shape \(3,\) in the model and \(2,\) in"):
            get_variable("a", (3,))
