"""The options of ONNX Runtime's CUDA provider, as an operator writes them."""

from __future__ import annotations

import pathlib

import onnxruntime
import pytest

from estimator_serving import ops
from estimator_serving.serving.provider_options import NAMES, NOT_HERE, parse


def test_options_in_one_line():
    text = "device_id=1, gpu_mem_limit=2147483648,arena_extend_strategy=kSameAsRequested,use_tf32=0,"
    assert parse(text) == {
        "device_id": "1", "gpu_mem_limit": "2147483648", "arena_extend_strategy": "kSameAsRequested", "use_tf32": "0",
    }  # fmt: skip
    assert parse("") == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("device_id", r"'device_id' is no option; write name=value"),
        ("device_id=", r"'device_id=' is no option; write name=value"),
        ("gpu_memory=1", r"gpu_memory is no option of ONNX Runtime's CUDA provider; give arena_extend_.*use_tf32"),
        ("device_id=0,device_id=1", r"device_id stands there twice"),
        ("gpu_mem_limit=2GB", r"gpu_mem_limit=2GB cannot be used; give a whole number"),
        ("device_id=-1", r"device_id=-1 cannot be used; give a whole number"),
        ("use_tf32=yes", r"use_tf32=yes cannot be used; give 0 or 1"),
        ("arena_extend_strategy=x", r"give kNextPowerOfTwo or kSameAsRequested"),
        ("enable_cuda_graph=1", r"enable_cuda_graph cannot be used; give --enable_cuda_graphs"),
        ("user_compute_stream=140", r"user_compute_stream cannot be used; leave it out"),
    ],
)  # fmt: skip
def test_what_is_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse(text)


@pytest.mark.skipif(not pathlib.Path("/dev/nvidiactl").exists(), reason="only a GPU's provider lists its options")
def test_the_names_are_onnxruntimes(write_model):
    session = ops.session(write_model(1) / "model.onnx", providers=["CUDAExecutionProvider"])
    assert session.get_provider_options()["CUDAExecutionProvider"].keys() <= NAMES | NOT_HERE, onnxruntime.__version__
