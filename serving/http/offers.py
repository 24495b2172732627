"""Clients that offer to go on in another protocol, such as HTTP/2: nobody takes it, and their requests are answered.

The parser stops behind the head of such a request and leaves the body unread, and there is no telling it otherwise. So
a new parser reads the head once more, without the offer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import httptools

# Their names are also the words of a Connection header that belong to the offer.
_OFFER_HEADERS = frozenset({b"upgrade", b"http2-settings"})


def new_parser(protocol: Any) -> httptools.HttpRequestParser:
    """A parser as uvicorn sets its own: what follows a request that closes is no error of that request."""
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def head_without(parser: Any, url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The head that the parser has read, without the offer."""
    lines = [b"%s %s HTTP/%s" % (parser.get_method(), url, parser.get_http_version().encode())]
    for name, value in headers:
        if name == b"connection":
            words = [word.strip() for word in value.split(b",")]
            value = b", ".join(word for word in words if word.lower() not in _OFFER_HEADERS)
        if name not in _OFFER_HEADERS:
            lines.append(b"%s: %s" % (name, value))
    return b"\r\n".join(lines) + b"\r\n\r\n"
