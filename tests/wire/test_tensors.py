"""TensorProto <-> numpy: TensorFlow's decode rules as a table, and the round trip as a property."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from estimator_serving.wire import dtypes
from estimator_serving.wire.pb import tensorflow_pb
from estimator_serving.wire.tensors import TensorError, decode_tensor, encode_tensor

FLOAT, INT32, UINT8, INT8, STRING, INT64, BOOL, BFLOAT16, HALF, COMPLEX64 = 1, 3, 4, 6, 7, 9, 10, 14, 19, 8


def proto(dtype, shape=(), **fields):
    message = tensorflow_pb.TensorProto(dtype=dtype, **fields)
    for length in shape:
        message.tensor_shape.dim.add(size=length)
    return message


# Each row was also executed on TensorFlow 2.15.1.
@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(proto(FLOAT, float_val=[1.5]), np.float32(1.5), id="no shape is a scalar"),
        pytest.param(proto(FLOAT, [3], float_val=[1]), np.float32([1, 1, 1]), id="last value repeats"),
        pytest.param(proto(FLOAT, [3], float_val=[1, 2]), np.float32([1, 2, 2]), id="last of several repeats"),
        pytest.param(proto(FLOAT, [2]), np.float32([0, 0]), id="no value is zeros"),
        pytest.param(proto(FLOAT, [1], float_val=[1, 2]), np.float32([1]), id="surplus is dropped"),
        pytest.param(proto(FLOAT, [2], double_val=[1, 2]), np.float32([0, 0]), id="another type's field is ignored"),
        pytest.param(proto(INT32, [1], int64_val=[7]), np.int32([0]), id="int64_val of an int32"),
        pytest.param(proto(UINT8, [1], int_val=[300]), np.uint8([44]), id="uint8 narrows"),
        pytest.param(proto(INT8, [1], int_val=[200]), np.int8([-56]), id="int8 narrows"),
        pytest.param(proto(BOOL, [2], bool_val=[True]), np.array([True, True]), id="bool"),
        pytest.param(proto(HALF, [2], half_val=[15360, 49152]), np.float16([1, -2]), id="half bits"),
        pytest.param(proto(COMPLEX64, [1], scomplex_val=[1, 2]), np.complex64([1 + 2j]), id="complex"),
        pytest.param(
            proto(FLOAT, [2], tensor_content=np.float32([1, 2]).tobytes(), float_val=[9]),
            np.float32([1, 2]),
            id="content wins",
        ),
        pytest.param(proto(FLOAT, [0, 3], tensor_content=b"xyz"), np.empty((0, 3), np.float32), id="empty ignores it"),
        pytest.param(proto(STRING, [2], string_val=[b"a"]), np.array([b"a", b"a"], object), id="strings repeat"),
        pytest.param(proto(STRING, [2]), np.array([b"", b""], object), id="empty strings fill"),
        pytest.param(
            proto(STRING, [2], tensor_content=b"\x01\x02abb"), np.array([b"a", b"bb"], object), id="string content"
        ),
    ],
)
def test_decode(message, expected):
    array = decode_tensor(message)
    assert array.dtype == expected.dtype
    assert array.shape == expected.shape
    np.testing.assert_array_equal(array, expected)


def test_bfloat16_shares_the_half_field():
    array = decode_tensor(proto(BFLOAT16, [1], half_val=[0x3F80]))
    assert array.dtype == dtypes.bfloat16.numpy
    assert float(array[0]) == 1.0


@pytest.mark.parametrize(
    ("message", "text"),
    [
        pytest.param(proto(0), "DataType 0", id="invalid"),
        pytest.param(proto(20), "DataType 20", id="resource"),
        pytest.param(proto(FLOAT + 100), "DataType 101", id="ref"),
        pytest.param(proto(FLOAT, [-1]), "negative dimension", id="negative"),
        pytest.param(proto(FLOAT, [2**62, 2**62]), "64 bits", id="overflow"),
        pytest.param(proto(FLOAT, [2**62, 0, 2**62]), "64 bits", id="overflow beside a zero"),
        pytest.param(proto(FLOAT, [2**40], float_val=[1]), "more than", id="repeat without end"),
        pytest.param(proto(FLOAT, [1] * 300), "rank 300", id="rank"),
        pytest.param(proto(FLOAT, [2], tensor_content=b"\0" * 7), "7 bytes", id="content too short"),
        pytest.param(proto(FLOAT, [2], tensor_content=b"\0" * 9), "9 bytes", id="content too long"),
        pytest.param(proto(BOOL, [1], tensor_content=b"\2"), "other than 0 and 1", id="bool byte"),
        pytest.param(proto(STRING, [2], tensor_content=b"\x01\x02ab"), "add up", id="string bytes missing"),
        pytest.param(proto(STRING, [1], tensor_content=b"\xff"), "inside a length", id="string length cut"),
        pytest.param(proto(STRING, [2**30], tensor_content=b"\0"), "too few", id="string lengths missing"),
        pytest.param(proto(FLOAT, [2**27], float_val=[1]), "more than 67108864 elements", id="too many"),
        pytest.param(proto(FLOAT, [2**24 + 1], float_val=[1]), "1 values came for 16777217", id="too many of one"),
        pytest.param(proto(STRING, [2**24]), "0 values came for 16777216", id="too many of none"),
    ],
)
def test_decode_refuses(message, text):
    with pytest.raises(TensorError, match=text):
        decode_tensor(message)


NUMERIC = [dtype for dtype in dtypes.ALL if not dtype.is_string]


@pytest.mark.parametrize("as_content", [False, True])
@pytest.mark.parametrize("dtype", NUMERIC, ids=lambda dtype: dtype.name)
def test_round_trip_of_every_type(dtype, as_content):
    array = np.array([[0, 1, 2], [3, 4, 5]]).astype(dtype.numpy)
    message = tensorflow_pb.TensorProto.FromString(encode_tensor(array, as_content=as_content).SerializeToString())
    again = decode_tensor(message)
    assert again.dtype == dtype.numpy
    np.testing.assert_array_equal(again, array)


@given(
    array=st.sampled_from(["f4", "f8", "i4", "i8", "u1", "u8", "?", "f2", "c8"]).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    ),
    as_content=st.booleans(),
)
def test_numbers_survive(array, as_content):
    again = decode_tensor(encode_tensor(array, as_content=as_content))
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array)


@given(st.lists(st.binary(max_size=8), max_size=6))
def test_strings_survive(values):
    array = np.empty(len(values), object)
    array[:] = values
    assert decode_tensor(encode_tensor(array)).tolist() == values


@given(
    st.binary(max_size=64), st.sampled_from([d.number for d in dtypes.ALL]), st.lists(st.integers(-1, 4), max_size=3)
)
def test_hostile_content_is_refused_or_decoded(content, dtype, shape):
    try:
        array = decode_tensor(proto(dtype, shape, tensor_content=content))
    except TensorError:
        return
    assert array.shape == tuple(shape)


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", ">f4"])
@pytest.mark.parametrize("size", [31, 33, 127, 128, 5000])
def test_many_typed_values(dtype, size):
    array = np.linspace(-1, 1, size).astype(dtype)
    message = tensorflow_pb.TensorProto.FromString(encode_tensor(array).SerializeToString())
    assert message.tensor_content == b""
    np.testing.assert_array_equal(decode_tensor(message), array)


def test_many_typed_values_with_fields_behind_them():
    array = np.arange(100, dtype=np.float32)
    message = encode_tensor(array)
    message.string_val.append(b"behind")
    np.testing.assert_array_equal(decode_tensor(message), array)
    # An unknown field (resource_handle_val) is written behind the known ones.
    behind = tensorflow_pb.TensorProto.FromString(encode_tensor(array).SerializeToString() + b"\x72\x00")
    np.testing.assert_array_equal(decode_tensor(behind), array)


def test_text_becomes_utf8_bytes():
    assert list(encode_tensor(np.array(["é", b"x"], object)).string_val) == ["é".encode(), b"x"]


def test_an_object_that_is_no_text_is_refused():
    with pytest.raises(TypeError, match="int 3"):
        encode_tensor(np.array([3], object))
