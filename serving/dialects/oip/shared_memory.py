"""System shared memory: regions that clients register, and tensors that are read from and written to them.

Owns the registry and its safety. A region is read and written by file calls, never mapped: a region that its owner cuts
short would end this process otherwise. Only regions of this process's own user are taken, and each use checks their
length anew.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from estimator_serving.serving.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnimplementedError,
)

REGION, OFFSET, SIZE = "shared_memory_region", "shared_memory_offset", "shared_memory_byte_size"
REGIONS_MAX = 1024
DIRECTORY = "/dev/shm"
# What shm_open takes, without what means a directory.
_KEY = re.compile(r"/?([A-Za-z0-9_][A-Za-z0-9_.-]{0,254})")
_NAME_CHARACTERS_MAX = 256
_BYTES_MAX = 2**63 - 1
CUDA_TEXT = "CUDA shared memory is not served; send tensors in the request, or in system shared memory."


class Region(NamedTuple):
    """A part of a shared memory object. descriptor: the open file."""

    name: str
    key: str
    offset: int
    byte_size: int
    descriptor: int

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "key": self.key, "offset": self.offset, "byte_size": self.byte_size}


class Regions:
    """The registered regions. Every method may be called from many threads at once.

    is_enabled: whether the operator allows shared memory at all; if not, everything raises UnimplementedError.
    """

    def __init__(self, *, is_enabled: bool = False) -> None:
        self.is_enabled = is_enabled
        self._regions: dict[str, Region] = {}
        # Also held while a region is used, because closing its file would give its number to another one.
        self._lock = threading.Lock()

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Open a region.

        Raises:
            UnimplementedError: shared memory is off.
            AlreadyExistsError: the name is taken.
            InvalidArgumentError: no such object, or not of this length.
            PermissionDeniedError: it belongs to another user.
            ResourceExhaustedError: too many regions.
        """
        self._check_enabled()
        matched = _KEY.fullmatch(key)
        if not name or len(name) > _NAME_CHARACTERS_MAX or matched is None:
            raise InvalidArgumentError(
                "A region needs a name of at most 256 characters, and a key of letters, digits, '_', '-' and '.', such "
                "as shm_open takes."
            )
        if not 0 <= offset <= _BYTES_MAX or not 0 < byte_size <= _BYTES_MAX:
            raise InvalidArgumentError(f"The region '{name}' needs an offset from 0 and a byte_size above 0.")
        with self._lock:
            if name in self._regions:
                raise AlreadyExistsError(f"shared memory region '{name}' already in manager; unregister it first.")
            if len(self._regions) >= REGIONS_MAX:
                raise ResourceExhaustedError(f"There are {REGIONS_MAX} shared memory regions; unregister some.")
            try:
                flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
                descriptor = os.open(f"{DIRECTORY}/{matched[1]}", flags)
            except OSError:
                raise InvalidArgumentError(
                    f"Unable to open shared memory region: '{name}'; make it before it is registered."
                ) from None
            region = Region(name, key, offset, byte_size, descriptor)
            try:
                _check_bounds(region)
            except Exception:
                os.close(descriptor)
                raise
            self._regions[name] = region

    def unregister(self, name: str) -> None:
        """Forget a region, or all of them if `name` is empty; an unknown one is none to forget."""
        self._check_enabled()
        with self._lock:
            for gone in [name] if name else list(self._regions):
                region = self._regions.pop(gone, None)
                if region is not None:
                    os.close(region.descriptor)

    def status(self, name: str) -> list[dict[str, Any]]:
        """One region, or all of them if `name` is empty. Raises NotFoundError for an unknown one."""
        self._check_enabled()
        with self._lock:
            if name and name not in self._regions:
                raise _unknown(name)
            return [region.describe() for region in self._regions.values() if name in ("", region.name)]

    def read(self, tensor: str, parameters: Mapping[str, Any]) -> bytes:
        """The bytes of an input, as its parameters say."""
        with self._lock:
            region, offset, size = self._locate(tensor, parameters)
            content = os.pread(region.descriptor, size, region.offset + offset)
        if len(content) != size:
            raise InvalidArgumentError(f"The shared memory of '{tensor}' has become shorter; register it anew.")
        return content

    def write(self, tensor: str, parameters: Mapping[str, Any], content: bytes | memoryview) -> dict[str, Any]:
        """Write an output where its parameters say. Returns the parameters of the answer, which has no data."""
        with self._lock:
            region, offset, size = self._locate(tensor, parameters)
            if len(content) > size:
                raise InvalidArgumentError(
                    f"shared memory size specified with the request for output '{tensor}' ({size} bytes) should be at "
                    f"least {len(content)} bytes to hold the results"
                )
            os.pwrite(region.descriptor, content, region.offset + offset)
        answered = {REGION: region.name, SIZE: len(content)}
        return answered | {OFFSET: offset} if offset else answered

    def _locate(self, tensor: str, parameters: Mapping[str, Any]) -> tuple[Region, int, int]:
        """With the lock held: the region of a tensor, with offset and length inside it, both within its bounds."""
        self._check_enabled()
        name, offset, size = parameters.get(REGION), parameters.get(OFFSET, 0), parameters.get(SIZE)
        if type(name) is not str or type(offset) is not int or type(size) is not int:
            raise InvalidArgumentError(
                f"'{tensor}' in shared memory needs the parameters {REGION}, a name, and {SIZE}, a number of bytes; it "
                f"may have {OFFSET}."
            )
        region = self._regions.get(name)
        if region is None:
            raise InvalidArgumentError(str(_unknown(name)))
        if offset < 0 or size < 0 or offset + size > region.byte_size:
            raise InvalidArgumentError(
                f"Invalid offset + byte size for shared memory region: '{name}'; '{tensor}' takes {size} bytes from "
                f"{offset}, and the region has {region.byte_size}."
            )
        _check_bounds(region)
        return region, offset, size

    def _check_enabled(self) -> None:
        if not self.is_enabled:
            raise UnimplementedError(
                "System shared memory is off; send tensors in the request, or start the server with "
                "--enable_system_shared_memory."
            )


def _unknown(name: str) -> NotFoundError:
    return NotFoundError(f"Unable to find system shared memory region: '{name[:_NAME_CHARACTERS_MAX]}'")


def _check_bounds(region: Region) -> None:
    """Whether the region's file is still one of ours, and as long as it was said to be."""
    state = os.fstat(region.descriptor)
    if not stat.S_ISREG(state.st_mode) or state.st_uid != os.geteuid():
        raise PermissionDeniedError(
            f"The shared memory region '{region.name}' belongs to another user; use one of yours."
        )
    if region.offset + region.byte_size > state.st_size:
        raise InvalidArgumentError(
            f"failed to register shared memory region '{region.name}': invalid args. It ends at "
            f"{region.offset + region.byte_size}, and the memory of its key has {state.st_size} bytes."
        )
