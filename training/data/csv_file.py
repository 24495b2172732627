"""A CSV file -> named columns of one type each.

Owns reading the file (UTF-8, a header, quoted fields), the types of the columns, and the errors for what does not fit.
A file is read as a whole or refused. Does not know batches.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from estimator_serving.training.arrays import Array
from estimator_serving.training.data.csv_stream import check_names
from estimator_serving.wire.dtypes import as_dtype


@dataclass(frozen=True)
class ColumnRules:
    """What the caller says about columns: defaults and types by name, and the text that counts as an empty field."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    types: Mapping[str, Any] = field(default_factory=dict)
    na_value: str = ""

    def type_of(self, name: str) -> type | None:
        """object (text), numpy.int64 or numpy.float32 if the caller gave the type; None if the fields decide.

        Raises ValueError for a default that is neither text nor a number, and for an unknown type.
        """
        default = self.defaults.get(name)
        if isinstance(default, str):
            return object
        if name in self.defaults and not isinstance(default, int | float | np.number):
            raise ValueError(
                f"column_defaults[{name!r}] is {default!r}; give text, an integer or a float. For a column that must "
                "not be empty leave it out, and name its type in column_types."
            )
        if name in self.defaults:
            return np.int64 if isinstance(default, int | np.integer) else np.float32
        if name not in self.types:
            return None
        dtype = as_dtype(_PYTHON_TYPES.get(self.types[name], self.types[name]))
        return object if dtype.is_string else np.int64 if dtype.numpy.kind in "iu" else np.float32


_PYTHON_TYPES = {str: "string", int: "int64", float: "float32"}
_INTEGER = re.compile(r"[+-]?[0-9]+")
_INT64 = range(-(2**63), 2**63)


def read_columns(
    path: Path,
    select_columns: Sequence[str] | None,
    label_name: str | None,
    rules: ColumnRules,
    column_names: Sequence[str] | None = None,
    has_header: bool | None = None,
) -> dict[str, Array]:
    """The selected columns and the label's, in the file's order: int64, float32 or object arrays of str.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: see Dataset.from_csv.
    """
    header, rows = _read(path, column_names, has_header)
    wanted = {*(header if select_columns is None else select_columns), *([] if label_name is None else [label_name])}
    missing = sorted({*wanted, *rules.defaults, *rules.types} - set(header))
    if missing:
        raise ValueError(f"{path} has no column {', '.join(map(repr, missing))}; it has: {', '.join(header)}.")
    columns: dict[str, Array] = {}
    for position, name in enumerate(header):
        if name in wanted:
            fields = [(number, texts[position]) for number, texts in rows]
            if rules.na_value:
                fields = [(number, "" if text == rules.na_value else text) for number, text in fields]
            columns[name] = _column(path, name, fields, rules)
    return columns


def _read(
    path: Path, names: Sequence[str] | None, has_header: bool | None
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header (`names`, if they are given), and every row with the number of its line. Empty lines are skipped."""
    try:
        # utf-8-sig: spreadsheets write a byte order mark in front of the first name.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, fields) for fields in reader if fields]
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}; give the path of a CSV file with a header line.") from None
    except csv.Error as error:
        raise ValueError(f"{path} is not a CSV file from line {reader.line_num} on: {error}.") from None
    if names is None and has_header is False:
        raise ValueError(f"{path} is said to have no header; give column_names=[…], the names of its columns.")
    first_row = 0 if names is not None and not has_header else 1
    if len(lines) <= first_row:
        raise ValueError(f"{path} holds no rows; it needs a header line and at least one row behind it.")
    header = lines[0][1] if names is None else list(names)
    if names is None and has_header is None:
        check_names(path, header)
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise ValueError(f"{path} has more than one column named {repeated[0]!r}; rename one of them.")
    for number, fields in lines[first_row:]:
        if len(fields) != len(header):
            raise ValueError(
                f"{path}, line {number}: {len(fields)} fields where the header has {len(header)} "
                f"({', '.join(header)}); quote fields that hold a comma or a line break."
            )
    return header, lines[first_row:]


def _column(path: Path, name: str, fields: list[tuple[int, str]], rules: ColumnRules) -> Array:
    """The column of these fields, each with the number of its line."""
    dtype = rules.type_of(name)
    if dtype is None:
        given = [text for _, text in fields if text]
        dtype = object
        if given and all(map(_is_integer, given)):
            dtype = np.int64
        elif given and all(map(_is_number, given)):
            # An integer beyond int64 is a name rather than a number: as a float it would be equal to its neighbours.
            has_long = any(_INTEGER.fullmatch(text) and not _is_integer(text) for text in given)
            dtype = object if has_long else np.float32
    if dtype is object:
        column = np.empty(len(fields), dtype=object)
        column[:] = [text or rules.defaults.get(name, "") for _, text in fields]
        return column
    parse, fits, kind = _PARSERS[dtype]
    values = [parse(text) if fits(text) else _default(path, number, name, text, kind, rules) for number, text in fields]
    return np.array(values, dtype=dtype)


def _default(path: Path, number: int, name: str, text: str, kind: str, rules: ColumnRules) -> Any:
    """The value of an empty field. Raises ValueError for one without a default, and for a field that is not empty."""
    if text:
        because = f"default {rules.defaults[name]!r}" if name in rules.defaults else f"type {rules.types[name]!r}"
        raise ValueError(
            f"{path}, line {number}: {text!r} in column {name!r} is not {kind}, which its {because} "
            "makes it; give another one, or correct the line."
        )
    if name not in rules.defaults:
        raise ValueError(
            f"{path}, line {number}: column {name!r} is empty; say what an empty field stands for, for example "
            f"column_defaults={{{name!r}: {0 if kind == 'an integer' else 0.0}}}."
        )
    return rules.defaults[name]


def _is_integer(text: str) -> bool:
    return bool(_INTEGER.fullmatch(text)) and int(text) in _INT64


def _is_number(text: str) -> bool:
    # float() takes 1_000, which is not a number in a CSV file.
    try:
        return "_" not in text and float(text) is not None
    except ValueError:
        return False


_PARSERS: dict[type, tuple[Callable[[str], Any], Callable[[str], bool], str]] = {
    np.int64: (int, _is_integer, "an integer"),
    np.float32: (float, _is_number, "a number"),
}
