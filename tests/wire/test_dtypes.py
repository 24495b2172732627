"""The table of element types, and what people may write for one."""

import numpy as np
import pytest

from estimator_serving.wire import dtypes


class _TorchLike:
    def __str__(self):
        return "torch.float32"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (dtypes.float32, dtypes.float32),
        ("float", dtypes.float32),
        ("float32", dtypes.float32),
        (np.float32, dtypes.float32),
        (np.dtype("float64"), dtypes.float64),
        (_TorchLike(), dtypes.float32),
        (float, dtypes.float32),
        (int, dtypes.int64),
        (bool, dtypes.bool_),
        (str, dtypes.string),
        (bytes, dtypes.string),
        ("string", dtypes.string),
        (np.dtype(">i4"), dtypes.int32),
        (np.dtype("U3"), dtypes.string),
    ],
)
def test_as_dtype(written, expected):
    assert dtypes.as_dtype(written) is expected


@pytest.mark.parametrize("written", ["decimal", np.dtype("datetime64[s]"), 3, None])
def test_as_dtype_refuses(written):
    with pytest.raises(TypeError, match="write one of float, double"):
        dtypes.as_dtype(written)


def test_the_table_has_no_doubles():
    assert len({dtype.number for dtype in dtypes.ALL}) == len(dtypes.ALL)
    assert len({dtype.name for dtype in dtypes.ALL}) == len(dtypes.ALL)


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda dtype: dtype.name)
def test_every_view_of_a_type_leads_back_to_it(dtype):
    assert dtypes.from_number(dtype.number) is dtype
    assert dtypes.from_numpy(dtype.numpy) is dtype
    if dtype.onnx:
        assert dtypes.from_onnx(dtype.onnx) is dtype


def test_what_is_not_served_is_refused():
    with pytest.raises(TypeError, match="DataType 20 is not supported"):
        dtypes.from_number(20)
    with pytest.raises(TypeError, match=r"seq\(map"):
        dtypes.from_onnx("seq(map(int64,tensor(float)))")
    with pytest.raises(TypeError, match="carry no tensors of int4; let the graph cast them"):
        dtypes.from_onnx("tensor(int4)")
    with pytest.raises(TypeError, match="no counterpart"):
        dtypes.from_numpy(np.dtype("datetime64[s]"))
