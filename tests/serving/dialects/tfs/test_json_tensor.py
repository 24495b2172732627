"""Values and numbers between JSON and arrays, against TensorFlow Serving's rules and `printf` as the oracle."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from estimator_serving.serving.dialects import json_text
from estimator_serving.serving.dialects.tfs import json_tensor
from estimator_serving.serving.errors import InvalidArgumentError, UnimplementedError
from estimator_serving.wire import dtypes, native
from estimator_serving.wire.dtypes import as_dtype

FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def printed(value: float) -> float:
    """TensorFlow Serving's text of a float32, as the number it says: `%.6g` where that gives it back, else `%.9g`."""
    short = float(f"{value:.6g}")
    return short if np.float32(short) == np.float32(value) else float(f"{value:.9g}")


@given(np_st.arrays(np.float32, st.integers(1, 60), elements=FLOAT32))
def test_floats_print_as_tensorflow_serving_prints_them(array):
    expected = [printed(value) for value in array.tolist()]
    assert json_tensor.to_json(array, "y") == expected
    assert json.loads(json_tensor.write_tensor(array, "y")) == expected


@pytest.mark.parametrize(
    "bits", [0x00000001, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x3F800000, 0x3F800001, 0x49742400, 0x4B7FFFFF]
)
def test_edges_of_float32(bits):
    value = np.array([bits], np.uint32).view(np.float32)
    assert (
        json.loads(json_tensor.write_tensor(value, "y")) == json_tensor.to_json(value, "y") == [printed(value.item())]
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1, "0.1"), (1 / 3, "0.333333343"), (9e6, "9000000.0"), (999999, "999999.0"), (16777216, "16777216.0"),
     (-0.0, "-0.0"), (1.43577434e9, "1435774340.0"), (3e-5, "0.00003"), (math.inf, "Infinity"), (math.nan, "NaN")],
)  # fmt: skip
def test_float_texts(value, text):
    """The number is TensorFlow Serving's to the digit; where it writes an exponent (9e+06) the layout may differ."""
    answer = json_tensor.dump(json_tensor.to_json(np.array([value], np.float32), "y")).decode()
    assert answer == f"[{text}]" or float(answer[1:-1]) == float(text)


@given(np_st.arrays(np.float32, np_st.array_shapes(min_dims=0, max_dims=3, max_side=4), elements=st.floats(width=32)))
def test_floats_survive_a_round_trip(array):
    text = json_tensor.dump(json_tensor.to_json(array, "y"))
    back = json_tensor.read_tensor(json_text.parse(text), dtypes.float32)
    np.testing.assert_array_equal(back, array)
    assert back.dtype == np.float32


@pytest.mark.parametrize("name", ["double", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool"])
@given(data=st.data())
def test_numbers_survive_a_round_trip(name, data):
    dtype = as_dtype(name)
    array = data.draw(np_st.arrays(dtype.numpy, np_st.array_shapes(max_dims=3, max_side=4)))
    text = json_tensor.dump(json_tensor.to_json(array, "y"))
    np.testing.assert_array_equal(json_tensor.read_tensor(json_text.parse(text), dtype), array)


@given(st.lists(st.binary(), min_size=1))
def test_bytes_survive_a_round_trip(values):
    import base64

    written = [{"b64": base64.b64encode(value).decode().rstrip("=")} for value in values]
    assert json_tensor.read_tensor(written, dtypes.string).tolist() == values


def test_text_is_utf8_and_bytes_outputs_are_base64():
    array = np.array(["é"], object)
    assert json_tensor.to_json(array, "name") == ["é"]
    assert json_tensor.to_json(array, "name_bytes") == [{"b64": "w6k="}]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("float", [1, 2.5, 1e39, -math.inf], [1, 2.5, math.inf, -math.inf]),
        ("float", [1e300, 1e-300], [math.inf, 0]),
        ("int8", [300, -200], [44, 56]),
        ("uint8", [300, -1], [44, 255]),
        ("int16", [65537], [1]),
        ("bool", [[True], [False]], [[True], [False]]),
        ("int64", 5, 5),
    ],
)
def test_conversions(name, value, expected):
    array = json_tensor.read_tensor(value, as_dtype(name))
    np.testing.assert_array_equal(array, np.array(expected, as_dtype(name).numpy))


WRONG = [
    ("float", "1"), ("float", None), ("float", True), ("int32", 1.0), ("int32", 2**31), ("int8", 2**31),
    ("int64", 2**63), ("int64", True), ("uint32", -1), ("uint64", 2**64), ("bool", 1), ("bool", "true"),
    ("string", 1), ("string", True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_wrong_types(name, value):
    with pytest.raises(InvalidArgumentError, match=f"is not of expected type: {name}$"):
        json_tensor.read_tensor([value], as_dtype(name))


@given(np_st.arrays(np.float16, st.integers(1, 30), elements=st.floats(width=16)))
def test_halves_survive_a_round_trip(array):
    """An addition: TensorFlow Serving neither reads nor writes them."""
    text = json_tensor.dump(json_tensor.to_json(array, "y"))
    np.testing.assert_array_equal(json_tensor.read_tensor(json_text.parse(text), dtypes.float16), array)


def test_halves_are_written_short():
    array = np.array([0.1, 1 / 3, 65504, -0.0, np.inf], np.float16)
    assert json_tensor.dump(json_tensor.to_json(array, "y")) == b"[0.1,0.3333,65500.0,-0.0,Infinity]"


@pytest.mark.parametrize("name", ["bfloat16", "uint16", "complex64"])
def test_dtypes_without_a_json_form(name):
    with pytest.raises(UnimplementedError, match=f"Conversion of JSON Value: 1 to type: {name}"):
        json_tensor.read_tensor([1], as_dtype(name))
    with pytest.raises(InvalidArgumentError, match=f"Failed to write JSON value for tensor type: {name}"):
        json_tensor.to_json(np.zeros(1, as_dtype(name).numpy), "y")


NUMBERS = st.integers(-(10**20), 10**20) | st.decimals(-1000, 1000, places=3) | st.sampled_from(["1e39", "-0", "2e3"])
DTYPES = ["float", "double", "half", "int64", "int32", "int8", "uint8", "uint32", "uint64", "bool", "string", "uint16"]


@given(st.lists(st.lists(NUMBERS, min_size=1, max_size=4), min_size=1, max_size=4), st.sampled_from(DTYPES))
def test_the_quick_way_agrees_with_the_thorough_one(rows, name):
    text = "[" + ",".join("[" + ",".join(map(str, row)) + "]" for row in rows) + "]"
    read = native.read_body(b'{"inputs": %b}' % text.encode())
    if read is not None:
        quick = json_tensor.to_array(*read[2], as_dtype(name))
        if quick is not None:
            thorough = json_tensor.read_tensor(json_text.parse(text.encode()), as_dtype(name))
            assert (quick.dtype, quick.shape, quick.tobytes()) == (thorough.dtype, thorough.shape, thorough.tobytes())


@pytest.mark.parametrize("name", ["float", "double", "half", "int64", "int32", "int16", "int8", "uint8", "uint32"])
def test_plain_numbers_take_the_quick_way(name):
    read = native.read_body(b'{"inputs": [1, 2]}')
    np.testing.assert_array_equal(json_tensor.to_array(*read[2], as_dtype(name)), [1, 2])


@given(np_st.arrays(np_st.boolean_dtypes() | np_st.integer_dtypes(endianness="=") | np_st.floating_dtypes(
    endianness="=", sizes=(32, 64)), np_st.array_shapes(min_dims=0, min_side=0, max_dims=3)))  # fmt: skip
def test_both_writers_print_alike(array):
    if array.dtype.char != "H":
        assert json_tensor.write_tensor(array, "y") == json_tensor.dump(json_tensor.to_json(array, "y"))


def test_rows_of_several_outputs():
    outputs = {"n": np.array([[1], [2]]), "é": np.array(["a", 'b"'], object), "x": np.float32([0.1, np.nan])}
    rows = '[{"n":[1],"é":"a","x":0.1},{"n":[2],"é":"b\\"","x":NaN}]'
    assert json_tensor.write_rows(outputs).decode() == rows


def test_nested_json_is_read_by_shape():
    value = json.loads("[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]")
    rows = json_tensor.Rows(dtypes.int32)
    for row in value:
        rows.add(row)
    assert rows.tensor().shape == (2, 2, 2)


ANY_NUMBERS = st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False))


@given(
    st.lists(ANY_NUMBERS, min_size=1, max_size=4),
    st.sampled_from(["int8", "uint8", "int64", "uint32", "half", "float"]),
)
def test_an_exact_reading_changes_no_number(values, name):
    """What is read is what was sent, rounded at most; native and tolerant readers agree."""
    dtype = as_dtype(name)
    try:
        array = json_tensor.read_tensor(values, dtype, exact=True)
    except InvalidArgumentError:
        array = None
    read = native.read_body(json.dumps({"inputs": values}).encode())
    by_native = None if read is None else json_tensor.to_array(*read[2], dtype, exact=True)
    if by_native is not None:
        np.testing.assert_array_equal(by_native, array)
    if array is not None and array.dtype.kind in "iu":
        assert array.tolist() == values
    elif array is not None:
        assert np.isfinite(array).all()


@pytest.mark.parametrize(
    ("value", "name"),
    [(128, "int8"), (-129, "int8"), (256, "uint8"), (-1, "uint8"), (2**15, "int16"), (1e39, "float"), (1e5, "half")],
)
def test_an_exact_reading_refuses_what_tensorflow_serving_narrows(value, name):
    assert json_tensor.read_tensor([value], as_dtype(name)).size == 1
    with pytest.raises(InvalidArgumentError, match="Type: Number is not of expected type"):
        json_tensor.read_tensor([value], as_dtype(name), exact=True)
