"""Every error the server answers with, and the canonical codes they carry. Knows no transport.

    ServingError
    ├── InvalidArgumentError       the request is wrong whatever the server's state
    ├── NotFoundError              no such model or version
    ├── AlreadyExistsError         the name is taken
    ├── PermissionDeniedError      the operator has not allowed it
    ├── UnauthenticatedError       nobody knows who asks
    ├── CancelledError             the client has gone away
    ├── DeadlineExceededError      too late for the client
    ├── ResourceExhaustedError     too big for what there is
    ├── FailedPreconditionError    right in itself, wrong for what is loaded
    ├── UnavailableError           not now; asking again later may do
    ├── UnimplementedError         not served here
    ├── DataLossError              a file that was cut or changed
    ├── UnknownError               what TensorFlow Serving answers without a better code
    └── InternalError              our fault; the cause is in the log, never in the answer

The codes are gRPC's integers; HTTP statuses are derived from them in `http_status`.
"""

from __future__ import annotations

import enum
import logging

_log = logging.getLogger(__name__)

STOPPING_TEXT = "The server is shutting down; send requests elsewhere."
FULL_TEXT = "The model has as many requests at work and waiting as it takes. Send this one again later."
INTERNAL_TEXT = "Internal error; the server's log holds its cause."
# TensorFlow Serving cuts here, and gRPC carries the text in a header, which has to stay small.
MESSAGE_CHARACTERS_MAX = 1024


class Code(enum.IntEnum):
    """Canonical status codes, numbered as in gRPC and in tensorflow.error.Code."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


def shorten(text: str) -> str:
    """A message as it is answered."""
    return text if len(text) <= MESSAGE_CHARACTERS_MAX else text[:MESSAGE_CHARACTERS_MAX] + "...TRUNCATED"


class ServingError(Exception):
    """An error whose text is meant for the client; raise one of the classes below."""

    code: Code = Code.UNKNOWN

    @property
    def message(self) -> str:
        return shorten(str(self))


class InvalidArgumentError(ServingError):
    code = Code.INVALID_ARGUMENT


class NotFoundError(ServingError):
    code = Code.NOT_FOUND


class AlreadyExistsError(ServingError):
    code = Code.ALREADY_EXISTS


class PermissionDeniedError(ServingError):
    code = Code.PERMISSION_DENIED


class UnauthenticatedError(ServingError):
    code = Code.UNAUTHENTICATED


class CancelledError(ServingError):
    code = Code.CANCELLED


class DeadlineExceededError(ServingError):
    code = Code.DEADLINE_EXCEEDED


class ResourceExhaustedError(ServingError):
    code = Code.RESOURCE_EXHAUSTED


class FailedPreconditionError(ServingError):
    code = Code.FAILED_PRECONDITION


class UnimplementedError(ServingError):
    code = Code.UNIMPLEMENTED


class UnavailableError(ServingError):
    code = Code.UNAVAILABLE


class DataLossError(ServingError):
    code = Code.DATA_LOSS


class UnknownError(ServingError):
    code = Code.UNKNOWN


class InternalError(ServingError):
    code = Code.INTERNAL


def as_serving_error(error: Exception) -> ServingError:
    """The error itself when it is ours; otherwise an InternalError of fixed text, its cause logged with the stack."""
    if isinstance(error, ServingError):
        return error
    _log.error("A request failed with an error that is not the client's.", exc_info=error)
    return InternalError(INTERNAL_TEXT)
