import os
import resource
import signal
import time

import numpy as np
import pytest
import torch

from estimator_serving.training import CheckpointError, CorruptCheckpointError
from estimator_serving.training.checkpoints.checkpoint import (
    Checkpoints,
    latest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)

VALUES = {"a/b.c": torch.arange(6.0).reshape(2, 3), "global_step": torch.tensor(7), "empty": torch.zeros(0, 2)}


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_what_is_written_is_read(tmp_path):
    flat = torch.arange(8.0)
    values = {**VALUES, "part of a larger tensor": flat[2:6].view(2, 2)}
    path = Checkpoints(tmp_path).save(values, 7, b"\x00graph", ["a/b.c"])
    found = read_checkpoint(path)
    assert path == str(tmp_path / "model.ckpt-7") == latest_checkpoint(tmp_path) == found.path
    assert (found.transform, found.trainable) == (b"\x00graph", ("a/b.c",))
    assert set(found.values) == set(values)
    for name, value in values.items():
        np.testing.assert_array_equal(found.values[name], value)
    assert read_checkpoint(path + ".safetensors").transform == b"\x00graph"


def test_the_list_is_tensorflows(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (0, 5):
        checkpoints.save(VALUES, step, None, [])
    assert (tmp_path / "checkpoint").read_text().splitlines() == [
        'model_checkpoint_path: "model.ckpt-5"',
        'all_model_checkpoint_paths: "model.ckpt-0"',
        'all_model_checkpoint_paths: "model.ckpt-5"',
    ]


@pytest.mark.parametrize(("keep_max", "kept"), [(2, [3, 4]), (None, [0, 1, 2, 3, 4]), (0, [0, 1, 2, 3, 4])])
def test_old_checkpoints_go(keep_max, kept, tmp_path):
    for steps in ((0, 1, 2), (2, 3, 4)):  # a second run counts what the first left
        checkpoints = Checkpoints(tmp_path, keep_max=keep_max)
        for step in steps:
            checkpoints.save(VALUES, step, None, [])
    assert names(tmp_path) == ["checkpoint", *(f"model.ckpt-{step}.safetensors" for step in kept)]


def test_one_in_a_while_is_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep_max=1, keep_every_n_hours=1)
    checkpoints.save(VALUES, 0, None, [])
    two_hours_on_s = time.time() + 7200
    os.utime(tmp_path / "model.ckpt-0.safetensors", (two_hours_on_s, two_hours_on_s))
    for step in (1, 2):
        checkpoints.save(VALUES, step, None, [])
    assert names(tmp_path) == ["checkpoint", "model.ckpt-0.safetensors", "model.ckpt-2.safetensors"]


def test_a_failed_write_leaves_nothing(tmp_path):
    (tmp_path / "model.ckpt-1.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="could not be written"):
        write_checkpoint(str(tmp_path / "model.ckpt-1"), VALUES, None, [])
    assert names(tmp_path) == ["model.ckpt-1.safetensors"]


def test_no_checkpoint(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    with pytest.raises(CheckpointError, match="^The passed save_path is not a valid checkpoint: .*model.ckpt-1"):
        read_checkpoint(tmp_path / "model.ckpt-1")


@pytest.mark.parametrize("text", ["", "garbage", 'model_checkpoint_path: "a"\nmodel_checkpoint_path: "b"\n'])
def test_a_list_that_cannot_be_read(text, tmp_path):
    (tmp_path / "checkpoint").write_text(text)
    with pytest.raises(CorruptCheckpointError, match="is not a list of checkpoints.*remove the file"):
        latest_checkpoint(tmp_path)


def test_a_list_that_names_a_missing_file(tmp_path):
    Checkpoints(tmp_path).save(VALUES, 1, None, [])
    (tmp_path / "model.ckpt-1.safetensors").unlink()
    with pytest.raises(CorruptCheckpointError, match="does not exist. Put the file back"):
        latest_checkpoint(tmp_path)


def test_every_flipped_byte_is_noticed(tmp_path):
    path = Checkpoints(tmp_path).save(VALUES, 1, None, [])
    file = tmp_path / "model.ckpt-1.safetensors"
    data = file.read_bytes()
    for at in range(0, len(data), 7):
        file.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        with pytest.raises(CorruptCheckpointError):
            read_checkpoint(path)


def test_a_checkpoint_is_readable_as_the_umask_says(tmp_path):
    Checkpoints(tmp_path, keep_max=1).save(VALUES, 0, None, [])
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    assert (tmp_path / "model.ckpt-0.safetensors").stat().st_mode == ordinary.stat().st_mode


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    saved = Checkpoints(tmp_path)
    saved.save({"a": torch.ones(3)}, 1, None, [])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(
            CheckpointError, match=r"^The checkpoint .*model.ckpt-2.safetensors could not be written \("
        ):
            saved.save({"a": torch.ones(100_000)}, 2, None, [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert latest_checkpoint(tmp_path) == str(tmp_path / "model.ckpt-1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "model.ckpt-1.safetensors"]
