"""HParams keep their types, are read from text, and reach a model_fn as they are."""

import pytest

from estimator_serving.training import Dataset, Estimator, HParams, get_variable, initializers, optimizers
from estimator_serving.training.model_fn import EstimatorSpec


def made():
    return HParams(rate=0.1, units=[64, 32], name="relu", is_wide=True, steps=5)


def test_values_from_text():
    hparams = made().parse("rate=1, units=[8,4],name=tanh,is_wide=false,steps=7")
    assert hparams.values() == {"rate": 1.0, "units": [8, 4], "name": "tanh", "is_wide": False, "steps": 7}
    assert made().parse("units[1]=3").units == [64, 3]
    assert made().parse_json('{"rate": 2}').rate == 2.0
    assert ("rate" in hparams, hparams.get("zz", 3)) == (True, 3)
    assert '"steps": 7' in hparams.to_json()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zz=1", "Unknown hyperparameter type for zz"),
        ("steps=1.5", "Could not cast hparam 'steps' of type int"),
        ("is_wide=perhaps", "Could not cast hparam 'is_wide' of type bool"),
        ("units=3", "is a list"),
        ("rate", "Malformed hyperparameter value"),
    ],
)
def test_text_that_does_not_fit(text, message):
    with pytest.raises(ValueError, match=message):
        made().parse(text)


def test_names_that_are_taken():
    with pytest.raises(ValueError, match="Hyperparameter name is reserved: parse"):
        HParams(parse=1)
    with pytest.raises(KeyError, match="does not exist"):
        made().set_hparam("zz", 1)


def test_a_model_fn_gets_a_copy(tmp_path):
    def model_fn(features, params):
        return EstimatorSpec("infer")

    given = made()
    estimator = Estimator(model_fn, str(tmp_path), params=given)
    given.rate = 5.0
    assert estimator.params.rate == 0.1


def test_an_estimator_trains_with_them(tmp_path):
    def model_fn(features, labels, mode, params):
        w = get_variable("w", [], initializer=initializers.zeros)
        return EstimatorSpec(mode, loss=(w - labels).square().mean(), train_op=optimizers.SGD(params.rate).minimize(w))

    rows = Dataset.from_tensor_slices(({"x": [1.0, 2.0]}, [1.0, 2.0]))
    estimator = Estimator(model_fn, str(tmp_path), params=made()).train(lambda: rows.batch(2))
    assert estimator.get_variable_value("w") == pytest.approx(-0.1)
