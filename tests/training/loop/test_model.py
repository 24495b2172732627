"""How model_fn and input_fn are called."""

import pytest
import torch

from estimator_serving import training
from estimator_serving.training.loop.model import Model
from estimator_serving.training.nn.variables import VariableStore

CONFIG = training.RunConfig(model_dir="anywhere", tf_random_seed=3)


def everything(features, labels, mode, params, config):
    return training.EstimatorSpec(mode, {"sum": features + labels + params["more"] + config.tf_random_seed})


def test_model_fn_gets_what_it_names():
    params = {"more": 10}
    model = Model.of(everything, params, CONFIG)
    params["more"] = 0
    spec = model.call(VariableStore(), torch.tensor([1.0]), torch.tensor([2.0]), training.ModeKeys.PREDICT)
    assert spec.predictions["sum"].tolist() == [16.0]
    few = Model.of(lambda features: training.EstimatorSpec("infer", features), None, CONFIG)
    assert few.call(VariableStore(), torch.tensor([1.0]), None, "infer").predictions.tolist() == [1.0]


def test_input_fn_gets_copies_and_its_place_among_the_workers():
    def input_fn(params, config, input_context):
        params["more"] = 0
        return config, input_context

    model = Model.of(everything, {"more": [1]}, CONFIG)
    config, context = model.call_input_fn(input_fn, "train", training.InputContext(4, 2, 4))
    assert config == CONFIG
    assert config is not CONFIG
    assert context == training.InputContext(4, 2, 4)
    assert model.call_input_fn(input_fn, "eval")[1] == training.InputContext()
    assert model.params == {"more": [1]}


@pytest.mark.parametrize("seed", [None, 3])
def test_torchs_generator_is_put_back(seed):
    model = Model.of(everything, {}, training.RunConfig(tf_random_seed=seed))
    before = torch.random.get_rng_state()
    with model.seeded():
        drawn = torch.rand(1) if seed else None
    assert torch.equal(torch.random.get_rng_state(), before)
    with model.seeded():
        assert drawn is None or torch.equal(torch.rand(1), drawn)
