"""One training at a time in a model_dir.

Owns the lock on the directory, which the kernel drops with the process that holds it, and the temporary files that a
killed training left behind: whoever holds the lock knows that nobody writes them any more. Knows no checkpoint.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from estimator_serving.training.aside import LEFT_OVER
from estimator_serving.training.errors import FailedPreconditionError

logger = logging.getLogger("estimator_serving.training")

# A file system without locks, as some networks have.
_LOCK_PERIOD_S = 0.2
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.EBADF}


@contextmanager
def sole_training(model_dir: str | os.PathLike[str], wait_s: float = 10.0) -> Iterator[None]:
    """Hold a model_dir for the block, made if it is missing; temporary files that a killed training left are removed.

    Raises FailedPreconditionError (a ValueError) if another training still holds it after `wait_s`: each would
    overwrite the other's checkpoints. What a killed training has forked, such as the workers of a DataLoader, ends a
    little later than it.
    """
    directory = Path(model_dir)
    directory.mkdir(parents=True, exist_ok=True)
    held = os.open(directory, os.O_RDONLY)
    try:
        if _lock(held, directory, wait_s):
            for file in directory.rglob(".*.tmp"):
                if LEFT_OVER.fullmatch(file.name):
                    logger.info("Removing %s, which a training left that was killed.", file)
                    file.unlink(missing_ok=True)
        yield
    finally:
        os.close(held)


def _lock(held: int, directory: Path, wait_s: float) -> bool:
    """Lock an open directory: whether its file system can. Raises FailedPreconditionError as `sole_training` does."""
    until_s = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until_s:
                raise FailedPreconditionError(
                    f"Another training is writing to {directory}. Wait until it ends, or train in another model_dir."
                ) from None
            time.sleep(_LOCK_PERIOD_S)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            logger.info("%s cannot be locked (%s), so a second training in it is not noticed.", directory, error)
            return False
        else:
            return True
