"""CSV files -> blocks of typed columns, a few thousand rows at a time, by the rules of tf.data's CSV readers.

Owns the syntax, the types found in the first rows, and the errors for what does not fit. Does not know batches. A file
that is read as a whole, with types that fit all its rows, is csv_file's.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from estimator_serving.training.arrays import Array
from estimator_serving.training.errors import InvalidArgumentError
from estimator_serving.wire.dtypes import DType, as_dtype

BLOCK_ROWS = 2048


@dataclass(frozen=True)
class CsvFormat:
    """How the files are written."""

    field_delim: str = ","
    use_quote_delim: bool = True
    na_value: str = ""
    header: bool = True
    is_gzip: bool = False
    encoding: str = "utf-8"

    def records(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """The fields of each line; empty lines are skipped."""
        if self.use_quote_delim:
            return filter(None, csv.reader(lines, delimiter=self.field_delim, strict=True))
        return filter(None, csv.reader(lines, delimiter=self.field_delim, quoting=csv.QUOTE_NONE, strict=True))

    def open(self, path: Path) -> IO[str]:
        """The file as text, without a byte order mark. Bytes that are no text become lone surrogates."""
        encoding = "utf-8-sig" if self.encoding.lower().replace("-", "") == "utf8" else self.encoding
        try:
            raw = gzip.open(path) if self.is_gzip else path.open("rb")  # noqa: SIM115 (the caller closes it)
        except FileNotFoundError:
            raise FileNotFoundError(f"There is no file {path}; give the path of a CSV file.") from None
        return io.TextIOWrapper(raw, encoding=encoding, errors="surrogateescape", newline="")


@dataclass(frozen=True)
class Column:
    """A column: its place in a row, its type, and the value of an empty field (None if a field must not be empty)."""

    name: str
    place: int
    dtype: DType
    default: Any = None


def check_names(path: Path, names: Sequence[str]) -> None:
    """Raise ValueError for a first line that holds data rather than names: a number, or nothing, between its commas."""
    doubtful = [name for name in names if not name.strip() or _is(float, name)]
    if doubtful:
        raise ValueError(
            f"The first line of {path} looks like data rather than names of columns: it holds {doubtful[0]!r}. If the "
            f"file has no header, give column_names=[…] with {len(names)} names and header=False; if these are the "
            "names, give header=True."
        )


def names_of(paths: Sequence[Path], form: CsvFormat) -> list[str]:
    """The names in the first line of every file. Raises ValueError if files differ (TF's text), or hold nothing."""
    found: list[str] | None = None
    for path in paths:
        with form.open(path) as file:
            names = next(form.records(file), None)
        if names is None:
            raise ValueError(f"Could not read {path}: it is empty. Give files that begin with the names of columns.")
        if found is not None and names != found:
            raise ValueError(f"All input CSV files must have the same column names in the header row. {path} differs.")
        found = names
    return found or []


def infer_types(paths: Sequence[Path], form: CsvFormat, places: Sequence[int], row_count: int | None) -> list[DType]:
    """The narrowest type of each place that fits the first rows: int32, int64, float32, float64 or string."""
    levels = [-1] * len(places)
    rows = itertools.chain.from_iterable(read_rows(path, form) for path in paths)
    for _, row in itertools.islice(rows, row_count):
        for number, place in enumerate(places):
            text = row[place] if place < len(row) else ""
            if text in ("", form.na_value):
                continue
            levels[number] = max(levels[number], 0)
            while not _fits(text, levels[number]):
                levels[number] += 1
    return [as_dtype(_LADDER[level]) for level in levels]


# From the narrowest to the widest. A column without any value takes the last.
_LADDER = ("int32", "int64", "float32", "float64", "string")


def read_rows(path: Path, form: CsvFormat) -> Iterator[tuple[int, list[str]]]:
    """The number of a row, and its fields. Raises ValueError for text that is not CSV."""
    with form.open(path) as file:
        reader = form.records(file)
        if form.header:
            next(reader, None)
        try:
            yield from enumerate(reader, 1)
        except csv.Error as error:
            raise InvalidArgumentError(f"{path} is not a CSV file: {error}; quote fields that hold a quote.") from None


def read_blocks(path: Path, form: CsvFormat, columns: Sequence[Column], width: int) -> Iterator[dict[str, Array]]:
    """The columns of up to BLOCK_ROWS rows at a time.

    Raises InvalidArgumentError for a row with another number of fields, an empty field that is required, and a field
    that does not fit its type (TF's texts, with the file and the row).
    """
    rows = read_rows(path, form)
    while block := list(itertools.islice(rows, BLOCK_ROWS)):
        yield columns_of_rows(path, form, columns, width, block)


def columns_of_rows(
    path: Path | str, form: CsvFormat, columns: Sequence[Column], width: int, rows: list[tuple[int, list[str]]]
) -> dict[str, Array]:
    """The columns of these rows, each with its number; see read_blocks."""
    for number, row in rows:
        if len(row) != width:
            raise InvalidArgumentError(
                f"Expect {width} fields but have {len(row)} in record ({path}, row {number}); quote fields that "
                f"hold {form.field_delim!r} or a line break."
            )
    return {each.name: _column(path, form, each, rows) for each in columns}


def _column(path: Path | str, form: CsvFormat, column: Column, block: list[tuple[int, list[str]]]) -> Array:
    texts = [row[column.place] for _, row in block]
    absent = {"", form.na_value}
    if not absent.isdisjoint(texts):
        if column.default is None:
            number = next(number for number, row in block if row[column.place] in absent)
            raise InvalidArgumentError(
                f"Field {column.place} is required but missing in record! ({path}, row {number}, column "
                f"{column.name!r}); give its value, or a default in column_defaults."
            )
        texts = [column.default if text in absent else text for text in texts]
    values = np.empty(len(texts), object)
    if column.dtype.is_string:
        values[:] = texts
        return values
    kind = int if column.dtype.numpy.kind in "iu" else float
    try:
        values[:] = list(map(kind, texts))
        wide = values.astype(np.int64 if kind is int else np.float64)
        with np.errstate(over="ignore"):
            narrow: Array = wide.astype(column.dtype.numpy)
        if kind is int and (narrow != wide).any():
            raise OverflowError
        return narrow
    except (ValueError, OverflowError):
        number, text = next(
            (number, text) for (number, _), text in zip(block, texts, strict=True) if not _fits_type(text, column.dtype)
        )
        raise InvalidArgumentError(
            f"Field {column.place} in record is not a valid {column.dtype.name}: {text} ({path}, row {number}, column "
            f"{column.name!r}); give the column another type in column_defaults, or correct the field."
        ) from None


def _fits(text: str, level: int) -> bool:
    dtype = as_dtype(_LADDER[level])
    # As TensorFlow: what overflows its type, and NaN, is not a number of that type.
    return _fits_type(text, dtype) and (dtype.numpy.kind != "f" or float(text) <= float(np.finfo(dtype.numpy).max))


def _fits_type(text: Any, dtype: DType) -> bool:
    if dtype.is_string:
        return True
    if dtype.numpy.kind in "iu":
        limits = np.iinfo(dtype.numpy)
        return _is(int, text) and limits.min <= int(text) <= limits.max
    return _is(float, text)


def _is(kind: type, text: Any) -> bool:
    try:
        return kind(text) is not None and "_" not in str(text)
    except (ValueError, OverflowError):
        return False
