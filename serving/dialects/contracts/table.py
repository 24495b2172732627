"""Tables, as data frames and CSV carry them: names of columns, and rows of values.

Owns CSV text, and how a table becomes the rows of TensorFlow Serving's row form, by which it is read on: a column is an
input of the signature, or a feature of the signature's Examples. Values in CSV are text until the signature tells their
types. What does not fit is left as it came, so that the reader of the row form refuses it by its own sentence.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any, NamedTuple

from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.predictor import Codec
from estimator_serving.serving.request import Document, ModelSpec, Request
from estimator_serving.serving.running.servable import Servable
from estimator_serving.wire import dtypes
from estimator_serving.wire.dtypes import DType
from estimator_serving.wire.examples import example_dtypes

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]{1,5})?", re.IGNORECASE)
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf(?:inity)?)", re.IGNORECASE)
_BOOLEANS = {"true": True, "false": False}
_FLOATS = frozenset({dtypes.float16, dtypes.float32, dtypes.float64})


class Table(NamedTuple):
    """Rows of values.

    rows: each an object of values by column, or each a list of values if the columns have no names. is_text: whether
        the values are still text.
    """

    rows: Sequence[Any]
    is_text: bool = False

    def instances(self, servable: Servable, signature_name: str) -> list[Any]:
        """The rows as a list of instances, or of Examples to be.

        An empty field and a null are no value of a feature, so the Example does not have it. Raises
        InvalidArgumentError if columns need names and have none.
        """
        signature = servable.signatures.get(signature_name)
        if signature is None:
            return list(self.rows)  # to be refused with the names that there are
        infos = signature.inputs
        examples = [alias for alias in infos if servable.takes_examples(signature_name, alias)]
        if isinstance(self.rows[0], list):
            if len(infos) != 1 or examples:
                raise InvalidArgumentError(
                    f"The signature {signature_name} takes {'features' if examples else 'inputs'} by name, and this "
                    "CSV names no columns; send a first line of names and Content-Type: text/csv; header=present."
                )
            (info,) = infos.values()
            vectors = [[read_field(text, info.dtype) for text in row] for row in self.rows]
            # One field is the one value of a tensor without further dimensions.
            is_scalar = len(vectors[0]) == 1 and (info.shape is None or len(info.shape) == 1)
            return [row[0] for row in vectors] if is_scalar else vectors
        types: Mapping[str, DType] = {alias: info.dtype for alias, info in infos.items()}
        is_features = bool(examples) and list(self.rows[0]) != examples
        if is_features and servable.feature_spec is not None:
            types = example_dtypes(servable.feature_spec)
        rows = self.rows
        if self.is_text:
            absent = None if is_features else ""
            rows = [
                {name: read_field(text, types.get(name)) if text else absent for name, text in row.items()}
                for row in rows
            ]
        return [{k: v for k, v in row.items() if v is not None} for row in rows] if is_features else list(rows)


def parse_csv(payload: bytes, spec: ModelSpec | None, *, has_names: bool) -> Document:
    """The Table of a CSV text; lines without a character are left out.

    has_names: whether its first line names the columns. Raises InvalidArgumentError for text that is not UTF-8, wrong
    quotes, lines of different lengths, and a text without rows.
    """
    assert spec is not None, "the contract knows the model"
    try:
        text = payload.decode()
        lines = [line for line in csv.reader(StringIO(text, newline=""), strict=True) if line]
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"The CSV is not UTF-8 (at byte {error.start}); send it as UTF-8.") from None
    except csv.Error as error:
        raise InvalidArgumentError(f"The body is no CSV ({error}); separate fields by commas and quote text.") from None
    columns = lines.pop(0) if lines and has_names else None
    if not lines:
        raise InvalidArgumentError("The CSV has no rows; send at least one.")
    if columns is not None:
        return Document(spec, Table(name_columns(columns, lines), is_text=True), payload)
    check_lengths(lines, len(lines[0]))
    return Document(spec, Table(lines, is_text=True), payload)


def decode_table(codec: Codec, key: str, document: Document, servable: Servable) -> Request:
    """What the codec decodes, if the document is a Table, from its rows under this key of a body."""
    if isinstance(document.content, Table):
        rows = document.content.instances(servable, document.spec.signature_name)
        document = document._replace(content={key: rows})
    return codec.decode(document, servable)


def name_columns(columns: Sequence[Any], rows: Sequence[Any]) -> list[dict[str, Any]]:
    """The rows as values by column.

    Raises InvalidArgumentError for names that are no text or come twice, and for a row of another length.
    """
    known: set[str] = set()
    for index, name in enumerate(columns):
        if not isinstance(name, str) or not name:
            raise InvalidArgumentError(
                f"Column {index} is called {name!r}; name it as an input of the signature, or as a feature."
            )
        if name in known:
            raise InvalidArgumentError(f"There are two columns {name}; send each once.")
        known.add(name)
    check_lengths(rows, len(columns))
    return [dict(zip(columns, row, strict=True)) for row in rows]


def check_lengths(rows: Sequence[Any], length: int) -> None:
    """Refuse a row that is no list of so many values. Raises InvalidArgumentError."""
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != length:
            came = f"has {len(row)} values" if isinstance(row, list) else "is no list"
            raise InvalidArgumentError(f"Row {index} {came}; each row needs {length}, one for each column.")


def read_field(text: str, dtype: DType | None) -> Any:
    """A field of CSV as the JSON value of a dtype; the text itself if it is none, or the dtype is not known."""
    bare = text.strip()
    if dtype in _FLOATS:
        # What has more digits than a double holds is no infinity.
        is_value = _NOT_FINITE.fullmatch(bare) or (_NUMBER.fullmatch(bare) and math.isfinite(float(bare)))
        return float(bare) if is_value else text
    if dtype is dtypes.bool_:
        return _BOOLEANS.get(bare.lower(), text)
    if dtype is None or dtype.is_string:
        return text
    return int(bare) if _INTEGER.fullmatch(bare) else text
