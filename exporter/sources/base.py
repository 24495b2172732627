"""The seam between `export_model` and the libraries whose models it takes.

Owns the two words that both sides share, ModelInput and Source, and what several sources do alike. Knows no library.

A source is a trained model together with what one library knows of it. `export_model` holds the receiver and the
signatures, a source holds the model, and the two exchange only names and arrays. One export calls, in this order:

    recognize(model)          makes the source. The constructor refuses a model that can never be exported and says
                              what to change. It converts nothing yet.
    method, labels, packages  say what the servable answers by default, what its classes are called, and the packages
                              whose versions stand in the provenance.
    cause                     says what is usually wrong with a model of this kind whose graph gives other numbers.
    inputs(features)          gets the receiver's features, dtype by name in its order. Returns the graph's inputs and
                              the features that each is made of. Matches names; refuses features that do not fit.
    known_values()            returns the values that features may have, where the model has learned them.
    answer(sample)            gets sample rows, one array an input. Returns what the library itself predicts for them.
                              Called up to five times: where it raises for rows with unknown words and large ids, it is
                              asked again with smaller numbers.
    convert(inputs, sample)   returns the ONNX graph. Its inputs have the names that `inputs` gave, its outputs those of
                              `answer`; all begin with a batch of any size. `sample` shows the shapes.

The graph is then joined with the receiver's, run on the sample rows, and compared with what `answer` gave. So a source
does not have to check its converter, and a wrong conversion is never written.

A whole source, for a model that is a dictionary from feature to weight, {"age": 0.5, "fare": -2.0}:

    class WeightsSource:
        method = REGRESS
        labels = None
        packages = ("numpy",)
        cause = "The usual cause is a weight that float32 does not hold; round the weights."

        def __init__(self, model):
            self._names = list(model)
            self._weights = np.float32(list(model.values()))[:, None]

        def inputs(self, features):
            return [matrix_input(features, self._names, dtypes.float32, "The dictionary of weights")]

        def known_values(self):
            return {}

        def convert(self, inputs, sample):
            rows = spox.argument(spox.Tensor(np.float32, ("batch", len(self._weights))))
            return spox.build({MATRIX: rows}, {PREDICTIONS: op.matmul(rows, op.const(self._weights))})

        def answer(self, inputs):
            return {PREDICTIONS: inputs[MATRIX] @ self._weights}

A new library gets a module here and a row in the table of `recognize`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnx

from estimator_serving.training.arrays import Array
from estimator_serving.wire.dtypes import DType

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
        open_axes: the axes that may have any size beside the first, the batch, as far as the receiver says.
    """

    name: str
    keys: tuple[str, ...]
    dtype: DType
    is_matrix: bool
    open_axes: tuple[int, ...] = ()


class Source(Protocol):
    """A trained model of another library. The module's docstring says when each member is used, with an example."""

    @property
    def method(self) -> str:
        """What its servable answers by default: classify, regress or predict."""

    @property
    def labels(self) -> Sequence[str] | None:
        """The names of its classes, None where it has none."""

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages whose versions stand in the provenance."""

    @property
    def cause(self) -> str:
        """The sentence on why the comparison of a graph with its model usually fails, and what to do."""

    def inputs(self, features: Mapping[str, DType]) -> list[ModelInput]:
        """How its graph is fed from these features, in the receiver's order.

        Raises ValueError for features that do not fit.
        """

    def known_values(self) -> Mapping[str, Sequence[Any]]:
        """The values that it has learned of features, by name, where it has: sample rows hold some of them."""

    def convert(self, inputs: Sequence[ModelInput], sample: Mapping[str, Array]) -> onnx.ModelProto:
        """The model as ONNX, its large weights as initializers.

        A classifier gives `probabilities` float [batch, n] and may give `class_ids` int64 [batch, 1], a regressor gives
        `predictions` float [batch, d], others what they call their own. Raises ValueError for what cannot be converted.
        """

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """What the model itself gives, by the names of the graph's outputs. Raises what the library raises."""


def matrix_input(features: Mapping[str, DType], names: Sequence[str] | None, dtype: DType, what: str) -> ModelInput:
    """All features side by side, in the order of `names` where the model knows them, else in the receiver's.

    `what` begins the sentences: "The LightGBM model". Raises ValueError for text and for names that the receiver does
    not give.
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


def reason_of(error: Exception) -> str:
    """The kind of an error and the first line of its text."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"


def as_floats(values: Any) -> Array:
    """float32 [batch, d]; a vector becomes a column."""
    array = np.asarray(values, np.float32)
    return array.reshape(-1, 1) if array.ndim == 1 else array
