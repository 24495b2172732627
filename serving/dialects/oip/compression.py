"""Compressed answers: which coding a client accepts, and compressing by it. Requests are inflated by the front."""

from __future__ import annotations

import gzip
import zlib
from functools import lru_cache

from estimator_serving.serving.dialects.base import Reply

# Answers are compressed while the client waits; higher levels take much longer and save little on numbers.
_LEVEL = 1


def compressed(reply: Reply, accepted: bytes | None) -> Reply:
    """The reply in a coding that the client accepts by its header Accept-Encoding, or as it is."""
    coding = choose(accepted) if accepted else ""
    if not coding:
        return reply
    compress = gzip.compress if coding == "gzip" else zlib.compress
    body = compress(reply.body, _LEVEL)
    headers = (*reply.headers, (b"content-encoding", coding.encode()), (b"vary", b"accept-encoding"))
    return reply._replace(body=body, headers=headers)


@lru_cache(maxsize=64)
def choose(accepted: bytes) -> str:
    """gzip or deflate, whichever a client prefers; empty if it accepts neither."""
    qualities = {"gzip": 0.0, "deflate": 0.0}
    others = 0.0
    named = set()
    for part in accepted.decode("latin-1").lower().split(","):
        coding, *parameters = (word.strip() for word in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        if coding == "*":
            others = quality
        elif coding in qualities:
            qualities[coding] = quality
            named.add(coding)
    for coding in qualities.keys() - named:
        qualities[coding] = others
    best = max(qualities, key=lambda coding: qualities[coding])
    return best if qualities[best] > 0 else ""
