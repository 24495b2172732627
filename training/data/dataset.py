"""Dataset: where rows come from. What happens to them on the way to batches is in pipeline.py.

Owns the constructors, with tf.data's names where it has them. Knows no file format, and neither feature columns nor
estimators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from estimator_serving.training.arrays import Array, as_array
from estimator_serving.training.data import record_file, table_file
from estimator_serving.training.data.csv_file import ColumnRules, read_columns
from estimator_serving.training.data.elements import Element, cast, check_lengths, map_leaves, taken
from estimator_serving.training.data.function_steps import FunctionSteps
from estimator_serving.training.data.pipeline import Pass, Unit
from estimator_serving.training.replacements import sentence
from estimator_serving.wire.examples import FeatureSpec


class Dataset(FunctionSteps):
    """Rows of columns, or batches of them; for example

        Dataset.from_csv("titanic.csv", label_name="survived").shuffle().repeat().batch(32)

    Iterating gives batches (before `batch`, single rows): numbers in the dtype they came in, text as object arrays of
    str. A batch may be a view of the data: do not write into it.
    """

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(sentence("data.Dataset", name) or f"A Dataset has no attribute {name!r}.")

    @classmethod
    def from_tensor_slices(cls, tensors: Element) -> Dataset:
        """The rows of arrays: `(features, labels)`, a dict of columns, or one array.

        Args:
            tensors: numpy arrays, torch tensors, pandas Series or lists, all with the same first dimension. Lists of
                floats become float32; bytes become str, any that are not UTF-8 as lone surrogates.

        Raises:
            ValueError: lengths that differ, a scalar, or no column at all.
        """
        columns = map_leaves(as_array, tensors)
        check_lengths(columns)
        return cls(lambda: iter((columns,)), Unit.COLUMNS, no_rows=lambda: taken(columns, slice(0)))

    @classmethod
    def from_tensors(cls, tensors: Element) -> Dataset:
        """One element that holds these arrays; as input of an estimator, one batch with all rows.

        Args:
            tensors: `(features, labels)`, a dict, or one array, of what `from_tensor_slices` takes.
        """
        element = map_leaves(as_array, tensors)
        return cls(lambda: iter((iter((element,)),)), Unit.ROWS)

    @classmethod
    def list_files(
        cls, file_pattern: str | Path | Sequence[str | Path], shuffle: bool | None = None, seed: int | None = None
    ) -> Dataset:
        """The names of the files that match, in random order unless `shuffle` is False (then sorted).

        Args:
            file_pattern: one pattern or several, such as "data/part-*.csv".
            shuffle: None and True mix the names anew in every pass, as in tf.data.
            seed: makes the order the same in every run.

        Raises:
            FileNotFoundError: no file matches a pattern.
        """
        names = cls.from_tensor_slices([str(path) for path in record_file.matching(file_pattern)])
        return names if shuffle is False else names.shuffle(seed=seed)

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        label_name: str | None = None,
        select_columns: Sequence[str] | None = None,
        column_defaults: Mapping[str, Any] | None = None,
        column_types: Mapping[str, Any] | None = None,
        na_value: str = "",
        column_names: Sequence[str] | None = None,
        header: bool | None = None,
    ) -> Dataset:
        """The rows of a CSV file with a header (UTF-8; fields may be quoted): `(features, labels)`, or only features.

        A column is int64 if all its fields are integers, else float32 if all are numbers, else text. An empty field is
        '' in a text column; in a column of numbers it takes the column's default.

        Args:
            path: the file.
            label_name: the column that becomes the labels.
            select_columns: the columns to read beside the label; by default all.
            column_defaults: column name -> the value of an empty field. Its type is the column's: 0.0 makes it float32,
                0 int64, '' text.
            column_types: column name -> `str`, `int` or `float` (or a dtype), for columns without a default.
            na_value: another text that counts as an empty field, for example "NA".
            column_names: the names of all columns. The first line is then a row, unless `header` is True.
            header: whether the first line holds names. By default it does without `column_names`, and a line that looks
                like data is refused.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: an unknown column, a row with too few or too many fields, an empty field without a default, or a
                field that does not fit its column's default (the message names the line); or a first line that looks
                like data rather than names.
        """
        rules = ColumnRules(column_defaults or {}, column_types or {}, na_value)
        columns = read_columns(Path(path), select_columns, label_name, rules, column_names, header)
        return cls._from_table(columns, label_name)

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        label_name: str | None = None,
        select_columns: Sequence[str] | None = None,
        column_defaults: Mapping[str, Any] | None = None,
        rows_at_a_time: int | None = None,
    ) -> Dataset:
        """The rows of a Parquet file, or of a directory of them: `(features, labels)`, or only features.

        Numbers keep their dtype. Lists of one length become [rows, n]. Lists of different lengths are padded to the
        longest with '' or -1, which categorical columns drop. Needs pyarrow (the extra `tables`).

        Args:
            path, label_name, select_columns: as in `from_csv`.
            column_defaults: column name -> the value of a null. A null in a text column is '' by default.
            rows_at_a_time: read the rows when they are needed, this many at a time, instead of all at once; `shuffle`
                then needs a buffer_size.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: rows_at_a_time below 1, a file that is not Parquet, an unknown column, nulls without a default,
                or a column that holds neither numbers nor text nor lists of them.
        """
        if rows_at_a_time is not None:
            if rows_at_a_time < 1:
                raise ValueError(f"rows_at_a_time must be greater than zero; got {rows_at_a_time}.")
            read = table_file.parquet_blocks(Path(path), select_columns, label_name, rows_at_a_time)

            def passes() -> Iterator[Pass]:
                for table in read():
                    block = table_file.columns_of(table, select_columns, label_name, column_defaults or {})
                    yield block if label_name is None else (block, block.pop(label_name))

            return cls(passes, Unit.COLUMNS, is_streamed=True)
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
        """The rows that `generator(*args)` yields. Every pass calls it again, and no row is read before it is needed.

        Args:
            generator: a function that returns an iterator of rows: `(features, label)`, a dict, or one value.
            output_types: dtypes in the structure of a row; by default those of the values, Python floats being float32.
            output_shapes: changes nothing; shapes are those of the rows.
            args: the arguments of `generator`.

        Raises:
            TypeError: something that cannot be called. (A generator that runs already would give only one pass.)
            ValueError, when it is read: rows of different structure or shape, or rows that do not fit `output_types`.
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
        """The batches of a torch DataLoader, a list, or anything else that can be iterated several times.

        Args:
            batches: each `(features, labels)` or features, as arrays or tensors [batch, …]. A list counts as a tuple,
                because a DataLoader turns tuples into lists.

        Raises:
            TypeError: an iterator, which would be empty in the second pass.
        """
        if isinstance(batches, Iterator):
            raise TypeError(
                f"from_batches reads its batches again in every pass, and a {type(batches).__name__} can be read once; "
                "give a list or a DataLoader, or give from_generator a function that yields rows."
            )

        def passes() -> Iterator[Pass]:
            yield (map_leaves(as_array, tuple(b) if isinstance(b, list) else b) for b in batches)

        return cls(passes, Unit.BATCHES, may_read_ahead=False)

    @classmethod
    def from_tfrecord(
        cls,
        paths: str | Path | Iterable[str | Path],
        features: FeatureSpec | None = None,
        label_name: str | None = None,
        compression_type: str | None = None,
        num_parallel_reads: int | None = None,
    ) -> Dataset:
        """The records of TFRecord files, one file after the other. Memory holds a few pieces of the files at a time.

        With `features` each record is a serialized tf.Example, and `batch` parses a whole batch with the op that the
        exported graph has too. FixedLen features become arrays [batch, …], VarLen features the pair `key/values`,
        `key/lengths`. Feature columns read the pair as TensorFlow's read a SparseTensor: '' and -1 in it are values.
        Without `features` the rows are the records themselves, bytes.

        Args:
            paths: one file or several, or patterns such as "data/part-*.tfrecord" (their files in sorted order).
            features: feature key -> FixedLenFeature, VarLenFeature, …; `make_parse_example_spec(columns)` makes it.
            label_name: the key in `features` that becomes the labels.
            compression_type: None or "GZIP".
            num_parallel_reads: files read at the same time, each by a thread; their records take turns. -1 for as many
                as there are processors.

        Raises:
            FileNotFoundError, when it is read: there is no such file.
            ValueError: an unknown compression_type or label; when it is read, a record that was cut or altered, or an
                Example that does not fit `features` (TensorFlow's text).
        """
        files = paths if isinstance(paths, str | Path | Dataset) else list(paths)
        read = record_file.reader(files, compression_type, num_parallel_reads)
        gather = None if features is None else record_file.parser(features, label_name)
        return cls(read, Unit.COLUMNS, gather=gather, is_streamed=True)

    @classmethod
    def _from_table(cls, table: dict[str, Array], label_name: str | None) -> Dataset:
        if label_name is None:
            return cls.from_tensor_slices(table)
        labels = table.pop(label_name)
        return cls.from_tensor_slices((table, labels))
