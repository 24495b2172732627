"""Every family of estimators behind receivers that parse nothing: signatures, and the numbers of estimator.predict."""

import numpy as np
import pytest
from small_estimators import KINDS, ROWS

from estimator_serving.exporter import (
    ExportOptions,
    ServingInputReceiver,
    TensorServingInputReceiver,
    build_raw_serving_input_receiver_fn,
    parse_example,
    placeholder,
)
from estimator_serving.exporter.draft import finish, first_rows
from estimator_serving.exporter.export import build_draft
from estimator_serving.serving import load
from estimator_serving.training import (
    Estimator,
    EstimatorSpec,
    FixedLenFeature,
    RunConfig,
    VarLenFeature,
    layers,
    losses,
    numpy_input_fn,
    optimizers,
)

RAW = build_raw_serving_input_receiver_fn(ROWS)


def rows_of(count):
    return {key: np.resize(value, count) for key, value in ROWS.items()}


def batch_of(estimator, features):
    inputs = numpy_input_fn(features, shuffle=False, batch_size=1000)
    (batch,) = estimator.predict(inputs, yield_single_examples=False)
    return {"/".join(key) if isinstance(key, tuple) else key: value for key, value in batch.items()}


def feed(session, features):
    names = {node.name for node in session.get_inputs()}
    return {key: value for key, value in features.items() if key in names}


@pytest.mark.parametrize("kind", KINDS)
def test_a_raw_receiver_gives_what_predict_gives(trained, kind):
    estimator = trained(kind)
    checked = finish(build_draft(estimator.load(), RAW()), ExportOptions())
    signatures = checked.metadata.signatures
    # Raw tensors cannot feed classify and regress; the default signature stays, and answers predict.
    assert all(one.method_name == "tensorflow/serving/predict" for one in signatures.values())
    assert set(signatures["serving_default"].inputs) == set(ROWS)
    outputs = signatures.get("predict", signatures["serving_default"]).outputs
    assert "serving_default" in signatures
    names = [info.value_name for info in outputs.values()]
    expected = batch_of(estimator, rows_of(1000))
    for rows in (0, 1, 1000):
        values = checked.session.run(names, feed(checked.session, rows_of(rows)))
        for alias, wanted, got in zip(
            outputs, first_rows({k: expected[k] for k in outputs}, rows).values(), values, strict=True
        ):
            if wanted.dtype == object:
                assert [word.encode() for word in got.ravel()] == wanted.ravel().tolist()
            else:
                assert np.all(np.abs(wanted - got) <= 1e-5 * np.maximum(1, np.abs(wanted))), alias


SPEC = {
    "age": FixedLenFeature([1], float),
    "fare": FixedLenFeature([1], float),
    "class": VarLenFeature(str),
    "port": VarLenFeature(str),
}


def receiver_with_alternatives():
    serialized = placeholder(str, [None], "input_example_tensor")
    features = parse_example(serialized, SPEC)
    return ServingInputReceiver(features, {"examples": serialized}, {"single": features})


@pytest.mark.parametrize(
    ("kind", "methods"),
    [
        ("dnn binary", {"predict": "predict", "serving_default": "predict"}),
        ("custom", {"serving_default": "predict"}),
        (
            "multi_head",
            dict.fromkeys(("predict", "prices/predict", "survived/predict", "serving_default"), "predict"),
        ),
    ],
)
def test_alternatives_answer_like_examples(trained, tmp_path, kind, methods):
    estimator = trained(kind)
    loaded = load(estimator.export_saved_model(tmp_path, receiver_with_alternatives))
    found = {
        key.removeprefix("single:"): one.signature.method_name.removeprefix("tensorflow/serving/")
        for key, one in loaded.signatures.items()
        if key.startswith("single:")
    }
    assert found == methods
    single = loaded.signatures["single:serving_default"]
    sent = {alias: ROWS[alias].reshape(6, 1) for alias in single.signature.inputs}
    examples = [{key: ROWS[key][row] for key in SPEC} for row in range(6)]
    name = "predict" if "predict" in loaded.signatures else "serving_default"
    by_examples = loaded.signatures[name](examples=examples)
    for alias, got in single(**sent).items():
        assert np.array_equal(got, by_examples[alias]), alias


def bare_model_fn(features, labels, mode):
    logits = layers.dense(features, units=1)
    if mode == "infer":
        return EstimatorSpec(mode, predictions=logits)
    loss = losses.mean_squared_error(labels.float().reshape(-1, 1), logits)
    return EstimatorSpec(mode, loss=loss, train_op=optimizers.Adam(0.1).minimize(loss))


def test_a_model_of_one_tensor(tmp_path):
    x = np.float32([[1, 2], [3, 4], [5, 6]])
    estimator = Estimator(bare_model_fn, config=RunConfig(tf_random_seed=1, model_dir=str(tmp_path / "model")))
    estimator.train(numpy_input_fn(x, np.float32([1, 2, 3]), shuffle=False), steps=1)

    def receiver_fn():
        sent = placeholder(float, [None, 2], "x")
        return TensorServingInputReceiver(sent, {"x": sent})

    loaded = load(estimator.export_saved_model(tmp_path / "base", receiver_fn))
    got = loaded.signatures["serving_default"](x=x)["output"]
    np.testing.assert_allclose(got, np.stack(list(estimator.predict(numpy_input_fn(x, shuffle=False)))), atol=1e-5)
