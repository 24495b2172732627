"""Raw contents: every dtype there and back, and bytes that do not add up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from estimator_serving.serving.dialects.oip import datatypes, tensors
from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.request import as_strings
from estimator_serving.wire import dtypes

NUMBERS = [datatype.dtype for datatype in datatypes.ALL if not datatype.dtype.is_string]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@given(data=st.data(), dtype=st.sampled_from(NUMBERS), shape=SHAPES)
def test_numbers(data, dtype, shape):
    wide = data.draw(hnp.arrays(np.uint8, (*shape, dtype.numpy.itemsize)))
    array = (wide % 2 if dtype is dtypes.bool_ else wide).view(dtype.numpy).reshape(shape)
    content = bytes(tensors.to_raw(array))
    for offset in (0, 1, 2):  # behind JSON of any length
        shifted = memoryview(bytes(offset) + content)[offset:]
        read = tensors.from_raw("x", shifted, dtype, shape, array.size)
        assert (read.dtype, read.shape) == (array.dtype, array.shape)
        assert read.tobytes() == array.tobytes()


@given(values=st.lists(st.binary(max_size=20), max_size=10))
def test_strings(values):
    content = tensors.to_raw(as_strings(values))
    assert tensors.from_raw("s", content, dtypes.string, (len(values),), len(values)).tolist() == values


@given(text=st.lists(st.text(max_size=9), max_size=5))
def test_text_is_written_as_utf8(text):
    array = np.empty(len(text), object)
    array[:] = text
    read = tensors.from_raw("s", tensors.to_raw(array), dtypes.string, (len(text),), len(text))
    assert [one.decode() for one in read.tolist()] == text


@given(content=st.binary(max_size=40), size=st.integers(0, 5))
def test_any_bytes_as_strings_are_read_or_refused(content, size):
    try:
        array = tensors.from_raw("s", content, dtypes.string, (size,), size)
    except InvalidArgumentError:
        return
    assert tensors.to_raw(array) == content


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\1\0", "incomplete string length indicator"),
        (b"\4\0\0\0ab", "incomplete string data"),
        (b"\xff\xff\xff\x7fab", "incomplete string data"),
        (b"\0\0\0\0" * 2, "unexpected number of string elements"),
        (b"", "unexpected number of string elements 0"),
    ],
)
def test_lengths_that_do_not_add_up(content, text):
    with pytest.raises(InvalidArgumentError, match=text):
        tensors.from_raw("s", content, dtypes.string, (1,), 1)


@pytest.mark.parametrize("surplus", [-3, -2, -1, 1, 2, 3])
def test_a_few_bytes_too_many_or_too_few(surplus):
    with pytest.raises(InvalidArgumentError, match=f"Expected 16, got {16 + surplus}"):
        tensors.from_raw("x", bytes(16 + surplus), dtypes.float32, (1, 4), 4)


def test_a_bool_is_0_or_1():
    with pytest.raises(InvalidArgumentError, match="other than 0 and 1"):
        tensors.from_raw("b", b"\0\2", dtypes.bool_, (2,), 2)


@pytest.mark.parametrize(
    "shape", [[-1, 4], [2**62, 4], [2**31], [0, 2**40], [1] * 33, [2**31 - 1] * 3, [0, 2**31 - 1, 2**31 - 1]]
)
def test_impossible_shapes(shape):
    with pytest.raises(InvalidArgumentError, match="tensor 'x' has"):
        tensors.check_shape("x", shape)


def test_sizes_of_shapes():
    assert [tensors.check_shape("x", shape) for shape in ([], [0], [3, 0, 2], [2, 3])] == [1, 0, 0, 6]
