"""The machine's memory: how much is free, and giving back what the C library keeps. Knows no models."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

# The requests that a front is receiving or working on may together take this part of the memory.
HELD_SHARE = 0.25


def give_back() -> None:
    """Return freed memory to the system: after large blocks of many threads, glibc keeps more than it has in use."""
    if _trim is not None:
        _trim(0)


def held_bytes_max(request_bytes_max: int, processes: int = 1) -> int:
    """How many bytes of requests one front of one of these processes may hold at once: a share of the memory, and at
    least one request's.
    """
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(request_bytes_max, int(HELD_SHARE * memory_bytes / processes))


def free_bytes(root: Path = Path("/")) -> int | None:
    """The memory that can still be had, by the machine and by its control group; None where nothing says."""
    known = []
    available_kib = _read_table(root / "proc/meminfo").get("MemAvailable:")
    if available_kib is not None:
        known.append(available_kib * 1024)
    group = root / "sys/fs/cgroup"
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        limit = used = "max"
    if limit.isdecimal():
        # What files left in the page cache counts as used and is given up when it is wanted.
        statistics = _read_table(group / "memory.stat")
        cached = statistics.get("active_file", 0) + statistics.get("inactive_file", 0)
        known.append(int(limit) - int(used) + cached)
    return min(known, default=None)


def _read_table(path: Path) -> dict[str, int]:
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdecimal()}


_trim: ctypes._NamedFuncPointer | None = None
with contextlib.suppress(OSError, AttributeError):  # another C library
    _trim = ctypes.CDLL(None).malloc_trim
