"""Dataset: where rows come from, and shuffle, repeat, batch, map and their kin on the way to batches.

What is in memory is worked on as whole columns with numpy; what a generator or a file of records gives, row by row.
Owns those two ways. Knows no file format, and nothing of feature columns, estimators or tensors. Names and order of
batches are tf.data's; where a rule differs the method says so.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from estimator_serving.training.arrays import Array, as_array
from estimator_serving.training.data import record_file, table_file
from estimator_serving.training.data.csv_file import ColumnRules, read_columns
from estimator_serving.training.data.elements import (
    Element,
    batches_of,
    cast,
    check_lengths,
    copied,
    groups,
    length,
    map_leaves,
    mixed,
    rows_between,
    single_rows,
    stacked,
    taken,
)
from estimator_serving.training.data.read_ahead import read_ahead
from estimator_serving.wire.examples import FeatureSpec

# One pass over the data, in one of the units below.
Pass = Any


class Unit(enum.Enum):
    """What one pass consists of."""

    COLUMNS = "columns"
    """One element that holds all rows."""
    ROWS = "rows"
    """An iterator of single rows."""
    BATCHES = "batches"
    """An iterator of batches."""


# As in tf.data: the size is left to the implementation.
AUTOTUNE = -1
_AUTOTUNED_ELEMENTS = 2


class Dataset:
    """Rows of columns, or batches of them. Each method returns a new Dataset; the columns themselves are shared.

    Iterating gives batches (before `batch`, single rows): numbers in the dtype they came in, text as object arrays of
    str. A batch may be a view of the data: do not write into it.
    """

    def __init__(
        self,
        passes: Callable[[], Iterator[Pass]],
        unit: Unit,
        *,
        may_read_ahead: bool = True,
        gather: Callable[[list[Any]], Element] | None = None,
        no_rows: Callable[[], Element] | None = None,
    ) -> None:
        self._passes = passes
        self._unit = unit
        self._gather = gather
        self.no_rows = no_rows
        """Makes a batch without rows, with the columns and dtypes of all others; None where only reading tells them."""
        self.may_read_ahead = may_read_ahead
        """Whether more may be taken from it than is needed now; not where a user's code makes the rows."""

    @classmethod
    def from_tensor_slices(cls, tensors: Element) -> Dataset:
        """The rows of arrays: `(features, labels)`, a dict of columns, or one array.

        Args:
            tensors: numpy arrays, torch tensors, pandas Series or lists, all with the same first dimension. Lists of
                floats become float32; bytes are decoded as UTF-8, once.

        Raises:
            ValueError: lengths that differ, a scalar, no column at all, or text that is not UTF-8.
        """
        columns = map_leaves(as_array, tensors)
        check_lengths(columns)
        return cls(lambda: iter((columns,)), Unit.COLUMNS, no_rows=lambda: rows_between(columns, 0, 0))

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        label_name: str | None = None,
        select_columns: Sequence[str] | None = None,
        column_defaults: Mapping[str, Any] | None = None,
        column_types: Mapping[str, Any] | None = None,
        na_value: str = "",
    ) -> Dataset:
        """The rows of a CSV file with a header (UTF-8; fields may be quoted): `(features, labels)`, or features alone.

        A column is int64 if all its fields are integers, else float32 if all are numbers, else text. An empty field is
        '' in a text column; in a column of numbers it takes the column's default.

        Args:
            path: the file.
            label_name: the column that becomes the labels.
            select_columns: the columns to read, labels aside; by default all.
            column_defaults: column name -> the value of an empty field. Its type is the column's: 0.0 makes it float32,
                0 int64, '' text.
            column_types: column name -> `str`, `int` or `float` (or a dtype), for columns without a default.
            na_value: another text that counts as an empty field, for example "NA".

        Raises:
            FileNotFoundError: no such file.
            ValueError: an unknown column, a row with too few or too many fields, an empty field without a default, a
                field that does not fit its column's default; the line is named. Nothing is returned of such a file.
        """
        rules = ColumnRules(column_defaults or {}, column_types or {}, na_value)
        return cls._from_table(read_columns(Path(path), select_columns, label_name, rules), label_name)

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        label_name: str | None = None,
        select_columns: Sequence[str] | None = None,
        column_defaults: Mapping[str, Any] | None = None,
    ) -> Dataset:
        """The rows of a Parquet file, or of a directory of them: `(features, labels)`, or features alone.

        Numbers keep their dtype. Lists of one length become [rows, n]; lists of several lengths are padded to the
        longest with '' or -1, which categorical columns drop. Needs pyarrow (the extra `tables`).

        Args:
            path, label_name, select_columns: as in `from_csv`.
            column_defaults: column name -> what a null stands for; text columns take '' by themselves.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a file that is not Parquet, an unknown column, nulls without a default, a column of another kind
                than numbers, text or lists of them.
        """
        table = table_file.read_parquet(Path(path), select_columns, label_name)
        return cls.from_arrow(table, label_name, select_columns, column_defaults)

    @classmethod
    def from_arrow(
        cls,
        table: Any,
        label_name: str | None = None,
        select_columns: Sequence[str] | None = None,
        column_defaults: Mapping[str, Any] | None = None,
    ) -> Dataset:
        """The rows of a pyarrow Table; arguments, types and errors as in `from_parquet`."""
        columns = table_file.columns_of(table, select_columns, label_name, column_defaults or {})
        return cls._from_table(columns, label_name)

    @classmethod
    def from_generator(
        cls,
        generator: Callable[..., Iterable[Element]],
        output_types: Element = None,
        output_shapes: Any = None,
        args: Sequence[Any] | None = None,
    ) -> Dataset:
        """The rows that `generator(*args)` yields, called anew for every pass; no row is taken before it is needed.

        Args:
            generator: a function that returns an iterator of rows: `(features, label)`, a dict, or one value.
            output_types: dtypes in the structure of a row; by default those of the values, Python floats being float32.
            output_shapes: taken for compatibility; shapes are those of the rows.
            args: what `generator` is called with.

        Raises:
            TypeError: something that cannot be called: a generator that runs already gives one pass alone.
            ValueError, when it is read: rows of different structure or shape, or that do not fit `output_types`.
        """
        del output_shapes
        if not callable(generator):
            raise TypeError(
                f"`generator` must be callable; got {type(generator).__name__}. Give the function, not what it returns."
            )

        def rows() -> Iterator[Element]:
            made = generator(*(args or ()))
            return iter(made) if output_types is None else (cast(row, output_types) for row in made)

        return cls(lambda: iter((rows(),)), Unit.ROWS, may_read_ahead=False)

    @classmethod
    def from_batches(cls, batches: Iterable[Element]) -> Dataset:
        """The batches of a torch DataLoader, a list, or anything else that can be iterated again and again.

        Args:
            batches: each `(features, labels)` or features, as arrays or tensors [batch, …]. A list counts as a tuple,
                since that is what a DataLoader makes of one.

        Raises:
            TypeError: an iterator, which would be empty in the second pass.
        """
        if isinstance(batches, Iterator):
            raise TypeError(
                f"from_batches reads its batches anew in every pass, which a {type(batches).__name__} allows once; "
                "give a list or a DataLoader, or give from_generator a function that yields rows."
            )

        def passes() -> Iterator[Pass]:
            yield (map_leaves(as_array, tuple(b) if isinstance(b, list) else b) for b in batches)

        return cls(passes, Unit.BATCHES, may_read_ahead=False)

    @classmethod
    def from_tfrecord(
        cls,
        paths: str | Path | Sequence[str | Path],
        features: FeatureSpec | None = None,
        label_name: str | None = None,
        compression_type: str | None = None,
    ) -> Dataset:
        """The records of TFRecord files, one file behind the other.

        With `features` each is a serialized tf.Example, and `batch` parses a whole batch with the op that the exported
        graph has too: FixedLen features are arrays [batch, …], VarLen ones come as the pair `key/values`,
        `key/lengths`, which feature columns take as TensorFlow's take a SparseTensor: nothing in it counts as missing.
        Without `features` the rows are the records themselves, bytes.

        Args:
            paths: one file or several.
            features: feature key -> FixedLenFeature, VarLenFeature, …; `make_parse_example_spec(columns)` makes it.
            label_name: the key in `features` that becomes the labels.
            compression_type: None or "GZIP".

        Raises:
            FileNotFoundError, when it is read: no such file.
            ValueError: an unknown compression_type or label; when it is read, a record that was cut or changed, or an
                Example that does not fit `features` (TensorFlow's text).
        """
        files = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
        read = record_file.reader(files, compression_type)
        gather = None if features is None else record_file.parser(features, label_name)
        return cls(lambda: iter((read(),)), Unit.ROWS, gather=gather)

    @classmethod
    def _from_table(cls, table: dict[str, Array], label_name: str | None) -> Dataset:
        if label_name is None:
            return cls.from_tensor_slices(table)
        labels = table.pop(label_name)
        return cls.from_tensor_slices((table, labels))

    def _with(self, passes: Callable[[], Iterator[Pass]], unit: Unit | None = None) -> Dataset:
        return Dataset(
            passes, unit or self._unit, may_read_ahead=self.may_read_ahead, gather=self._gather, no_rows=self.no_rows
        )

    @property
    def _is_batched(self) -> bool:
        return self._unit is Unit.BATCHES

    @property
    def _is_whole(self) -> bool:
        return self._unit is Unit.COLUMNS

    def shuffle(
        self, buffer_size: int | None = None, seed: int | None = None, reshuffle_each_iteration: bool = True
    ) -> Dataset:
        """The rows of each pass in random order.

        Of what is in memory every order of all rows is equally likely before `batch`, whatever `buffer_size` says
        (tf.data only mixes within the buffer), and passes are not mixed with each other. Rows of a generator or of
        TFRecord files, and whole batches behind `batch`, are mixed in a buffer, as in tf.data.

        Args:
            buffer_size: rows or batches held at a time; needed where there is a buffer.
            seed: makes the order the same in every run; by default it comes from torch's generator.
            reshuffle_each_iteration: another order in every pass.

        Raises:
            ValueError: a buffer_size below 1, or none where it is needed.
        """
        if buffer_size is not None and buffer_size < 1:
            raise ValueError(f"buffer_size must be greater than zero; got {buffer_size}. Leave it out to mix all rows.")
        if self._is_batched and buffer_size is None:
            raise ValueError("shuffle behind batch holds whole batches: give buffer_size, or shuffle before batch.")
        if not self._is_whole and buffer_size is None:
            raise ValueError("These rows are read one by one: give shuffle a buffer_size, the rows to mix at a time.")
        root = int(torch.randint(2**62, ())) if seed is None else seed
        numbers = itertools.count()

        def passes() -> Iterator[Pass]:
            for columns in self._passes():
                random = np.random.default_rng((root, next(numbers) if reshuffle_each_iteration else 0))
                if self._is_whole:
                    yield taken(columns, random.permutation(length(columns)))
                else:
                    yield mixed(columns, buffer_size or 1, random)

        return self._with(passes)

    def repeat(self, count: int | None = None) -> Dataset:
        """`count` passes one behind the other; None or -1 for no end. A data set without rows ends at once."""
        rounds = itertools.repeat(None) if count is None or count < 0 else [None] * count

        def passes() -> Iterator[Pass]:
            for _ in rounds:
                is_empty = True
                for one in self._passes():
                    has_rows, whole = _peek(one, self._unit)
                    is_empty = is_empty and not has_rows
                    yield whole
                if is_empty:
                    return

        return self._with(passes)

    def batch(self, batch_size: int, drop_remainder: bool = False) -> Dataset:
        """Groups of `batch_size` rows; behind `repeat` a group may hold the end of one pass and the start of the next.

        Args:
            batch_size: rows of a batch.
            drop_remainder: leave out a last batch that is smaller.

        Raises:
            ValueError: a size below 1, or a data set that is batched already.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be greater than zero; got {batch_size}.")
        if self._is_batched:
            raise ValueError("This data set is batched already; call batch once, behind shuffle and repeat.")
        whole, gather = self._is_whole, self._gather or stacked

        def passes() -> Iterator[Pass]:
            if whole:
                yield batches_of(self._passes(), batch_size, drop_remainder)
            else:
                rows = itertools.chain.from_iterable(self._passes())
                yield (gather(group) for group in groups(rows, batch_size, drop_remainder))

        return self._with(passes, Unit.BATCHES)

    def take(self, count: int) -> Dataset:
        """The first `count` rows, or batches behind `batch`; -1 for all."""
        return self._between(0, None if count < 0 else count)

    def skip(self, count: int) -> Dataset:
        """All but the first `count` rows, or batches behind `batch`; -1 leaves nothing, as in tf.data."""
        return self._between(count, None) if count >= 0 else self._between(0, 0)

    def _between(self, start: int, stop: int | None) -> Dataset:
        def passes() -> Iterator[Pass]:
            if not self._is_whole:
                yield itertools.islice(itertools.chain.from_iterable(self._passes()), start, stop)
                return
            seen = 0
            for columns in self._passes():
                first, last = max(start - seen, 0), None if stop is None else stop - seen
                yield rows_between(columns, first, last)
                seen += length(columns)
                if stop is not None and seen >= stop:
                    return

        return self._with(passes)

    def shard(self, num_shards: int, index: int) -> Dataset:
        """Every `num_shards`-th row (or batch, behind `batch`) from the `index`-th on: one worker's part.

        Raises:
            ValueError: num_shards below 1, or an index outside 0..num_shards - 1.
        """
        if num_shards < 1:
            raise ValueError(f"num_shards must be >= 1; got {num_shards}.")
        if not 0 <= index < num_shards:
            raise ValueError(f"index must be between 0 and {num_shards - 1}; got {index}.")

        def passes() -> Iterator[Pass]:
            if not self._is_whole:
                yield itertools.islice(itertools.chain.from_iterable(self._passes()), index, None, num_shards)
                return
            first = index
            for columns in self._passes():
                yield taken(columns, slice(first, None, num_shards))
                first = (first - length(columns)) % num_shards

        return self._with(passes)

    def cache(self) -> Dataset:
        """The same elements, kept in memory from the first complete pass on: what comes before runs once."""
        kept: list[Pass] | None = None

        def passes() -> Iterator[Pass]:
            nonlocal kept
            if kept is not None:
                yield from kept if self._is_whole else map(iter, kept)
                return
            gathered: list[Pass] = []
            for one in self._passes():
                gathered.append(one if self._is_whole else [])
                yield one if self._is_whole else _noted(one, gathered[-1])
            kept = gathered

        return self._with(passes)

    def prefetch(self, buffer_size: int = AUTOTUNE) -> Dataset:
        """Elements are made in a thread, up to `buffer_size` of them ahead of the one asked for; -1 for a good number.

        An error there is raised where its element would have come. What is in memory has nothing to wait for, so before
        `batch` this does nothing to it.

        Raises:
            ValueError: a buffer_size below -1.
        """
        if buffer_size < AUTOTUNE:
            raise ValueError(f"buffer_size must be -1 or more; got {buffer_size}.")
        if self._is_whole or buffer_size == 0:
            return self
        count = _AUTOTUNED_ELEMENTS if buffer_size == AUTOTUNE else buffer_size
        return self._with(lambda: iter((read_ahead(itertools.chain.from_iterable(self._passes()), count),)))

    def map(self, function: Callable[..., Element]) -> Dataset:
        """`function` applied to whole columns before `batch`, and to every batch behind it.

        tf.data calls it with one row before `batch`; here it sees all rows at once (numpy arrays [rows, …]) and must
        keep their number. Only rows of a generator come one by one here too. For elements `(features, labels)` it is
        called with two arguments. They are its own: it may write into the arrays and take features out of the dict.

        Raises:
            ValueError: a result with another number of rows, one that is not arrays or None, or rows of `from_tfrecord`
                that `batch` has yet to parse.
        """
        if self._unit is Unit.ROWS and self._gather is not None:
            raise ValueError(
                "Examples are parsed a batch at a time: call map behind batch, where it sees the features."
            )

        def call(element: Element) -> Element:
            own = copied(element)
            made = function(*own) if isinstance(own, tuple) else function(own)
            if made is None:
                raise ValueError("The function given to map returned None; let it return the features, or a pair.")
            return made

        def apply(element: Element) -> Element:
            return _checked_map(map_leaves(as_array, call(element)), element)

        def passes() -> Iterator[Pass]:
            for one in self._passes():
                if self._is_whole:
                    yield apply(one)
                else:
                    yield map(apply if self._is_batched else call, one)

        made = self._with(passes)
        no_rows = self.no_rows
        made.no_rows = None if no_rows is None or self._unit is Unit.ROWS else lambda: apply(no_rows())
        return made

    def __iter__(self) -> Iterator[Element]:
        gather = self._gather
        for one in self._passes():
            if self._is_whole:
                yield from single_rows(one)
            elif self._is_batched or gather is None:
                yield from one
            else:
                yield from (taken(gather([row]), 0) for row in one)


def _peek(one: Pass, unit: Unit) -> tuple[bool, Pass]:
    """Whether a pass holds anything, and the pass, whole."""
    if unit is Unit.COLUMNS:
        return length(one) > 0, one
    first = list(itertools.islice(one, 1))
    return bool(first), itertools.chain(first, one)


def _checked_map(mapped: Element, before: Element) -> Element:
    check_lengths(mapped)
    if length(mapped) != length(before):
        raise ValueError(
            f"The function given to map turned {length(before)} rows into {length(mapped)}; it is called with whole "
            "columns and must keep their number of rows."
        )
    return mapped


def _noted(elements: Iterable[Element], into: list[Element]) -> Iterator[Element]:
    for element in elements:
        into.append(element)
        yield element
