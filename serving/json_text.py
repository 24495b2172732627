"""JSON text to Python values, for every REST dialect: quick where the text is strict JSON, tolerant where it is not.

Owns the limit on nesting and the tokens beyond strict JSON (NaN, Infinity) that TensorFlow's clients send. Knows no
tensor and no request.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

import orjson

from estimator_serving.serving.errors import InvalidArgumentError

DEPTH_MAX = 64
QUOTE_CHARACTERS_MAX = 256

_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_STRING_OR_INF = re.compile(r'"(?:[^"\\]|\\.)*"|-?\bInf\b', re.DOTALL)
_DECODER = json.JSONDecoder()


def parse(text: bytes) -> Any:
    """The first JSON value of a text; what follows it is ignored, as in TensorFlow Serving.

    Raises InvalidArgumentError for an empty text, bad JSON (with the offset), text that is not UTF-8, nesting too deep.
    """
    if text.count(b"[") + text.count(b"{") > DEPTH_MAX:
        check_depth(text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return _parse_tolerantly(text)


def check_depth(text: bytes) -> None:
    """Refuse nesting deeper than DEPTH_MAX before a parser meets it.

    Works on the text's brackets alone, by bytes methods that run at the speed of memory. Raises InvalidArgumentError.
    """
    if b"\\" in text:
        text = _ESCAPE.sub(b"", text)
    outside_strings = b"".join(text.translate(None, _NOT_STRUCTURE).split(b'"')[::2])
    if max(accumulate(map(_STEPS.__getitem__, outside_strings)), default=0) > DEPTH_MAX:
        raise InvalidArgumentError(f"JSON Parse error: nesting too deep; values may nest {DEPTH_MAX} levels.")


def quote(value: object) -> str:
    """A value as JSON for a message, cut short."""
    return json.dumps(value, ensure_ascii=True)[:QUOTE_CHARACTERS_MAX]


def kind(value: object) -> str:
    """The JSON type's word, as it stands in TensorFlow Serving's messages."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, str):
        return "String"
    return "Object" if isinstance(value, dict) else "Array" if isinstance(value, list) else "Number"


def _parse_tolerantly(text: bytes) -> Any:
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"JSON Parse error: Invalid encoding in string. at offset: {error.start}") from None
    stripped = decoded.lstrip(" \t\r\n")
    if not stripped:
        raise InvalidArgumentError("JSON Parse error: The document is empty")
    try:
        return _DECODER.raw_decode(_STRING_OR_INF.sub(_spell_out, stripped))[0]
    except json.JSONDecodeError as error:
        offset = error.pos + len(decoded) - len(stripped)
        raise InvalidArgumentError(f"JSON Parse error: Invalid value. at offset: {offset}") from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise InvalidArgumentError(f"JSON Parse error: {error}") from None


def _spell_out(match: re.Match[str]) -> str:
    token = match.group()
    return token if token[0] == '"' else f"{token}inity"
