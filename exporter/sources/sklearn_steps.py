"""Steps of a scikit-learn pipeline that skl2onnx lacks or converts otherwise than we need, as ONNX.

Owns their graphs, and how they are handed to skl2onnx. Encoders become tables: the encoder itself is asked what it
makes of each of its categories, so that every option it has is in the table. In text, '' stands for a missing value
where the step has learned one.
Source: skl2onnx 1.20, custom converters.
"""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import spox
import spox.opset.ai.onnx.ml.v3 as ml
import spox.opset.ai.onnx.v21 as op
from spox import Var

from estimator_serving.exporter.receivers.features_graph import is_string
from estimator_serving.exporter.sources.boosted import Boosted, answers_of, widened
from estimator_serving.exporter.sources.catboost import catboost_trees
from estimator_serving.exporter.sources.columns import codes_of, places_of
from estimator_serving.exporter.sources.forests import forest_trees
from estimator_serving.exporter.sources.histograms import (
    categories_of,
    column_order,
    float32_of_training,
    histogram_trees,
)
from estimator_serving.exporter.sources.lightgbm import lightgbm_trees
from estimator_serving.exporter.sources.xgboost import xgboost_trees
from estimator_serving.training.arrays import Array


@dataclass(frozen=True)
class Precision:
    """How a graph computes.

    Attributes:
        element: float64 or float32.
        rounds: whether clients' numbers were rounded to float32 on their way.
        moves: whether steps in front of the trees compute with the numbers.
    """

    element: type[np.floating[Any]]
    rounds: bool
    moves: bool = False


Build = Callable[[Any, list[Var], Precision], list[Var]]
"""What makes a step's outputs, each [batch, n], of its inputs, each [batch, m]."""
# By the module and name of a class of scikit-learn.
_BUILDS: dict[str, Build] = {}


def _builds(*names: str) -> Callable[[Build], Build]:
    """Registers what makes the outputs of these steps."""

    def register(build: Build) -> Build:
        _BUILDS.update(dict.fromkeys(names, build))
        return build

    return register


def own_steps(precision: Precision) -> dict[str, Mapping[type, Any]]:
    """Arguments for `skl2onnx.convert_sklearn`."""
    from sklearn import ensemble, tree

    builds: dict[type, Build] = {pkgutil.resolve_name(f"sklearn.{name}"): build for name, build in _BUILDS.items()}
    boosters: dict[type, Callable[[Any], Boosted]] = {
        ensemble.HistGradientBoostingClassifier: lambda model: histogram_trees(model, precision.rounds),
        ensemble.HistGradientBoostingRegressor: lambda model: histogram_trees(model, precision.rounds),
        **_boosters(),
    }
    if precision.rounds and precision.moves:
        # Of these libraries, whose thresholds are numbers of the training data.
        boosters |= {
            kind: lambda model, read=read: widened(read(model))  # type: ignore[misc]
            for kind, read in boosters.items()
            if kind.__module__.startswith(("sklearn", "xgboost"))
        }
    forests = (
        tree.DecisionTreeClassifier, tree.DecisionTreeRegressor, tree.ExtraTreeClassifier, tree.ExtraTreeRegressor,
        ensemble.RandomForestClassifier, ensemble.RandomForestRegressor,
        ensemble.ExtraTreesClassifier, ensemble.ExtraTreesRegressor,
    )  # fmt: skip
    boosters |= dict.fromkeys(forests, forest_trees)
    for kind, read in boosters.items():
        builds[kind] = lambda model, inputs, _, read=read: _boosted(model, read(model), inputs)  # type: ignore[misc]
    return {
        "custom_conversion_functions": {kind: _converter(build, precision) for kind, build in builds.items()},
        "custom_shape_calculators": {kind: _shapes(precision) for kind in builds},
    }


def _boosters() -> dict[type, Callable[[Any], Boosted]]:
    """The models of boosters that are imported, which are then known to skl2onnx, too."""
    named: list[tuple[str, Callable[[Any], Boosted], tuple[str, ...]]] = [
        ("lightgbm", lightgbm_trees, ("LGBMClassifier", "LGBMRegressor", "LGBMRanker")),
        ("xgboost", xgboost_trees, ("XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor")),
        ("catboost", catboost_trees, ("CatBoostClassifier", "CatBoostRegressor")),
    ]
    return {
        getattr(sys.modules[package], name): read
        for package, read, names in named
        if package in sys.modules
        for name in names
    }


def register_boosters() -> None:
    """Tell skl2onnx the classes of the boosters that are imported; what is registered already stays."""
    from skl2onnx import update_registered_converter
    from skl2onnx._supported_operators import sklearn_operator_name_map

    for kind, read in _boosters().items():
        if kind not in sklearn_operator_name_map:
            alias = f"EstimatorServing{kind.__name__}"
            precision = Precision(np.float32, rounds=True)
            convert = _converter(lambda model, inputs, _, read=read: _boosted(model, read(model), inputs), precision)  # type: ignore[misc]
            is_classifier = kind.__name__.endswith("Classifier")
            parser = _two_outputs(alias) if is_classifier else None
            options = {"zipmap": [True, False, "columns"], "nocl": [True, False], "raw_scores": [True, False]}
            shapes = _shapes(precision)
            update_registered_converter(
                kind, alias, shapes, convert, parser=parser, options=options if is_classifier else None
            )


def _two_outputs(alias: str) -> Any:
    """What skl2onnx asks for the outputs of a classifier: not all of these derive from scikit-learn's classes."""

    def parse(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:  # noqa: ARG001
        from skl2onnx.common import data_types

        operator = scope.declare_local_operator(alias, model)
        operator.inputs = inputs
        operator.outputs.append(scope.declare_local_variable("label", data_types.Int64TensorType()))
        operator.outputs.append(scope.declare_local_variable("probabilities", data_types.FloatTensorType()))
        return operator.outputs

    return parse


def _converter(build: Build, precision: Precision) -> Any:
    """What skl2onnx calls for a step."""

    def convert(scope: Any, operator: Any, container: Any) -> None:
        from skl2onnx.helpers import add_onnx_graph

        arguments = {
            f"step_input_{index}": spox.argument(spox.Tensor(_element(one.type), (None, one.type.shape[1])))
            for index, one in enumerate(operator.inputs)
        }
        made = build(operator.raw_operator, list(arguments.values()), precision)
        elements = [_element(one.type) for one in operator.outputs]
        outputs = {
            f"step_output_{index}": var if element == np.str_ else op.cast(var, to=element)
            for index, (var, element) in enumerate(zip(made, elements, strict=True))
        }
        add_onnx_graph(scope, operator, container, spox.build(arguments, outputs))

    return convert


def _shapes(precision: Precision) -> Any:
    """What skl2onnx asks for the types of a step's outputs."""

    def calculate(operator: Any) -> None:
        from skl2onnx.common import data_types

        step = operator.raw_operator
        number = data_types.DoubleTensorType if precision.element is np.float64 else data_types.FloatTensorType
        classes = getattr(step, "classes_", None)
        # A TargetEncoder may have classes, too, and a CatBoostRegressor has none of them.
        if classes is not None and len(classes) and hasattr(step, "predict"):
            words = np.asarray(classes).dtype.kind in "OUST"
            operator.outputs[0].type = (data_types.StringTensorType if words else data_types.Int64TensorType)([None])
            operator.outputs[1].type = number([None, len(classes)])
        elif isinstance(operator.inputs[0].type, data_types.StringTensorType) and hasattr(step, "statistics_"):
            operator.outputs[0].type = data_types.StringTensorType([None, len(step.statistics_)])
        elif hasattr(step, "get_feature_names_out"):
            is_named = hasattr(step, "feature_names_in_")
            made_up = None if is_named else [f"x{index}" for index in range(step.n_features_in_)]
            operator.outputs[0].type = number([None, len(step.get_feature_names_out(made_up))])
        else:
            operator.outputs[0].type = number([None, int(getattr(step, "n_outputs_", 1))])

    return calculate


def _element(kind: Any) -> npt.DTypeLike:
    from skl2onnx.common import data_types

    names = {
        data_types.StringTensorType: np.str_,
        data_types.Int64TensorType: np.int64,
        data_types.DoubleTensorType: np.float64,
        data_types.BooleanTensorType: np.bool_,
    }
    return names.get(type(kind), np.float32)


def _columns(inputs: Sequence[Var]) -> list[Var]:
    """The columns of all inputs, each [batch, 1]."""
    columns = []
    for var in inputs:
        shape = var.unwrap_tensor().shape
        assert shape is not None
        count = int(shape[1] or 0)
        places = [op.const(np.array([index], np.int64)) for index in range(count)]
        columns += [var] if count == 1 else [op.gather(var, place, axis=1) for place in places]
    return columns


def is_missing(value: Any) -> bool:
    """Whether a category is the missing one: None or NaN."""
    return value is None or (isinstance(value, float | np.floating) and bool(np.isnan(value)))


def _places(column: Var, categories: Sequence[Any]) -> Var:
    """The place of each value among the categories, int64 [batch, 1]; the number of categories for others."""
    missing = next((index for index, one in enumerate(categories) if is_missing(one)), len(categories))
    known = [(one, index) for index, one in enumerate(categories) if not is_missing(one)]
    values = [index for _, index in known]
    if is_string(column):
        words = [str(one) for one, _ in known]
        if missing < len(categories):
            words, values = [*words, ""], [*values, missing]
        return ml.label_encoder(column, keys_strings=words, values_int64s=values, default_int64=len(categories))
    found = places_of(column, [one for one, _ in known], values, len(categories))
    if missing == len(categories):
        return found
    return op.where(op.isnan(op.cast(column, to=np.float32)), op.const(np.int64(missing)), found)


@_builds("preprocessing.OneHotEncoder", "preprocessing.OrdinalEncoder", "preprocessing.TargetEncoder")
def _encoder(step: Any, inputs: list[Var], _: Precision) -> list[Var]:
    """OneHotEncoder, OrdinalEncoder and TargetEncoder: what each makes of every category and of an unknown one."""
    made = []
    for column, categories, table in zip(_columns(inputs), step.categories_, encoder_tables(step), strict=True):
        if table.shape[1]:
            rows = op.reshape(_places(column, list(categories)), op.const(np.array([-1], np.int64)))
            made.append(op.gather(op.const(table), rows, axis=0))
    return [op.concat(made, axis=1)]


def encoder_tables(step: Any) -> list[Array]:
    """By column: what an encoder gives for each of its categories, then for a value that is none, float64 [n + 1, d].

    NaN stands where it refuses a value that is none.
    """
    categories = [list(one) for one in step.categories_]
    blocks = _blocks(step)
    tables = []
    for index, known in enumerate(categories):
        rows = np.empty((len(known), len(categories)), object)
        for place, others in enumerate(categories):
            rows[:, place] = others[0]
        rows[:, index] = known
        made = _transformed(step, rows)[:, blocks[index]]
        unknown = np.full((1, made.shape[1]), np.nan)
        if getattr(step, "handle_unknown", None) != "error" or hasattr(step, "target_mean_"):
            strange = rows[:1].copy()
            # A value that is no category, of the kind of the categories.
            values = [one for one in known if not is_missing(one)]
            is_word = any(isinstance(one, str) for one in values)
            strange[0, index] = "".join(values) + "\0" if is_word else float(max(values, default=0)) + 1.0
            unknown = _transformed(step, strange)[:, blocks[index]]
        tables.append(np.concatenate([made, unknown]).astype(np.float64))
    return tables


def _transformed(step: Any, rows: Array) -> Array:
    import pandas as pd

    # Columns of one kind each, as the encoder had them.
    frame = pd.DataFrame({index: list(rows[:, index]) for index in range(rows.shape[1])})
    if hasattr(step, "feature_names_in_"):
        frame.columns = list(step.feature_names_in_)
        made = step.transform(frame)
    else:
        made = step.transform(frame.to_numpy(object) if frame.dtypes.nunique() > 1 else frame.to_numpy())
    return np.asarray(made.toarray() if hasattr(made, "toarray") else made)


def _blocks(step: Any) -> list[slice]:
    """The columns that each column became."""
    if hasattr(step, "_compute_transformed_categories"):
        widths = [len(step._compute_transformed_categories(index)) for index in range(len(step.categories_))]
    else:
        classes = getattr(step, "classes_", None)
        widths = [1 if classes is None or len(classes) <= 2 else len(classes)] * len(step.categories_)
    ends = np.cumsum(widths)
    return [slice(int(end) - width, int(end)) for end, width in zip(ends, widths, strict=True)]


@_builds("impute.SimpleImputer")
def _imputer(step: Any, inputs: list[Var], _: Precision) -> list[Var]:
    """SimpleImputer: the statistic for what is missing, and columns that say what was, if it adds them."""
    kept, flags = [], []
    for column, statistic in zip(_columns(inputs), step.statistics_, strict=True):
        if is_string(column):
            word = "" if is_missing(step.missing_values) else str(step.missing_values)
            absent = op.equal(column, op.const(np.array(word)))
            kept.append(op.where(absent, op.const(np.array(str(statistic))), column))
        else:
            column = op.cast(column, to=np.float64)
            is_nan = is_missing(step.missing_values)
            absent = op.isnan(column) if is_nan else op.equal(column, op.const(np.float64(step.missing_values)))
            if not is_missing(statistic):
                kept.append(op.where(absent, op.const(np.float64(statistic)), column))
        flags.append(absent)
    if step.indicator_ is not None:
        kept += [op.cast(flags[index], to=np.float64) for index in step.indicator_.features_]
    return [op.concat(kept, axis=1)]


@_builds("preprocessing.QuantileTransformer")
def _quantiles(step: Any, inputs: list[Var], precision: Precision) -> list[Var]:
    """QuantileTransformer: the mean of the interpolation from both sides, as scikit-learn has it.

    At a number that the training data repeat the two sides differ, so that number has to be met as clients send it.
    """
    made = []
    references = step.references_
    for column, quantiles in zip(_columns(inputs), np.asarray(step.quantiles_, np.float64).T, strict=True):
        column = op.cast(column, to=np.float64)
        quantiles = quantiles.astype(np.float32).astype(np.float64) if precision.rounds else quantiles
        forward = _interpolated(column, quantiles, references)
        backward = _interpolated(op.neg(column), -quantiles[::-1], -references[::-1])
        value = op.mul(op.const(0.5), op.sub(forward, backward))
        low, high = (op.const(np.float64(one)) for one in (quantiles[0], quantiles[-1]))
        if step.output_distribution == "normal":
            margin = op.const(1e-7)
            is_low, is_high = op.less(op.sub(column, margin), low), op.greater(op.add(column, margin), high)
        else:
            is_low, is_high = op.equal(column, low), op.equal(column, high)
        value = op.where(is_high, op.const(1.0), value)
        value = op.where(is_low, op.const(0.0), value)
        if step.output_distribution == "normal":
            value = _normal_quantile(value)
        made.append(op.where(op.isnan(column), column, value))
    return [op.concat(made, axis=1)]


def _interpolated(column: Var, places: Array, values: Array) -> Var:
    """numpy.interp of a column [batch, 1]: float64 [batch, 1]."""
    reached = op.cast(op.greater_or_equal(column, op.const(places[None])), to=np.int64)
    count = op.reduce_sum(reached, op.const(np.array([1], np.int64)), keepdims=1)
    first = op.const(np.int64(0))
    at = op.max([op.sub(count, op.const(np.int64(1))), first])
    slopes = np.zeros(len(places))
    widths = np.diff(places)
    np.divide(np.diff(values), widths, out=slopes[:-1], where=widths > 0)
    start, slope, value = (op.gather(op.const(one), at) for one in (places, slopes, values))
    inside = op.add(op.mul(slope, op.sub(column, start)), value)
    below = op.less(column, op.const(places[0]))
    return op.where(below, op.const(np.float64(values[0])), inside)


# Acklam's rational approximation of the normal distribution's quantile; its relative error is below 1.2e-9.
_TAIL = 0.02425
_CENTRE_TOP = (-3.969683028665376e01, 2.209460984245205e02, -2.759285104469687e02, 1.383577518672690e02, -3.066479806614716e01, 2.506628277459239e00)  # fmt: skip  # noqa: E501
_CENTRE_BOTTOM = (-5.447609879822406e01, 1.615858368580409e02, -1.556989798598866e02, 6.680131188771972e01, -1.328068155288572e01, 1.0)  # fmt: skip  # noqa: E501
_TAIL_TOP = (-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e00, -2.549732539343734e00, 4.374664141464968e00, 2.938163982698783e00)  # fmt: skip  # noqa: E501
_TAIL_BOTTOM = (7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e00, 3.754408661907416e00, 1.0)


def _normal_quantile(chance: Var) -> Var:
    """scipy.stats.norm.ppf, cut where scikit-learn cuts it."""
    half, one = op.const(0.5), op.const(1.0)
    smallest = op.const(1e-7 - np.spacing(1))
    chance = op.min([op.max([chance, smallest]), op.sub(one, smallest)])
    distance = op.sub(chance, half)
    square = op.mul(distance, distance)
    centre = op.div(op.mul(_polynomial(square, _CENTRE_TOP), distance), _polynomial(square, _CENTRE_BOTTOM))
    nearer = op.min([chance, op.sub(one, chance)])
    depth = op.sqrt(op.mul(op.const(-2.0), op.log(nearer)))
    tail = op.div(_polynomial(depth, _TAIL_TOP), _polynomial(depth, _TAIL_BOTTOM))
    tail = op.where(op.less(distance, op.const(0.0)), tail, op.neg(tail))
    return op.where(op.less(nearer, op.const(_TAIL)), tail, centre)


def _polynomial(x: Var, coefficients: Sequence[float]) -> Var:
    total = op.const(np.float64(coefficients[0]))
    for one in coefficients[1:]:
        total = op.add(op.mul(total, x), op.const(np.float64(one)))
    return total


@_builds("preprocessing.KBinsDiscretizer")
def _bins(step: Any, inputs: list[Var], precision: Precision) -> list[Var]:
    """KBinsDiscretizer: the number of inner edges that a value has reached, or a column for each bin."""
    made = []
    for column, edges, count in zip(_columns(inputs), step.bin_edges_, step.n_bins_, strict=True):
        inner = [float32_of_training(float(edge)) if precision.rounds else float(edge) for edge in edges[1:-1]]
        column = op.cast(column, to=np.float64)
        reached = op.greater_or_equal(column, op.const(np.array([inner], np.float64).reshape(1, -1)))
        place = op.reduce_sum(op.cast(reached, to=np.int64), op.const(np.array([1], np.int64)), keepdims=1)
        if step.encode == "ordinal":
            made.append(op.cast(place, to=np.float64))
        else:
            made.append(op.cast(op.equal(place, op.const(np.arange(count, dtype=np.int64)[None])), to=np.float64))
    return [op.concat(made, axis=1)]


def _boosted(model: Any, boosted: Boosted, inputs: list[Var]) -> list[Var]:
    """A booster: the label and the probabilities, or the predictions."""
    columns = _columns(inputs)
    if hasattr(model, "_predictors"):
        order = column_order(model)
        columns = [columns[index] for index in order]
        for index, categories in enumerate(categories_of(model)):
            columns[index] = codes_of(columns[index], [one for one in categories if not is_missing(one)])
    rows = inputs[0]
    if len(inputs) > 1 or hasattr(model, "_predictors"):
        rows = op.concat([op.cast(column, to=np.float64) for column in columns], axis=1)
    answers = answers_of(boosted, rows)
    if not boosted.is_classifier:
        return [answers]
    best = op.arg_max(answers, axis=1, keepdims=False)
    classes = np.asarray(model.classes_)
    words = classes.dtype.kind in "OUST"
    table = op.const(classes.astype(np.str_) if words else classes.astype(np.int64))
    return [op.gather(table, best), answers]
