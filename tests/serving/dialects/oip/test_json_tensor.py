"""JSON values: every dtype there and back, nested lists, and that nothing is converted."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from estimator_serving.serving.dialects.json_text import parse_strictly
from estimator_serving.serving.dialects.oip import datatypes, json_tensor
from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.wire import dtypes

NUMBERS = [datatype.dtype for datatype in datatypes.ALL if datatype.contents and not datatype.dtype.is_string]
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)


def read(data, dtype, *shape, name="x"):
    return json_tensor.read_values(name, data, dtype, shape, int(np.prod(shape)))


@given(data=st.data(), dtype=st.sampled_from(NUMBERS), shape=SHAPES, nested=st.booleans())
def test_numbers(data, dtype, shape, nested):
    array = data.draw(hnp.arrays(dtype.numpy, shape))
    if array.dtype.kind == "f":
        array = np.nan_to_num(array)
    text = json_tensor.dump({"data": array.tolist() if nested else json_tensor.to_values("x", array)})
    again = read(parse_strictly(text)["data"], dtype, *shape)
    np.testing.assert_array_equal(again, array)
    assert again.dtype == array.dtype


@given(values=st.lists(st.text(max_size=9), max_size=6))
def test_text(values):
    assert [one.decode() for one in read(values, dtypes.string, len(values)).tolist()] == values


@given(values=st.lists(st.binary(max_size=9), max_size=6))
def test_base64(values):
    import base64

    coded = [base64.b64encode(value).decode() for value in values]
    array = json_tensor.read_base64("s", coded, dtypes.string, (len(values),), len(values))
    assert array.tolist() == values


ANY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**64), 2**65),
    st.floats(),
    st.text(max_size=3),
    st.lists(st.integers(), max_size=2),
)


@given(values=st.lists(ANY, min_size=1, max_size=4), dtype=st.sampled_from([*NUMBERS, dtypes.string]))
def test_a_value_comes_back_as_it_went_or_is_refused(values, dtype):
    try:
        array = read(values, dtype, len(values))
    except InvalidArgumentError:
        return
    if dtype.is_string:
        assert array.tolist() == [value.encode() for value in values]
    elif dtype.numpy.kind == "f":
        assert all(type(value) in (int, float) for value in values)
        np.testing.assert_array_equal(array, np.array(values, np.float64).astype(dtype.numpy))
    else:
        assert [(type(one), one) for one in array.tolist()] == [(type(value), value) for value in values]


@pytest.mark.parametrize(
    ("data", "dtype", "text"),
    [
        (["3"], dtypes.float32, r'data\[0\] is "3", which is no FP32'),
        ([None], dtypes.float32, r"data\[0\] is null"),
        ([1, True], dtypes.int32, r"data\[1\] is true, which is no INT32"),
        ([1.5, True], dtypes.float64, r"data\[1\] is true, which is no FP64"),
        ([1.5], dtypes.int64, r"data\[0\] is 1.5, which is no INT64"),
        ([1.0], dtypes.int8, r"data\[0\] is 1.0, which is no INT8"),
        ([0, 300], dtypes.uint8, r"data\[1\] is 300, which is out of range for UINT8"),
        ([-1], dtypes.uint64, r"data\[0\] is -1, which is out of range"),
        ([2**63], dtypes.int64, r"out of range for INT64"),
        ([1, 1e39], dtypes.float32, r"data\[1\] is 1e\+39, which is out of range for FP32"),
        ([0], dtypes.bool_, r"data\[0\] is 0, which is no BOOL"),
        ([1], dtypes.string, r"data\[0\] is 1, which is no BYTES"),
        ([{"a": 1}], dtypes.string, "which is no BYTES"),
        ([1.5], dtypes.float16, "FP16 data via JSON is not supported"),
        ([1.5], dtypes.bfloat16, "BF16 data via JSON is not supported"),
        (1, dtypes.int32, "must be a list of values, but got number"),
        ({}, dtypes.int32, "must be a list of values, but got object"),
        ([1, 2], dtypes.int32, r"data has 2 values, and its shape \[1\] has 1"),
        ([[1]], dtypes.int32, r"data\[0\] is \[1\], which is no INT32"),
    ],
)
def test_what_is_refused(data, dtype, text):
    shape = (1,) if data in ([1, 2], 1, {}) else (len(data),)
    with pytest.raises(InvalidArgumentError, match=text):
        read(data, dtype, *shape)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([[1, 2], [3]], r"data\[1\] has 1 elements, and the shape wants 2"),
        ([[1, 2]], r"data has 1 elements, and the shape wants 2"),
        ([[1, 2], 3], r"data\[1\] is 3, and the shape wants a list of 2"),
        ([[1, [2]], [3, 4]], r"data\[0\]\[1\] is \[2\], which is no INT32"),
        ([[1, 2], [3, "4"]], r'data\[1\]\[1\] is "4", which is no INT32'),
        ([1, 2, [3, 4]], "data has 3 values"),
        ([1, 2, 3, [4]], r"data\[3\] is \[4\]"),
    ],
)
def test_nesting(data, text):
    with pytest.raises(InvalidArgumentError, match=text):
        read(data, dtypes.int32, 2, 2)


@pytest.mark.parametrize(("data", "shape"), [([], (0,)), ([], (0, 3)), ([[], []], (2, 0)), ([], (2, 0)), ([7], ())])
def test_empty_tensors_and_scalars(data, shape):
    assert read(data, dtypes.int64, *shape).shape == shape


def test_integers_beyond_64_bits_are_no_integers():
    """orjson makes floats of them."""
    (value,) = parse_strictly(b"[18446744073709551616]")
    with pytest.raises(InvalidArgumentError, match="which is no UINT64"):
        read([value], dtypes.uint64, 1)


def test_float32_is_written_short():
    assert json_tensor.dump(json_tensor.to_values("y", np.array([0.1, 1e-45], np.float32))) == b"[0.1,1e-45]"


def test_floats_of_16_bits_are_not_written():
    for dtype in (dtypes.float16, dtypes.bfloat16):
        with pytest.raises(InvalidArgumentError, match="use the binary data format for output 'y'"):
            json_tensor.to_values("y", np.zeros(1, dtype.numpy))


def test_what_is_not_finite():
    written = json_tensor.dump({"data": json_tensor.to_values("y", np.array([np.nan, -np.inf])), "name": "null"})
    assert written == b'{"data":[NaN,-Infinity],"name":"null"}'
    assert np.isnan(json.loads(written)["data"][0])


def test_big_endian_and_strided_arrays():
    array = np.arange(8, dtype=">i4")[::2]
    assert json_tensor.dump(json_tensor.to_values("y", array.astype("<i4"))) == b"[0,2,4,6]"
