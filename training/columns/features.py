"""What a model_fn receives as `features`, and the record of what it asks of them.

Owns reading raw features as tensors, finding (or making) the transform's results for a batch, and the frozen comparison
with a checkpoint's transform. Knows nothing of layers or variables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from estimator_serving.training.arrays import Array, as_array
from estimator_serving.training.columns.base import FeatureColumn, Output
from estimator_serving.training.columns.definitions import difference
from estimator_serving.training.columns.feed import RawFeatures
from estimator_serving.training.columns.inputs import NumericInput, TextInput, inputs_of, integers_in
from estimator_serving.training.columns.transform import Transform, build_outputs, outputs_of


class TransformRecorder:
    """The transform of one model, growing with what its model_fn asks for; frozen when it comes from a checkpoint.

    Attributes:
        transform: the transform so far, None before the first column.
        read_keys: numeric features that the model_fn read directly; under export they are inputs of the network.
    """

    def __init__(self, transform: Transform | None = None) -> None:
        self.transform = transform
        self.read_keys: set[str] = set()
        self._frozen = transform is not None
        self._integer_keys = integers_in(transform.definitions.values()) if transform else frozenset[str]()
        self._outputs: dict[str, Output] = {}
        # By identity: a column never changes, and hashing a long vocabulary would cost more than the step does.
        self._names: dict[tuple[int, type[Output]], tuple[FeatureColumn, str]] = {}

    def require(self, columns: Iterable[FeatureColumn | Output], raw: RawFeatures | None = None) -> Transform:
        """A transform that has these columns; rebuilt for the union when one is new.

        `raw` is one batch, used to decide whether each feature named by a crossed column is hashed as text or as
        integers.

        Raises:
            ValueError: a column that the checkpoint's transform lacks or defines differently, by name.
        """
        for output in (output for column in columns for output in outputs_of(column)):
            self.output_name(output, raw)
        if self.transform is None or len(self.transform.definitions) < len(self._outputs):
            self.transform = build_outputs(self._outputs, self._integer_keys)
        return self.transform

    def output_name(self, output: Output, raw: RawFeatures | None = None) -> str:
        """The name of an output in the graph: its `output_name`, with #2, #3, … behind it where another column of that
        name came first (one text hashed into two numbers of buckets, for example)."""
        key = (id(output.column), type(output))
        if key not in self._names:
            # The column is kept beside the name: an id stays unique only while its object lives.
            self._names[key] = (output.column, self._register(output, raw or {}))
        return self._names[key][1]

    @property
    def vocabulary_files(self) -> tuple[str, ...]:
        """Paths of the vocabulary files behind every column that has been asked for, sorted, each once."""
        columns = {id(column): column for column, _ in self._names.values()}
        return tuple(sorted({path for column in columns.values() for path in column.vocabulary_files}))

    def _register(self, output: Output, raw: RawFeatures) -> str:
        """The first of name, name#2, name#3, … that stands for this definition or for nothing."""
        if not self._frozen:
            # A cross takes a feature that it names as integers where it is fed as integers.
            crossed = {wanted.key for wanted in inputs_of([output.define()]) if isinstance(wanted, TextInput)}
            fed = {key: raw.get(f"{key}/values", raw.get(key)) for key in crossed}
            self._integer_keys |= {
                key for key, value in fed.items() if value is not None and as_array(value, key).dtype.kind in "iu"
            }
        definition = output.define(self._integer_keys)
        known = {name: one.define(self._integer_keys) for name, one in self._outputs.items()}
        if self._frozen and self.transform is not None:
            known = self.transform.definitions
        name, number = output.output_name, 1
        while name in known and known[name] != definition:
            number += 1
            name = f"{output.output_name}#{number}"
        if self._frozen and name not in known:
            old = known.get(output.output_name)
            what = (
                "is not among the columns this model was trained with"
                if old is None
                else f"differs from the one this model was trained with: {difference(old, definition)}"
            )
            raise ValueError(
                f"The column {output.column.name!r} {what}. Train the changed columns in a new model_dir, or give the "
                "old columns back."
            )
        self._outputs[name] = output
        return name


class Features(dict[str, Any]):
    """The features of one batch: a dict, for programs that ask `isinstance(features, dict)`, whose values are read when
    they are asked for.

    `features["age"]` is a torch tensor (bool, int64 or float32) for a number and a numpy object array of str for text.
    Columns are read with `input_layer` and `linear_model`, not here. What a model_fn puts in or takes out
    changes what it finds here itself, and nothing for columns.

    Args:
        raw: the batch as numpy arrays, [batch, …]. Reading it is not noted as the model's own reading.
        recorder: notes what is asked for.
        ready: the transform's results for this batch, where the input pipeline made them ahead.

    Attributes:
        is_traced: whether these are an export's tensors, none of them computed here.
    """

    is_traced: ClassVar[bool] = False

    def __init__(
        self, raw: RawFeatures, recorder: TransformRecorder, ready: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        self.raw = raw
        self._recorder = recorder
        self._ready: Mapping[str, Tensor] = ready or {}
        self._direct: dict[str, Any] = {}
        self._removed: set[str] = set()

    @staticmethod
    def traced(
        transform_outputs: Mapping[str, Tensor],
        direct: Mapping[str, Tensor],
        recorder: TransformRecorder | None = None,
    ) -> Features:
        """Features under export: only tensors, none of them computed here.

        Args:
            transform_outputs: by the transform's output names.
            direct: numeric features the model_fn reads itself, by key.
            recorder: of the trained model; with it a column that differs from the trained one is refused by name.
        """
        return _TracedFeatures(transform_outputs, direct, recorder or TransformRecorder())

    def __getitem__(self, key: str) -> Any:
        if key in self._removed:
            raise KeyError(key)
        if key not in self._direct:
            self._direct[key] = self._read(key)
        return self._direct[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._direct[key] = value
        self._removed.discard(key)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._removed.add(key)

    def __iter__(self) -> Iterator[str]:
        if not self._direct and not self._removed:
            return iter(self.raw)
        return (key for key in {**self.raw, **self._direct} if key not in self._removed)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        return (key in self.raw or key in self._direct) and key not in self._removed

    # dict's own methods look past the ones above; those of the abstract class do not.
    get = MutableMapping.get  # type: ignore[assignment]
    keys = MutableMapping.keys  # type: ignore[assignment]
    items = MutableMapping.items  # type: ignore[assignment]
    values = MutableMapping.values  # type: ignore[assignment]
    pop = MutableMapping.pop
    popitem = MutableMapping.popitem
    setdefault = MutableMapping.setdefault
    update = MutableMapping.update
    clear = MutableMapping.clear
    __eq__ = MutableMapping.__eq__

    def copy(self) -> dict[str, Any]:
        return dict(self)

    def __repr__(self) -> str:
        return f"Features({', '.join(sorted(map(str, self)))})"

    @property
    def batch_size(self) -> Any:
        """Rows of the batch: an int, or torch's symbolic one under export."""
        for value in self.raw.values():
            return len(value)
        raise ValueError("These features hold no array, so they have no batch size; let input_fn return some.")

    def require(self, columns: Iterable[FeatureColumn | Output]) -> None:
        """Announce the columns of a layer at once, so that the transform is built once for all of them."""
        self._recorder.require(columns, self.raw)

    def output(self, output: Output) -> Tensor:
        """One output of the transform for this batch."""
        name = self._recorder.output_name(output, self.raw)
        if name not in self._ready:
            self._ready = _transformed(self._recorder.require([output], self.raw), self.raw)
        return self._ready[name]

    def tensors(self) -> list[Any]:
        """What the model reads of this batch: the transform's results that are there, then the features that the
        model_fn has read directly so far, by key; a batch may lack one."""
        return [*self._ready.values(), *(self[key] for key in sorted(self._recorder.read_keys) if key in self)]

    def transformed(self, columns: Iterable[FeatureColumn | Output]) -> dict[str, Tensor]:
        """Output name -> tensor: `column/dense` float32 [batch, n], or `column/ids` int64 [batch, k] and, of a weighted
        column, `column/weights` float32 [batch, k].

        Raises:
            ValueError: features that do not fit the columns, or columns that do not fit the checkpoint.
        """
        outputs = [output for column in columns for output in outputs_of(column)]
        self.require(outputs)
        return {output.output_name: self.output(output) for output in outputs}

    def _read(self, key: str) -> Any:
        array = as_array(self.raw[key], key)
        if array.dtype == object:
            return array
        self._recorder.read_keys.add(key)
        # Bools stay, integers become int64 and other numbers float32.
        dtype: Any = {"b": np.bool_, "i": np.int64, "u": np.int64}.get(array.dtype.kind, np.float32)
        # A copy: a model_fn that works in place would otherwise write into the data set.
        return torch.from_numpy(np.array(array, dtype))


class _TracedFeatures(Features):
    is_traced = True

    def __init__(
        self, outputs: Mapping[str, Tensor], direct: Mapping[str, Tensor], recorder: TransformRecorder
    ) -> None:
        super().__init__(direct, recorder, None)
        self._ready = dict(outputs)

    @property
    def batch_size(self) -> Any:
        for tensor in self._ready.values():
            return tensor.shape[0]
        for key in self.raw:
            return self._read(key).shape[0]
        raise ValueError(
            "The model reads no feature, so its batch size is unknown; give the receiver at least one feature."
        )

    def require(self, columns: Iterable[FeatureColumn | Output]) -> None:
        """Nothing is built under export."""

    def output(self, output: Output) -> Tensor:
        name = self._recorder.output_name(output)
        if name not in self._ready:
            raise ValueError(
                f"The column {output.column.name!r} is asked for in export but was not in training; "
                "let the model_fn use the same columns in every mode."
            )
        tensor: Tensor = self._ready[name]
        return tensor

    def _read(self, key: str) -> Tensor:
        if key in self.raw:
            self._recorder.read_keys.add(key)
            tensor: Tensor = self.raw[key]
            return tensor
        raise ValueError(
            f"The model_fn reads features[{key!r}] in export. A text feature never enters the network: use a "
            "categorical column. A numeric one must be read in training as well, to become an input of the graph."
        )


class RowlessFeatures(Features):
    """A batch without rows that has every feature a column asks for, so that model_fn can create its variables."""

    def __init__(self, recorder: TransformRecorder) -> None:
        super().__init__({}, recorder)

    @property
    def batch_size(self) -> int:
        return 0

    def output(self, output: Output) -> Tensor:
        transform = self._recorder.require([output])
        raw: dict[str, Array] = {}
        for one in transform.inputs:
            if isinstance(one, NumericInput):
                raw[one.key] = np.zeros((0, *one.shape), np.float32)
            else:
                raw[f"{one.key}/values"] = np.zeros((0, 1), one.dtype.numpy)
                raw[f"{one.key}/lengths"] = np.zeros(0, np.int64)
        return _transformed(transform, raw)[self._recorder.output_name(output)]

    def _read(self, key: str) -> Any:
        raise ValueError(f"The model_fn reads features[{key!r}] itself, so its shape is not known without data.")


def prepare(raw: RawFeatures, recorder: TransformRecorder) -> Features:
    """A batch's features with the transform already run: the step of the input pipeline."""
    return Features(raw, recorder, _transformed(recorder.transform, raw) if recorder.transform else None)


def _transformed(transform: Transform, raw: RawFeatures) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in transform(raw).items()}
