"""Shared memory: what may be registered, and that no use goes beyond a region or trusts that it is still as long."""

import os
import uuid
from pathlib import Path

import pytest

from estimator_serving.serving.dialects.oip import shared_memory
from estimator_serving.serving.dialects.oip.shared_memory import OFFSET, REGION, REGIONS_MAX, SIZE, Regions
from estimator_serving.serving.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnimplementedError,
)


@pytest.fixture
def key():
    """An object of 16 bytes, 0 to 15."""
    key = f"oip-{uuid.uuid4().hex}"
    path = Path(shared_memory.DIRECTORY, key)
    path.write_bytes(bytes(range(16)))
    yield key
    path.unlink()


@pytest.fixture
def regions():
    made = Regions(is_enabled=True)
    yield made
    made.unregister("")


def at(name="r", **others):
    return {REGION: name, SIZE: 4} | others


def test_read_and_write(regions, key):
    regions.register("r", f"/{key}", 4, 12)
    assert regions.read("x", at()) == bytes([4, 5, 6, 7])
    assert regions.read("x", at(**{OFFSET: 8})) == bytes([12, 13, 14, 15])
    assert regions.write("y", at(**{OFFSET: 4}), b"abc") == {REGION: "r", SIZE: 3, OFFSET: 4}
    assert regions.read("x", at(**{OFFSET: 4})) == b"abc\x0b"
    assert regions.status("") == regions.status("r") == [{"name": "r", "key": f"/{key}", "offset": 4, "byte_size": 12}]


@pytest.mark.parametrize(
    "others",
    [{OFFSET: 9}, {OFFSET: -1}, {SIZE: 13}, {SIZE: -1}, {OFFSET: 2**63}, {SIZE: "4"}, {SIZE: None}, {SIZE: True}],
)
def test_no_use_goes_beyond_its_region(regions, key, others):
    regions.register("r", key, 4, 12)
    with pytest.raises(InvalidArgumentError):
        regions.read("x", at(**others))
    with pytest.raises(InvalidArgumentError):
        regions.write("y", at(**others), b"abcd")


@pytest.mark.parametrize("bad", ["../etc/passwd", "/../x", "", "/", "a/b", "a\0b", "..", "x" * 300, "/dev/shm/x", "é"])
def test_keys_that_are_none(regions, bad):
    with pytest.raises(InvalidArgumentError):
        regions.register("r", bad, 0, 1)


def test_what_cannot_be_registered(regions, key):
    for offset, size in ((0, 17), (16, 1), (-1, 2), (0, 0), (0, 2**64), (2**63, 1)):
        with pytest.raises(InvalidArgumentError):
            regions.register("r", key, offset, size)
    with pytest.raises(InvalidArgumentError, match="make it before it is registered"):
        regions.register("r", f"{key}-nope", 0, 1)
    regions.register("r", key, 0, 16)
    with pytest.raises(AlreadyExistsError):
        regions.register("r", key, 0, 1)


def test_a_link_is_not_followed(regions, key):
    link = Path(shared_memory.DIRECTORY, f"{key}-link")
    link.symlink_to("/etc/hostname")
    try:
        with pytest.raises(InvalidArgumentError):
            regions.register("r", f"{key}-link", 0, 1)
    finally:
        link.unlink()


def test_another_users_memory(regions, key, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PermissionDeniedError):
        regions.register("r", key, 0, 1)


def test_memory_that_is_cut_short_or_gone(regions, key):
    """Mapped memory would end the process here."""
    regions.register("r", key, 0, 16)
    os.truncate(f"{shared_memory.DIRECTORY}/{key}", 2)
    for use in (lambda: regions.read("x", at()), lambda: regions.write("y", at(), b"abcd")):
        with pytest.raises(InvalidArgumentError, match="the memory of its key has 2 bytes"):
            use()


def test_unregister(regions, key):
    regions.unregister("never was")
    regions.register("a", key, 0, 1)
    regions.register("b", key, 0, 1)
    regions.unregister("a")
    with pytest.raises(NotFoundError):
        regions.status("a")
    with pytest.raises(InvalidArgumentError, match="Unable to find system shared memory region: 'a'"):
        regions.read("x", at("a"))
    regions.unregister("")
    assert regions.status("") == []


def test_descriptors_are_closed_and_bounded(regions, key):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for index in range(REGIONS_MAX):
        regions.register(str(index), key, 0, 1)
    with pytest.raises(ResourceExhaustedError):
        regions.register("one more", key, 0, 1)
    regions.unregister("")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_off():
    regions = Regions()
    for use in (lambda: regions.register("r", "k", 0, 1), lambda: regions.status(""), lambda: regions.unregister(""),
                lambda: regions.read("x", at()), lambda: regions.write("y", at(), b"")):  # fmt: skip
        with pytest.raises(UnimplementedError, match="--enable_system_shared_memory"):
            use()
