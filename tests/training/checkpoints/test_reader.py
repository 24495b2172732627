"""list_variables, load_variable and load_checkpoint, of our checkpoints and TensorFlow's."""

from pathlib import Path

import pytest
import torch

from estimator_serving import training
from estimator_serving.training.checkpoints.checkpoint import write_checkpoint
from estimator_serving.training.errors import CheckpointNotFoundError, CorruptCheckpointError, NotFoundError
from estimator_serving.wire import dtypes

# Both were written by TensorFlow.
MODEL_DIR = Path(__file__).parents[1] / "goldens" / "checkpoints" / "v1_linear"
BUNDLE = Path(__file__).parents[2] / "wire" / "goldens" / "bundle"


@pytest.fixture
def ours(tmp_path):
    values = {"w": torch.tensor([1.5, 2.5]), "half": torch.tensor([1.5], dtype=torch.bfloat16)}
    write_checkpoint(str(tmp_path / "model.ckpt-3"), {**values, "global_step": torch.tensor(3)}, b"graph", ["w"])
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-3"\n')
    return tmp_path


def test_tensorflows_variables_are_listed_as_tensorflow_lists_them():
    """What tf.train.list_variables of TF 2.15 gave for the same directory."""
    names = ["", "/part_0/Ftrl", "/part_0/Ftrl_1", "/part_1/Ftrl", "/part_1/Ftrl_1"]
    bias, linear = "linear/linear_model/bias_weights", "linear/linear_model/"
    assert training.list_variables(MODEL_DIR) == [
        ("global_step", []),
        *((f"{linear}age_bucketized/weights{name}", [2, 1]) for name in names),
        *((f"{bias}{name}", [1]) for name in names[:3]),
        *((f"{linear}city/weights{name}", [3, 1]) for name in names),
    ]


def test_our_variables_are_listed_without_the_transform(ours):
    assert training.list_variables(ours) == [("global_step", []), ("half", [1]), ("w", [2])]
    assert training.load_checkpoint(ours).get_variable_to_dtype_map()["half"] is dtypes.bfloat16


def test_a_variable_of_ours(ours):
    assert training.load_variable(ours, "w:0").tolist() == [1.5, 2.5]
    half = training.load_variable(ours / "model.ckpt-3", "half")
    assert (half.dtype, half.tolist()) == (dtypes.bfloat16.numpy, [1.5])


def test_a_variable_of_tensorflows_is_the_callers_own():
    assert training.load_variable(MODEL_DIR, "global_step:0") == 30
    weights = training.load_variable(MODEL_DIR / "model.ckpt-30", "linear/linear_model/city/weights")
    weights += 1
    assert weights.shape == (3, 1)


def test_strings_are_listed_and_read():
    reader = training.load_checkpoint(BUNDLE)
    assert reader.get_variable_to_shape_map()["strings"] == [2, 2]
    assert reader.get_variable_to_dtype_map()["strings"] is dtypes.string
    assert reader.get_tensor("strings")[0, 0] == b""


@pytest.mark.parametrize("which", [BUNDLE, None])
def test_a_name_that_is_not_there(which, ours):
    reader = training.load_checkpoint(which or ours)
    assert not reader.has_tensor("zz")
    with pytest.raises(NotFoundError, match="^Key zz not found in checkpoint"):
        reader.get_tensor("zz")


def test_a_directory_without_a_checkpoint(tmp_path):
    with pytest.raises(ValueError, match="^Couldn't find 'checkpoint' file or checkpoints in given directory"):
        training.load_checkpoint(tmp_path)
    assert training.latest_checkpoint(tmp_path) is None


def test_a_path_without_a_checkpoint(tmp_path):
    with pytest.raises(CheckpointNotFoundError, match="^Unsuccessful TensorSliceReader constructor: Failed to find"):
        training.list_variables(tmp_path / "model.ckpt-1")


def test_a_damaged_index(tmp_path):
    (tmp_path / "x.index").write_bytes(b"not an index" * 10)
    with pytest.raises(CorruptCheckpointError, match=r"x\.index is not a whole index of a checkpoint"):
        training.load_checkpoint(tmp_path / "x")


def test_a_cut_shard(tmp_path):
    (tmp_path / "x.index").write_bytes(Path(f"{BUNDLE}.index").read_bytes())
    (tmp_path / "x.data-00000-of-00001").write_bytes(b"")
    reader = training.load_checkpoint(tmp_path / "x")
    with pytest.raises(CorruptCheckpointError, match="has 0 bytes"):
        reader.get_tensor("uint64")
