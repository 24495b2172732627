"""A CSV file -> named columns of one type each.

Owns the reading (UTF-8, a header, quoted fields), the types columns get, and the sentence for what does not fit. A file
is taken whole or refused. Knows nothing of batches.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from estimator_serving.training.arrays import Array
from estimator_serving.wire.dtypes import as_dtype


@dataclass(frozen=True)
class ColumnRules:
    """What the caller says of columns: defaults and types by name, and the text that means nothing is there."""

    defaults: Mapping[str, Any] = field(default_factory=dict)
    types: Mapping[str, Any] = field(default_factory=dict)
    na_value: str = ""

    def type_of(self, name: str) -> type | None:
        """object, numpy.int64 or numpy.float32 where it was given, None where the fields decide."""
        if name in self.defaults:
            return _type_of(name, self.defaults[name])
        if name not in self.types:
            return None
        dtype = as_dtype(_PYTHON_TYPES.get(self.types[name], self.types[name]))
        return object if dtype.is_string else np.int64 if dtype.numpy.kind in "iu" else np.float32


_PYTHON_TYPES = {str: "string", int: "int64", float: "float32"}
_INTEGER = re.compile(r"[+-]?[0-9]+")
_INT64 = range(-(2**63), 2**63)


def read_columns(
    path: Path, select_columns: Sequence[str] | None, label_name: str | None, rules: ColumnRules
) -> dict[str, Array]:
    """The selected columns and the label's, in the file's order: int64, float32 or object arrays of str.

    Raises:
        FileNotFoundError: no such file.
        ValueError: see Dataset.from_csv.
    """
    header, rows = _read(path)
    wanted = list(header if select_columns is None else select_columns)
    labels = [] if label_name is None else [label_name]
    _check_names(path, header, [*wanted, *labels, *rules.defaults, *rules.types])
    places = {name: place for place, name in enumerate(header) if name in {*wanted, *labels}}
    return {name: _column(path, name, _fields(rows, place, rules), rules) for name, place in places.items()}


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and every row with the number of its line. Empty lines are skipped."""
    try:
        # utf-8-sig: spreadsheets write a byte order mark in front of the first name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            lines = [(reader.line_num, fields) for fields in reader if fields]
    except FileNotFoundError:
        raise FileNotFoundError(f"There is no file {path}; give the path of a CSV file with a header line.") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason} at byte {error.start}); convert it first.") from None
    except csv.Error as error:
        raise ValueError(f"{path} is not a CSV file from line {reader.line_num} on: {error}.") from None
    if len(lines) < 2:
        raise ValueError(f"{path} holds no rows; it needs a header line and at least one row behind it.")
    _, header = lines[0]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise ValueError(f"{path} has more than one column named {repeated[0]!r}; rename one of them.")
    for number, fields in lines[1:]:
        if len(fields) != len(header):
            raise ValueError(
                f"{path}, line {number}: {len(fields)} fields where the header has {len(header)} "
                f"({', '.join(header)}); quote fields that hold a comma or a line break."
            )
    return header, lines[1:]


def _check_names(path: Path, header: Sequence[str], names: Iterable[str]) -> None:
    missing = sorted(set(names) - set(header))
    if missing:
        raise ValueError(f"{path} has no column {', '.join(map(repr, missing))}; it has: {', '.join(header)}.")


def _fields(rows: Iterable[tuple[int, list[str]]], place: int, rules: ColumnRules) -> list[tuple[int, str]]:
    texts = [(number, fields[place]) for number, fields in rows]
    return [(number, "" if text == rules.na_value else text) for number, text in texts] if rules.na_value else texts


def _column(path: Path, name: str, fields: list[tuple[int, str]], rules: ColumnRules) -> Array:
    dtype = rules.type_of(name) or _infer(text for _, text in fields)
    if dtype is object:
        column = np.empty(len(fields), dtype=object)
        column[:] = [text or rules.defaults.get(name, "") for _, text in fields]
        return column
    parse, fits, kind = _PARSERS[dtype]
    values = [parse(text) if fits(text) else _default(path, number, name, text, kind, rules) for number, text in fields]
    return np.array(values, dtype=dtype)


def _default(path: Path, number: int, name: str, text: str, kind: str, rules: ColumnRules) -> Any:
    if text:
        because = f"default {rules.defaults[name]!r}" if name in rules.defaults else f"type {rules.types[name]!r}"
        raise ValueError(
            f"{path}, line {number}: {text!r} in column {name!r} is not {kind}, which its {because} "
            "makes it; give another one, or mend the line."
        )
    if name not in rules.defaults:
        raise ValueError(
            f"{path}, line {number}: column {name!r} is empty; say what an empty field stands for, for example "
            f"column_defaults={{{name!r}: {0 if kind == 'an integer' else 0.0}}}."
        )
    return rules.defaults[name]


def _type_of(name: str, default: Any) -> type:
    if isinstance(default, str):
        return object
    if not isinstance(default, int | float | np.number):
        raise ValueError(
            f"column_defaults[{name!r}] is {default!r}; give text, an integer or a float. For a column that must not "
            "be empty leave it out, and name its type in column_types."
        )
    return np.int64 if isinstance(default, int | np.integer) else np.float32


def _infer(texts: Iterable[str]) -> type:
    given = [text for text in texts if text]
    if given and all(map(_is_integer, given)):
        return np.int64
    return np.float32 if given and all(map(_is_number, given)) and not any(map(_is_long, given)) else object


def _is_integer(text: str) -> bool:
    return bool(_INTEGER.fullmatch(text)) and int(text) in _INT64


def _is_long(text: str) -> bool:
    """An integer beyond int64 is a name rather than a number: as a float it would run into its neighbours."""
    return bool(_INTEGER.fullmatch(text)) and int(text) not in _INT64


def _is_number(text: str) -> bool:
    # float() takes 1_000, which nobody means in a CSV file.
    try:
        return "_" not in text and float(text) is not None
    except ValueError:
        return False


_PARSERS: dict[type, tuple[Callable[[str], Any], Callable[[str], bool], str]] = {
    np.int64: (int, _is_integer, "an integer"),
    np.float32: (float, _is_number, "a number"),
}
