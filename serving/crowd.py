"""A bound on what one model may occupy of a front's threads.

Owns one rule: a model may have at most GREED times as many requests at work as threads are still free, those of a
reserve not counted; and a model that has none at work may take one of the reserve. So one model whose runs hang gets
two thirds of the threads, a second one most of the rest, and there is a thread left for the next one. What a model does
not use, the others may.
"""

from __future__ import annotations

import threading

from estimator_serving.serving.errors import UnavailableError

GREED = 3
RESERVE = 8


class Crowd:
    """The requests at work on `threads` threads, by model."""

    def __init__(self, threads: int) -> None:
        self._free = threads
        # Loaded models only, so that it does not grow for ever.
        self._by_model: dict[str, int] = {}
        self._lock = threading.Lock()

    def enter(self, name: str) -> None:
        """A request of a model begins. Raises UnavailableError where the model occupies its share."""
        with self._lock:
            mine = self._by_model.get(name, 0)
            if self._free <= 0 or (mine and mine >= GREED * (self._free - RESERVE)):
                raise UnavailableError(
                    f"Model {name} has {mine} requests at work, and the server keeps room for other "
                    "models. Send it again later."
                )
            self._by_model[name] = mine + 1
            self._free -= 1

    def leave(self, name: str) -> None:
        """A request that entered has ended."""
        with self._lock:
            self._by_model[name] -= 1
            self._free += 1
