"""Trained estimators, made once for all tests of the exporter."""

import pytest
from small_estimators import train_steps


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A function from kind to an estimator trained for a few steps."""
    made = {}

    def get(kind):
        if kind not in made:
            made[kind] = train_steps(kind, tmp_path_factory.mktemp("model"))
        return made[kind]

    return get
