"""The machine's memory: how much is free, and giving back what the C library keeps. Knows no models."""

from __future__ import annotations

import ctypes
from pathlib import Path


def give_back() -> None:
    """Return freed memory to the system: after large blocks of many threads, glibc keeps more than it has in use."""
    if _trim is not None:
        _trim(0)


def free_bytes(root: Path = Path("/")) -> int | None:
    """The memory that can still be had, by the machine and by its control group; None where nothing says."""
    known = [free for free in (_machine_free(root), _group_free(root)) if free is not None]
    return min(known, default=None)


def _machine_free(root: Path) -> int | None:
    kib = _read_table(root / "proc/meminfo").get("MemAvailable:")
    return None if kib is None else kib * 1024


def _group_free(root: Path) -> int | None:
    group = root / "sys/fs/cgroup"
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return None
    # What files left in the page cache counts as used and is given up when it is wanted.
    statistics = _read_table(group / "memory.stat")
    cached = statistics.get("active_file", 0) + statistics.get("inactive_file", 0)
    return int(limit) - int(used) + cached if limit.isdecimal() else None


def _read_table(path: Path) -> dict[str, int]:
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdecimal()}


def _find_trim() -> ctypes._NamedFuncPointer | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library
        return None


_trim = _find_trim()
