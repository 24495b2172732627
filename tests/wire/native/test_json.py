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
    return native.read_body(text.encode() if isinstance(text, str) else text)


def array_of(tensor) -> np.ndarray:
    shape, are_integers, values = tensor
    return np.frombuffer(values, np.int64 if are_integers else np.float64).reshape(shape)


def check_tensor(tensor, value) -> None:
    expected, array = np.array(value), array_of(tensor)
    assert array.tolist() == expected.tolist()
    assert np.array_equal(np.signbit(array), np.signbit(expected))


def check_against_python(text: bytes) -> None:
    """What is read is what strict JSON holds; what strict JSON refuses is not read."""
    result = read(text)
    if result is None:
        return
    body = json.loads(text, object_pairs_hook=once)
    assert orjson.loads(text) is not None
    key, name, content = result
    assert set(body) <= {key, "signature_name"}
    assert body.get("signature_name") == name
    if isinstance(content, tuple):
        check_tensor(content, body[key])
    elif isinstance(content, dict):
        assert content.keys() == body[key].keys()
        for alias, tensor in content.items():
            check_tensor(tensor, body[key][alias])
    else:
        columns = native.read_columns(content)
        for alias, tensor in (columns or {}).items():
            check_tensor(tensor, [row[alias] for row in body[key]])


def once(pairs):
    assert len({key for key, _ in pairs}) == len(pairs), "a key that comes twice was read"
    return dict(pairs)


REST = st.sampled_from(["", ', "signature_name": "s"'])


@given(st.sampled_from(["instances", "inputs", "examples"]), SPACE, NESTED, REST)
def test_bodies_are_read_as_python_reads_them(key, space, nested, rest):
    check_against_python(f'{space}{{{space}"{key}"{space}:{nested}{space}{rest}}}{space}'.encode())


PLAIN = st.one_of(NUMBER, st.sampled_from(['"a"', '""', '"\\n"', '"é"', "[]"]))
VALUE = PLAIN | st.lists(PLAIN).map(lambda parts: f"[{','.join(parts)}]")
MEMBERS = st.lists(st.tuples(st.sampled_from("abc"), VALUE), max_size=4)
OBJECT = MEMBERS.map(lambda members: "{" + ", ".join(f'"{key}" :{value}' for key, value in members) + "}")


@given(st.lists(OBJECT, min_size=1, max_size=4), REST)
def test_rows_are_read_as_python_reads_them(rows, rest):
    check_against_python(f'{{"instances": [{" , ".join(rows)}]{rest}}}'.encode())


@given(st.dictionaries(st.sampled_from("abc"), NESTED, min_size=1), REST)
def test_columns_are_read_as_python_reads_them(columns, rest):
    members = ",".join(f'"{key}":{value}' for key, value in columns.items())
    check_against_python(f'{{"inputs":{{{members}}}{rest}}}'.encode())


BODIES = [
    b'{"instances":[{"a":1,"b":["x"]},{"a":2,"b":[]}]}',
    b'{"inputs": {"a":[1,2], "b":3}}',
    b'{"instances": [[1.5, -2e3], [0.25, 4]]}',
    b'{"signature_name":"a","inputs":[[1],[2]]}',
    b'{"inputs": 7}',
]


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
    assert array_of(result[2]).tolist() == values


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", '{"instances": []}', '{"instances": [[1], [2, 3]]}', '{"instances": [[1], 2]}', '{"inputs": [1',
        '{"instances": [1, [2]]}', '{"instances": [1,]}', '{"instances": [9223372036854775808]}', '{"inputs": [1]} x',
        '{"instances": [1], "inputs": [1]}', '{"instances": [1], "instances": [1]}', '{"inputs": [1], "other": 1}',
        '{"inputs": [1], "signature_name": 5}', '{"inputs": [1], "signature_name": "\\u0061"}', '{"inputs": [null]}',
        '{"instances": {"a": 1}}', '{"inputs": [{"a": 1}]}', '{"instances": [{}]}', '{"inputs": {}}',
        '{"instances": [{"a": {"b64": ""}}]}',
        '{"instances": [{"a": ["x", 1]}]}', '{"instances": [{"a": [[1]]}]}', '{"instances": [{"a": 1}, 1]}',
        '{"inputs": [1],}', '{"signature_name": "a"}', '{"inputs": [1e999]}',
        '{"inputs": ["1"]}',
        '{"inputs": ' + "[" * 33 + "1" + "]" * 33 + "}",
    ],
)  # fmt: skip
def test_what_is_left_to_the_tolerant_reader(text):
    assert read(text) is None


def test_columns_of_rows():
    _, _, rows = read('{"instances": [{"a": 1, "b": [1, 2.5]}, {"b": [3, 4], "a": 2}]}')
    columns = {alias: array_of(tensor).tolist() for alias, tensor in native.read_columns(rows).items()}
    assert columns == {"a": [1, 2], "b": [[1.0, 2.5], [3.0, 4.0]]}


@pytest.mark.parametrize(
    "rows", ['{"a": 1}, {"b": 1}', '{"a": 1}, {"a": [1]}', '{"a": [1]}, {"a": [1, 2]}', '{"a": "x"}', '{"a": []}',
             '{"a": 1}, {"a": 1, "b": 1}', '{"a": 1, "b": 1}, {"a": 1}']
)  # fmt: skip
def test_rows_that_are_no_columns(rows):
    assert native.read_columns(read(f'{{"instances": [{rows}]}}')[2]) is None


@pytest.mark.parametrize("wrong", [5, None, native.example_writer({})])
def test_what_are_no_rows(wrong):
    with pytest.raises((TypeError, ValueError)):
        native.read_columns(wrong)


@pytest.mark.parametrize("wrong", [{"a": "x"}, {"a": 5}, {5: "f"}, []])
def test_features_of_no_type(wrong):
    with pytest.raises((TypeError, ValueError)):
        native.example_writer(wrong)


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
        native.read_body("text")
    with pytest.raises(TypeError):
        native.write_array([1.0])


@given(st.lists(st.floats()))
def test_narrowing_rounds_as_numpy_does(values):
    with np.errstate(all="ignore"):
        expected = np.array(values, np.float64).astype(np.float32)
    assert np.array_equal(
        np.frombuffer(native.narrow_floats(np.array(values).tobytes()), np.float32), expected, equal_nan=True
    )
