"""What an input_fn is called with, and how its result becomes batches for a model_fn.

Owns the rules of TF 2.15 for input functions, and running the transform before the step. Does not know models.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from estimator_serving.training.arrays import Array, as_array
from estimator_serving.training.columns.features import Features, TransformRecorder, prepare
from estimator_serving.training.columns.transform import Transform
from estimator_serving.training.data.dataset import Dataset

logger = logging.getLogger(__name__)

PREDICT_MODE = "infer"
"""ModeKeys.PREDICT. Labels are dropped in this mode."""

_ROWS_AHEAD_MAX = 1024
_BATCHES_AHEAD_MAX = 64

Batch = tuple[Any, Any]


def numpy_input_fn(
    x: Any,
    y: Any = None,
    batch_size: int = 128,
    num_epochs: int | None = 1,
    shuffle: bool | None = None,
    queue_capacity: int = 1000,
    num_threads: int = 1,
) -> Callable[[], Dataset]:
    """An input_fn that gives the rows of numpy arrays in batches (TF 2.15).

    Args:
        x: dict of arrays, or one array.
        y: labels: an array, a dict of arrays, or None.
        batch_size: rows of a batch. A batch may hold the end of one epoch and the start of the next; the last batch may
            be smaller.
        num_epochs: passes over the rows; None for no end.
        shuffle: must be given; True mixes all rows of each epoch.
        queue_capacity: changes nothing; there is no queue.
        num_threads: changes nothing; there are no threads.

    Raises:
        ValueError, TypeError: TF's texts; those about x and y when the input_fn is called.
    """
    del queue_capacity, num_threads
    if not isinstance(shuffle, bool):
        raise ValueError(
            "shuffle must be provided and explicitly set as boolean (it is recommended to set it as True for training)"
            f"; got {shuffle}"
        )

    def input_fn() -> Dataset:
        _check_numpy_input(x, y)
        dataset = Dataset.from_tensor_slices(x if y is None else (x, y))
        if shuffle:
            dataset = dataset.shuffle()
        return dataset.repeat(num_epochs).batch(batch_size)

    return input_fn


def _check_numpy_input(x: Any, y: Any) -> None:
    if not isinstance(x, dict | np.ndarray):
        raise TypeError(f"x must be a dict or array; got {type(x).__name__}")
    if not len(x):
        raise ValueError(f"x cannot be an empty {'dict' if isinstance(x, dict) else 'array'}")
    if isinstance(y, dict) and not y:
        raise ValueError("y cannot be empty dict, use None instead.")
    repeated = set(x) & set(y) if isinstance(x, dict) and isinstance(y, dict) else set()
    if repeated:
        raise ValueError(f"{len(repeated)} duplicate keys are found in both x and y: {repeated}")
    of_x, of_y = _shapes(x), _shapes(y)
    shapes = [*(of_x.values() if isinstance(of_x, dict) else [of_x])]
    shapes += [] if y is None else of_y.values() if isinstance(of_y, dict) else [of_y]
    if len({shape[:1] for shape in shapes}) != 1:
        raise ValueError(
            "Length of tensors in x and y is mismatched. All elements in x and y must have the same length.\n"
            f"Shapes in x: {of_x}\nShapes in y: {of_y}\n"
        )


def _shapes(arrays: Any) -> Any:
    if isinstance(arrays, dict):
        return {key: np.shape(array) for key, array in arrays.items()}
    return None if arrays is None else np.shape(arrays)


def pandas_input_fn(
    x: Any,
    y: Any = None,
    batch_size: int = 128,
    num_epochs: int | None = 1,
    shuffle: bool | None = None,
    queue_capacity: int = 1000,
    num_threads: int = 1,
    target_column: str = "target",
) -> Callable[[], Dataset]:
    """An input_fn that gives the rows of a pandas DataFrame in batches (TF 2.15); the index is dropped.

    Args:
        x: the DataFrame of features.
        y: labels: a Series, a DataFrame (labels become a dict of its columns), or None.
        batch_size, num_epochs, shuffle, queue_capacity, num_threads: as in `numpy_input_fn`.
        target_column: a name that `x` must not have when `y` is a Series.

    Raises:
        ValueError, TypeError: TF's texts; for None or NaN in a text column when the input_fn is called.
    """
    if not isinstance(target_column, str):
        raise TypeError(f"target_column must be a string type; got {type(target_column).__name__}")
    y_is_frame = hasattr(y, "columns")
    if y is not None and not y_is_frame and target_column in x:
        raise ValueError(
            f"Cannot use name {target_column} for target column: DataFrame already has a column with that name: "
            f"{x.columns}"
        )
    if y is not None and not np.array_equal(x.index, y.index):
        raise ValueError(f"Index for x and y are mismatched.\nIndex for x: {x.index}\nIndex for y: {y.index}\n")
    labels = _columns(y) if y_is_frame else y
    columns = {key: value.to_numpy() for key, value in _columns(x).items()}
    return numpy_input_fn(columns, labels, batch_size, num_epochs, shuffle, queue_capacity, num_threads)


def _columns(frame: Any) -> dict[str, Any]:
    return {str(name): frame[name] for name in frame.columns}


@dataclass(frozen=True)
class InputContext:
    """What an input_fn with an argument `input_context` is told about the workers and which one this is.

    As tf.distribute.InputContext.
    """

    num_input_pipelines: int = 1
    input_pipeline_id: int = 0
    num_replicas_in_sync: int = 1

    def get_per_replica_batch_size(self, global_batch_size: int) -> int:
        """The rows in each replica's batch. Raises ValueError if the rows cannot be shared out evenly."""
        if global_batch_size % self.num_replicas_in_sync:
            raise ValueError(
                f"The `global_batch_size` {global_batch_size} is not divisible by `num_replicas_in_sync` "
                f"{self.num_replicas_in_sync}; choose a multiple of it."
            )
        return global_batch_size // self.num_replicas_in_sync


def call_input_fn(
    input_fn: Callable[..., Any], *, mode: str, params: Any, config: Any, input_context: InputContext | None = None
) -> Any:
    """What `input_fn` returns, called with those of `mode`, `params`, `config` and `input_context` that it declares by
    name. Without `input_context` it is told of one process.

    Raises:
        ValueError: something that cannot be called, a Dataset for example.
    """
    if not callable(input_fn):
        raise ValueError(
            f"input_fn must be a function that returns the data; got {type(input_fn).__name__}. "
            "Wrap it: input_fn=lambda: dataset."
        )
    offered = {"mode": mode, "params": params, "config": config, "input_context": input_context or InputContext()}
    # What functools.partial has bound by name is not left to fill.
    bound = input_fn.keywords if isinstance(input_fn, functools.partial) else {}
    declared = inspect.signature(input_fn).parameters
    return input_fn(**{name: value for name, value in offered.items() if name in declared and name not in bound})


def iterate_batches(result: Any, mode: str) -> Iterator[Batch]:
    """The batches of what an input_fn returned: `(features, labels)`. Labels are None without any, and in PREDICT.

    A Dataset or another iterable gives its elements. Tensors, arrays, dicts and pairs of them are one batch, which is
    repeated without end.

    Raises:
        ValueError: a tuple or list of another length than 2 (TF's text), or nothing.
    """
    if result is None:
        raise ValueError("input_fn returned None; it should return a Dataset, (features, labels), or features.")
    is_one_batch = isinstance(result, Mapping | tuple | list | np.ndarray | torch.Tensor)
    if is_one_batch or not isinstance(result, Iterable):
        if mode == PREDICT_MODE:
            logger.warning(
                "input_fn returned one batch and not a Dataset. That means predict yields forever. "
                "This is probably a mistake: return a Dataset."
            )
        batches: Iterable[Any] = itertools.repeat(_canonical(_pair(result)))
    else:
        batches = map(_pair, result) if isinstance(result, Dataset) else (_canonical(_pair(each)) for each in result)
    for features, labels in batches:
        yield features, None if mode == PREDICT_MODE else labels


def empty_batch(result: Any, recorder: TransformRecorder) -> Batch | None:
    """A batch without rows, in the form of prepared_batches; None if only reading shows what batches hold."""
    if not isinstance(result, Dataset) or result.no_rows is None:
        return None
    return next(_prepare([_pair(result.no_rows())], recorder))


def prepared_batches(result: Any, mode: str, recorder: TransformRecorder, skip: int = 0) -> Generator[Batch]:
    """As iterate_batches, with features ready for a model_fn: mappings become Features, columns transformed ahead.

    The first batch is transformed when the model_fn asks, which tells what to transform. From then on a Dataset's
    batches are transformed up to 1024 rows at a time, because the graph treats rows independently and each run has a
    fixed cost. No batch of a generator or another iterable is read before it is needed. The first `skip` batches are
    left out.
    """
    batches = itertools.islice(iterate_batches(result, mode), skip, None)
    looks_ahead = isinstance(result, Dataset) and result.may_read_ahead
    size = 1
    while group := list(itertools.islice(batches, size)):
        yield from _prepare(group, recorder)
        if looks_ahead:
            size = min(2 * size, _BATCHES_AHEAD_MAX, max(1, _ROWS_AHEAD_MAX // max(1, _row_count(group[0][0]))))


def _prepare(group: list[Batch], recorder: TransformRecorder) -> Iterator[Batch]:
    if not isinstance(group[0][0], Mapping):
        yield from group
        return
    joined = _join([features for features, _ in group], recorder.transform) if len(group) > 1 else None
    if recorder.transform is None or joined is None:
        for features, labels in group:
            yield prepare(features, recorder), labels
        return
    results = recorder.transform(joined)
    sizes = [_row_count(features) for features, _ in group]
    parts = [torch.split(torch.from_numpy(array), sizes) for array in results.values()]
    for (features, labels), ready in zip(group, zip(*parts, strict=True), strict=True):
        yield Features(features, recorder, dict(zip(results, ready, strict=True))), labels


def _join(group: list[Mapping[str, Array]], transform: Transform | None) -> dict[str, Array] | None:
    """The rows of all batches, with the features that the transform reads.

    None if the widths of a feature differ between batches, which Dataset.map may pad each to its own width.
    """
    read = {each.key for each in transform.inputs} if transform else set()
    fed = (name for key in read for name in (key, f"{key}/values", f"{key}/lengths"))
    keys = [name for name in fed if name in group[0]]
    try:
        return {key: np.concatenate([features[key] for features in group]) for key in keys}
    except (KeyError, ValueError):
        return None


def _row_count(features: Any) -> int:
    return len(next(iter(features.values()))) if isinstance(features, Mapping) else len(features)


def _pair(element: Any) -> Batch:
    if not isinstance(element, tuple | list):
        return element, None
    if len(element) != 2:
        raise ValueError(
            f"input_fn should return (features, labels) as a len 2 tuple. It returned {len(element)} values; "
            "put several features, or several labels, into a dict."
        )
    return element[0], element[1]


def _canonical(batch: Batch) -> Batch:
    """Arrays of what other iterables give: torch tensors, lists, bytes. A Dataset's columns are arrays already."""
    return _arrays(batch[0], "features"), _arrays(batch[1], "labels")


def _arrays(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _arrays(each, str(key)) for key, each in value.items()}
    return None if value is None else as_array(value, name)
