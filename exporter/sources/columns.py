"""The columns of a boosted model: numbers side by side, and words that the library trained as categories.

Owns how categories become the codes that the trees compare with, in the graph and in the table that the library itself
is asked with, and what the sources of these models share. Knows no library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import spox
import spox.opset.ai.onnx.ml.v3 as ml
import spox.opset.ai.onnx.v21 as op
from spox import Var, inline

from estimator_serving.exporter.receivers.features_graph import is_string
from estimator_serving.exporter.sources.base import MATRIX, ModelInput, matrix_input
from estimator_serving.exporter.sources.boosted import Boosted, graph_of
from estimator_serving.training.arrays import Array
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType


@dataclass(frozen=True)
class Columns:
    """The columns that a model was trained with.

    Attributes:
        what: begins the sentences: "The LightGBM model".
        names: in the model's order, None where it knows none.
        dtype: what the library compares numbers in.
        categories: by column, the words or numbers whose places are the codes. What is none of them, '' and NaN are
            missing.
    """

    what: str
    names: Sequence[str] | None
    dtype: DType
    categories: Mapping[int, Sequence[Any]] = field(default_factory=dict)

    def inputs(self, features: Mapping[str, DType]) -> list[ModelInput]:
        """One matrix, or an input for each column where some are categories. Raises ValueError as matrix_input."""
        if self.names is not None:
            # LightGBM writes `_` for a space in a name.
            spelled = {key.replace(" ", "_"): key for key in features}
            names = [name if name in features else spelled.get(name, name) for name in self.names]
        else:
            names = None
        if not self.categories:
            return [matrix_input(features, names, self.dtype, self.what)]
        words = {
            key
            for index, key in enumerate(names or ())
            if any(isinstance(one, str) for one in self.categories.get(index, ()))
        }
        # Text is welcome in a column of words; matrix_input finds what is missing and what is text elsewhere.
        matrix = matrix_input(
            {key: self.dtype if key in words else dtype for key, dtype in features.items()},
            names, self.dtype, self.what,
        )  # fmt: skip
        if numbers := [key for key in matrix.keys if key in words and not features[key].is_string]:
            raise ValueError(
                f"{self.what} was trained with words in {', '.join(numbers)}, and the receiver gives numbers; declare "
                "text there."
            )
        # float32 holds no ids above 2^24, and no table casts a category back.
        kinds = dict.fromkeys(matrix.keys, self.dtype) | {key: features[key] for key in words}
        for index, key in enumerate(matrix.keys):
            if index in self.categories and key not in words:
                kinds[key] = dtypes.int64 if features[key].numpy.kind in "iu" else dtypes.float64
        return [ModelInput(key, (key,), kinds[key], True) for key in matrix.keys]

    def known_values(self) -> dict[str, Sequence[Any]]:
        """The categories by the columns' names."""
        return {name: self.categories[index] for index, name in enumerate(self.names or ()) if index in self.categories}

    def in_front_of(self, model: onnx.ModelProto, inputs: Sequence[ModelInput]) -> onnx.ModelProto:
        """The graph of a matrix behind the columns that make the matrix."""
        if not self.categories:
            return model
        arguments = {
            one.name: spox.argument(spox.Tensor(np.str_ if one.dtype.is_string else one.dtype.numpy, ("batch", 1)))
            for one in inputs
        }
        codes = [
            codes_of(var, self.categories[index]) if index in self.categories else var
            for index, var in enumerate(arguments.values())
        ]
        columns = [op.cast(one, to=self.dtype.numpy) for one in codes]
        return spox.build(arguments, inline(model)(**{MATRIX: op.concat(columns, axis=1)}))

    def table(self, inputs: Mapping[str, Array]) -> Any:
        """The rows as the library is asked: an array, or a data frame that has categories."""
        if not self.categories:
            return inputs[MATRIX]
        import pandas as pd

        columns: dict[str, Any] = {}
        for index, (name, array) in enumerate(inputs.items()):
            columns[name] = array[:, 0]
            if (known := self.categories.get(index)) is not None:
                columns[name] = pd.Categorical([one if one in known else None for one in array[:, 0]], list(known))
        return pd.DataFrame(columns)


def codes_of(column: Var, categories: Sequence[Any]) -> Var:
    """The places of a column's values among the categories, float32 of its shape; NaN for other values."""
    codes = [float(code) for code in range(len(categories))]
    if is_string(column):
        words = [str(one) for one in categories]
        return ml.label_encoder(column, keys_strings=words, values_floats=codes, default_float=np.nan)
    places = places_of(column, categories, range(len(categories)), -1)
    return op.where(
        op.less(places, op.const(np.int64(0))), op.const(np.float32(np.nan)), op.cast(places, to=np.float32)
    )


def places_of(column: Var, keys: Sequence[Any], places: Sequence[int], other: int) -> Var:
    """The place of each number of a column among the keys, int64 of its shape; `other` for what is none of them.

    Whole numbers are compared as int64, because float32 makes one of neighbours above 2^24. Keys with fractions are
    compared as float32, because clients send them so.
    """
    if keys and all(float(one).is_integer() and abs(int(one)) < 2**63 for one in keys):
        whole = op.cast(column, to=np.int64)
        found = ml.label_encoder(
            whole, keys_int64s=[int(one) for one in keys], values_int64s=list(places), default_int64=other
        )
        element = np.dtype(column.unwrap_tensor().dtype)
        if element.kind != "f":
            return found
        # 1.5 is not 1, and neither is NaN.
        return op.where(op.equal(op.cast(whole, to=element.type), column), found, op.const(np.int64(other)))
    found = ml.label_encoder(
        op.cast(column, to=np.float32),
        keys_floats=[float(np.float32(one)) for one in keys],
        values_floats=[float(one) for one in places],
        default_float=float(other),
    )
    return op.cast(found, to=np.int64)


class BoostedSource:
    """What the sources of boosted models share; their constructors set the model's trees and its columns."""

    cause = (
        "The graph is made of the trees as the library saves them: the usual cause is a version of the library that "
        "saves them in another way. Install a version from the constraints that this project is tested with."
    )
    _boosted: Boosted
    _columns: Columns

    def inputs(self, features: Mapping[str, DType]) -> list[ModelInput]:
        return self._columns.inputs(features)

    def known_values(self) -> Mapping[str, Sequence[Any]]:
        return self._columns.known_values()

    def convert(self, inputs: Sequence[ModelInput], sample: Mapping[str, Array]) -> onnx.ModelProto:
        return self._columns.in_front_of(graph_of(self._boosted), inputs)


def are_made_up(names: Sequence[str], prefix: str) -> bool:
    """Whether a library named the columns by their numbers, for lack of names."""
    return all(name == f"{prefix}{index}" for index, name in enumerate(names))
