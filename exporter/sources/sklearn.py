"""scikit-learn estimators and pipelines -> ONNX.

Owns which columns become which inputs, and the sentence for a step that no converter knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from traceback import walk_tb
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from estimator_serving.exporter.sources.base import (
    CLASS_IDS,
    CLASSIFY,
    MATRIX,
    PREDICTIONS,
    PROBABILITIES,
    REGRESS,
    ModelInput,
    as_floats,
    converting,
    matrix_input,
    reason_of,
    rename_outputs,
)
from estimator_serving.exporter.sources.trees import histogram_split, write_splits
from estimator_serving.training.arrays import Array
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType

# Equal compares text since 19.
_OPSETS = {"": 19, "ai.onnx.ml": 3}


class SklearnSource:
    """A fitted scikit-learn classifier or regressor, by itself or at the end of a pipeline.

    Raises ValueError for a model that has no predictions to serve, or none that one signature holds.
    """

    packages = ("scikit-learn", "skl2onnx")

    def __init__(self, model: Any) -> None:
        kind = type(model).__name__
        if not hasattr(model, "predict"):
            raise ValueError(f"{kind} has no predict; put it in front of a classifier or regressor in a pipeline.")
        for path, step in _steps(model, ""):
            if hasattr(step, "build_analyzer"):
                raise ValueError(
                    f"The step {path.rstrip('/')!r} ({type(step).__name__}) splits text into words, which ONNX "
                    "Runtime does in another way; split it in front of the model, and train an Estimator with a "
                    "categorical column of the words."
                )
        if isinstance(getattr(model, "classes_", ()), list) or getattr(model, "multilabel_", False):
            raise ValueError(
                f"The classifier {kind} gives several labels a row; export a classifier for each of them, or train an "
                "Estimator with a MultiLabelHead."
            )
        self._model = model
        self._is_classifier = hasattr(model, "classes_")
        if self._is_classifier and not hasattr(model, "predict_proba"):
            raise ValueError(
                f"The classifier {kind} has no predict_proba, so it has no scores to classify with; "
                "wrap it in CalibratedClassifierCV."
            )
        self.method = CLASSIFY if self._is_classifier else REGRESS
        self.labels = [str(one) for one in model.classes_] if self._is_classifier else None

    def inputs(self, features: Mapping[str, DType]) -> list[ModelInput]:
        names = getattr(self._model, "feature_names_in_", None)
        (_, first), *_ = getattr(self._model, "steps", [("", self._model)])
        # A ColumnTransformer reads its columns by name, text among them.
        if not hasattr(first, "transformers_") and not any(dtype.is_string for dtype in features.values()):
            return [matrix_input(features, names, dtypes.float32, f"The {type(self._model).__name__}")]
        keys = list(features) if names is None else [str(name) for name in names]
        if missing := [key for key in keys if key not in features]:
            raise ValueError(
                f"The model was trained with the columns {', '.join(keys)}, and the receiver does not give "
                f"{', '.join(missing)}; let it use the names of training."
            )
        return [ModelInput(key, (key,), features[key], True) for key in keys]

    def convert(self, inputs: Sequence[ModelInput], sample: Mapping[str, Array]) -> onnx.ModelProto:
        from skl2onnx import convert_sklearn
        from skl2onnx.common import data_types

        types = []
        for one in inputs:
            kind = data_types.Int64TensorType if one.dtype.numpy.kind in "iu" else data_types.FloatTensorType
            kind = data_types.StringTensorType if one.dtype.is_string else kind
            types.append((one.name, kind([None, sample[one.name].shape[1]])))
        options = {id(self._model): {"zipmap": False}} if self._is_classifier else None
        with converting(partial(_refusal, self._model)):
            model: onnx.ModelProto = convert_sklearn(
                self._model, initial_types=types, options=options, target_opset=_OPSETS
            )
        _gather_from_constants(model.graph)
        for _, step in _steps(self._model, ""):
            # The thresholds of a histogram gradient boosting are float64 and compared as such.
            if hasattr(step, "_predictors"):
                write_splits(model, [histogram_split(tree.nodes, 0) for trees in step._predictors for tree in trees])
        names = [value.name for value in model.graph.output]
        if not self._is_classifier:
            return rename_outputs(model, {names[0]: PREDICTIONS})
        # The place of the label among the classes, int64 [batch, 1], as a further output.
        graph, classes = model.graph, self._model.classes_
        known = classes[None].astype(object if classes.dtype.kind in "OUS" else np.int64)
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

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        # As the model was trained: on a DataFrame where it knows names, else on an array.
        names = getattr(self._model, "feature_names_in_", None)
        matrix = inputs.get(MATRIX)
        columns = {key: array[:, 0] for key, array in inputs.items()} if matrix is None else {}
        table: Any = matrix
        if names is not None:
            import pandas as pd

            table = pd.DataFrame(columns if matrix is None else dict(zip(names, matrix.T, strict=True)))
        elif matrix is None:
            table = np.column_stack([column.astype(object) for column in columns.values()])
        predicted = self._model.predict(table)
        if not self._is_classifier:
            return {PREDICTIONS: as_floats(predicted)}
        ids = np.searchsorted(self._model.classes_, predicted)
        return {PROBABILITIES: np.asarray(self._model.predict_proba(table), np.float32), CLASS_IDS: ids[:, None]}


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
    for name in ("estimator", "final_estimator_"):
        if hasattr(model, name):
            yield from _steps(getattr(model, name), f"{path}{name}/")


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
