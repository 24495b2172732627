"""What a model was trained on: statistics of the first rows, written when the batches are closed."""

import numpy as np
import pytest

from estimator_serving.training.data.statistics import ROWS_MAX, describe, read_statistics, watch

BATCHES = [
    {"x": np.float32([1, np.nan]), "words": np.array(["a", ""], object)},
    {"x": np.float32([3, 5]), "words": np.array(["a", "b"], object)},
]


def test_batches_pass_and_leave_their_statistics(tmp_path):
    watched = watch((pair for pair in [(batch, np.arange(2)) for batch in BATCHES]), tmp_path)
    assert [features is batch for (features, _), batch in zip(watched, BATCHES, strict=True)] == [True, True]
    watched.close()
    found = read_statistics(str(tmp_path / "model.ckpt-2"))
    assert found["rows"] == 4
    assert found["features"]["words"] == {"count": 3, "missing": 1, "distinct": 2, "top": {"a": 2, "b": 1}}
    assert found["features"]["x"] | {"quantiles": {}} == {
        "count": 3, "missing": 1, "mean": 3.0, "std": 1.63299316, "quantiles": {},
    }  # fmt: skip
    assert found["features"]["label"]["mean"] == 0.5


def test_a_fingerprint_follows_the_rows_and_not_their_batches():
    whole = {"x": np.float32([1, 2, 3])}
    parts = [{"x": np.float32([1, 2])}, {"x": np.float32([3])}]
    assert describe([whole]) == describe(parts)
    assert describe([whole])["fingerprint"] != describe(parts[:1])["fingerprint"]


def test_rows_of_several_widths_are_described_by_their_values():
    batches = [{"tags": np.array([["a", "b"]], object)}, {"tags": np.array([["a"]], object)}]
    assert describe(batches)["features"]["tags"]["top"] == {"a": 2, "b": 1}


def test_only_the_first_rows_count():
    assert describe([{"x": np.zeros(ROWS_MAX + 5)}])["rows"] == ROWS_MAX


@pytest.mark.parametrize("content", [None, "{"])
def test_statistics_that_cannot_be_read_are_none(content, tmp_path):
    if content is not None:
        (tmp_path / "training_data.json").write_text(content)
    assert read_statistics(str(tmp_path / "model.ckpt-2")) is None
