"""The Estimator as a program uses it, and the misuse that it refuses."""

import numpy as np
import pytest
import torch
from xor import XOR, XOR_LABELS, dnn, endless, rows

from estimator_serving import training
from estimator_serving.training import feature_column as fc
from estimator_serving.training import layers, losses, metrics, optimizers


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


def spec_of(predictions):
    def model_fn(features, mode):
        return training.EstimatorSpec(mode, predictions(features))

    return model_fn


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
