"""The machine's memory: how much is free, and giving back what the C library keeps. Knows no models."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from pathlib import Path

# The requests that a front is receiving or working on may together take this part of the memory.
HELD_SHARE = 0.25


# Requests of this size leave behind what is worth giving back, now and then; larger ones, at once.
LARGE_BYTES = 256 << 10
HUGE_BYTES = 8 << 20
# As long as large requests come, their memory is used again; giving it back each time would cost more than they do.
PAUSE_S = 10.0
# When a request ends for the models, its front still holds what came and writes the answer.
DELAY_S = 0.5
# malloc.h
_M_ARENA_MAX = -8


def limit_arenas(count: int) -> None:
    """Let the C library divide its memory among at most so many arenas; to be called before there are threads.

    glibc would make eight for each core. Threads that work on large requests then leave large holes in all of them,
    although no more threads than there are cores can be at work. What an operator chose by MALLOC_ARENA_MAX stays.
    """
    if _c is not None and "MALLOC_ARENA_MAX" not in os.environ:
        _c.mallopt(_M_ARENA_MAX, max(2, count))


def give_back() -> None:
    """Return freed memory to the system: after large blocks of many threads, glibc keeps more than it has in use."""
    global _given_back_s
    if _c is not None:
        _given_back_s = time.monotonic()
        _c.malloc_trim(0)


def give_back_after(request_bytes: int) -> None:
    """A request of this size has been answered by its model: give back what it leaves, when its front has let it go."""
    global _ended, _is_waiting
    is_worth_it = request_bytes > HUGE_BYTES or (
        request_bytes > LARGE_BYTES and time.monotonic() - _given_back_s >= PAUSE_S
    )
    if not is_worth_it:
        return
    with _lock:
        _ended += 1
        is_first, _is_waiting = not _is_waiting, True
    if is_first:
        threading.Thread(target=_give_back_late, name="memory", daemon=True).start()


def _give_back_late() -> None:
    """Give back until no request has ended for a while."""
    global _is_waiting
    seen = -1
    while True:
        with _lock:
            if seen == _ended:
                _is_waiting = False
                return
            seen = _ended
        time.sleep(DELAY_S)
        give_back()


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


# Under the lock: how many requests have ended that leave something, and whether a thread waits to give it back.
_lock = threading.Lock()
_ended = 0
_is_waiting = False
_given_back_s = time.monotonic()
_c: ctypes.CDLL | None = ctypes.CDLL(None)
if not hasattr(_c, "malloc_trim") or not hasattr(_c, "mallopt"):  # another C library
    _c = None
