"""tf.data's functions beside Dataset, with TensorFlow's arguments, defaults and order.

Owns those defaults: TensorFlow's make_* functions shuffle, and repeat without end. How files are read is
record_file's and csv_stream's.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from estimator_serving.training.arrays import Array, as_array
from estimator_serving.training.data import csv_stream
from estimator_serving.training.data.csv_stream import Column, CsvFormat
from estimator_serving.training.data.dataset import Dataset
from estimator_serving.training.data.elements import Element, taken
from estimator_serving.training.data.pipeline import AUTOTUNE, Unit
from estimator_serving.training.data.record_file import is_gzip, matching, parser
from estimator_serving.wire.dtypes import DType, as_dtype
from estimator_serving.wire.examples import FeatureSpec
from estimator_serving.wire.ragged import RaggedBytes

Paths = str | Path | Sequence[str | Path]


def make_csv_dataset(
    file_pattern: Paths,
    batch_size: int,
    column_names: Sequence[str] | None = None,
    column_defaults: Sequence[Any] | None = None,
    label_name: str | None = None,
    select_columns: Sequence[str | int] | None = None,
    field_delim: str = ",",
    use_quote_delim: bool = True,
    na_value: str = "",
    header: bool | None = None,
    num_epochs: int | None = None,
    shuffle: bool = True,
    shuffle_buffer_size: int = 10000,
    shuffle_seed: int | None = None,
    prefetch_buffer_size: int | None = None,
    num_parallel_reads: int | None = None,
    sloppy: bool = False,
    num_rows_for_inference: int | None = 100,
    compression_type: str | None = None,
    ignore_errors: bool = False,
    encoding: str = "utf-8",
) -> Dataset:
    """Batches of the rows of CSV files, read as streams: shuffled, and without end unless `num_epochs` is given.

    Args:
        file_pattern: files or patterns. Their order is random if `shuffle`.
        batch_size: rows of a batch. Without `num_epochs` every batch is full.
        column_names: the names of all columns; by default those in the first line.
        column_defaults: for each selected column, in the file's order, the value of an empty field, which gives its
            type, or a type if a field must not be empty. By default types come from the first rows (int32, int64,
            float32, float64 or string), and an empty field is 0 or ''.
        label_name: the column that becomes the labels; it must be among the selected.
        select_columns: names or places of the columns to read.
        field_delim, use_quote_delim, na_value, encoding: how fields are written.
        header: whether the first line holds names, True by default. If it has to name the columns and looks like data,
            it is refused unless True is given.
        num_epochs: passes over the files; None for no end.
        shuffle, shuffle_buffer_size, shuffle_seed: mixes rows in a buffer of this size.
        prefetch_buffer_size: batches made ahead, in a thread; by default a good number.
        num_parallel_reads, sloppy: change nothing; files are read one after the other.
        num_rows_for_inference: rows that types come from; None for all.
        compression_type: None or "GZIP".

    Raises:
        FileNotFoundError: no file matches.
        ValueError: names, columns or defaults that do not fit the files (TensorFlow's texts), or a first line that
            looks like data. When it is read, InvalidArgumentError for a row that does not fit, with file and number.
    """
    del num_parallel_reads, sloppy
    if ignore_errors:
        raise ValueError("ignore_errors=True is not supported: rows would be lost silently; correct the file instead.")
    form = CsvFormat(field_delim, use_quote_delim, na_value, header is not False, is_gzip(compression_type), encoding)
    paths = matching(file_pattern)
    files = Dataset.list_files(paths, shuffle, shuffle_seed)
    names = list(column_names) if column_names is not None else _names(paths, form, header)
    places = _places(select_columns, names)
    if column_defaults is None:
        types = csv_stream.infer_types(paths, form, places, num_rows_for_inference)
        column_defaults = ["" if each.is_string else each.numpy.type(0) for each in types]
    if len(column_defaults) != len(places):
        raise ValueError(
            "If specified, `column_defaults` and `select_columns` must have the same length: `column_defaults` has "
            f"length {len(column_defaults)}, `select_columns` has length {len(places)}."
        )
    columns = [_column(names[place], place, one) for place, one in zip(places, column_defaults, strict=True)]
    selected = [column.name for column in columns]
    if label_name is not None and label_name not in selected:
        raise ValueError(f"`label_name` provided must be one of the columns: {selected}. Received: {label_name}.")

    def passes() -> Iterator[Element]:
        for path in files:
            for block in csv_stream.read_blocks(Path(path), form, columns, len(names)):
                yield block if label_name is None else (block, block.pop(label_name))

    dataset = Dataset(passes, Unit.COLUMNS, is_streamed=True)
    if shuffle:
        dataset = dataset.shuffle(shuffle_buffer_size, shuffle_seed)
    dataset = dataset.repeat(num_epochs).batch(batch_size, drop_remainder=num_epochs is None)
    return dataset.prefetch(AUTOTUNE if prefetch_buffer_size is None else prefetch_buffer_size)


def _names(paths: Sequence[Path], form: CsvFormat, header: bool | None) -> list[str]:
    """The names in the files' first lines. Raises ValueError for lines that hold none, or look like data."""
    if header is False:
        raise ValueError("Expected `column_names` or `header` arguments. Neither is provided.")
    names = csv_stream.names_of(paths, form)
    if header is None:
        csv_stream.check_names(paths[0], names)
    return names


def _places(select_columns: Sequence[str | int] | None, names: Sequence[str]) -> list[int]:
    """The places of the selected columns, in the file's order. Raises ValueError (TensorFlow's texts)."""
    repeated = {name for name in names if list(names).count(name) > 1}
    if repeated:
        raise ValueError(
            f"Either `column_names` argument or CSV header row contains duplicate column names: {repeated}."
        )
    places = []
    for one in range(len(names)) if select_columns is None else select_columns:
        if isinstance(one, int) and not 0 <= one < len(names):
            raise ValueError(
                f"Column index {one} specified in `select_columns` should be > 0  and <= {len(names)}, which is the "
                "number of columns."
            )
        if not isinstance(one, int) and one not in names:
            raise ValueError(
                f"Column {one} specified in `select_columns` must be of one of the columns: {', '.join(names)}."
            )
        places.append(one if isinstance(one, int) else list(names).index(one))
    if len(set(places)) != len(places):
        twice = {names[place] for place in places if places.count(place) > 1}
        raise ValueError(f"The `select_columns` argument contains duplicate columns: {twice}.")
    return sorted(places)


def _column(name: str, place: int, default: Any) -> Column:
    """A column of a value of `column_defaults`: a type, or the value of an empty field."""
    if isinstance(default, DType | type | np.dtype):
        return Column(name, place, as_dtype(default))
    array = as_array(default, name).ravel()
    if len(array) > 1:
        raise ValueError(f"The default of column {name!r} has {len(array)} values; give one.")
    values = array.tolist()
    given = default[0] if isinstance(default, list) and default else default
    # Python's integers are int32 in TensorFlow.
    dtype = "int32" if type(given) is int else "string" if array.dtype == object else array.dtype
    return Column(name, place, as_dtype(dtype), values[0] if values else None)


def make_batched_features_dataset(
    file_pattern: Paths,
    batch_size: int,
    features: FeatureSpec,
    reader: Any = None,
    label_key: str | None = None,
    reader_args: Sequence[Any] | None = None,
    num_epochs: int | None = None,
    shuffle: bool = True,
    shuffle_buffer_size: int = 10000,
    shuffle_seed: int | None = None,
    prefetch_buffer_size: int | None = None,
    reader_num_threads: int | None = None,
    parser_num_threads: int | None = None,
    sloppy_ordering: bool = False,
    drop_final_batch: bool = False,
) -> Dataset:
    """Batches of the Examples of TFRecord files: shuffled, and without end unless `num_epochs` is given.

    Args:
        file_pattern: files or patterns. Their order is random if `shuffle`.
        batch_size: rows of a batch. Without `num_epochs` every batch is full.
        features: feature key -> FixedLenFeature, VarLenFeature, …
        reader: None or TFRecordDataset.
        label_key: the key in `features` that becomes the labels.
        reader_args: what follows the file's name in the reader's arguments, for example ["GZIP"].
        num_epochs: passes over the files; None for no end.
        shuffle, shuffle_buffer_size, shuffle_seed: mixes rows in a buffer of this size.
        prefetch_buffer_size: batches made ahead, in a thread; by default a good number.
        reader_num_threads: files read at the same time, whose rows take turns.
        parser_num_threads, sloppy_ordering: change nothing.
        drop_final_batch: leave out a last batch that is smaller.

    Raises:
        FileNotFoundError: no file matches.
        ValueError: another reader; see Dataset.from_tfrecord.
    """
    del parser_num_threads, sloppy_ordering
    if reader not in (None, TFRecordDataset):
        raise ValueError(
            f"reader must be TFRecordDataset; got {reader!r}. Read other files with Dataset.from_generator."
        )
    if label_key is not None and label_key not in features:
        raise ValueError(
            f"The `label_key` provided ({label_key}) must be one of the `features` keys: {', '.join(features)}."
        )
    files = Dataset.list_files(file_pattern, shuffle, shuffle_seed)
    compression_type = reader_args[0] if reader_args else None
    dataset = Dataset.from_tfrecord(files, features, label_key, compression_type, reader_num_threads)
    if shuffle:
        dataset = dataset.shuffle(shuffle_buffer_size, shuffle_seed)
    dataset = dataset.repeat(num_epochs).batch(batch_size, drop_final_batch or num_epochs is None)
    return dataset.prefetch(AUTOTUNE if prefetch_buffer_size is None else prefetch_buffer_size)


def TFRecordDataset(  # noqa: N802 (TensorFlow's name)
    filenames: Paths | Dataset,
    compression_type: str | None = None,
    buffer_size: int | None = None,
    num_parallel_reads: int | None = None,
) -> Dataset:
    """The records of TFRecord files, bytes; `map` before `batch` gives them to `parse_example`, many at a time.

    `buffer_size` changes nothing. For the rest, and the errors, see Dataset.from_tfrecord.
    """
    del buffer_size
    return Dataset.from_tfrecord(filenames, None, None, compression_type, num_parallel_reads)


def TextLineDataset(  # noqa: N802 (TensorFlow's name)
    filenames: Paths | Dataset,
    compression_type: str | None = None,
    buffer_size: int | None = None,
    num_parallel_reads: int | None = None,
) -> Dataset:
    """The lines of text files, str without their end. Memory holds a few thousand lines at a time.

    Args:
        filenames: files or patterns.
        compression_type: None or "GZIP".
        buffer_size, num_parallel_reads: change nothing; files are read one after the other.

    Raises:
        FileNotFoundError, when it is read: there is no such file. ValueError: an unknown compression_type.
    """
    del buffer_size, num_parallel_reads
    form = CsvFormat(is_gzip=is_gzip(compression_type))

    def passes() -> Iterator[Array]:
        for path in matching(filenames):
            with form.open(path) as file:
                lines = (line.removesuffix("\n").removesuffix("\r") for line in file)
                while block := list(itertools.islice(lines, csv_stream.BLOCK_ROWS)):
                    yield as_array(block, "lines")

    return Dataset(passes, Unit.COLUMNS, is_streamed=True)


def decode_csv(
    records: Any,
    record_defaults: Sequence[Any],
    field_delim: str = ",",
    use_quote_delim: bool = True,
    na_value: str = "",
    select_cols: Sequence[int] | None = None,
) -> list[Any]:
    """Lines of CSV -> one array for each column, as tf.io.decode_csv; for example in `map` of a TextLineDataset.

    Args:
        records: one line or an array of lines.
        record_defaults: for each (selected) column the value of an empty field, which gives its type, or a type or an
            empty list if a field must not be empty.
        field_delim, use_quote_delim, na_value: how fields are written.
        select_cols: the places of the columns, rising; by default all.

    Raises:
        ValueError: another number of defaults than of columns selected.
        InvalidArgumentError: a line that does not fit (TensorFlow's texts).
    """
    if select_cols is not None and len(select_cols) != len(record_defaults):
        raise ValueError("Length of select_cols should match length of record_defaults.")
    lines = as_array(records, "records")
    form = CsvFormat(field_delim, use_quote_delim, na_value)
    rows = [next(form.records([line]), []) for line in lines.ravel().tolist()]
    width = len(record_defaults) if select_cols is None else max([len(row) for row in rows], default=0)
    places = range(width) if select_cols is None else select_cols
    columns = [_column(str(place), place, one) for place, one in zip(places, record_defaults, strict=True)]
    decoded = csv_stream.columns_of_rows("records", form, columns, width, list(enumerate(rows)))
    return [array.reshape(lines.shape)[()] for array in decoded.values()]


@dataclass(frozen=True)
class _Spec:
    """Features, compared by their text: their defaults may be arrays."""

    text: str
    features: FeatureSpec = field(compare=False)


@functools.lru_cache(maxsize=32)
def _parser(spec: _Spec) -> Callable[[RaggedBytes], Any]:
    return parser(spec.features, None)


def parse_example(serialized: Any, features: FeatureSpec) -> dict[str, Array]:
    """Serialized Examples, bytes -> the features of all of them, as Dataset.from_tfrecord gives them.

    Args:
        serialized: an array or list of bytes [n].
        features: feature key -> FixedLenFeature, VarLenFeature, …

    Raises ValueError for an Example that does not fit (TensorFlow's text).
    """
    rows = [
        one if isinstance(one, bytes) else str(one).encode(errors="surrogateescape")
        for one in np.asarray(serialized, object).ravel().tolist()
    ]
    spec = _Spec(repr(sorted(features.items())), features)
    parsed: dict[str, Array] = _parser(spec)(RaggedBytes.of(rows))
    return parsed


def parse_single_example(serialized: Any, features: FeatureSpec) -> dict[str, Any]:
    """One serialized Example -> its features, without a batch's axis.

    In `map` before `batch`, which sees whole columns, it takes an array of Examples and is `parse_example`.
    """
    if isinstance(serialized, bytes | str):
        row: dict[str, Any] = taken(parse_example([serialized], features), 0)
        return row
    return parse_example(serialized, features)


def shuffle_and_repeat(
    buffer_size: int, count: int | None = None, seed: int | None = None
) -> Callable[[Dataset], Dataset]:
    """For `Dataset.apply`: shuffle, then repeat."""
    return lambda dataset: dataset.shuffle(buffer_size, seed).repeat(count)


def map_and_batch(
    map_func: Callable[..., Element],
    batch_size: int,
    num_parallel_batches: int | None = None,
    drop_remainder: bool = False,
    num_parallel_calls: int | None = None,
) -> Callable[[Dataset], Dataset]:
    """For `Dataset.apply`: map, then batch. The numbers of parallel calls change nothing."""
    del num_parallel_batches, num_parallel_calls
    return lambda dataset: dataset.map(map_func).batch(batch_size, drop_remainder)
