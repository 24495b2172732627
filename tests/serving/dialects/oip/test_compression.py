"""Which coding of an answer a client accepts."""

import gzip
import zlib

import pytest

from estimator_serving.serving.dialects.base import Reply
from estimator_serving.serving.dialects.oip.compression import choose, compressed

REPLY = Reply(200, b"text/plain", b"text" * 100, ((b"a", b"b"),))


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (b"gzip", "gzip"), (b"deflate", "deflate"), (b"gzip, deflate", "gzip"), (b"DEFLATE;q=1, gzip;q=0.9", "deflate"),
        (b"*", "gzip"), (b"*;q=0", ""), (b"gzip;q=0, *", "deflate"), (b"br", ""), (b"", ""),
        (b"gzip;q=x", ""), (b";;,,", ""),
    ],
)  # fmt: skip
def test_choose(accepted, coding):
    assert choose(accepted) == coding


def test_compressed():
    assert compressed(REPLY, None) is REPLY
    assert compressed(REPLY, b"br") is REPLY
    for coding, inflate in ((b"gzip", gzip.decompress), (b"deflate", zlib.decompress)):
        reply = compressed(REPLY, coding)
        assert inflate(reply.body) == REPLY.body
        assert reply.headers == ((b"a", b"b"), (b"content-encoding", coding), (b"vary", b"accept-encoding"))
