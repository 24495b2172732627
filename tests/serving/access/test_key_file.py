"""The file of keys, both ways, and the lines that are none."""

import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator_serving.serving.access.key_file import (
    CERTIFICATE_FORMS,
    MODEL_RIGHTS,
    Entry,
    KeyFileError,
    digest,
    make_key,
    parse,
    write_line,
)

SHA = "0" * 64
TEXTS = st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=1, max_size=8)
NAMES = TEXTS.filter(str.isprintable)
ZONES = st.integers(-23, 23).map(lambda hours: timezone(timedelta(hours=hours)))
CALLERS = st.one_of(
    st.tuples(st.binary(min_size=32, max_size=32).map(bytes.hex), st.just("")),
    st.tuples(st.just(""), st.builds("".join, st.tuples(st.sampled_from(CERTIFICATE_FORMS), TEXTS)).filter(
        lambda text: text[-1] not in "=:")),
)  # fmt: skip
ENTRIES = st.builds(
    lambda name, caller, models, metrics, expires: Entry(name, *caller, models, metrics, expires),
    NAMES,
    CALLERS,
    st.dictionaries(st.sampled_from(MODEL_RIGHTS), st.lists(TEXTS, min_size=1, max_size=3).map(tuple), max_size=2),
    st.booleans(),
    st.none() | st.datetimes(timezones=ZONES),
)


@settings(max_examples=40)
@given(st.lists(ENTRIES, max_size=4, unique_by=lambda entry: entry.sha256 or entry.certificate))
def test_what_is_written_is_read(entries):
    text = "# keys\n\n" + "\n".join(write_line(entry) for entry in entries)
    assert parse(text) == entries


@settings(max_examples=40)
@given(st.text() | ENTRIES.map(write_line).flatmap(lambda line: st.integers(0, len(line)).map(lambda n: line[:n])))
def test_no_text_breaks_the_reader(text):
    with contextlib.suppress(KeyFileError):
        parse(text)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sesame", "it is not a JSON object"),
        ("[]", "it is not a JSON object"),
        ("[" * 100_000, "Line 2 cannot be used"),
        ({"name": ""}, "it needs a name"),
        ({"name": "a\n"}, "it needs a name"),
        ({"name": "a"}, "it needs one of sha256"),
        ({"name": "a", "sha256": SHA, "certificate": "CN=a"}, "it needs one of sha256"),
        ({"name": "a", "sha256": "A" * 64}, "64 hexadecimal digits in lower case"),
        ({"name": "a", "sha256": 7}, "64 hexadecimal digits"),
        ({"name": "a", "certificate": "a"}, "begin with one of CN= SUBJECT:"),
        ({"name": "a", "certificate": "DNS:"}, "begin with one of"),
        ({"name": "a", "sha256": SHA, "predict": "m"}, "its predict has to be a list of models"),
        ({"name": "a", "sha256": SHA, "predict": [""]}, "its predict has to be a list of models"),
        ({"name": "a", "sha256": SHA, "metrics": 1}, "its metrics has to be true or false"),
        ({"name": "a", "sha256": SHA, "expires": "soon"}, "its expires is 'soon'; write a date, such as 2027-01-31"),
        ({"name": "a", "sha256": SHA, "expires": 7}, "its expires is 7"),
        ({"name": "a", "sha256": SHA, "admin": True}, "it has admin, which is unknown; a line may have certificate"),
        ('{"name": "a", "name": "b", "sha256": "' + SHA + '"}', "it has a member twice"),
    ],
)
def test_a_line_that_is_none(line, said):
    with pytest.raises(KeyFileError) as refused:
        parse("# first\n" + (line if isinstance(line, str) else json.dumps(line)))
    assert said in str(refused.value)


def test_a_key_that_stands_twice():
    line = write_line(Entry("a", SHA))
    with pytest.raises(KeyFileError, match="Lines 1 and 3 are for the same key"):
        parse(f"{line}\n\n{line}")


def test_a_date_is_one_of_utc():
    expires = datetime(2027, 1, 31, tzinfo=UTC)
    assert '"expires": "2027-01-31T00:00:00+00:00"' in write_line(Entry("a", SHA, expires=expires))
    assert parse(json.dumps({"name": "a", "sha256": SHA, "expires": "2027-01-31"})) == [
        Entry("a", SHA, expires=expires)
    ]


def test_keys_are_long_and_none_is_like_another():
    keys = {make_key() for _ in range(100)}
    assert len(keys) == 100
    assert {len(key) for key in keys} == {46}
    assert digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
