import concurrent.futures
import importlib
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.summary_pb2 import Summary

from estimator_serving import training
from estimator_serving.training import feature_column as fc
from estimator_serving.training import layers, losses, metrics, optimizers, summaries

XOR = {"a": np.array([0, 0, 1, 1], np.float32), "b": np.array([0, 1, 0, 1], np.float32)}
XOR_LABELS = np.array([0, 1, 1, 0])


def rows(count, features=XOR, labels=XOR_LABELS):
    """`count` batches of 2 rows."""
    return lambda: training.Dataset.from_tensor_slices((features, labels)).repeat(-(-count // 2)).batch(2)


def endless():
    return training.Dataset.from_tensor_slices((XOR, XOR_LABELS)).repeat().batch(2)


def dnn(model_dir, **arguments):
    config = training.RunConfig(tf_random_seed=7, save_checkpoints_steps=2, log_step_count_steps=2)
    columns = [fc.numeric_column("a"), fc.numeric_column("b")]
    arguments = {"hidden_units": [4], "feature_columns": columns, **arguments}
    return training.DNNClassifier(**arguments, model_dir=model_dir, config=config)


def tutorial_model_fn(features, labels, mode, params):
    """The two-layer network of the common tutorials."""
    net = fc.input_layer(features, params["columns"])
    net = layers.dense(net, units=16, activation=torch.relu)
    logits = layers.dense(net, units=2)
    predicted = logits.argmax(1)
    if mode == training.ModeKeys.PREDICT:
        return training.EstimatorSpec(mode, {"class_ids": predicted, "probabilities": torch.softmax(logits, 1)})
    loss = losses.sparse_softmax_cross_entropy(labels=labels, logits=logits)
    if mode == training.ModeKeys.EVAL:
        return training.EstimatorSpec(
            mode, loss=loss, eval_metric_ops={"accuracy": metrics.accuracy(labels, predicted)}
        )
    return training.EstimatorSpec(mode, loss=loss, train_op=optimizers.Adam(0.05).minimize(loss))


def tutorial(model_dir):
    columns = [fc.numeric_column("a"), fc.numeric_column("b")]
    config = training.RunConfig(tf_random_seed=3)
    return training.Estimator(tutorial_model_fn, model_dir, config, params={"columns": columns})


class Watch(training.SessionRunHook):
    """Writes down the losses and the order of calls."""

    def __init__(self, name="hook", log=None):
        self.losses = []
        self.log = [] if log is None else log
        self.name = name

    def begin(self):
        self.log.append(f"{self.name}.begin")

    def after_create_session(self, session, coord):
        self.log.append(f"{self.name}.after_create_session")

    def before_run(self, run_context):
        self.log.append(f"{self.name}.before_run")
        return training.SessionRunArgs({"loss": "loss", "step": "global_step"})

    def after_run(self, run_context, run_values):
        self.log.append(f"{self.name}.after_run")
        self.losses.append(float(run_values.results["loss"]))

    def end(self, session):
        self.log.append(f"{self.name}.end")


def files(directory):
    return {path.name: path.read_bytes() for path in Path(directory).iterdir() if path.is_file()}


def events(directory):
    """tag -> steps, and the last simple value of each tag."""
    found = {}
    for path in Path(directory).glob("events.out.tfevents.*"):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(event.step)
    return found


# -- training ---------------------------------------------------------------------------------------------------------


def test_a_dnn_learns_xor(tmp_path):
    columns = [fc.numeric_column("a"), fc.numeric_column("b")]
    estimator = training.DNNClassifier(
        [10, 20, 10],
        columns,
        tmp_path,
        optimizer=lambda: optimizers.Adam(0.01),
        config=training.RunConfig(tf_random_seed=1),
    )
    estimator.train(lambda: training.Dataset.from_tensor_slices((XOR, XOR_LABELS)).repeat().batch(4), steps=300)
    assert estimator.evaluate(rows(2))["accuracy"] == 1.0
    assert [int(p["class_ids"][0]) for p in estimator.predict(rows(2))] == XOR_LABELS.tolist()


def test_the_tutorials_model_fn(tmp_path):
    estimator = tutorial(tmp_path).train(endless, steps=300)
    assert estimator.evaluate(rows(2))["accuracy"] == 1.0
    assert {"dense/kernel", "dense/bias", "dense_1/kernel", "global_step"} <= set(estimator.get_variable_names())
    prediction = next(estimator.predict(rows(2)))
    assert prediction["probabilities"].shape == (2,)


@pytest.mark.parametrize(
    ("calls", "step"),
    [
        ([{"steps": 3}], 3),
        ([{"steps": 3}, {"steps": 2}], 5),
        ([{"steps": 3}, {"max_steps": 4}], 4),
        ([{"max_steps": 4}, {"max_steps": 3}], 4),
    ],
)
def test_steps_are_relative_and_max_steps_absolute(calls, step, tmp_path):
    estimator = dnn(tmp_path)
    for arguments in calls:
        estimator.train(endless, **arguments)
    assert estimator.get_variable_value("global_step") == step
    assert estimator.latest_checkpoint() == str(tmp_path / f"model.ckpt-{step}")


def test_training_that_is_done_calls_nothing(tmp_path):
    estimator = dnn(tmp_path).train(endless, steps=3)
    assert estimator.train(lambda: pytest.fail("input_fn was called"), max_steps=3) is estimator


def test_the_end_of_the_data_ends_training(tmp_path):
    assert dnn(tmp_path).train(rows(3), steps=10).latest_checkpoint().endswith("model.ckpt-4")


def no_rows():
    return training.Dataset.from_tensor_slices((XOR, XOR_LABELS)).map(lambda x, y: (x, y)).repeat(0).batch(2)


def test_no_data_is_a_warning_and_leaves_the_first_checkpoint(tmp_path, caplog):
    estimator = dnn(tmp_path)
    assert estimator.train(no_rows, steps=3) is estimator
    assert "made no steps" in caplog.text
    assert estimator.latest_checkpoint().endswith("model.ckpt-0")
    assert estimator.get_variable_value("dnn/hiddenlayer_0/kernel").shape == (2, 4)
    assert set(estimator.load().transform.definitions) == {"a/dense", "b/dense"}
    assert estimator.train(endless, steps=1).get_variable_value("global_step") == 1


def test_no_data_of_which_nothing_is_known(tmp_path, caplog):
    estimator = dnn(tmp_path).train(lambda: iter(()), steps=3)
    assert "No checkpoint was written either" in caplog.text
    assert estimator.latest_checkpoint() is None
    assert dict(estimator.evaluate(lambda: iter(()))) == {"loss": 0.0, "global_step": 0}


def test_an_evaluation_of_nothing_gives_zeros(tmp_path, caplog):
    estimator = dnn(tmp_path).train(endless, steps=2)
    hook = Watch()
    found = estimator.evaluate(no_rows, hooks=[hook])
    assert found.pop("global_step") == 2
    assert found == dict.fromkeys(estimator.evaluate(rows(2)).keys() - {"global_step"}, 0.0)
    assert "Evaluation saw no batch" in caplog.text
    assert hook.log == ["hook.begin", "hook.after_create_session", "hook.before_run", "hook.end"]


def test_one_seed_gives_one_curve_and_a_resumed_run_goes_on_with_it(tmp_path):
    def curve(name, *runs):
        watch = Watch()
        for start, steps in runs:
            # The input goes on where it ended: only the estimator is under test.
            data = rows(100)
            dnn(tmp_path / name, dropout=0.5, batch_norm=True).train(
                lambda start=start, data=data: itertools.islice(data(), start, None), steps=steps, hooks=[watch]
            )
        return watch.losses

    unbroken = curve("a", (0, 8))
    assert curve("b", (0, 8)) == unbroken
    assert curve("c", (0, 5), (5, 3)) == unbroken
    assert len(set(unbroken)) == 8


def noisy_model_fn(features, labels, mode):
    """Every kind of randomness: first weights, dropout here and torch's, batch norm, and shuffled input."""
    net = torch.stack([features["a"], features["b"]], 1)
    net = layers.dropout(layers.dense(net, 8, torch.tanh), 0.3, training=mode == training.ModeKeys.TRAIN)
    net = training.module("block", lambda: torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.3)))(net)
    net = torch.nn.functional.dropout(net, 0.1)
    loss = losses.sparse_softmax_cross_entropy(labels, layers.dense(net, 2))
    return training.EstimatorSpec(mode, loss=loss, train_op=optimizers.Adam(0.05).minimize(loss))


def shuffled():
    return training.Dataset.from_tensor_slices((XOR, XOR_LABELS)).shuffle().repeat().batch(3)


def shuffled_loader():
    rows = [({"a": XOR["a"][i], "b": XOR["b"][i]}, XOR_LABELS[i]) for i in range(4)] * 6
    return torch.utils.data.DataLoader(rows, batch_size=3, shuffle=True)


def noisy_curve(model_dir, *runs, input_fn=shuffled, **config):
    """The losses of one training after the other, each with a new estimator."""
    watch = Watch()
    for steps in runs:
        given = training.RunConfig(**{"tf_random_seed": 11, "save_checkpoints_steps": 3, **config})
        training.Estimator(noisy_model_fn, model_dir, given).train(input_fn, steps=steps, hooks=[watch])
    return watch.losses


@pytest.mark.parametrize("input_fn", [shuffled, shuffled_loader])
def test_one_seed_fixes_weights_dropout_and_shuffling(input_fn, tmp_path):
    before = torch.random.get_rng_state()
    first = noisy_curve(tmp_path / "a", 8, input_fn=input_fn)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(1)
    assert noisy_curve(tmp_path / "b", 8, input_fn=input_fn) == first
    assert noisy_curve(tmp_path / "c", 8, input_fn=input_fn, tf_random_seed=12) != first
    assert len(set(first)) == 8


def averaging_model_fn(features, labels, mode):
    net = torch.stack([features["a"], features["b"]], 1)
    net = training.module("norm", lambda: torch.nn.BatchNorm1d(2, momentum=0.5))(net)
    loss = losses.sparse_softmax_cross_entropy(labels, layers.dense(net, 2))
    return training.EstimatorSpec(mode, loss=loss, train_op=optimizers.SGD(0.1).minimize(loss))


def test_a_modules_own_averages_count_each_step_once(tmp_path):
    """Also the first one, before which model_fn is called to make the variables; and a resumed training's first."""
    rows = training.Dataset.from_tensor_slices(({key: values + 1 for key, values in XOR.items()}, XOR_LABELS))
    mean = float(XOR["a"].mean()) + 1
    for steps, expected in ((1, mean / 2), (2, mean / 2 + mean / 4)):
        estimator = training.Estimator(averaging_model_fn, tmp_path)
        estimator.train(lambda: rows.repeat().batch(4), steps=1)
        assert estimator.get_variable_value("norm/num_batches_tracked") == steps
        assert estimator.get_variable_value("norm/running_mean")[0] == pytest.approx(expected)


def test_a_resumed_training_repeats_itself_and_goes_on_with_its_input_if_asked(tmp_path):
    unbroken = noisy_curve(tmp_path / "a", 9)
    again = noisy_curve(tmp_path / "b", 4, 5)
    # The input starts again: the curve is another one, and always the same.
    assert again[:4] == unbroken[:4]
    assert again != unbroken
    assert noisy_curve(tmp_path / "c", 4, 5) == again
    assert noisy_curve(tmp_path / "d", 4, 3, 2, resume_input=True) == unbroken


def test_a_crash_resumes_on_the_same_curve(tmp_path):
    class Crash(training.SessionRunHook):
        def after_run(self, run_context, run_values):
            if run_context.session.global_step == 5:
                raise KeyboardInterrupt

    config = training.RunConfig(tf_random_seed=11, save_checkpoints_steps=3, resume_input=True)
    estimator = training.Estimator(noisy_model_fn, tmp_path / "a", config)
    with pytest.raises(KeyboardInterrupt):
        estimator.train(shuffled, steps=9, hooks=[Crash()])
    assert noisy_curve(tmp_path / "a", 6, resume_input=True) == noisy_curve(tmp_path / "b", 9)[3:]


# -- hooks and listeners ----------------------------------------------------------------------------------------------


class Listener(training.CheckpointSaverListener):
    def __init__(self, stop_at=None):
        self.log = []
        self.stop_at = stop_at

    def begin(self):
        self.log.append("begin")

    def before_save(self, session, global_step_value):
        self.log.append(f"before {global_step_value}")

    def after_save(self, session, global_step_value):
        self.log.append(f"after {global_step_value}")
        return global_step_value == self.stop_at

    def end(self, session, global_step_value):
        self.log.append(f"end {global_step_value}")


def test_the_life_cycle_of_hooks(tmp_path):
    log = []
    dnn(tmp_path).train(endless, steps=1, hooks=[Watch("a", log), Watch("b", log)])
    cycle = ["begin", "after_create_session", "before_run", "after_run", "end"]
    assert log == [f"{name}.{step}" for step in cycle for name in "ab"]


def test_listeners_hear_of_every_checkpoint_and_may_stop(tmp_path):
    listener = Listener(stop_at=4)
    dnn(tmp_path).train(endless, steps=100, saving_listeners=[listener])
    saves = [f"{when} {step}" for step in (0, 2, 4) for when in ("before", "after")]
    assert listener.log == ["begin", *saves, "end 4"]


def test_an_error_leaves_the_last_periodic_checkpoint_and_skips_end(tmp_path):
    class Fail(Watch):
        def after_run(self, run_context, run_values):
            super().after_run(run_context, run_values)
            if run_context.session.global_step == 3:
                raise RuntimeError("disk full")

    hook = Fail()
    estimator = dnn(tmp_path)
    with pytest.raises(RuntimeError, match="^disk full$"):
        estimator.train(endless, steps=9, hooks=[hook])
    assert "hook.end" not in hook.log
    assert estimator.latest_checkpoint().endswith("model.ckpt-2")
    assert estimator.train(endless, max_steps=4).get_variable_value("global_step") == 4


def test_a_nan_loss_is_found_before_a_weight_changes(tmp_path):
    estimator = dnn(tmp_path).train(endless, steps=2)
    before = {name: estimator.get_variable_value(name) for name in estimator.get_variable_names()}
    spoiled = {**XOR, "a": np.full(4, np.nan, np.float32)}
    with pytest.raises(training.NanLossDuringTrainingError, match="^NaN loss during training"):
        estimator.train(rows(2, spoiled), steps=1)
    for name, value in before.items():
        np.testing.assert_array_equal(estimator.get_variable_value(name), value)


def test_summaries_are_written_at_the_first_step_and_every_so_many(tmp_path):
    config = training.RunConfig(save_summary_steps=3, log_step_count_steps=2)
    columns = [fc.numeric_column("a")]
    training.DNNClassifier([4], columns, tmp_path / "dnn", config=config).train(endless, steps=8)
    found = events(tmp_path / "dnn")
    assert found["loss"] == [1, 4, 7]
    assert found["global_step/sec"] == [3, 5, 7]
    assert found["dnn/hiddenlayer_0/fraction_of_zero_values"] == found["dnn/hiddenlayer_0/activation"] == [1, 4, 7]
    training.LinearClassifier(columns, tmp_path / "linear", config=config).train(endless, steps=1)
    assert {"bias", "fraction_of_zero_weights"} <= set(events(tmp_path / "linear"))


# -- checkpoints and models that differ -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"hidden_units": [5]},
            r"The variable dnn/hiddenlayer_0/kernel has shape \(2, 5\) in the model and \(2, 4\) in",
        ),
        ({"hidden_units": [4, 4]}, r"asks for dnn/hiddenlayer_1/kernel with shape \(4, 4\)"),
        ({"optimizer": "Adam"}, r"asks for training/Adam/dnn/hiddenlayer_0/kernel/m"),
    ],
)
def test_a_changed_model_is_refused_before_anything_is_written(change, text, tmp_path):
    dnn(tmp_path).train(endless, steps=2)
    before = files(tmp_path)
    with pytest.raises(
        training.CheckpointMismatchError, match=f"Restoring from checkpoint failed.*{text}.*new model_dir"
    ):
        dnn(tmp_path, **change).train(endless, steps=2)
    assert files(tmp_path) == before


def test_changed_columns_are_refused_by_name(tmp_path):
    dnn(tmp_path).train(endless, steps=2)
    before = files(tmp_path)
    with pytest.raises(ValueError, match="'c'.*new model_dir"):
        dnn(tmp_path, feature_columns=[fc.numeric_column("a"), fc.numeric_column("c")]).train(
            rows(4, {**XOR, "c": XOR["a"]}), steps=2
        )
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-10], lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda _: b""]
)
def test_a_damaged_checkpoint_is_one_sentence(damage, tmp_path):
    estimator = dnn(tmp_path).train(endless, steps=2)
    file = tmp_path / "model.ckpt-2.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    for call in (lambda: estimator.train(endless, steps=1), lambda: estimator.evaluate(rows(2)), estimator.load):
        with pytest.raises(
            training.CorruptCheckpointError, match=r"model.ckpt-2.safetensors.*(cut|does not hold).*Restore"
        ):
            call()


# -- evaluate ---------------------------------------------------------------------------------------------------------


def test_loss_is_a_mean_of_batches_and_average_loss_of_examples(tmp_path):
    estimator = dnn(tmp_path).train(endless, steps=2)
    three = {key: value[:3] for key, value in XOR.items()}
    found = estimator.evaluate(lambda: training.Dataset.from_tensor_slices((three, XOR_LABELS[:3])).batch(2))
    logits = np.concatenate([p["logits"] for p in estimator.predict(rows(2))])[:3]
    each = np.log1p(np.exp(-np.abs(logits))) + np.maximum(logits, 0) - logits * XOR_LABELS[:3]
    assert found["average_loss"] == pytest.approx(each.mean(), rel=1e-5)
    assert found["loss"] == pytest.approx((each[:2].mean() + each[2]) / 2, rel=1e-5)
    assert isinstance(found["loss"], np.float32)
    assert isinstance(found["global_step"], np.int64)


def test_evaluation_is_written_for_tensorboard(tmp_path):
    estimator = dnn(tmp_path).train(endless, steps=2)
    estimator.evaluate(rows(2), name="held_out")
    found = events(estimator.eval_dir("held_out"))
    assert estimator.eval_dir() == str(tmp_path / "eval")
    assert estimator.eval_dir("held_out") == str(tmp_path / "eval_held_out")
    assert found["loss"] == found["auc"] == found["checkpoint_path"] == [2]
    assert "global_step" not in found


def test_metrics_that_are_arrays_and_other_things(tmp_path, caplog):
    writer = summaries.EventWriter(tmp_path)
    figure = Summary(value=[Summary.Value(tag="any", simple_value=3.0)]).SerializeToString()
    writer.add_metrics({"counts": np.float32([1, 2]), "figure": figure, "odd": object(), "cut": b"\xff", "one": 1}, 5)
    writer.close()
    assert events(tmp_path) == {"counts": [5], "figure/0": [5], "one": [5]}
    assert "Skipping summary for odd, must be a float" in caplog.text
    assert "Skipping summary for cut, cannot parse string to Summary" in caplog.text


def test_evaluate_stops_after_steps_and_takes_an_older_checkpoint(tmp_path):
    estimator = dnn(tmp_path).train(endless, steps=4)
    hook = Watch()
    found = estimator.evaluate(endless, steps=3, hooks=[hook], checkpoint_path=str(tmp_path / "model.ckpt-2"))
    assert (len(hook.losses), found["global_step"], hook.log[-1]) == (3, 2, "hook.end")


def test_an_untrained_model_is_evaluated_as_initialised(tmp_path, caplog):
    caplog.set_level("INFO")
    found = dnn(tmp_path).evaluate(rows(2))
    assert found["global_step"] == 0
    assert "Could not find trained model in model_dir" in caplog.text


# -- predict ----------------------------------------------------------------------------------------------------------


def test_predictions_of_a_classifier(tmp_path):
    estimator = dnn(tmp_path, label_vocabulary=["no", "yes"])
    words = np.array(["no", "yes", "yes", "no"], object)
    estimator.train(lambda: training.Dataset.from_tensor_slices((XOR, words)).repeat().batch(2), steps=2)
    first = next(estimator.predict(rows(2)))
    shapes = {key: value.shape for key, value in first.items()}
    assert shapes == {
        "logits": (1,),
        "logistic": (1,),
        "probabilities": (2,),
        "class_ids": (1,),
        "classes": (1,),
        "all_class_ids": (2,),
        "all_classes": (2,),
    }
    assert first["all_classes"].tolist() == [b"no", b"yes"]
    assert first["classes"][0] == (b"no", b"yes")[first["class_ids"][0]]


def test_predict_is_lazy_and_builds_a_model_once(tmp_path):
    estimator = dnn(tmp_path).train(endless, steps=2)
    estimator.predict(lambda: pytest.fail("input_fn was called"))
    list(estimator.predict(rows(2)))
    model = estimator.load()
    list(estimator.predict(rows(2)))
    assert estimator.load() is model
    estimator.train(endless, steps=1)
    assert estimator.load() is not model


def test_a_second_predict_reads_builds_and_makes_nothing(tmp_path, monkeypatch):
    estimator = dnn(tmp_path).train(endless, steps=2)
    first = list(estimator.predict(rows(2)))
    made = []
    for owner, name in (
        ("checkpoints.checkpoint", "safe_open"),
        ("estimator", "VariableStore"),
        ("estimator", "Transform"),
        ("columns.transform", "onnxruntime"),
    ):
        module = importlib.import_module(f"estimator_serving.training.{owner}")
        monkeypatch.setattr(module, name, lambda *_, name=name, **__: made.append(name))
    second = list(estimator.predict(rows(2)))
    assert [row["logits"] for row in second] == [row["logits"] for row in first]
    assert made == []


def test_what_a_caller_does_with_a_prediction_leaves_the_model_alone(tmp_path):
    """A baseline's prediction is its variable, once for each row."""
    estimator = training.BaselineRegressor(tmp_path).train(lambda: (XOR, np.ones(4)), steps=1)
    estimator.predictor()(XOR)["predictions"][:] = 9
    first, *others = (row["predictions"] for row in estimator.predict(rows(2)))
    first += 1
    bias = estimator.get_variable_value("baseline/bias").tolist()
    assert [row.tolist() for row in others] == [bias] * 3
    assert next(estimator.predict(rows(2)))["predictions"].tolist() == bias


def test_an_untrained_model_predicts_the_same_twice(tmp_path):
    estimator = training.LinearClassifier([fc.numeric_column("a")], tmp_path)
    first, second = ([row["logits"] for row in estimator.predict(rows(2))] for _ in range(2))
    assert first == second


def test_hooks_of_the_spec_and_of_the_call(tmp_path):
    class Bias(Watch):
        """Sets a variable before the first batch."""

        def after_create_session(self, session, coord):
            super().after_create_session(session, coord)
            session.store.get("bias").fill_(2.0)

    log = []

    def model_fn(features, labels, mode):
        bias = training.get_variable("bias", (), initializer=lambda shape, _: torch.zeros(shape))
        loss = (bias - features["a"]).square().mean()
        return training.EstimatorSpec(
            mode,
            {"bias": bias + features["a"] * 0},
            loss,
            optimizers.SGD(0.1).minimize(loss),
            training_hooks=[Watch("training", log)],
            training_chief_hooks=[Watch("chief", log)],
            evaluation_hooks=[Watch("evaluation", log)],
            prediction_hooks=[Watch("prediction", log)],
        )

    estimator = training.Estimator(model_fn, tmp_path)
    estimator.train(endless, steps=1, hooks=[Watch("mine", log)])
    assert [line for line in log if line.endswith("begin")] == ["mine.begin", "training.begin", "chief.begin"]
    log.clear()
    assert estimator.evaluate(rows(2), hooks=[Bias("mine", log)])["loss"] == pytest.approx((4 + 1) / 2)
    assert log[:2] == ["mine.begin", "evaluation.begin"]
    assert log[-2:] == ["mine.end", "evaluation.end"]
    log.clear()
    assert next(estimator.predict(rows(2)))["bias"] == 2.0
    assert log[0] == "prediction.begin"


# -- predictor --------------------------------------------------------------------------------------------------------


def test_a_predictor_is_a_function_of_arrays(tmp_path):
    estimator = dnn(tmp_path).train(endless, steps=2)
    predictor = estimator.predictor()
    found = predictor({"a": XOR["a"].tolist(), "b": XOR["b"]})
    for row, expected in enumerate(estimator.predict(rows(2))):
        for key, value in expected.items():
            if value.dtype != object:
                np.testing.assert_allclose(found[key][row], value, rtol=1e-6)
    assert found["classes"].tolist() == [[str(i).encode()] for i in found["class_ids"][:, 0]]
    estimator.train(endless, steps=1)
    assert (predictor.global_step, estimator.predictor().global_step) == (2, 3)
    assert predictor.checkpoint_path == str(tmp_path / "model.ckpt-2")
    assert set(estimator.predictor(predict_keys="logits")(XOR)) == {"logits"}
    with pytest.raises(ValueError, match="^Feature b is not in features dictionary"):
        predictor({"a": XOR["a"]})


def test_a_predictor_of_one_tensor(tmp_path):
    def model_fn(features, labels, mode):
        loss = (features * training.get_variable("w", ())).mean()
        return training.EstimatorSpec(mode, features * 2, loss, optimizers.SGD(0.1).minimize(loss))

    estimator = training.Estimator(model_fn, tmp_path)
    with pytest.raises(ValueError, match="^Couldn't find trained model at"):
        estimator.predictor()
    estimator.train(lambda: (np.ones(2, np.float32), None), steps=1)
    assert estimator.predictor()([1.0, 2.0])["output"].tolist() == [2.0, 4.0]


def test_a_predictor_serves_threads(tmp_path):
    predictor = dnn(tmp_path).train(endless, steps=2).predictor()
    inputs = [{"a": np.float32([i]), "b": np.float32([-i])} for i in range(40)]
    expected = [predictor(one)["logits"].item() for one in inputs]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert [found["logits"].item() for found in pool.map(predictor, inputs)] == expected


def test_two_predictions_may_be_interleaved(tmp_path):
    estimator = dnn(tmp_path).train(endless, steps=2)
    pairs = zip(estimator.predict(rows(4)), estimator.predict(rows(4)), strict=True)
    assert all(left["logits"] == right["logits"] for left, right in pairs)


def test_predict_keys(tmp_path, caplog):
    estimator = dnn(tmp_path).train(endless, steps=2)
    assert set(next(estimator.predict(rows(2), predict_keys=["logits", "zz"]))) == {"logits"}
    assert "predict_keys ['zz'] name no prediction and are left out" in caplog.text
    assert set(next(estimator.predict(rows(2), predict_keys="classes"))) == {"classes"}
    with pytest.raises(ValueError, match=r"^Expected to run at least one output from .*, provided \['zz'\]\."):
        next(estimator.predict(rows(2), predict_keys=["zz"]))
    whole = next(estimator.predict(rows(2), yield_single_examples=False))
    assert whole["logits"].shape == (2, 1)


def spec_of(predictions):
    def model_fn(features, mode):
        return training.EstimatorSpec(mode, predictions(features))

    return model_fn


def test_predictions_that_are_no_dict_or_no_batch(tmp_path):
    plain = training.Estimator(spec_of(lambda f: f["a"] * 2), tmp_path)
    assert list(plain.predict(rows(2))) == [0.0, 0.0, 2.0, 2.0]
    with pytest.raises(ValueError, match="predict_keys argument is not valid in case of non-dict predictions"):
        next(plain.predict(rows(2), predict_keys=["a"]))
    uneven = training.Estimator(spec_of(lambda f: {"a": f["a"], "b": torch.zeros(3)}), tmp_path)
    with pytest.raises(ValueError, match="Batch length of predictions should be same. b has different batch length"):
        next(uneven.predict(rows(2)))
    assert next(uneven.predict(rows(2), yield_single_examples=False))["b"].shape == (3,)


# -- what is refused --------------------------------------------------------------------------------------------------


def named_loss(features, labels, mode):
    loss = layers.dense(features["a"].reshape(-1, 1), 1).mean()
    return training.EstimatorSpec(mode, loss=loss, eval_metric_ops={"loss": metrics.mean(loss)})


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda e: e.train(endless, steps=1, max_steps=1), ValueError, "Can not provide both steps and max_steps"),
        (lambda e: e.train(endless, steps=0), ValueError, "Must specify steps > 0, given: 0"),
        (lambda e: e.train(endless, max_steps=-1), ValueError, "Must specify max_steps > 0, given: -1"),
        (lambda e: e.train(endless, hooks=[3]), TypeError, "Hooks must be a SessionRunHook, given: 3"),
        (
            lambda e: e.train(endless, saving_listeners=[3]),
            TypeError,
            "saving_listeners must be a list of CheckpointSaverListener, given: 3",
        ),
        (lambda e: e.evaluate(endless, steps=0), ValueError, "Must specify steps > 0, given: 0"),
        (
            lambda e: e.evaluate(endless, checkpoint_path=e.model_dir + "/nothing-3"),
            ValueError,
            "The passed save_path is not a valid checkpoint: .*nothing-3.*latest_checkpoint",
        ),
        (lambda e: e.load(), ValueError, "Couldn't find trained model at .*Call train first"),
        (lambda e: e.get_variable_names(), ValueError, "Could not find trained model in model_dir"),
        (lambda e: training.Estimator(None, e.model_dir), ValueError, "model_fn must be provided to Estimator"),
        (
            lambda e: training.Estimator(tutorial_model_fn, e.model_dir, config=3),
            ValueError,
            "config must be an instance of `RunConfig`, but provided 3",
        ),
        (
            lambda e: training.Estimator(tutorial_model_fn, e.model_dir, training.RunConfig(model_dir="y")),
            ValueError,
            "`model_dir` are set both in constructor and `RunConfig`, but with different values",
        ),
        (
            lambda e: training.Estimator(spec_of(None), e.model_dir, warm_start_from=3),
            ValueError,
            "warm_start_from must be a string or a WarmStartSettings, instead got <class 'int'>",
        ),
        (
            lambda e: training.Estimator(lambda features: features, e.model_dir).train(endless, steps=1),
            ValueError,
            "model_fn does not take labels, but input_fn returns labels",
        ),
        (
            lambda e: training.Estimator(lambda features, labels: (features, labels), e.model_dir).train(
                endless, steps=1
            ),
            ValueError,
            "model_fn should return an EstimatorSpec",
        ),
        (
            lambda e: training.Estimator(named_loss, e.model_dir).evaluate(rows(2)),
            ValueError,
            'Metric with name "loss" is not allowed',
        ),
    ],
)
def test_misuse_is_refused_with_tensorflows_words(call, error, text, tmp_path):
    with pytest.raises(error, match=f"^{text}"):
        call(dnn(tmp_path))


def test_listeners_need_checkpoints(tmp_path):
    config = training.RunConfig(save_checkpoints_secs=None)
    estimator = training.LinearClassifier([fc.numeric_column("a")], tmp_path, config=config)
    with pytest.raises(ValueError, match="^There should be a CheckpointSaverHook to use saving_listeners"):
        estimator.train(endless, steps=1, saving_listeners=[Listener()])
    estimator.train(endless, steps=1)
    assert estimator.latest_checkpoint() is None


def test_subclasses_may_not_override(tmp_path):
    class Mine(training.Estimator):
        def train(self, *arguments):
            return None

    with pytest.raises(ValueError, match=r"Subclasses of Estimator cannot override members.*\['train'\]"):
        Mine(tutorial_model_fn, tmp_path)


def test_variable_values(tmp_path):
    estimator = dnn(tmp_path).train(endless, steps=2)
    assert estimator.get_variable_value("dnn/hiddenlayer_0/kernel").shape == (2, 4)
    with pytest.raises(training.NotFoundError, match="^Key zzz not found in checkpoint"):
        estimator.get_variable_value("zzz")


def test_config_and_params_are_copies(tmp_path):
    estimator = training.Estimator(tutorial_model_fn, tmp_path, params={"columns": [1]})
    estimator.params["columns"].append(2)
    assert estimator.params == {"columns": [1]}
    assert estimator.config.model_dir == estimator.model_dir == str(tmp_path)
    assert estimator.config.save_checkpoints_secs == 600
