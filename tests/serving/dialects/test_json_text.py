import contextlib
import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.serving.dialects.json_text import DEPTH_MAX, check_depth, parse
from estimator_serving.serving.errors import InvalidArgumentError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_reads_what_json_writes(value):
    """Infinity is not strict JSON, so this goes both ways: the quick parser's and the tolerant one's."""
    assert parse(json.dumps(value).encode()) == value


@given(VALUES, st.text(alphabet=' \t\r\n]}x"', max_size=5))
def test_ignores_what_follows(value, rest):
    text = json.dumps([value]) + rest
    assert parse(text.encode()) == [value]


@pytest.mark.parametrize(
    ("text", "value"),
    [("Infinity", math.inf), ("-Infinity", -math.inf), ("Inf", math.inf), ("-Inf", -math.inf)],
)
def test_tokens_beyond_json(text, value):
    assert parse(f'["Inf \\" -Inf", {text}]'.encode()) == ['Inf " -Inf', value]


@pytest.mark.parametrize("behind", ["", ".0", "e", "x"], ids=["nothing", "digits", "e", "a letter"])
@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" * 400, "-" + "7" * 5000, "12345678901e299999999"])
def test_numbers_no_double_holds(number, behind):
    """Told where they stand, in a text of any kind, and never taken for infinity."""
    before = f'["é{number}", 1e300, Inf, '
    told = f"Number too big to be stored in double. at offset: {len(before.encode())}$"
    with pytest.raises(InvalidArgumentError, match=told):
        parse(f"{before}{number}{behind}, NaN]".encode())


def test_nan():
    assert math.isnan(parse(b"[NaN]")[0])


@given(st.binary(max_size=50))
def test_any_bytes_end_in_a_value_or_a_refusal(text):
    with contextlib.suppress(InvalidArgumentError):
        parse(text)


def nested(depth: int, text: str = "1") -> bytes:
    return ("[" * depth + text + "]" * depth).encode()


def test_depth():
    assert parse(nested(DEPTH_MAX))
    for text in (nested(DEPTH_MAX + 1), b"[" * 100_000, b'{"a":' * 100_000, b'["]]]]]", ' * 80 + b"1" + b"]" * 80):
        with pytest.raises(InvalidArgumentError, match="nesting too deep"):
            parse(text)


@pytest.mark.parametrize("text", ["[" * 200, '\\"' + "[" * 200, "\\\\"], ids=["brackets", "escaped quote", "backslash"])
def test_brackets_in_strings_are_no_depth(text):
    assert parse(f'["{text}", "{text}"]'.encode())


def test_many_siblings_are_no_depth():
    check_depth(b"[" + b"[1]," * 10_000 + b"[1]]")


@pytest.mark.parametrize("text", ["-9223372036854775808", "18446744073709551615"])
def test_integers_of_64_bits_stay_integers(text):
    assert parse(f"[{text}, NaN]".encode())[0] == int(text)


@pytest.mark.parametrize("text", ["-9223372036854775809", "18446744073709551616", "1" * 300])
def test_longer_integers_are_doubles(text):
    """To either parser: the tolerant one reads what has a NaN in it, and what the quick one finds too large."""
    for parsed in (parse(f"[{text}]".encode())[0], parse(f"[{text}, NaN]".encode())[0]):
        assert type(parsed) is float
        assert parsed == float(text)


@pytest.mark.parametrize(
    ("text", "offset"),
    [("[1,]", 3), (" \n[?]", 3), ("[Inf, -Inf, ?]", 12), ('["Inf", Infinity, Inf, ?, Inf]', 23), ('["é", ?]', 7)],
)
def test_offsets_count_the_bytes_that_came(text, offset):
    with pytest.raises(InvalidArgumentError, match=f"JSON Parse error: Invalid value. at offset: {offset}$"):
        parse(text.encode())


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        (r'["\ud800"]', 2), (r'["\uDC00x"]', 2), (r'["\ud83d\ude00\ud83d"]', 14), (r'["\ud800", "\udc00"]', 2),
        (r'["\ude00\ud83d"]', 2), (r'[Inf, {"\\\ud800": 1}]', 10), (r'["é\ud800\n\udc00"]', 4),
    ],
)  # fmt: skip
def test_half_a_character(text, offset):
    with pytest.raises(InvalidArgumentError, match=f"surrogate pair in string is invalid. at offset: {offset}$"):
        parse(text.encode())


@pytest.mark.parametrize("text", [r'"\ud83d\ude00"', r'"\\ud800"', r'"\uD83D\uDE00\\"'])
def test_whole_characters(text):
    """Also to the tolerant parser, which reads what has a NaN in it; what follows the value does not count."""
    assert parse(f'[{text}, NaN] "\\ud800"'.encode())[0] == json.loads(text)


LONG = 50_000
TAKE_LONG = {
    "a string of quotes without an end": b'[NaN, "' + b'\\"' * LONG,
    "a string of backslashes and quotes": b'["' + b"\\\\" * LONG + b'\\"' * LONG,
    "every key once, but for the last": b"{" + b",".join(b'"%d":1' % n for n in range(LONG)) + b',"x":1,"x":2}',
    "every Inf, and one mistake": b"[" + b"Inf," * LONG + b"?",
}


@pytest.mark.parametrize("text", TAKE_LONG.values(), ids=TAKE_LONG)
def test_takes_time_by_length_and_not_by_its_square(text):
    """By the square, each of these would take half a minute or more."""
    began_s = time.process_time()
    with pytest.raises(InvalidArgumentError, match="JSON Parse error"):
        parse(text)
    assert time.process_time() - began_s < 5
