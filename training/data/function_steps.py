"""Map, filter and interleave: the steps that call a program's function.

Owns what such a function is given and what it may return. The steps without one are pipeline's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np

from estimator_serving.training.arrays import as_array
from estimator_serving.training.data.elements import Element, check_lengths, in_turns, length, map_leaves, taken
from estimator_serving.training.data.pipeline import AUTOTUNE, Pass, Pipeline, Unit, unframed


class FunctionSteps(Pipeline):
    """A pipeline with the steps that call a program's function."""

    def filter(self, predicate: Callable[..., Any]) -> Self:
        """The rows for which `predicate` is true; for example

            dataset.filter(lambda features, labels: features["age"] >= 18)

        As in `map`, before `batch` it is called with whole columns, and returns a bool for each row; for rows of a
        generator and behind `batch` it returns one bool, as in tf.data.

        Raises:
            ValueError: the rows are Examples that `batch` has not parsed; when it is read, it returns something else.
        """
        self._check_parsed("filter")

        def keeps(element: Element) -> Any:
            return predicate(*element) if isinstance(element, tuple) else predicate(element)

        def kept_rows(columns: Element) -> Element:
            mask = np.asarray(keeps(unframed(columns)))
            if mask.dtype != bool or mask.shape != (length(columns),):
                raise ValueError(
                    f"`predicate` must return a bool for each of the {length(columns)} rows it is called with; it "
                    f"returned {mask.dtype} {list(mask.shape)}. Compare columns, and join conditions with & and |."
                )
            return taken(columns, mask)

        def passes() -> Iterator[Pass]:
            for one in self._passes():
                yield kept_rows(one) if self._is_whole else filter(keeps, one)

        return self._with(passes)

    def interleave(
        self,
        map_func: Callable[[Any], Pipeline],
        cycle_length: int | None = None,
        block_length: int = 1,
        num_parallel_calls: int | None = None,
        deterministic: bool | None = None,
    ) -> Self:
        """The rows of the data sets that `map_func` makes of this one's rows, `cycle_length` of them in turns.

        The order is tf.data's. It goes row by row; from_tfrecord(num_parallel_reads=…) reads files in turns faster.

        Args:
            map_func: called with one row, a file's name for example; returns a data set.
            cycle_length: data sets read at a time; by default as many as there are processors.
            block_length: rows of one data set before the next has its turn.
            num_parallel_calls, deterministic: change nothing; the order is always the same.

        Raises:
            ValueError: a length below 1. TypeError, when it is read: `map_func` returns no data set.
        """
        del num_parallel_calls, deterministic
        cycle = (os.cpu_count() or 1) if cycle_length in (None, AUTOTUNE) else cycle_length
        for name, value in (("cycle_length", cycle), ("block_length", block_length)):
            if value is None or value < 1:
                raise ValueError(f"`{name}` must be >= 1; got {value}.")

        def rows_of(row: Element) -> Iterator[Element]:
            made = map_func(*row) if isinstance(row, tuple) else map_func(row)
            if not isinstance(made, Pipeline):
                raise TypeError(f"`map_func` must return a `Dataset` object. Got {type(made).__name__}.")
            return iter(made)

        def rows() -> Iterator[Element]:
            return in_turns(map(rows_of, self), cycle or 1, block_length)

        return type(self)(lambda: iter((rows(),)), Unit.ROWS)

    def flat_map(self, map_func: Callable[[Any], Pipeline]) -> Self:
        """The rows of the data sets that `map_func` makes of this one's rows, one data set after the other."""
        return self.interleave(map_func, cycle_length=1)

    def apply(self, transformation_func: Callable[[Self], Any]) -> Any:
        """`transformation_func(self)`, for example `dataset.apply(shuffle_and_repeat(1000))`."""
        return transformation_func(self)

    def _check_parsed(self, method: str) -> None:
        if not self._is_batched and self._gather is not None:
            raise ValueError(
                f"Examples are parsed a batch at a time: call {method} behind batch, where it sees the features."
            )

    def map(
        self,
        map_func: Callable[..., Element],
        num_parallel_calls: int | None = None,
        deterministic: bool | None = None,
    ) -> Self:
        """`map_func` applied to whole columns before `batch`, and to every batch behind it; for example

            dataset.map(lambda features, labels: ({**features, "age": features["age"] / 100}, labels))

        tf.data calls it with one row before `batch`; here it sees all rows at once (numpy arrays [rows, …]) and must
        keep their number. Only rows of a generator come one by one, as in tf.data. For elements `(features, labels)` it
        is called with two arguments. It gets copies: it may write into the arrays and take features out of the dict.
        `num_parallel_calls` and `deterministic` change nothing: `prefetch` makes batches in a thread, in their order.

        Raises:
            ValueError: the function returns None, something that is not arrays, or another number of rows; or
                the rows are Examples of `from_tfrecord` and `batch` has not parsed them yet.
        """
        del num_parallel_calls, deterministic
        self._check_parsed("map")

        def call(element: Element) -> Element:
            own = map_leaves(lambda value, _: value.copy() if isinstance(value, np.ndarray) else value, element)
            made = map_func(*own) if isinstance(own, tuple) else map_func(own)
            if made is None:
                raise ValueError("The function given to map returned None; let it return the features, or a pair.")
            return made

        def apply(element: Element) -> Element:
            mapped = map_leaves(as_array, call(element))
            check_lengths(mapped)
            if length(mapped) != length(element):
                raise ValueError(
                    f"The function given to map turned {length(element)} rows into {length(mapped)}; it is called with "
                    "whole columns and must keep their number of rows."
                )
            return mapped

        def passes() -> Iterator[Pass]:
            for one in self._passes():
                if self._is_whole:
                    yield apply(unframed(one))
                else:
                    yield map(apply if self._is_batched else call, one)

        made = self._with(passes)
        no_rows = self.no_rows
        made.no_rows = None if no_rows is None or self._unit is Unit.ROWS else lambda: apply(no_rows())
        return made
