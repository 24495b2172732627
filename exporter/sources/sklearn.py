"""scikit-learn estimators and pipelines -> ONNX.

Owns which columns become which inputs, the precision of the graph, and the sentence for a step that has no ONNX form.
The graph computes in float64, as scikit-learn does; where a converter knows only float32, it takes that. Text '' is a
missing value in columns whose step has learned missing values.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from traceback import walk_tb
from typing import Any

import numpy as np
import onnx
import spox
import spox.opset.ai.onnx.v21 as op
from onnx import helper, numpy_helper
from onnx.inliner import inline_local_functions
from spox import inline

from estimator_serving.exporter.servable.running import run_all, session_of
from estimator_serving.exporter.servable.weights import all_nodes
from estimator_serving.exporter.sources.base import (
    CLASS_IDS,
    CLASSIFY,
    MATRIX,
    PREDICTIONS,
    PROBABILITIES,
    REGRESS,
    ModelInput,
    as_floats,
    matrix_input,
    reason_of,
)
from estimator_serving.exporter.sources.sklearn_steps import Precision, is_missing, own_steps, register_boosters
from estimator_serving.training.arrays import Array
from estimator_serving.training.columns.finish import finish_graph
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType

_OPSETS = {"": 21, "ai.onnx.ml": 3}
_TIED_ROWS_MAX = 2000


class SklearnSource:
    """A fitted scikit-learn classifier or regressor, by itself or at the end of a pipeline.

    Raises ValueError for a model that has no predictions to serve, or none that one signature holds.
    """

    packages = ("scikit-learn", "skl2onnx")
    cause = (
        "The model and its ONNX form, which scikit-learn and skl2onnx wrote, compute different things: the usual "
        "causes are a converter that is older than the library, and a step whose thresholds or ties float32 does not "
        "keep. Install the newest converter, or leave that step out."
    )

    def __init__(self, model: Any) -> None:
        kind = type(model).__name__
        if not hasattr(model, "predict"):
            raise ValueError(f"{kind} has no predict; put it in front of a classifier or regressor in a pipeline.")
        for path, step in _steps(model, ""):
            _refuse_step(path.rstrip("/"), step)
        classes = getattr(model, "classes_", ())
        if (isinstance(classes, list) and classes) or getattr(model, "multilabel_", False):
            raise ValueError(
                f"The classifier {kind} gives several labels a row; export a classifier for each of them, or train an "
                "Estimator with a MultiLabelHead."
            )
        self._model = model
        # A regressor of CatBoost has classes, and none of them.
        self._is_classifier = len(classes) > 0
        if self._is_classifier and not hasattr(model, "predict_proba"):
            is_hard = getattr(model, "voting", "") == "hard"
            raise ValueError(
                f"The classifier {kind} has no predict_proba, so it has no scores to classify with; "
                + ("fit it with voting='soft'." if is_hard else "wrap it in CalibratedClassifierCV.")
            )
        self.method = CLASSIFY if self._is_classifier else REGRESS
        self.labels = [str(one) for one in classes] if self._is_classifier else None
        self._rounds = True
        self._features: Mapping[str, DType] = {}

    def inputs(self, features: Mapping[str, DType]) -> list[ModelInput]:
        self._features = features
        self._rounds = not any(dtype == dtypes.float64 for dtype in features.values())
        names = getattr(self._model, "feature_names_in_", None)
        (_, first), *_ = getattr(self._model, "steps", [("", self._model)])
        # A ColumnTransformer reads its columns by name, text among them.
        if not hasattr(first, "transformers_") and not any(dtype.is_string for dtype in features.values()):
            return [matrix_input(features, names, dtypes.float64, f"The {type(self._model).__name__}")]
        keys = list(features) if names is None else [str(name) for name in names]
        if missing := [key for key in keys if key not in features]:
            raise ValueError(
                f"The model was trained with the columns {', '.join(keys)}, and the receiver does not give "
                f"{', '.join(missing)}; let it use the names of training."
            )
        return [
            ModelInput(key, (key,), features[key] if features[key].is_string else dtypes.float64, True) for key in keys
        ]

    def known_values(self) -> dict[str, Sequence[Any]]:
        """The values that encoders know, by column, with '' for missing text."""
        known: dict[str, Sequence[Any]] = {}
        for key, categories in self._categories().items():
            has_words = any(isinstance(one, str) for one in categories)
            plain = np.asarray(categories).tolist()
            if key in self._features and self._features[key].numpy.kind in "iu":
                # An array of numbers has 3.0 for a client's 3.
                plain = [int(one) for one in plain if isinstance(one, int | float) and float(one).is_integer()]
            known[key] = ["" if has_words and is_missing(one) else one for one in plain]
        return known

    def _categories(self) -> dict[str, Sequence[Any]]:
        """What encoders know, by feature. Columns of an array, which have numbers for names, are features by place."""
        features = list(self._features)
        is_named = hasattr(self._model, "feature_names_in_")
        is_by_place = not is_named and len(features) == getattr(self._model, "n_features_in_", -1)
        return {
            features[int(key)] if is_by_place and key.isdecimal() else key: known
            for key, (_, known) in _read_columns(self._model).items()
            if known is not None
        }

    def convert(self, inputs: Sequence[ModelInput], sample: Mapping[str, Array]) -> onnx.ModelProto:
        # float32 is for converters that know nothing else, and for scikit-learn's trees, which round to it themselves.
        failures: list[Exception] = []
        converted: list[onnx.ModelProto] = []
        has_trees = any(hasattr(step, "tree_") for _, step in _steps(self._model, ""))
        in_front = [step for _, one in getattr(self._model, "steps", ())[:-1] for _, step in _steps(one, "")]
        computes = any(type(step).__name__ not in _HAND_ON and hasattr(step, "transform") for step in in_front)
        for element in (np.float32,) if has_trees else (np.float64, np.float32):
            try:
                made = self._converted(inputs, sample, Precision(element, self._rounds, computes))
                converted.append(made)
                if self._agrees(made, sample):
                    return made
            except Exception as error:
                failures.append(error)
        if converted:
            return converted[0]
        raise failures[0]

    def _converted(
        self, inputs: Sequence[ModelInput], sample: Mapping[str, Array], precision: Precision
    ) -> onnx.ModelProto:
        try:
            from skl2onnx import convert_sklearn
            from skl2onnx.common import data_types
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"skl2onnx converts scikit-learn models, and {error.name} is not installed: "
                "pip install 'estimator-serving[sklearn]'.",
                name=error.name,
            ) from error

        number = data_types.DoubleTensorType if precision.element is np.float64 else data_types.FloatTensorType
        ids = self._columns_of_large_ids(inputs)
        types = []
        for one in inputs:
            kind = data_types.DoubleTensorType if one.name in ids else number
            kind = data_types.StringTensorType if one.dtype.is_string else kind
            types.append((one.name, kind([None, sample[one.name].shape[1]])))
        model = _without_habits(self._model)
        options = {id(model): {"zipmap": False}} if self._is_classifier else None
        with converting(partial(_refusal, model)):
            register_boosters()
            converted: onnx.ModelProto = convert_sklearn(
                model, initial_types=types, options=options, target_opset=_OPSETS, **own_steps(precision)
            )
        if converted.functions:
            converted = inline_local_functions(converted)
        _gather_from_constants(converted.graph)
        named = self._named(converted)
        if precision.element is np.float64:
            return named
        arguments = {
            one.name: spox.argument(spox.Tensor(np.str_ if one.dtype.is_string else one.dtype.numpy, ("batch", None)))
            for one in inputs
        }
        cast = {
            one.name: arguments[one.name]
            if one.dtype.is_string or one.name in ids
            else op.cast(arguments[one.name], to=np.float32)
            for one in inputs
        }
        return spox.build(arguments, dict(inline(named)(**cast)))

    def _columns_of_large_ids(self, inputs: Sequence[ModelInput]) -> set[str]:
        """The inputs that encoders read, where these know ids that float32 does not hold."""
        first = getattr(self._model, "steps", [("", self._model)])[0][1]
        read: Mapping[str, Sequence[Any]] = self._categories()
        if [one.name for one in inputs] == [MATRIX]:
            read = {MATRIX: [one for known in getattr(first, "categories_", ()) for one in known]}
        numbers = [one for known in read.values() for one in known if isinstance(one, int | float | np.number)]
        return set(read) if any(abs(float(one)) > 2**24 for one in numbers) else set()

    def _named(self, model: onnx.ModelProto) -> onnx.ModelProto:
        names = [value.name for value in model.graph.output]
        if not self._is_classifier:
            # Clusters come as a vector.
            model.graph.node.append(helper.make_node("Flatten", [names[0]], [PREDICTIONS], axis=1))
            element = model.graph.output[0].type.tensor_type.elem_type
            model.graph.output.append(helper.make_tensor_value_info(PREDICTIONS, element, [None, None]))
            return rename_outputs(model, {PREDICTIONS: PREDICTIONS})
        # The place of the label among the classes, int64 [batch, 1], as a further output.
        graph, classes = model.graph, np.asarray(self._model.classes_)
        known = classes[None].astype(object if classes.dtype.kind in "OUST" else np.int64)
        graph.initializer.append(numpy_helper.from_array(known, "classes_of_model"))
        graph.initializer.append(numpy_helper.from_array(np.array([-1, 1], np.int64), "column_shape"))
        graph.node.extend(
            [
                helper.make_node("Reshape", [names[0], "column_shape"], ["label_column"]),
                helper.make_node("Equal", ["label_column", "classes_of_model"], ["is_class"]),
                helper.make_node("Cast", ["is_class"], ["is_class_number"], to=onnx.TensorProto.INT32),
                helper.make_node("ArgMax", ["is_class_number"], [CLASS_IDS], axis=1, keepdims=1),
            ]
        )
        graph.output.append(helper.make_tensor_value_info(CLASS_IDS, onnx.TensorProto.INT64, [None, 1]))
        return rename_outputs(model, {names[1]: PROBABILITIES, CLASS_IDS: CLASS_IDS})

    def _agrees(self, model: onnx.ModelProto, sample: Mapping[str, Array]) -> bool:
        """Whether a graph gives the model's numbers for sample rows."""
        try:
            wanted = self.answer(sample)
        except Exception:
            return True
        got = run_all(session_of(finish_graph(model)), sample)
        scores = PROBABILITIES if self._is_classifier else PREDICTIONS
        return bool(np.allclose(got[scores], wanted[scores], rtol=1e-5, atol=1e-5, equal_nan=True))

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        centers = (getattr(step, "cluster_centers_", None) for _, step in _steps(self._model, ""))
        if any(one is not None and one.dtype == np.float32 for one in centers):
            # Clusters of float32 rows refuse float64 rows.
            inputs = {
                name: array.astype(np.float32) if array.dtype == np.float64 else array for name, array in inputs.items()
            }
        # As the model was trained: on a DataFrame where it knows names, else on an array.
        names = getattr(self._model, "feature_names_in_", None)
        matrix = inputs.get(MATRIX)
        read = _read_columns(self._model)
        columns = {} if matrix is not None else {key: array[:, 0] for key, array in inputs.items()}
        for key, (has_missing, _) in read.items():
            if has_missing and key in columns and columns[key].dtype.kind in "OUST":
                columns[key] = np.array([np.nan if word == "" else word for word in columns[key]], object)
        table: Any = matrix
        if names is not None:
            import pandas as pd

            table = pd.DataFrame(columns if matrix is None else dict(zip(names, matrix.T, strict=True)))
        elif matrix is None:
            table = np.column_stack([column.astype(object) for column in columns.values()])
        predicted = self._model.predict(table)
        if not self._is_classifier:
            return {PREDICTIONS: as_floats(predicted)}
        ids = np.searchsorted(self._model.classes_, np.ravel(predicted))
        return {PROBABILITIES: np.asarray(self._model.predict_proba(table), np.float32), CLASS_IDS: ids[:, None]}


def rename_outputs(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """The graph with only these outputs, under these names, [batch, n]: converters state shapes wrongly."""
    for node in all_nodes(model.graph):
        for values in (node.input, node.output):
            for index, name in enumerate(values):
                values[index] = names.get(name, name)
    kept = [(names[one.name], one.type.tensor_type.elem_type) for one in model.graph.output if one.name in names]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, element, [None, None]) for name, element in kept)
    return model


@contextmanager
def converting(explain: Callable[[Exception], str]) -> Iterator[None]:
    """Around a conversion. Raises ValueError with `explain`'s sentence for whatever the converter raises.

    Warnings are kept quiet: converters use what their libraries announce to remove, and users cannot change that.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        raise ValueError(explain(error)) from error


def _refuse_step(path: str, step: Any) -> None:
    """Raises ValueError for a step that no graph can do as scikit-learn does."""
    kind = type(step).__name__
    place = f"The step {path!r} ({kind})" if path else f"The model ({kind})"
    if type(step).__module__.startswith("sklearn.") and hasattr(step, "get_params"):
        try:
            step.get_params(deep=False)
        except AttributeError as error:
            # Unpickling warns and does not keep the version. It shows in a parameter that was not there yet.
            raise ValueError(
                f"{place} was saved by another version of scikit-learn than {version('scikit-learn')} ({error}), and "
                "their numbers may differ. Fit it again with this version, or export it with the version that saved "
                "it, which scikit-learn names in a warning when it loads the model."
            ) from error
    if hasattr(step, "build_analyzer"):
        raise ValueError(
            f"{place} splits text into words, which ONNX Runtime does in another way; split it in front of the model, "
            "and train an Estimator with a categorical column of the words."
        )
    function = getattr(step, "func", None)
    if kind == "FunctionTransformer" and function is not None:
        raise ValueError(
            f"{place} calls the Python function {getattr(function, '__name__', function)!r}, of which no graph can be "
            "made; compute it in front of the model, in training and in the client, or use a transformer of "
            "scikit-learn's own."
        )
    for key, (has_missing, categories) in _read_columns(step).items() if hasattr(step, "transformers_") else ():
        if has_missing and categories is not None and "" in list(categories):
            raise ValueError(
                f"The column {key} was trained with both '' and missing values as categories, and an Example has one "
                "'' for both; replace one of them and train again."
            )
    if kind == "KNNImputer":
        raise ValueError(
            f"{place} takes what is missing from the nearest rows, and which of several equally near rows it takes "
            "follows from numpy's sorting; take SimpleImputer."
        )
    if hasattr(step, "_fit_X") and hasattr(step, "_y") and getattr(step, "n_neighbors", None):
        rows = np.asarray(step._fit_X)[:_TIED_ROWS_MAX]
        if tied := _tied_rows(step, rows):
            raise ValueError(
                f"{place} has neighbours at equal distances: in {tied} of {len(rows)} rows of its training data the "
                f"last of the {step.n_neighbors} neighbours is one of several that are equally near and have other "
                "labels, and scikit-learn's choice among them follows from its search tree. Take a number of "
                "neighbours without such ties, or weights and a metric that tell the rows apart."
            )


# Steps that hand numbers on as they came.
_HAND_ON = frozenset(
    {"Pipeline", "ColumnTransformer", "OneHotEncoder", "OrdinalEncoder", "TargetEncoder", "SimpleImputer", "str"}
)


def _tied_rows(step: Any, rows: Array) -> int:
    """In how many rows the order among equally near neighbours decides the answer."""
    count = min(step.n_neighbors + 8, len(step._fit_X))
    if count <= step.n_neighbors:
        return 0
    distances, found = step.kneighbors(rows, count)
    labels = np.asarray(step._y)[found].reshape(len(rows), count, -1)
    last = distances[:, step.n_neighbors - 1, None]
    # Clients' numbers are float32: what is so near is equal for them.
    equal = np.abs(distances - last) <= 1e-6 * np.maximum(last, 1e-6)
    outside = equal[:, step.n_neighbors :].any(axis=1)
    first = np.take_along_axis(labels, np.argmax(equal, axis=1)[:, None, None], axis=1)
    differ = ((labels != first).any(axis=2) & equal).any(axis=1)
    return int((outside & differ).sum())


def _without_habits(model: Any) -> Any:
    """A copy with the settings that skl2onnx takes: without those that matter to no prediction, weights as an array."""

    def is_habit(step: Any) -> bool:
        return bool(getattr(step, "flatten_transform", False)) or isinstance(
            getattr(step, "weights", None), list | tuple
        )

    if not any(is_habit(step) for _, step in _steps(model, "")):
        return model
    copied = copy.deepcopy(model)
    for _, step in _steps(copied, ""):
        if getattr(step, "flatten_transform", False):
            step.flatten_transform = False
        if isinstance(getattr(step, "weights", None), list | tuple):
            step.weights = np.asarray(step.weights)
    return copied


def _read_columns(model: Any) -> dict[str, tuple[bool, Sequence[Any] | None]]:
    """What the first step that reads a column has learned of it, by the column's name: whether it knows missing values,
    and its categories."""
    first = getattr(model, "steps", [("", model)])[0][1]
    names = [str(name) for name in getattr(model, "feature_names_in_", ())]
    # Columns of an array have numbers for names.
    all_names = names or [str(index) for index in range(getattr(model, "n_features_in_", 0))]
    read: dict[str, tuple[bool, Sequence[Any] | None]] = {}
    for _, step, columns in getattr(first, "transformers_", [("", first, all_names)]):
        if isinstance(columns, str):
            columns = [columns]
        if not hasattr(columns, "__len__"):
            continue
        places = np.flatnonzero(columns).tolist() if np.asarray(columns).dtype == bool else list(columns)
        keys = [names[place] if isinstance(place, int) and names else str(place) for place in places]
        reader = getattr(step, "steps", [("", step)])[0][1]
        encoder = getattr(reader, "_preprocessor", None)
        if encoder is not None:
            keys = [key for key, is_category in zip(keys, reader.is_categorical_, strict=True) if is_category]
            categories = encoder.named_transformers_["encoder"].categories_
            read |= {key: (True, known) for key, known in zip(keys, categories, strict=True)}
        elif hasattr(reader, "categories_"):
            for key, known in zip(keys, reader.categories_, strict=False):
                read[key] = (any(is_missing(one) for one in known), known)
        elif hasattr(reader, "statistics_") and hasattr(reader, "missing_values"):
            read |= {key: (is_missing(reader.missing_values), None) for key in keys}
    return read


def _gather_from_constants(graph: onnx.GraphProto) -> None:
    """Look-ups in a constant, as of class names and neighbours' labels, by Gather: ArrayFeatureExtractor refuses a
    batch of no row."""
    dims = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "ArrayFeatureExtractor" or node.input[0] not in dims:
            nodes.append(node)
            continue
        (table, ids), (found,) = node.input, node.output
        row, flat = f"{found}/table", f"{found}/ids"
        # A vector counts as one row.
        shapes = {row: dims[table] if len(dims[table]) > 1 else [1, *dims[table]], flat: [-1]}
        graph.initializer.extend(
            numpy_helper.from_array(np.array(shape, np.int64), f"{name}_shape") for name, shape in shapes.items()
        )
        nodes += [
            helper.make_node("Reshape", [table, f"{row}_shape"], [row]),
            helper.make_node("Reshape", [ids, f"{flat}_shape"], [flat]),
            helper.make_node("Gather", [row, flat], [found], axis=-1),
        ]
    del graph.node[:]
    graph.node.extend(nodes)


def _steps(model: Any, path: str) -> Iterator[tuple[str, Any]]:
    """A model and everything inside it, with the names that lead there."""
    yield path, model
    for name, step in getattr(model, "steps", ()):
        yield from _steps(step, f"{path}{name}/")
    for name, step, _ in getattr(model, "transformers_", ()):
        yield from _steps(step, f"{path}{name}/")
    for name in ("estimator", "final_estimator_", "best_estimator_"):
        if hasattr(model, name):
            yield from _steps(getattr(model, name), f"{path}{name}/")
    for name in ("estimators_", "calibrated_classifiers_"):
        inner = getattr(model, name, ())
        # numpy would take forests and pipelines in a list apart.
        for index, one in enumerate(inner.ravel() if isinstance(inner, np.ndarray) else inner):
            yield from _steps(one, f"{path}{name}/{index}/")


def _refusal(model: Any, error: Exception) -> str:
    """The sentence for a model that skl2onnx cannot convert: which step it is about."""
    paths = {id(step): (path.rstrip("/"), step) for path, step in _steps(model, "")}
    found = re.search(r"<class '([\w.<>]+)'>", str(error))
    if found and "Missing" in type(error).__name__:
        named = found.group(1)
        same = [path for path, step in paths.values() if f"{type(step).__module__}.{type(step).__qualname__}" == named]
        step = f", the step {same[0]!r} of the model" if same and same[0] else ""
        return (
            f"skl2onnx has no converter for {named}{step}. Replace the step by one it knows, or register a converter "
            "with skl2onnx.update_registered_converter."
        )
    # The innermost part of the model that was being converted, as the converter's frames have it.
    converted = [
        getattr(frame.f_locals.get("operator"), "raw_operator", None) for frame, _ in walk_tb(error.__traceback__)
    ]
    path, failed = next((paths[id(one)] for one in converted[::-1] if id(one) in paths), ("", model))
    place = f", the step {path!r} of the model" if path else ""
    return f"skl2onnx cannot convert {type(failed).__name__}{place} ({reason_of(error)}); change or fit that step."
