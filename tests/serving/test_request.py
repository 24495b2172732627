"""What travels between codecs and servables: how long a caller waits, and text as arrays."""

import time

import pytest

from estimator_serving.serving.errors import CancelledError, DeadlineExceededError
from estimator_serving.serving.request import PATIENT, Context, as_strings


@pytest.mark.parametrize(
    ("context", "error"),
    [
        (Context(cancelled=lambda: True), CancelledError),
        (Context(deadline_s=0.0), DeadlineExceededError),
        (Context(deadline_s=0.0, cancelled=lambda: True), CancelledError),
    ],
)
def test_nobody_waits(context, error):
    with pytest.raises(error):
        context.check()


@pytest.mark.parametrize(
    ("context", "endless"),
    [
        (PATIENT, True),
        (Context(deadline_s=time.monotonic() + 86_400), False),
        (Context(cancelled=lambda: False), False),
    ],
)
def test_somebody_waits(context, endless):
    context.check()
    assert context.is_endless is endless
    assert context.remote() == ""


def test_strings_keep_their_trailing_zeros():
    assert as_strings([b"a\0", b""]).tolist() == [b"a\0", b""]
