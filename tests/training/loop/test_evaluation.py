"""Evaluation: losses and metrics added up, and what is written."""

import numpy as np
import pytest
import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from xor import XOR, XOR_LABELS, Watch, dnn, endless, events, no_rows, rows

from estimator_serving import training
from estimator_serving.training import optimizers, summaries


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


def test_an_evaluation_of_nothing_gives_zeros(tmp_path, caplog):
    estimator = dnn(tmp_path).train(endless, steps=2)
    hook = Watch()
    found = estimator.evaluate(no_rows, hooks=[hook])
    assert found.pop("global_step") == 2
    assert found == dict.fromkeys(estimator.evaluate(rows(2)).keys() - {"global_step"}, 0.0)
    assert "Evaluation saw no batch" in caplog.text
    assert hook.log == ["hook.begin", "hook.after_create_session", "hook.before_run", "hook.end"]


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
