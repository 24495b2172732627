"""Every column on missing, unknown, many, negative, empty and weighted values: what TensorFlow 2.15 computes.

goldens/make_columns.py recorded it and says what an expression may name; here the same expressions build our columns.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from estimator_serving import training
from estimator_serving.training import feature_column as fc
from estimator_serving.training.columns.definitions import Ids
from estimator_serving.training.columns.features import Features, TransformRecorder
from estimator_serving.training.columns.transform import build_transform
from estimator_serving.training.columns.values import CategoricalColumn
from estimator_serving.training.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from estimator_serving.training.nn.variables import VariableStore
from estimator_serving.wire.examples import FixedLenFeature

sys.path.insert(0, str(Path(__file__).parents[1] / "goldens"))
import make_columns

GOLDENS = json.loads(Path(make_columns.__file__).with_name("columns.json").read_text(encoding="utf-8"))
CASES = [
    pytest.param(case, form, id=f"{case['column']}-{form}") for case in GOLDENS["categorical"] for form in case["forms"]
]
SMALL_CASES = [param for param in CASES if "linear" in param.values[0]["forms"][param.values[1]]]


@pytest.fixture(scope="session")
def evaluate(tmp_path_factory):
    """Makes a column of an expression."""
    directory = tmp_path_factory.mktemp("vocabulary")
    scope = {"fc": fc, "v": training, "parse": training, "path": make_columns.write_files(directory)}
    return lambda expression: eval(expression, dict(scope))


def raw(features, form):
    """The features as an input_fn gives them: dense arrays, or what ParseExample makes of a VarLenFeature."""
    fed = {}
    for key, feature in features.items():
        dense = make_columns.dense_array(feature)
        if feature.get("form", form) == "sparse" and "rows" in feature:
            # Not the blanks: what stands behind a row's length must not matter.
            dense = np.where(dense == "", "padding", dense) if dense.dtype == object else dense
            for row, values in zip(dense, feature["rows"], strict=True):
                row[: len(values)] = values
            fed |= {f"{key}/values": dense, f"{key}/lengths": np.array([len(row) for row in feature["rows"]])}
        else:
            fed[key] = dense
    return fed


def numbers(golden):
    return np.array(golden, np.float64).astype(np.float32)


def call(layer, features, *arguments, store=None, **named):
    with torch.no_grad(), (store or VariableStore()).activate(training=False):
        return layer(features, *arguments, **named).numpy()


@pytest.mark.parametrize(("case", "form"), CASES)
def test_ids(evaluate, case, form):
    """Bit for bit, in TensorFlow's order."""
    transform = build_transform([Ids(evaluate(case["column"]))])
    (ids,) = transform(raw(case["features"], form)).values()
    assert ids.dtype == np.int64
    assert [[id_ for id_ in row if id_ >= 0] for row in ids.tolist()] == case["forms"][form]["ids"]


@pytest.mark.parametrize(("case", "form"), SMALL_CASES)
def test_dense_and_linear_values(evaluate, case, form):
    column, golden = evaluate(case["column"]), case["forms"][form]
    indicator = fc.indicator_column(column)
    features = Features(raw(case["features"], form), TransformRecorder())
    features.require([column, indicator])
    np.testing.assert_allclose(call(fc.input_layer, features, [indicator]), numbers(golden["indicator"]), rtol=1e-5)
    for arguments, expected in golden["embeddings"].items():
        found = call(fc.input_layer, features, [embedding(column, arguments)])
        np.testing.assert_allclose(found, numbers(expected), rtol=1e-5, atol=1e-6, err_msg=arguments)
    for combiner, expected in golden["linear"].items():
        found = linear(column, features, combiner)
        np.testing.assert_allclose(found, numbers(expected), rtol=1e-5, atol=1e-6, err_msg=combiner)


def embedding(column, arguments):
    named = eval(f"dict(combiner={arguments})")
    first = torch.from_numpy(make_columns.table(column.num_buckets, 2))
    return fc.embedding_column(column, 2, initializer=lambda *_: first.clone(), **named)


def linear(column, features, combiner):
    store = VariableStore()
    call(fc.linear_model, features, [column], sparse_combiner=combiner, store=store)
    with torch.no_grad():
        weights = torch.from_numpy(make_columns.table(column.num_buckets, 1))
        next(v for k, v in store.trainable_variables.items() if k.endswith("/weights")).copy_(weights)
    return call(fc.linear_model, features, [column], sparse_combiner=combiner, store=store)


def fed(case):
    return Features(raw(case["features"], "dense"), TransformRecorder())


@pytest.mark.parametrize("case", GOLDENS["dense"], ids=lambda case: case["column"])
def test_dense_columns(evaluate, case):
    found = call(fc.input_layer, fed(case), [evaluate(case["column"])])
    np.testing.assert_allclose(found, numbers(case["dense"]), rtol=1e-6)


@pytest.mark.parametrize("case", GOLDENS["specs"], ids=lambda case: case["columns"])
def test_parse_specs(evaluate, case):
    spec = fc.make_parse_example_spec(evaluate(case["columns"]))
    assert {key: describe(feature) for key, feature in spec.items()} == case["spec"]


def describe(feature):
    dtype = "string" if feature.dtype.is_string else str(feature.dtype.numpy)
    described = {"kind": type(feature).__name__, "dtype": dtype}
    if isinstance(feature, FixedLenFeature):
        default = None if feature.default_array is None else feature.default_array.tolist()
        described |= {"shape": list(feature.shape), "default": default}
    return described


@pytest.mark.parametrize(("expression", "name"), GOLDENS["names"])
def test_names(evaluate, expression, name):
    assert evaluate(expression).name == name


def same_beginning(found, golden):
    """TensorFlow's text up to where it prints a column or a tensor, which it does in its own way."""
    begins = [
        golden.partition(mark)[0] for mark in ("Given: ", "Given column: ", "Given (type", "Given {", "Given type")
    ]
    expected = min(begins, key=len)
    expected = expected.replace(
        "a <class 'tensorflow.python.feature_column.feature_column_v2.DenseColumn'>", "a DenseColumn"
    )
    for name in ("FixedLenFeature(", "VarLenFeature("):
        expected = expected.partition(name)[0]
    assert found.startswith(expected), f"{found!r} does not begin with {expected!r}"
    assert expected


@pytest.mark.parametrize("case", GOLDENS["refused"], ids=lambda case: case["expression"])
def test_refusals(evaluate, case, tmp_path):
    with pytest.raises((ValueError, TypeError)) as refused:
        evaluate(case["expression"])
    assert type(refused.value).__name__ == case["error"]
    same_beginning(str(refused.value), case["text"])


@pytest.mark.parametrize(
    "case", GOLDENS["refused_in_use"], ids=lambda case: f"{case['column']}-{list(case['features'])}"
)
def test_refusals_in_use(evaluate, case):
    with pytest.raises(ValueError) as refused:  # noqa: PT011  the text is compared below
        call(fc.input_layer, fed(case), [evaluate(case["column"])])
    assert type(refused.value).__name__ == case["error"]
    same_beginning(str(refused.value), case["text"])


# Ours of the same name; a table that cannot be made has none of its own.
CLASSES = {
    "InvalidArgumentError": InvalidArgumentError,
    "FailedPreconditionError": FailedPreconditionError,
    "NotFoundError": NotFoundError,
}


@pytest.mark.parametrize("case", GOLDENS["refused_files"], ids=lambda case: case["column"])
def test_refused_vocabulary_files(evaluate, case):
    column = evaluate(case["column"])
    with pytest.raises(CLASSES[case["error"]]) as refused:
        build_transform([column])
    directory = str(Path(column.vocabulary_file).parent) + "/"
    same_beginning(str(refused.value).replace(directory, ""), case["text"].rstrip("."))


def test_every_categorical_kind_is_in_the_table(evaluate):
    def kinds(cls):
        return {cls, *(kind for child in cls.__subclasses__() for kind in kinds(child))}

    tested = {type(evaluate(case["column"])) for case in GOLDENS["categorical"]}
    missing = {kind.__name__ for kind in kinds(CategoricalColumn) - tested}
    assert missing == {"CategoricalColumn", "KeyedCategoricalColumn", "SequenceCategoricalColumn"}
