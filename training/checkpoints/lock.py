"""One training at a time in a model_dir.

Owns the lock on the directory, which the kernel drops with the process that holds it, and the temporary files that a
killed training left behind: whoever holds the lock knows that nobody writes them any more. Knows no checkpoint.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from estimator_serving.training.errors import FailedPreconditionError

logger = logging.getLogger("estimator_serving.training")

# As checkpoints and their list are called while they are written: .<name>.<process>.tmp
_LEFT_OVER = re.compile(r"\..+\.[0-9]+\.tmp")
# A file system without locks, as some networks have.
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.EBADF}


@contextmanager
def sole_training(model_dir: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a model_dir for the block, made if it is missing; temporary files that a killed training left are removed.

    Raises FailedPreconditionError (a ValueError) if another training holds it: each would overwrite the other's
    checkpoints.
    """
    directory = Path(model_dir)
    directory.mkdir(parents=True, exist_ok=True)
    held = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FailedPreconditionError(
                f"Another training is writing to {directory}. Wait until it ends, or train in another model_dir."
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            logger.info("%s cannot be locked (%s), so a second training in it is not noticed.", directory, error)
        else:
            for file in directory.rglob(".*.tmp"):
                if _LEFT_OVER.fullmatch(file.name):
                    logger.info("Removing %s, which a training left that was killed.", file)
                    file.unlink(missing_ok=True)
        yield
    finally:
        os.close(held)
