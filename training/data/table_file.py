"""Parquet files and Arrow tables -> named columns of numbers or text.

Owns which Arrow types become a column and what a null becomes. pyarrow is an optional part of an installation, imported
on first use. Does not know batches.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from estimator_serving.training.arrays import Array


def read_parquet(path: Path, select_columns: Sequence[str] | None, label_name: str | None) -> Any:
    """The pyarrow Table of a file or a directory, with only the columns asked for.

    Raises:
        ImportError: pyarrow is not installed.
        FileNotFoundError, ValueError: see Dataset.from_parquet.
    """
    return _read(path, select_columns, label_name, lambda files, wanted: files.read(columns=wanted))


def parquet_blocks(
    path: Path, select_columns: Sequence[str] | None, label_name: str | None, row_count: int
) -> Callable[[], Iterator[Any]]:
    """A function that reads the file, or a directory's files in sorted order, as Tables of up to `row_count` rows.

    Raises as read_parquet.
    """
    names, wanted = _read(path, select_columns, label_name, lambda files, wanted: (files.files, wanted))

    def read() -> Iterator[Any]:
        pyarrow = _pyarrow()
        from pyarrow import parquet

        for name in names:
            with parquet.ParquetFile(name) as file:
                for batch in file.iter_batches(row_count, columns=wanted):
                    yield pyarrow.Table.from_batches([batch])

    return read


def _read(
    path: Path,
    select_columns: Sequence[str] | None,
    label_name: str | None,
    use: Callable[[Any, list[str] | None], Any],
) -> Any:
    """What `use` makes of the files and the columns asked for (None for all)."""
    pyarrow = _pyarrow()
    from pyarrow import parquet

    wanted = None if select_columns is None else [*select_columns, *([label_name] if label_name else [])]
    try:
        files = parquet.ParquetDataset(path)
        if not files.files:
            raise FileNotFoundError
        _check_names(wanted or (), files.schema.names)
        return use(files, wanted)
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no Parquet file at {path}; give the path of a file or directory.") from None
    except pyarrow.ArrowInvalid as error:
        raise ValueError(f"{path} cannot be read as Parquet ({error}); write it again.") from error


def columns_of(
    table: Any, select_columns: Sequence[str] | None, label_name: str | None, defaults: Mapping[str, Any]
) -> dict[str, Array]:
    """The selected columns and the label's as arrays, in the table's order.

    Raises ValueError as Dataset.from_parquet says.
    """
    wanted = list(table.column_names if select_columns is None else select_columns)
    labels = [] if label_name is None else [label_name]
    _check_names([*wanted, *labels, *defaults], table.column_names)
    names = [name for name in table.column_names if name in {*wanted, *labels}]
    return {name: _column(table.column(name).combine_chunks(), name, defaults) for name in names}


def _check_names(wanted: Iterable[str], there: Sequence[str]) -> None:
    missing = sorted(set(wanted) - set(there))
    if missing:
        raise ValueError(f"The table has no column {', '.join(map(repr, missing))}; it has: {', '.join(there)}.")


def _column(values: Any, name: str, defaults: Mapping[str, Any]) -> Array:
    types = _pyarrow().types
    if types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _list_column(values, name, defaults)
    if not (_is_text(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        raise ValueError(
            f"Column {name!r} holds {kind}, which cannot become a feature; turn it into numbers or text, or leave it "
            "out with select_columns."
        )
    array: Array = _without_nulls(values, name, defaults).to_numpy(zero_copy_only=False)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def _is_text(kind: Any) -> bool:
    types = _pyarrow().types
    return any(
        is_one(kind)
        for is_one in (
            types.is_string,
            types.is_large_string,
            types.is_string_view,
            types.is_binary,
            types.is_large_binary,
        )
    )


def _without_nulls(values: Any, name: str, defaults: Mapping[str, Any]) -> Any:
    if not values.null_count:
        return values
    default = defaults.get(name, "" if _is_text(values.type) else None)
    if default is None:
        raise ValueError(
            f"Column {name!r} has {values.null_count} nulls; say what a null stands for, for example "
            f"column_defaults={{{name!r}: 0}}."
        )
    pyarrow = _pyarrow()
    try:
        # Cast first, which checks: filling 0.5 into integers would write 0.
        return values.fill_null(pyarrow.scalar(default).cast(values.type))
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        raise ValueError(
            f"column_defaults[{name!r}] is {default!r}, and the column holds {values.type} ({error}); give a default "
            "of that type, or convert the column."
        ) from None


def _list_column(values: Any, name: str, defaults: Mapping[str, Any]) -> Array:
    entries = _column(values.flatten(), name, defaults)
    lengths = [0 if row is None else len(row) for row in values.to_pylist()]
    width = max(lengths, default=0)
    if entries.ndim == 1 and lengths == [width] * len(lengths):
        return entries.reshape(len(lengths), width)
    if entries.ndim > 1 or entries.dtype.kind not in "Oiu":
        raise ValueError(
            f"Column {name!r} holds lists of 0 to {width} entries, and only text and integers can be padded; give all "
            "rows lists of one length."
        )
    padded = np.full((len(lengths), width), "" if entries.dtype.kind == "O" else -1, entries.dtype)
    padded[np.arange(width) < np.array(lengths)[:, None]] = entries
    return padded


def _pyarrow() -> ModuleType:
    try:
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise ImportError("Parquet and Arrow need pyarrow; run `pip install 'estimator-serving[tables]'`.") from error
