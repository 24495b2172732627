"""scikit-learn models: which columns become which inputs, and what is done to a converted graph."""

import warnings

import numpy as np
import onnx
import pandas as pd
import pytest
from library_models import BINARY, EXAMPLES, WORDS, X, as_examples
from onnx import TensorProto, helper
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from estimator_serving.exporter import (
    build_parsing_serving_input_receiver_fn,
    build_raw_serving_input_receiver_fn,
    export_model,
)
from estimator_serving.exporter.sources.base import MATRIX, reason_of
from estimator_serving.exporter.sources.sklearn import SklearnSource, converting, rename_outputs
from estimator_serving.serving import load
from estimator_serving.training import FixedLenFeature
from estimator_serving.wire import dtypes

FRAME = pd.DataFrame({"u": X[:, 0], "word": np.where(X[:, 1] > 0, "p", "q"), "w": X[:, 2]})


def test_columns_of_a_frame_find_their_features(tmp_path):
    columns = make_column_transformer(
        (StandardScaler(), ["u", "w"]), (OneHotEncoder(handle_unknown="ignore"), ["word"])
    )
    model = make_pipeline(columns, LogisticRegression()).fit(FRAME, BINARY)
    raw = {"w": np.float32([0]), "word": np.array(["p"]), "u": np.float32([0])}
    loaded = load(
        export_model(model, tmp_path, build_raw_serving_input_receiver_fn(raw), label_vocabulary=["no", "yes"])
    )
    got = loaded.signatures["serving_default"](w=FRAME["w"], word=FRAME["word"], u=FRAME["u"])
    np.testing.assert_allclose(got["probabilities"], model.predict_proba(FRAME), atol=1e-5)
    assert set(got["classes"].ravel()) == {"no", "yes"}


def test_a_model_without_names_takes_the_receivers_order():
    source = SklearnSource(LogisticRegression().fit(X, BINARY))
    (matrix,) = source.inputs({"w": dtypes.float32, "a": dtypes.int64, "b": dtypes.float32})
    assert (matrix.name, matrix.keys) == (MATRIX, ("w", "a", "b"))
    assert (source.method, source.labels) == ("classify", ["0", "1"])


def test_columns_that_the_receiver_lacks_are_refused():
    columns = make_column_transformer((StandardScaler(), ["u", "w"]))
    source = SklearnSource(make_pipeline(columns, LogisticRegression()).fit(FRAME, BINARY))
    with pytest.raises(ValueError, match="trained with the columns u, word, w, and the receiver does not give word"):
        source.inputs({"u": dtypes.float32, "w": dtypes.float32})


def test_answers_are_the_models_own():
    source = SklearnSource(LogisticRegression().fit(X, WORDS))
    answered = source.answer({MATRIX: np.float32(X[:3])})
    np.testing.assert_allclose(answered["probabilities"].sum(axis=1), 1, rtol=1e-6)
    assert [source.labels[one] for one in answered["class_ids"][:, 0]] == list(WORDS[:3])


def test_clusters_of_float32_rows_answer(tmp_path):
    model = KMeans(2, n_init=1, random_state=0).fit(np.float32(X))
    got = load(export_model(model, tmp_path, EXAMPLES)).signatures["predict"](examples=as_examples(X))
    np.testing.assert_array_equal(got["predictions"].ravel(), model.predict(np.float32(X)))


def branching():
    """y is computed inside an If, z beside it."""
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [7]) for name in ("y", "z")]
    inner = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "inner", [], [outputs[0]])
    nodes = [
        helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner),
        helper.make_node("Neg", ["y"], ["z"]),
    ]
    return helper.make_model(helper.make_graph(nodes, "g", [], outputs))


def test_outputs_get_names_and_lose_wrong_shapes():
    model = rename_outputs(branching(), {"y": "predictions"})
    (output,) = model.graph.output
    assert output.name == "predictions"
    assert [dim.HasField("dim_value") for dim in output.type.tensor_type.shape.dim] == [False, False]
    (outer, after) = model.graph.node
    assert (list(outer.output), list(after.input)) == (["predictions"], ["predictions"])
    assert [list(one.g.node[0].output) for one in outer.attribute] == [["predictions"]] * 2


def test_an_output_that_is_missing_is_no_output():
    assert list(rename_outputs(branching(), {"nothing": "predictions"}).graph.output) == []


def test_what_a_converter_raises_becomes_a_sentence():
    with (
        pytest.raises(ValueError, match="^It failed: KeyError: 'a'$") as raised,
        converting(lambda error: f"It failed: {reason_of(error)}"),
    ):
        raise KeyError("a")
    assert isinstance(raised.value.__cause__, KeyError)


def test_what_a_converter_warns_of_stays_inside():
    with converting(str):
        warnings.warn("to be removed", FutureWarning, stacklevel=1)
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", UserWarning, stacklevel=1)


def test_the_checker_takes_a_renamed_graph():
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])
    model = helper.make_model(helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [x], [y]))
    onnx.checker.check_model(rename_outputs(model, {"y": "predictions"}), full_check=True)


CODES = np.stack([X[:, 0], np.arange(len(X)) % 4], axis=1).astype(np.float32)
COMMITTEES = {
    "histograms with categories": HistGradientBoostingClassifier(categorical_features=[1], max_iter=3),
    "a vote with weights": VotingClassifier(
        [("a", LogisticRegression()), ("b", GaussianNB())], voting="soft", weights=[1, 2]
    ),
    "a stack of a forest and a pipeline": StackingClassifier(
        [("a", make_pipeline(StandardScaler(), LogisticRegression())), ("b", RandomForestClassifier(3))], cv=2
    ),
    "a stack of a forest and a model": StackingClassifier(
        [("a", LogisticRegression()), ("b", RandomForestClassifier(3))], cv=2
    ),
}  # fmt: skip


def served_codes(model, directory, code="float32"):
    spec = {"u": FixedLenFeature([], "float32"), "code": FixedLenFeature([], code)}
    loaded = load(export_model(model, directory, build_parsing_serving_input_receiver_fn(spec)))
    rows = [{"u": u, "code": int(one) if code == "int64" else one} for u, one in CODES.tolist()]
    return loaded.signatures["serving_default"](inputs=rows)


@pytest.mark.parametrize("code", ["float32", "int64"])
@pytest.mark.parametrize("name", COMMITTEES)
def test_models_trained_on_an_array_answer_as_they_do(name, code, tmp_path):
    model = clone(COMMITTEES[name]).fit(CODES, BINARY)
    np.testing.assert_allclose(served_codes(model, tmp_path, code)["scores"], model.predict_proba(CODES), atol=2e-5)


def test_a_regressors_vote_with_weights_answers_as_it_does(tmp_path):
    model = VotingRegressor([("a", LinearRegression()), ("b", Ridge(50.0))], weights=(1, 3)).fit(CODES, X[:, 1])
    np.testing.assert_allclose(served_codes(model, tmp_path)["outputs"].ravel(), model.predict(CODES), atol=2e-5)
    assert model.weights == (1, 3)


def test_encoders_of_an_array_are_asked_for_their_categories():
    source = SklearnSource(HistGradientBoostingClassifier(categorical_features=[1], max_iter=3).fit(CODES, BINARY))
    source.inputs({"u": dtypes.float32, "code": dtypes.float32})
    assert list(source.known_values()) == ["code"]
