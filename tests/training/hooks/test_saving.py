"""Checkpoints that a hook writes."""

from watched import train

from estimator_serving import training


def test_a_saver_hook_takes_the_place_of_the_default_one(tmp_path):
    train(tmp_path, training.CheckpointSaverHook(tmp_path, save_steps=2, checkpoint_basename="mine"))
    names = sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".json")
    assert names == ["checkpoint", *(f"mine-{step}.safetensors" for step in (0, 2, 4, 5))]
