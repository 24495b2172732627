"""A replayed step gives the numbers of the ordinary one, to the last bit, and what cannot be replayed is not."""

import numpy as np
import pytest
import torch

from estimator_serving import training
from estimator_serving.training import feature_column as fc
from estimator_serving.training.canned.common import replayed
from estimator_serving.training.errors import InvalidArgumentError, NanLossDuringTrainingError
from estimator_serving.training.loop import replay

ROWS = 96


def rows(**changes):
    random = np.random.default_rng(7)
    features = {
        "age": random.uniform(1, 80, ROWS).astype(np.float32),
        "deck": random.choice(["A", "B", "C", ""], ROWS, p=[0.4, 0.3, 0.28, 0.02]).astype(object),
        "weight": random.uniform(0.5, 2, ROWS).astype(np.float32),
    }
    return features | changes, random.integers(0, 2, ROWS)


def columns():
    deck = fc.categorical_column_with_hash_bucket("deck", 6)
    return [fc.numeric_column("age"), fc.indicator_column(deck), fc.embedding_column(deck, 3)]


def estimator(kind=training.DNNClassifier, seed=5, **arguments):
    config = training.RunConfig(tf_random_seed=seed, save_summary_steps=20)
    return kind([6, 4], columns(), config=config, **arguments)


def train(made, data, steps=50, batch=16, hooks=()):
    made.train(lambda: training.Dataset.from_tensor_slices(data).repeat().batch(batch), steps=steps, hooks=hooks)
    return {name: made.get_variable_value(name) for name in made.get_variable_names()}


@pytest.fixture
def replays(monkeypatch):
    """A list that grows by one with every replayed step."""
    seen = []
    ordinary = replay._Recording.replay

    def counted(self, inputs):
        spec = ordinary(self, inputs)
        seen.extend([] if spec is None else [spec])
        return spec

    monkeypatch.setattr(replay._Recording, "replay", counted)
    return seen


def without_replay(monkeypatch):
    monkeypatch.setattr("estimator_serving.training.loop.training.replaying", lambda _, call, __: call)


def linear(_, feature_columns, **arguments):
    return training.LinearClassifier(feature_columns, **arguments)


def combined(units, feature_columns, **arguments):
    parts = {"linear_feature_columns": feature_columns, "dnn_feature_columns": feature_columns}
    return training.DNNLinearCombinedClassifier(dnn_hidden_units=units, **parts, **arguments)


MODELS = {
    **{name: {"optimizer": name} for name in ("Adagrad", "Adam", "RMSProp", "SGD", "Ftrl")},
    "schedule": {
        "optimizer": training.optimizers.Adam(training.optimizers.schedules.ExponentialDecay(0.1, 5, 0.5)),
    },
    "weights": {"weight_column": "weight"},
    "three classes": {"n_classes": 3},
    "another activation": {"activation_fn": torch.tanh},
    "sum": {"loss_reduction": "sum"},
    "regressor": {"kind": training.DNNRegressor},
    "linear": {"kind": linear},
    "combined": {"kind": combined},
}


@pytest.mark.parametrize("arguments", MODELS.values(), ids=MODELS)
def test_the_numbers_are_the_ordinary_ones(arguments, replays, monkeypatch):
    replayed = train(estimator(**arguments), rows())
    assert len(replays) > 30
    without_replay(monkeypatch)
    ordinary = train(estimator(**arguments), rows())
    assert replayed.keys() == ordinary.keys()
    for name, value in ordinary.items():
        np.testing.assert_array_equal(replayed[name], value, err_msg=name)


@pytest.mark.parametrize(
    "arguments",
    [
        {"dropout": 0.3},
        {"batch_norm": True},
        {"optimizer": training.optimizers.Adam},
        {"activation_fn": lambda x: x * float(x.detach().abs().max())},
        {"activation_fn": lambda x: x * torch.from_numpy(x.detach().numpy() > 0)},
    ],
    ids=["dropout", "batch norm", "optimizer made anew", "a number read", "numpy in between"],
)
def test_what_a_recording_cannot_repeat_is_not_replayed(arguments, replays):
    train(estimator(**arguments), rows(), steps=10)
    assert not replays


@pytest.mark.parametrize("known", [[1, 1, 0, 1, 1], [1, 1, 1, 0, 1]], ids=["recorded", "replayed"])
def test_a_batch_whose_ids_are_all_missing_says_nothing_of_the_others(known, replays, monkeypatch):
    """Its gradient has no rows, which PyTorch makes another way. The third step is the one that is recorded."""
    columns = [fc.categorical_column_with_vocabulary_list("deck", ["A", "B"])]
    decks = np.array([["A", "B", "Z", "A"] if each else ["Z"] * 4 for each in known], object)
    data = {"deck": decks.ravel()}, np.arange(decks.size) % 2

    def weights():
        return train(training.LinearClassifier(columns), data, steps=len(known), batch=4)

    replayed = weights()
    assert replays
    without_replay(monkeypatch)
    for name, value in weights().items():
        np.testing.assert_array_equal(replayed[name], value, err_msg=name)


def test_labels_are_checked_in_every_step():
    features, labels = rows()
    labels[80] = 2
    with pytest.raises(InvalidArgumentError, match="the batch holds 2"):
        train(estimator(), (features, labels))


def test_a_weight_that_is_missing_is_found_in_every_step():
    def batches():
        features, labels = rows()
        yield from [(features, labels)] * 5
        yield {key: value for key, value in features.items() if key != "weight"}, labels

    with pytest.raises(ValueError, match="Feature weight is not in features dictionary"):
        estimator(weight_column="weight").train(batches)


def test_a_loss_that_is_no_number_stops_before_the_step():
    age = rows()[0]["age"].copy()
    age[80] = np.nan
    made = estimator()
    with pytest.raises(NanLossDuringTrainingError):
        train(made, rows(age=age))


def test_a_smaller_last_batch_is_taken_too(replays):
    made = estimator()
    made.train(lambda: training.Dataset.from_tensor_slices(rows(deck=["A"] * ROWS)).batch(20))
    assert made.get_variable_value("global_step") == 5
    assert len(replays) == 1


def test_variables_a_hook_sets_are_seen(replays):
    class Zero(training.SessionRunHook):
        def before_run(self, run_context):
            with torch.no_grad():
                run_context.session.store.get("dnn/logits/kernel").zero_()
                run_context.session.store.get("dnn/logits/bias").zero_()

        def after_run(self, run_context, run_values):
            losses.append(run_context.session.loss)

    losses = []
    train(estimator(), rows(), steps=10, hooks=[Zero()])
    assert replays
    np.testing.assert_allclose(losses, np.log(2), rtol=1e-6)


@pytest.mark.parametrize(
    ("activation_fn", "is_replayed"),
    [
        (torch.relu, True),
        (torch.nn.functional.gelu, True),
        (torch.nn.Tanh(), True),
        (lambda x: x * 2, False),
        (abs, False),
    ],
)
def test_a_function_of_the_users_is_called_in_every_step(activation_fn, is_replayed):
    made = replayed(lambda features: features, [None, "Adam"], "weight", activation_fn)
    assert hasattr(made, "depends_only_on_tensors") is is_replayed


def test_a_weight_columns_normalizer_is_called_in_every_step():
    weight = fc.numeric_column("w", normalizer_fn=lambda w: w + 1)
    assert not hasattr(replayed(lambda features: features, [], weight), "depends_only_on_tensors")


def test_an_error_in_a_replay_is_the_ordinary_steps_error(replays):
    class Shorten(training.SessionRunHook):
        def before_run(self, run_context):
            if run_context.session.global_step == 5:
                kernel = run_context.session.store.get("dnn/logits/kernel")
                kernel.data = kernel.data[:-1]

    with pytest.raises(ValueError, match="Trying to share variable dnn.logits.kernel"):
        train(estimator(), rows(), hooks=[Shorten()])
    assert replays
