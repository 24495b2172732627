"""Keras models: how they are called, and which are refused."""

import os
import subprocess
import sys

PROGRAM = """
import sys
import keras, numpy as np
from estimator_serving.exporter import build_raw_serving_input_receiver_fn, export_model, placeholder
from estimator_serving.exporter.sources.keras import KerasSource
from estimator_serving.serving import load
from estimator_serving.wire import dtypes

x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
raw = build_raw_serving_input_receiver_fn
receiver_fn = raw({"x": x})
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(2, "softmax")])
loaded = load(export_model(model, sys.argv[1], receiver_fn))
(got,) = loaded.signatures["serving_default"](x=x).values()
np.testing.assert_allclose(got, model.predict(x, verbose=0), atol=1e-5)
assert list(loaded.signatures["serving_default"](x=x)) == [model.layers[-1].name]
names = {model.layers[-1].name: "score"}
renamed = load(export_model(model, sys.argv[1] + "/renamed", receiver_fn, output_names=names))
assert list(renamed.signatures["serving_default"](x=x)) == ["score"]
model.save(sys.argv[1] + "/model.keras")
export_model(sys.argv[1] + "/model.keras", sys.argv[1] + "/file", receiver_fn)

# Any number of steps: right at several lengths, or refused.
open_steps = raw({"x": placeholder("float32", [None, None, 3], "x")})
model = keras.Sequential([keras.Input((None, 3)), keras.layers.Conv1D(4, 2), keras.layers.GlobalMaxPooling1D()])
loaded = load(export_model(model, sys.argv[1] + "/steps", open_steps))
for length in (2, 40, 5):
    steps = np.random.default_rng(length).normal(size=(3, length, 3)).astype("float32")
    (got,) = loaded.signatures["serving_default"](x=steps).values()
    np.testing.assert_allclose(got, model.predict(steps, verbose=0), atol=1e-5)
recurrent = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4)])
try:
    export_model(recurrent, sys.argv[1] + "/open", open_steps)
except ValueError as error:
    assert "one size of the axes" in str(error), error
else:
    raise AssertionError("exported")
loaded = load(export_model(recurrent, sys.argv[1] + "/fixed", raw({"x": steps})))
(got,) = loaded.signatures["serving_default"](x=steps).values()
np.testing.assert_allclose(got, recurrent.predict(steps, verbose=0), atol=1e-5)

x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
layer = keras.layers.Dense(3)
two = {"b": x[::-1].copy(), "a": x}
features = {key: dtypes.float32 for key in two}
for inputs, asked in (([a, b], [two["a"], two["b"]]), ({"a": a, "b": b}, two)):
    model = keras.Model(inputs, layer(a) - layer(b))
    source = KerasSource(model)
    assert [(one.name, one.keys) for one in source.inputs(features)] == [("a", ("a",)), ("b", ("b",))]
    (got,) = source.answer(two).values()
    np.testing.assert_allclose(got, model.predict(asked, verbose=0), atol=1e-5)

for refused, text in (
    (lambda: KerasSource(keras.Sequential([keras.layers.Dense(2)])), "Sequential does not know its inputs; build it"),
    (lambda: source.inputs({"c": dtypes.float32}), "The Keras model takes a, b, and the receiver gives c; "),
    (lambda: source.inputs({**features, "b": dtypes.string}), "The Keras model takes tensors of numbers, and the rece"),
):
    try:
        refused()
    except ValueError as error:
        assert text in str(error), error
    else:
        raise AssertionError(text)
"""


def test_keras_models(tmp_path):
    """In a process of their own: a process has one backend."""
    env = {"KERAS_BACKEND": "torch", "PATH": os.defpath, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "base"],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
