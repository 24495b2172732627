"""How a model's requests are logged: TensorFlow Serving's LoggingConfig, checked. Knows no file and no request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from estimator_serving.serving.errors import InvalidArgumentError

# The one collector there is; a configuration may leave its name out.
COLLECTOR = "tfrecord"


@dataclass(frozen=True)
class LogSettings:
    """Where a model's requests are logged, and what share of them.

    Attributes:
        filename_prefix: what the names of the files begin with, absolute.
        sampling_rate: from 0, none, to 1, all.
    """

    filename_prefix: Path
    sampling_rate: float

    def __post_init__(self) -> None:
        if not self.filename_prefix.is_absolute() or not self.filename_prefix.name:
            raise InvalidArgumentError(
                f"Requests cannot be logged with the filename_prefix {str(self.filename_prefix)!r}; give the absolute "
                "path that the names of the log's files begin with, such as /var/log/serving/requests."
            )
        if not 0 <= self.sampling_rate <= 1:
            raise InvalidArgumentError(
                f"Requests cannot be logged with a sampling_rate of {self.sampling_rate:g}; give 0 (none) to 1 (all)."
            )


def read(proto: Any) -> LogSettings | None:
    """The settings of a LoggingConfig; None for one that says nothing.

    Raises InvalidArgumentError for another collector than ours, a prefix or a rate that cannot be used.
    """
    collector = proto.log_collector_config
    if not proto.HasField("log_collector_config"):
        return None
    if collector.type not in ("", COLLECTOR):
        raise InvalidArgumentError(
            f"Requests cannot be logged by a collector of type {collector.type!r}; leave it out, or say {COLLECTOR!r}."
        )
    return LogSettings(Path(collector.filename_prefix), proto.sampling_config.sampling_rate)
