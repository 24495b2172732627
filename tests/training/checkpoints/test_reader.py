"""list_variables, load_variable and load_checkpoint, of our checkpoints and TensorFlow's."""

from pathlib import Path

import numpy as np
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


def _rows():
    return {"x": np.float32([[1, 2], [3, 4]])}, np.int64([0, 1])


def test_a_checkpoint_is_loaded_into_a_plain_module(tmp_path):
    columns = [training.feature_column.numeric_column("x", shape=(2,))]
    made = training.DNNClassifier([2], columns, str(tmp_path)).train(_rows, steps=1)
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 1))
    names = {
        "0.weight": "dnn/hiddenlayer_0/kernel",
        "0.bias": "dnn/hiddenlayer_0/bias",
        "2.weight": "dnn/logits/kernel",
        "2.bias": "dnn/logits/bias",
    }
    assert training.load_into(net, tmp_path, names) == sorted(names)
    logits = next(made.predict(_rows, yield_single_examples=False))["logits"]
    np.testing.assert_allclose(net(torch.from_numpy(_rows()[0]["x"])).detach(), logits, rtol=1e-6)
    with pytest.raises(ValueError, match=r"^names leaves out \['0.bias', '2.bias', '2.weight'\] of the module"):
        training.load_into(net, tmp_path, {"0.weight": names["0.weight"]})
    with pytest.raises(ValueError, match="^The module has no 'zz'"):
        training.load_into(net, tmp_path, {"zz": "dnn/logits/bias"})
    with pytest.raises(
        ValueError, match=r"^0.bias of the module has shape \(2,\), and dnn/logits/bias in .* has \(1,\)"
    ):
        training.load_into(net, tmp_path, {"0.bias": "dnn/logits/bias"}, strict=False)


def test_a_module_of_a_model_fn_is_loaded_by_its_name(tmp_path):
    def model_fn(features, labels, mode):
        loss = training.module("net", lambda: torch.nn.Linear(2, 2))(features["x"]).square().mean()
        return training.EstimatorSpec(mode, loss=loss, train_op=training.optimizers.SGD(0.1).minimize(loss))

    made = training.Estimator(model_fn, str(tmp_path)).train(_rows, steps=1)
    net = torch.nn.Linear(2, 2)
    assert training.load_into(net, tmp_path, "net") == ["bias", "weight"]
    np.testing.assert_array_equal(net.weight.detach(), made.get_variable_value("net/weight"))
    with pytest.raises(training.NotFoundError, match="^Key net/2/weight not found in checkpoint"):
        training.load_into(torch.nn.ModuleDict({"2": net}), tmp_path, "net")
