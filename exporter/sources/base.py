"""What an exporter needs of a trained model, whatever library it comes from.

Owns the two words between `export_model` and the modules that know a library: ModelInput and Source.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnx

from estimator_serving.wire.dtypes import DType

Array = npt.NDArray[Any]

MATRIX = "input"
PROBABILITIES = "probabilities"
CLASS_IDS = "class_ids"
PREDICTIONS = "predictions"
CLASSIFY, REGRESS, PREDICT = "classify", "regress", "predict"


@dataclass(frozen=True)
class ModelInput:
    """One input of a converted graph.

    Attributes:
        name: its name there.
        keys: the features it is made of: one as it is, or several side by side as a matrix.
        dtype: its element type.
        is_matrix: whether it is [batch, n], each feature giving its values in order.
    """

    name: str
    keys: tuple[str, ...]
    dtype: DType
    is_matrix: bool


class Source(Protocol):
    """A trained model of another library."""

    @property
    def method(self) -> str:
        """What its servable answers by default: classify, regress or predict."""

    @property
    def labels(self) -> Sequence[str] | None:
        """The names of its classes, None where it has none."""

    @property
    def packages(self) -> tuple[str, ...]:
        """Whose versions stand in the provenance."""

    def inputs(self, features: Mapping[str, DType]) -> list[ModelInput]:
        """How its graph is fed from these features, in the receiver's order.

        Raises ValueError for features that do not fit.
        """

    def convert(self, inputs: Sequence[ModelInput], sample: Mapping[str, Array]) -> onnx.ModelProto:
        """The model as ONNX.

        A classifier gives `probabilities` [batch, n] and may give `class_ids` int64 [batch, 1], a regressor gives
        `predictions` [batch, d], others what they call their own. Raises ValueError for what cannot be converted.
        """

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """What the model itself gives, by the names of the graph's outputs."""


def matrix_input(features: Mapping[str, DType], names: Sequence[str] | None, dtype: DType, what: str) -> ModelInput:
    """All features side by side, in the order of `names` where the model knows them, else in the receiver's.

    Raises ValueError for text and for names that the receiver does not give.
    """
    keys = tuple(features) if names is None else tuple(names)
    if missing := [key for key in keys if key not in features]:
        raise ValueError(
            f"{what} was trained with the features {', '.join(keys)}, and the receiver does not give "
            f"{', '.join(missing)}; it gives {', '.join(features)}. Let the receiver use the names of training."
        )
    if words := [key for key in keys if features[key].is_string]:
        raise ValueError(
            f"{what} takes numbers, and the receiver gives text for {', '.join(words)}; encode text inside the model "
            "(a scikit-learn ColumnTransformer with named columns), or leave these features out."
        )
    return ModelInput(MATRIX, keys, dtype, True)


def rename_outputs(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """The graph with these outputs alone, under these names, [batch, n]: converters state shapes wrongly."""
    for node in _nodes(model.graph):
        for values in (node.input, node.output):
            for index, name in enumerate(values):
                values[index] = names.get(name, name)
    kept = [(names[one.name], one.type.tensor_type.elem_type) for one in model.graph.output if one.name in names]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, element, [None, None]) for name, element in kept)
    return model


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


@contextmanager
def converting(explain: Callable[[Exception], str]) -> Iterator[None]:
    """Around a conversion. Raises ValueError with `explain`'s sentence for whatever the converter raises.

    Converters use what their libraries announce to remove; users can do nothing about those warnings.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        raise ValueError(explain(error)) from error


def reason_of(error: Exception) -> str:
    """The kind of an error and the first line of its text."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"


def as_floats(values: Any) -> Array:
    """float32 [batch, d]; a vector becomes a column."""
    array = np.asarray(values, np.float32)
    return array.reshape(-1, 1) if array.ndim == 1 else array


def both_classes(values: Any) -> Array:
    """Probabilities of all classes; a vector is that of the second of two."""
    array = np.asarray(values, np.float32)
    return np.stack([1 - array, array], axis=1) if array.ndim == 1 else array
