"""The small recorded SavedModels, unpacked. tests/oracles/savedmodel/make_small.py makes them."""

import tarfile

import pytest
import saved_models


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A function from the name of a small case to its directory."""
    directory = tmp_path_factory.mktemp("small")
    with tarfile.open(saved_models.GOLDENS.parent / "small_savedmodels.tar.xz") as archive:
        archive.extractall(directory, filter="data")
    return lambda name: directory / name
