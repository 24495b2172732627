"""Reads the numbers in TensorBoard's event files, which evaluations leave behind.

Owns the reading. `nn.summaries` writes them. Does not know what the numbers mean.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from estimator_serving.wire.records import RecordError, read_records

logger = logging.getLogger("estimator_serving.training")


def read_scalars(
    directory: str | os.PathLike[str], pattern: str = "*.tfevents.*"
) -> Iterator[tuple[int, dict[str, float]]]:
    """Step and numbers by tag of every event in the files that match in `directory`, file by file.

    The rest of a damaged file is left out with a warning, as in TensorFlow. The last event of a file that another
    process is writing may be incomplete; it is left out as well.
    """
    from tensorboard.compat.proto.event_pb2 import Event

    for path in sorted(Path(directory).glob(pattern)):
        try:
            for record in read_records(path):
                event = Event.FromString(record)
                numbers = {v.tag: v.simple_value for v in event.summary.value if v.HasField("simple_value")}
                if numbers:
                    yield event.step, numbers
        except RecordError as error:
            logger.warning("The rest of the event file %s is left out: %s", path, error)


def read_evaluations(directory: str | os.PathLike[str]) -> dict[int, dict[str, float]]:
    """Metrics by global_step, in the order of steps, of all evaluations that wrote into `directory`."""
    found: dict[int, dict[str, float]] = {}
    for step, numbers in read_scalars(directory):
        found.setdefault(step, {}).update(numbers)
    return dict(sorted(found.items()))
