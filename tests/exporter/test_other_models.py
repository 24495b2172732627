"""Models of other libraries: the same kind of servable, the same numbers, and sentences for what has no ONNX form."""

import lightgbm
import numpy as np
import onnx
import pandas as pd
import pytest
import torch
import xgboost
from onnx import TensorProto, helper, numpy_helper
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from torch import nn

from estimator_serving.exporter import (
    ExportMismatch,
    build_parsing_serving_input_receiver_fn,
    build_raw_serving_input_receiver_fn,
    export_model,
)
from estimator_serving.exporter.other_models import recognize
from estimator_serving.exporter.sources.base import MATRIX
from estimator_serving.exporter.sources.trees import round_down
from estimator_serving.serving import load
from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.training import FixedLenFeature

GENERATOR = np.random.default_rng(3)
X = GENERATOR.normal(size=(300, 3))  # float64, so that thresholds are no float32
Y = X[:, 0] * 2 + np.sin(X[:, 1] * 5)
BINARY = (Y > 0).astype(int)
WORDS = np.array(["a", "b", "c"], object)[np.digitize(Y, [-1, 1])]
SPEC = {key: FixedLenFeature([], float) for key in ("u", "v", "w")}
EXAMPLES = build_parsing_serving_input_receiver_fn(SPEC)
FRAME = pd.DataFrame({"u": X[:, 0], "word": np.where(X[:, 1] > 0, "p", "q"), "w": X[:, 2]})


def as_examples(rows):
    return [dict(zip(SPEC, map(float, row), strict=True)) for row in np.float32(rows)]


def pipeline():
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(X, WORDS)


CLASSIFIERS = {
    "pipeline": pipeline,
    "forest": lambda: RandomForestClassifier(5, random_state=0).fit(X, BINARY),
    "lightgbm": lambda: lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(X, WORDS),
    "xgboost": lambda: xgboost.XGBClassifier(n_estimators=5).fit(X, BINARY),
    "early end": lambda: xgboost.XGBClassifier(n_estimators=20, early_stopping_rounds=2).fit(
        X, BINARY, eval_set=[(X, BINARY), (-X, BINARY)], verbose=False
    ),
    "neighbours": lambda: KNeighborsClassifier(3).fit(X, BINARY),
    "calibrated": lambda: CalibratedClassifierCV(LinearSVC(), cv=2).fit(X, BINARY),
}


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_a_classifier(tmp_path, kind):
    model = CLASSIFIERS[kind]()
    loaded = load(export_model(model, tmp_path, EXAMPLES))
    expected = model.predict_proba(np.float32(X))
    answer = loaded.signatures["serving_default"](inputs=as_examples(X))
    np.testing.assert_allclose(answer["scores"], expected, atol=1e-5)
    assert answer["classes"][0].tolist() == [str(one) for one in model.classes_]
    predicted = loaded.signatures["predict"](examples=as_examples(X))
    assert predicted["classes"].ravel().tolist() == [str(one) for one in model.predict(np.float32(X))]
    methods = {key: one.signature.method_name.rpartition("/")[2] for key, one in loaded.signatures.items()}
    regression = {"regression": "regress"} if expected.shape[1] == 2 else {}
    assert methods == {"serving_default": "classify", "classification": "classify", "predict": "predict"} | regression
    assert [len(value) for value in loaded.signatures["predict"](examples=[]).values()] == [0] * len(predicted)
    assert len(loaded.signatures["predict"](examples=as_examples(np.resize(X, (1000, 3))))["classes"]) == 1000


def thresholds(node):
    if isinstance(node, dict) and "threshold" in node:
        yield node["threshold"]
        yield from thresholds(node["left_child"])
        yield from thresholds(node["right_child"])


def lightgbm_regressor():
    model = lightgbm.LGBMRegressor(n_estimators=30, verbose=-1).fit(X, Y)
    trees = model.booster_.dump_model()["tree_info"]
    return model, [value for tree in trees for value in thresholds(tree["tree_structure"])]


def histogram_regressor():
    model = HistGradientBoostingRegressor(max_iter=30).fit(X, Y)
    values = np.concatenate([trees[0].nodes["num_threshold"] for trees in model._predictors])
    return model, values[np.isfinite(values)]


def xgboost_regressor():
    model = xgboost.XGBRegressor(n_estimators=20).fit(pd.DataFrame(X, columns=["w", "u", "v"]), Y)
    return model, model.get_booster().trees_to_dataframe()["Split"].dropna()


@pytest.mark.parametrize("make", [lightgbm_regressor, histogram_regressor, xgboost_regressor])
def test_no_row_changes_its_leaf(tmp_path, make):
    """Rows that lie on the float32 neighbours of every threshold."""
    model, values = make()
    near = np.float32(list(values))
    near = np.concatenate([near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))])
    rows = np.stack([GENERATOR.permutation(near) for _ in range(3)], axis=1)
    loaded = load(export_model(model, tmp_path, EXAMPLES))
    order = [list(SPEC).index(key) for key in getattr(model, "feature_names_in_", SPEC) if key in SPEC] or [0, 1, 2]
    frame = rows[:, order]
    expected = recognize(model).answer({MATRIX: frame})["predictions"]
    got = loaded.signatures["regression"](inputs=as_examples(rows))["outputs"]
    # Leaves differ by far more than sums of float32 do.
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_a_booster_of_more_rounds_than_its_best(tmp_path):
    """Its own predict takes all of them."""
    data, other = xgboost.DMatrix(X, Y), xgboost.DMatrix(X, -Y)
    model = xgboost.train({}, data, 20, evals=[(other, "other")], early_stopping_rounds=3, verbose_eval=False)
    assert model.best_iteration + 1 < model.num_boosted_rounds()
    got = load(export_model(model, tmp_path, EXAMPLES)).signatures["regression"](inputs=as_examples(X))["outputs"]
    np.testing.assert_allclose(got.ravel(), model.predict(xgboost.DMatrix(np.float32(X))), rtol=1e-5, atol=1e-5)


HOLES = np.where(GENERATOR.random(X.shape) < 0.2, np.nan, X)


@pytest.mark.parametrize("seen", [X, HOLES])
@pytest.mark.parametrize("kind", [lightgbm.LGBMRegressor, xgboost.XGBRegressor])
def test_missing_numbers_reach_the_librarys_leaf(tmp_path, kind, seen):
    """Whether or not the model was trained with any."""
    quiet = {"verbose": -1} if kind is lightgbm.LGBMRegressor else {}
    model = kind(n_estimators=10, **quiet).fit(seen, Y)
    loaded = load(export_model(model, tmp_path, EXAMPLES))
    got = loaded.signatures["regression"](inputs=as_examples(HOLES))["outputs"]
    np.testing.assert_allclose(got.ravel(), model.predict(np.float32(HOLES)), rtol=1e-5, atol=1e-5)


def test_another_missing_value_than_nan_is_refused(tmp_path):
    model = xgboost.XGBRegressor(n_estimators=2, missing=0.0).fit(X, Y)
    with pytest.raises(ValueError, match=r"takes 0\.0 for a missing value.*missing=np\.nan"):
        export_model(model, tmp_path, EXAMPLES)


def test_thresholds_are_rounded_down():
    for value in (0.1, -0.1, 1 / 3, 16777217.0, 0.5, 0.0):
        rounded = round_down(value)
        assert rounded <= value < float(np.nextafter(np.float32(rounded), np.float32(np.inf)))


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


class Named(nn.Module):
    """Arguments by the features' names, outputs by name."""

    def forward(self, u, v, w=None):
        return {"sum": u + v, "product": u * v}


@pytest.mark.parametrize(
    ("model", "options", "signature", "outputs"),
    [
        (
            nn.Sequential(nn.Linear(3, 2), nn.Softmax(1)),
            {"method": "classify"},
            "classification",
            {"classes", "scores"},
        ),
        (nn.Sequential(nn.Linear(3, 1), nn.Sigmoid()), {"method": "classify"}, "regression", {"outputs"}),
        (nn.Linear(3, 1), {"method": "regress"}, "serving_default", {"outputs"}),
        (nn.Linear(3, 2), {}, "predict", {"output"}),
        (Named(), {}, "serving_default", {"sum", "product"}),
    ],
)
def test_a_torch_module(tmp_path, model, options, signature, outputs):
    model.train()
    loaded = load(export_model(model, tmp_path, EXAMPLES, **options))
    assert model.training
    called = loaded.signatures[signature]
    answer = called(**{alias: as_examples(X[:5]) for alias in called.signature.inputs})
    assert set(answer) == outputs


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_module_is_the_module(tmp_path):
    module = nn.Linear(3, 2)
    got = load(export_model(torch.compile(module), tmp_path, EXAMPLES)).signatures["predict"](
        examples=as_examples(X[:2])
    )
    np.testing.assert_allclose(got["output"], module(torch.from_numpy(np.float32(X[:2]))).detach().numpy(), atol=1e-6)


class Table(nn.Module):
    """Ten rows: neither -2 nor 11 is one of them. Hands its ids on, too."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 2)

    def forward(self, ids):
        return {"found": self.table(ids.long()), "ids": ids}


@pytest.mark.parametrize("kind", [int, float])
def test_ids_of_a_small_table(tmp_path, kind):
    module = Table()
    receiver_fn = build_parsing_serving_input_receiver_fn({"ids": FixedLenFeature([], kind)})
    predict = load(export_model(module, tmp_path, receiver_fn)).signatures["predict"]
    got = predict(examples=[{"ids": kind(9)}, {"ids": kind(0)}])
    np.testing.assert_array_equal(got["found"], module.table.weight.detach().numpy()[[9, 0]])
    assert got["ids"].tolist() == [9, 0]


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer = kind(3, 2, batch_first=True)

    def forward(self, x):
        return self.layer(x[:, None])[0][:, 0]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_what_cannot_run_on_no_row_is_never_run_on_none(tmp_path, kind):
    """ONNX Runtime would end the process: the exporter's, or the server's."""
    module = Recurrent(kind)
    predict = load(export_model(module, tmp_path, EXAMPLES)).signatures["predict"]
    with torch.no_grad():
        expected = module(torch.from_numpy(np.float32(X[:4]))).numpy()
    np.testing.assert_allclose(predict(examples=as_examples(X[:4]))["output"], expected, atol=1e-6)
    with pytest.raises(
        InvalidArgumentError, match=r"Input examples has shape \[0\], and this model has an LSTM or GRU"
    ):
        predict(examples=[])


class Branches(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x


class Numpy(nn.Module):
    def forward(self, x):
        return torch.from_numpy(np.tanh(x.numpy()))


class OneBatchSize(nn.Module):
    def forward(self, x):
        return x.reshape(16, 3).sum(1)


class NoOperator(nn.Module):
    def forward(self, x):
        return torch.linalg.svdvals(x[:, :, None] @ x[:, None, :])


@pytest.mark.parametrize(
    ("module", "texts"),
    [
        (
            Branches(),
            ["Branches (", "branches in Python", "test_other_models.py:", '"if x.sum() > 0:"', "torch.where("],
        ),
        (Numpy(), ["leaves torch for numpy", '"return torch.from_numpy(np.tanh(x.numpy()))"', "torch.log"]),
        (OneBatchSize(), ["OneBatchSize (", "a batch of one certain size", "x.shape[0]"]),
        (NoOperator(), ["ONNX has no operator", "aten._linalg_svd", '"return torch.linalg.svdvals(']),
    ],
)
def test_a_module_that_cannot_be_traced(tmp_path, capfd, module, texts):
    with pytest.raises(ValueError, match="cannot become a graph") as raised:
        export_model(module, tmp_path / "base", EXAMPLES)
    assert [text for text in texts if text not in str(raised.value)] == []
    assert not (tmp_path / "base").exists()
    assert "def forward" not in capfd.readouterr().err


def add_one(first="batch"):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [first, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [first, 3])
    one = helper.make_tensor("one", TensorProto.FLOAT, [], [1.0])
    graph = helper.make_graph([helper.make_node("Add", ["x", "one"], ["y"])], "g", [x], [y], [one])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def first_row():
    """A graph that fails where there is no row."""
    model = add_one()
    model.graph.initializer.append(helper.make_tensor("zero", TensorProto.INT64, [], [0]))
    model.graph.node.append(helper.make_node("Gather", ["y", "zero"], ["first"]))
    model.graph.output.append(helper.make_tensor_value_info("first", TensorProto.FLOAT, [3]))
    return model


@pytest.mark.parametrize("form", ["proto", "bytes", "file"])
def test_an_onnx_model(tmp_path, form):
    model = add_one()
    file = tmp_path / "model.onnx"
    onnx.save(model, file)
    given = {"proto": model, "bytes": model.SerializeToString(), "file": file}[form]
    loaded = load(export_model(given, tmp_path / "base", EXAMPLES))
    got = loaded.signatures["serving_default"](examples=as_examples(X[:4]))["y"]
    np.testing.assert_allclose(got, np.float32(X[:4]) + 1)


class AnyArguments(nn.Module):
    def forward(self, *given):
        return given[0]


@pytest.mark.parametrize(("opset", "is_input"), [(13, False), (21, False), (21, True)])
def test_an_onnx_model_with_large_weights(tmp_path, opset, is_input):
    """In old models every weight is an input, too."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10000])
    weight = numpy_helper.from_array(np.float32(GENERATOR.normal(size=(3, 10000))), "w")
    inputs = [x, helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 10000])] if is_input else [x]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", inputs, [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    predict = load(export_model(model, tmp_path, EXAMPLES)).signatures["predict"]
    expected = np.float32(X[:4]) @ numpy_helper.to_array(weight)
    np.testing.assert_allclose(predict(examples=as_examples(X[:4]))["y"], expected, rtol=1e-5, atol=1e-5)


class Scaler(StandardScaler):
    """No converter knows it."""


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: "no such file.onnx", FileNotFoundError, "no such file.onnx"),
        (lambda: b"no model", ValueError, "is not an ONNX model"),
        (lambda: add_one(first=4), ValueError, "input x of the ONNX model takes batches of 4 rows alone"),
        (
            lambda: object(),
            TypeError,
            "takes a scikit-learn, XGBoost, LightGBM, torch, Keras or ONNX model; got object",
        ),
        (lambda: LinearSVC().fit(X, BINARY), ValueError, "LinearSVC has no predict_proba.*CalibratedClassifierCV"),
        (
            lambda: make_pipeline(Scaler(), LogisticRegression()).fit(X, BINARY),
            ValueError,
            "no converter for .*Scaler, the step 'scaler' of the model.*update_registered_converter",
        ),
        (
            lambda: make_pipeline(FunctionTransformer(np.tanh), LogisticRegression()).fit(X, BINARY),
            ValueError,
            r"cannot convert FunctionTransformer, the step 'functiontransformer' of the model \(RuntimeError: ",
        ),
        (
            first_row,
            ValueError,
            r"cannot run the exported graph on a batch of 0 rows \(Gather: .*; nothing was written",
        ),
        (lambda: AnyArguments(), ValueError, "AnyArguments names no argument of its forward"),
        (lambda: StandardScaler().fit(X), ValueError, "StandardScaler has no predict; put it in front of"),
        (
            lambda: RandomForestClassifier(2).fit(X, np.stack([BINARY, 1 - BINARY], axis=1)),
            ValueError,
            "RandomForestClassifier gives several labels a row.*MultiLabelHead",
        ),
        (
            lambda: make_pipeline(CountVectorizer(), LogisticRegression()).fit(["one two", "three"] * 150, BINARY),
            ValueError,
            "The step 'countvectorizer'.*splits text into words",
        ),
        (
            lambda: lightgbm.LGBMRegressor(n_estimators=2, verbose=-1, objective="l1").fit(X, Y),
            ValueError,
            r"onnxmltools cannot convert the model \(NotImplementedError: Unsupported LightGbm objective: 'l1'",
        ),
        (
            lambda: xgboost.XGBRegressor(n_estimators=2, booster="dart").fit(X, Y),
            ValueError,
            "onnxmltools cannot convert the model .*use a booster of trees",
        ),
        (
            lambda: LogisticRegression().fit(pd.DataFrame(X, columns=["u", "v", "z"]), BINARY),
            ValueError,
            "trained with the features u, v, z, and the receiver does not give z",
        ),
    ],
)
def test_what_is_refused(tmp_path, make, error, text):
    with pytest.raises(error, match=text):
        export_model(make(), tmp_path / "base", EXAMPLES)
    assert not (tmp_path / "base").exists()


def test_words_of_callers_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match="method is 'cluster'; give one of classify, regress, predict"):
        export_model(add_one(), tmp_path, EXAMPLES, method="cluster")
    with pytest.raises(ValueError, match="label_vocabulary names 2 classes, and the model gives 3 scores"):
        export_model(pipeline(), tmp_path, EXAMPLES, label_vocabulary=["a", "b"])
    text = build_parsing_serving_input_receiver_fn({**SPEC, "v": FixedLenFeature([], str)})
    with pytest.raises(ValueError, match="takes numbers, and the receiver gives text for v"):
        export_model(nn.Linear(3, 1), tmp_path, text)


def test_a_conversion_that_differs_writes_nothing(tmp_path):
    class Remembers(nn.Module):
        """Another answer every time it is asked."""

        calls = 0

        def forward(self, x):
            Remembers.calls += 1
            return x + Remembers.calls

    with pytest.raises(ExportMismatch, match="output 'output'.*Nothing was written"):
        export_model(Remembers(), tmp_path / "base", EXAMPLES)
    assert not (tmp_path / "base").exists()
