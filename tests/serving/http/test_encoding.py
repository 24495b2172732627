"""Inflating request bodies: members, pieces and limits. What comes over a connection is in test_rest_server."""

import gzip
import random

import pytest

from estimator_serving.serving.errors import InvalidArgumentError
from estimator_serving.serving.http.encoding import MEMBERS_MAX, inflate


def test_members_longer_than_a_piece():
    """Random bytes, so that each is as long as what is inflated of it."""
    contents = [random.Random(size).randbytes(size) for size in (200_000, 0, 1 << 16, 1)]
    assert inflate(b"".join(map(gzip.compress, contents)), 1 << 20) == b"".join(contents)


def test_members_without_end():
    member = gzip.compress(b"")
    assert inflate(member * MEMBERS_MAX, 1 << 20) == b""
    with pytest.raises(InvalidArgumentError, match=f"more than {MEMBERS_MAX} gzip members; compress it as a whole"):
        inflate(member * (MEMBERS_MAX + 1), 1 << 20)
