"""Profiles of single steps."""

import json

import numpy as np
import pytest
from watched import train

from estimator_serving import training
from estimator_serving.training import feature_column as fc


@pytest.mark.parametrize(
    ("arguments", "steps", "expected"), [({"save_steps": 2}, 5, [2, 4]), ({"save_steps": 9}, 3, [])]
)
def test_profiles_are_chrome_traces(arguments, steps, expected, tmp_path):
    train(tmp_path / "model", training.ProfilerHook(output_dir=tmp_path / "traces", **arguments), steps=steps)
    found = sorted((tmp_path / "traces").glob("*")) if expected else []
    assert [path.name for path in found] == [f"timeline-{step}.json" for step in expected]
    for path in found:
        names = {event.get("name") for event in json.loads(path.read_text())["traceEvents"]}
        assert {"aten::add_", "aten::binary_cross_entropy_with_logits"} & names


def test_a_profile_that_the_end_of_the_input_cuts_off(tmp_path):
    profiler = training.ProfilerHook(save_steps=2, output_dir=tmp_path / "traces")
    config = training.RunConfig(log_step_count_steps=None)
    estimator = training.LinearClassifier([fc.numeric_column("x")], tmp_path, config=config)
    one = training.Dataset.from_tensor_slices(({"x": np.arange(4.0)}, np.array([0, 1, 1, 0]))).batch(4)
    estimator.train(lambda: one, hooks=[profiler])
    assert not (tmp_path / "traces").exists()
