"""CSV: what is written is read back, and text becomes a value only where it is one."""

import contextlib
import csv
import math
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.serving.dialects.contracts.table import parse_csv, read_field
from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.request import ModelSpec
from estimator_serving.wire import dtypes

# A field of one row and no text is an empty line.
FIELDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=6)
SPEC = ModelSpec("m")
ROWS = st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(FIELDS, min_size=n, max_size=n), min_size=1, max_size=5))


def written(rows):
    text = StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


@given(ROWS)
def test_rows_survive(rows):
    assert parse_csv(written(rows), SPEC, has_names=False).content.rows == rows


@given(ROWS)
def test_rows_survive_under_names(rows):
    names = [f"c{index}" for index, _ in enumerate(rows[0])]
    table = parse_csv(written([names, *rows]), SPEC, has_names=True).content
    assert [list(row.values()) for row in table.rows] == rows


@given(st.binary(max_size=40), st.booleans())
def test_any_bytes_are_a_table_or_refused(payload, has_names):
    with contextlib.suppress(InvalidArgumentError):
        assert parse_csv(payload, SPEC, has_names=has_names).content.rows


@given(st.floats(allow_nan=False))
def test_floats_survive(value):
    assert read_field(repr(value), dtypes.float64) == value


@given(st.integers(-(2**63), 2**64 - 1))
def test_integers_survive(value):
    assert read_field(str(value), dtypes.int64) == value


@pytest.mark.parametrize("text", ["1_0", "0x1", "1,0", "١", "1 2", "--1", "1e", "infinite", "", "1e400", "1" * 21])
def test_text_that_is_no_number_stays_text(text):
    assert read_field(text, dtypes.int64) == text
    assert text == "1" * 21 or read_field(text, dtypes.float32) == text


@pytest.mark.parametrize(("text", "value"), [("nan", math.nan), ("-inf", -math.inf), ("Infinity", math.inf)])
def test_what_is_not_finite(text, value):
    assert read_field(text, dtypes.float32) == pytest.approx(value, nan_ok=True)
