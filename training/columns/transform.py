"""The transform: what a model's columns compute, as one ONNX graph that training runs and the exporter inlines.

Owns the graph's bytes, their hash and the definitions inside them, and running them. How columns become a graph is in
graph.py, how raw features become arrays in feed.py. Knows nothing of the network.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping

import onnx
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from estimator_serving import ops
from estimator_serving.training.arrays import Array, as_bytes
from estimator_serving.training.columns.base import FeatureColumn, Output
from estimator_serving.training.columns.definitions import Definition
from estimator_serving.training.columns.feed import RawFeatures, feed
from estimator_serving.training.columns.finish import finish_graph, serialize
from estimator_serving.training.columns.graph import build_graph, pad_inputs
from estimator_serving.training.columns.inputs import Input, inputs_of
from estimator_serving.training.errors import InvalidArgumentError

DEFINITIONS = "column_definitions"
"""The metadata_props key that holds the definitions."""


class Transform:
    """A finished transform graph.

    Attributes:
        model_bytes: the ONNX model.
        definitions: output name -> definition of what it holds, JSON-able; they stand in the model's metadata_props, so
            that the bytes restore everything.
        inputs: what it reads of raw features.
        input_names: `key` float32 [batch, *shape]; `key/values` [batch, k] with `key/lengths` int64 [batch], and
            `key/text/…` where a cross reads the feature itself.
        output_names: `column/dense` float32 [batch, n]; `column/ids` int64 [batch, k] with -1 for nothing, and
            `column/weights` float32 [batch, k] beside the ids of a weighted column.
    """

    def __init__(self, model_bytes: bytes, definitions: Mapping[str, Definition]) -> None:
        self.model_bytes = model_bytes
        self.definitions = dict(definitions)
        self.inputs: tuple[Input, ...] = inputs_of(self.definitions.values())
        self.input_names = tuple(name for wanted in self.inputs for name in wanted.names)
        self.output_names = tuple(self.definitions)
        self._sessions: dict[tuple[str, ...], onnxruntime.InferenceSession] = {}

    @classmethod
    def from_bytes(cls, model_bytes: bytes) -> Transform:
        """The transform in these bytes.

        Raises:
            ValueError: bytes that are not a transform.
        """
        try:
            properties = {entry.key: entry.value for entry in onnx.load_from_string(model_bytes).metadata_props}
            return cls(model_bytes, json.loads(properties[DEFINITIONS]))
        except Exception as error:
            raise ValueError(
                "These bytes are not a feature transform (an ONNX model with column definitions); "
                "take them from a checkpoint that an Estimator wrote."
            ) from error

    @functools.cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.model_bytes).hexdigest()

    def __call__(self, raw: RawFeatures) -> dict[str, Array]:
        """Every output for a batch of raw features: numpy arrays [batch, …]; text as str or bytes.

        Raises:
            ValueError: features that do not fit (see feed).
            InvalidArgumentError: ids that an identity column has no bucket for, weights that are more or fewer than
                their ids. A ValueError, too.
        """
        fed = feed(raw, self.inputs)
        names = tuple(fed)
        try:
            if names not in self._sessions:
                options = onnxruntime.SessionOptions()
                # The graphs are small and run between training steps: more threads would only take cores from torch.
                options.intra_op_num_threads = 1
                options.inter_op_num_threads = 1
                options.log_severity_level = 4  # what it would log is raised
                model_bytes = self.model_bytes
                if not set(names) <= set(self.input_names):
                    # Padding nodes come before the graph where features come dense.
                    model_bytes = serialize(pad_inputs(onnx.load_from_string(model_bytes), self.inputs, names))
                self._sessions[names] = ops.session(model_bytes, options=options)
            session = self._sessions[names]
            try:
                arrays = session.run(self.output_names, fed)
            except UnicodeEncodeError:  # text that is not UTF-8, see as_text
                fed = {name: as_bytes(a, name.partition("/")[0]) if a.dtype == object else a for name, a in fed.items()}
                arrays = session.run(self.output_names, fed)
            return dict(zip(self.output_names, arrays, strict=True))
        except InvalidArgument as error:
            # An op of ours refused the values; its sentence follows the name of the node.
            raise InvalidArgumentError(ops.own_text(error)) from None


def build_transform(columns: Iterable[FeatureColumn | Output]) -> Transform:
    """The transform of these columns: the same columns give the same bytes, in any order and in every process.

    Args:
        columns: dense columns for their values, categorical ones and embeddings for their ids; `Ids(column)` asks for
            the ids of a column that is dense too.

    Raises:
        ValueError: columns that cannot be built together, or a normalizer_fn that cannot be traced.
    """
    outputs = [output for column in columns for output in outputs_of(column)]
    return build_outputs({output.output_name: output for output in outputs})


def build_outputs(outputs: Mapping[str, Output], integer_keys: Iterable[str] = ()) -> Transform:
    """The transform of outputs under the names they are given; `integer_keys` as in Output.define."""
    definitions = {name: outputs[name].define(integer_keys) for name in sorted(outputs)}
    metadata = {DEFINITIONS: json.dumps(definitions, sort_keys=True)}
    return Transform(serialize(finish_graph(build_graph(outputs, definitions), metadata=metadata)), definitions)


def outputs_of(column: FeatureColumn | Output) -> tuple[Output, ...]:
    """What an input layer needs of the transform for this column: its values, or its ids and, weighted, their weights.

    Raises:
        TypeError: something that is no column.
    """
    if isinstance(column, Output):
        return (column,)
    if isinstance(column, FeatureColumn):
        return column.outputs
    raise TypeError(f"A transform is built of feature columns; got {column!r}.")
