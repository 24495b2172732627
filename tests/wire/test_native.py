"""The compiled codecs against Python and orjson: the same values, the same text, and nothing read that they refuse."""

import json

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from estimator_serving.wire import native

SPACE = st.text(" \t\r\n", max_size=2)
NUMBER = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(
        ["-0", "-0.0", "1E5", "1e-400", "0.1e+2", "01", "1.", ".5", "+1", "-", "1e", "NaN", "true", "1e999"]
    ),
)
NESTED = st.recursive(NUMBER, lambda inner: st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"))


def read(text: str | bytes):
    return native.read_numbers_body(text.encode() if isinstance(text, str) else text)


def values_of(result) -> np.ndarray:
    _key, _name, shape, are_integers, values = result
    return np.frombuffer(values, np.int64 if are_integers else np.float64).reshape(shape)


def check_against_python(text: bytes) -> None:
    """What is read is what strict JSON holds; what strict JSON refuses is not read."""
    result = read(text)
    if result is None:
        return
    body = orjson.loads(text)
    assert set(body) <= {result[0], "signature_name"}
    assert body.get("signature_name") == result[1]
    expected = np.array(body[result[0]])
    assert values_of(result).tolist() == expected.tolist()
    assert np.array_equal(np.signbit(values_of(result)), np.signbit(expected))


@given(
    st.sampled_from(["instances", "inputs", "examples"]),
    SPACE,
    NESTED,
    st.sampled_from(["", ', "signature_name": "s"']),
)
def test_bodies_are_read_as_python_reads_them(key, space, nested, rest):
    check_against_python(f'{space}{{{space}"{key}"{space}:{nested}{space}{rest}}}{space}'.encode())


BODIES = [b'{"instances": [[1.5, -2e3], [0.25, 4]]}', b'{"signature_name":"a","inputs":[[1],[2]]}', b'{"inputs": 7}']


@given(st.sampled_from(BODIES), st.data())
def test_broken_bodies_are_never_read_otherwise(body, data):
    at = data.draw(st.integers(0, len(body)))
    check_against_python(body[:at] + data.draw(st.binary(max_size=2)) + body[at + data.draw(st.integers(0, 2)) :])


@pytest.mark.parametrize(
    ("text", "key", "name", "values"),
    [
        ('{"instances": [1, 2]}', "instances", None, [1, 2]),
        ('{"inputs": 7}', "inputs", None, 7),
        ('{"inputs": [[-0, 1.5]], "signature_name": "s"}', "inputs", "s", [[0.0, 1.5]]),
        ('{"signature_name": "", "instances": [[[9223372036854775807]]]}', "instances", "", [[[2**63 - 1]]]),
        ('{"instances": [9007199254740993, 0.5]}', "instances", None, [2.0**53, 0.5]),
    ],
)
def test_plain_bodies(text, key, name, values):
    result = read(text)
    assert result[:2] == (key, name)
    assert values_of(result).tolist() == values


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", '{"instances": []}', '{"instances": [[1], [2, 3]]}', '{"instances": [[1], 2]}', '{"inputs": [1',
        '{"instances": [1, [2]]}', '{"instances": [1,]}', '{"instances": [9223372036854775808]}', '{"inputs": [1]} x',
        '{"instances": [1], "inputs": [1]}', '{"instances": [1], "instances": [1]}', '{"inputs": [1], "other": 1}',
        '{"inputs": [1], "signature_name": 5}', '{"inputs": [1], "signature_name": "\\u0061"}', '{"inputs": [null]}',
        '{"inputs": {"a": 1}}', '{"inputs": [1],}', '{"signature_name": "a"}', '{"inputs": [1e999]}',
        '{"inputs": ["1"]}',
        '{"inputs": ' + "[" * 33 + "1" + "]" * 33 + "}",
    ],
)  # fmt: skip
def test_what_is_left_to_the_tolerant_reader(text):
    assert read(text) is None


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_doubles_are_printed_as_orjson_prints_them(values):
    assert native.write_array(np.array(values, np.float64)) == orjson.dumps(values)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_floats_are_given_back(values):
    text = native.write_array(np.array(values, np.float32))
    assert np.array_equal(np.array(json.loads(text), np.float32), np.float32(values))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, b"0.1"), (1 / 3, b"0.333333343"), (16777216, b"16777216.0"), (1e-45, b"1.4013e-45"), (-0.0, b"-0.0"),
        (3.4028235e38, b"3.40282347e+38"), (1e-5, b"1e-05"), (123456.7, b"123456.703"), (1e16, b"1e+16"),
    ],
)  # fmt: skip
def test_texts_of_floats(value, text):
    assert float(native.write_array(np.float32(value))) == float(text)


@pytest.mark.parametrize("array", [np.float32([np.nan]), np.array([-np.inf]), np.zeros((2, 2))[:, :1], np.float16([1])])
def test_arrays_that_are_left_to_the_tolerant_writer(array):
    assert native.write_array(array) is None


def test_rows():
    columns = (np.array([[1, 2], [3, 4]]), [b'"a"', b'"b"'], np.array([True, False]))
    text = b'[{"x":[1,2],"y":"a","z":true},{"x":[3,4],"y":"b","z":false}]'
    assert native.write_rows((b'"x":', b'"y":', b'"z":'), columns) == text
    assert native.write_rows((b'"x":',), (np.zeros((0, 2)),)) == b"[]"
    assert native.write_rows((b'"x":',), (np.zeros(()),)) is None


@pytest.mark.parametrize(("keys", "columns"), [((), ()), ((b"",), ()), ((b"", b""), (np.zeros(1), [b"", b""]))])
def test_rows_that_do_not_match(keys, columns):
    with pytest.raises(ValueError, match="write_rows takes"):
        native.write_rows(keys, columns)


def test_what_is_no_buffer():
    with pytest.raises(TypeError):
        native.read_numbers_body("text")
    with pytest.raises(TypeError):
        native.write_array([1.0])


@given(st.lists(st.floats()))
def test_narrowing_rounds_as_numpy_does(values):
    with np.errstate(all="ignore"):
        expected = np.array(values, np.float64).astype(np.float32)
    assert np.array_equal(
        np.frombuffer(native.narrow_floats(np.array(values).tobytes()), np.float32), expected, equal_nan=True
    )
