"""Values that other software gave, kept as JSON beside the tests, and how near ours must come."""

import json
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[1] / "training" / "goldens"


def read(name):
    return json.loads((FOLDER / name).read_text())


def assert_near(found, expected, what=""):
    """Within 1e-5 · max(1, |x|)."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape, what
    np.testing.assert_array_less(np.abs(found - expected), 1e-5 * np.maximum(1, np.abs(expected)) + 1e-12, what)
