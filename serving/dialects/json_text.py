"""JSON text to Python values, for every REST dialect: quick where the text is strict JSON, tolerant where it is not.

Owns the limit on nesting, that no object has a key twice, and the tokens beyond strict JSON (NaN, Infinity) that
TensorFlow's clients send. Knows no tensor and no request.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from itertools import accumulate
from typing import Any

import orjson

from estimator_serving.serving.errors import InvalidArgumentError

DEPTH_MAX = 64
QUOTE_CHARACTERS_MAX = 256
INTEGER_CHARACTERS_MAX = 20  # of the longest integer in 64 bits

_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b'[]{}"'))
_ALL_BUT_COLONS = bytes(set(range(256)) - set(b':"'))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_ESCAPED = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
# A string without an end goes on to the end of the text: looking for its end from each of its quotes would take the
# square of its length.
_STRING_OR_INF = re.compile(r'"(?:[^"\\]|\\.)*"?|-?\bInf\b', re.DOTALL)


def parse(text: bytes) -> Any:
    """The first JSON value of a text; what follows it is ignored, as in TensorFlow Serving.

    Raises InvalidArgumentError for an empty text, bad JSON (with the offset), what is not Unicode, nesting too deep,
    and a key that an object has twice: which of the two is meant, no parser can know.
    """
    if text.count(b"[") + text.count(b"{") > DEPTH_MAX:
        check_depth(text)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return _parse_tolerantly(text)
    colons = text.count(b":")
    # Nearly always every colon belongs to a key, and there are few keys.
    if colons > (len(value) if type(value) is dict else 0) and colons > (members := _count_members(value)):
        _check_keys(text, members)
    return value


def check_depth(text: bytes) -> None:
    """Refuse nesting deeper than DEPTH_MAX before a parser meets it.

    Works on the text's brackets alone, by bytes methods that run at the speed of memory. Raises InvalidArgumentError.
    """
    brackets = _outside_strings(text, _ALL_BUT_BRACKETS)
    if max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > DEPTH_MAX:
        raise InvalidArgumentError(f"JSON Parse error: nesting too deep; values may nest {DEPTH_MAX} levels.")


def _outside_strings(text: bytes, dropped: bytes) -> bytes:
    """What is left of a text without its strings and without these characters, of which the quote is none."""
    if b"\\" in text:
        text = _ESCAPE.sub(b"", text)
    return b"".join(text.translate(None, dropped).split(b'"')[::2])


_CONTAINERS = (dict, list)


def _count_members(value: Any) -> int:
    """How many keys the objects of a value have together."""
    if type(value) is dict:
        return len(value) + sum([_count_members(one) for one in value.values() if type(one) in _CONTAINERS])
    return sum([_count_members(one) for one in value if type(one) in _CONTAINERS]) if type(value) is list else 0


def _check_keys(text: bytes, members: int) -> None:
    """Refuse a text with more keys than its value has members: orjson keeps the last of two without a word."""
    if len(_outside_strings(text, _ALL_BUT_COLONS)) > members:
        json.loads(text, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise InvalidArgumentError(f"JSON Parse error: an object has the key {quote(twice)} twice; send it once.")
    return members


def _read_integer(digits: str) -> int | float:
    """As orjson and TensorFlow Serving's parser read it: what 64 bits do not hold is a double."""
    value = int(digits) if len(digits) <= INTEGER_CHARACTERS_MAX else math.inf
    return value if -(2**63) <= value < 2**64 else float(digits)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_read_integer)


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
    start = len(decoded) - len(decoded.lstrip(" \t\r\n"))
    if start == len(decoded):
        raise InvalidArgumentError("JSON Parse error: The document is empty")
    spelled = _STRING_OR_INF.sub(_spell_out, decoded)
    try:
        value, end = _DECODER.raw_decode(spelled, start)
    except json.JSONDecodeError as error:
        raise _invalid("Invalid value.", error.pos, decoded) from None
    if (position := _lone_surrogate(spelled, start, end)) is not None:
        raise _invalid("The surrogate pair in string is invalid.", position, decoded)
    return value


def _lone_surrogate(text: str, start: int, end: int) -> int | None:
    """Where an escape stands for half of a character, as in "\\ud800": Python's parser takes it, and nothing else."""
    high = None
    for escape in _ESCAPED.finditer(text, start, end):
        code = int(escape[1], 16) if escape[1] else 0
        is_low = 0xDC00 <= code < 0xE000
        if high and not (is_low and high.end() == escape.start()):
            return high.start()
        if is_low and not high:
            return escape.start()
        high = escape if 0xD800 <= code < 0xDC00 else None
    return high.start() if high else None


def _invalid(what: str, position: int, text: str) -> InvalidArgumentError:
    """The refusal of a text for what stands at a position of it with every Inf spelled out."""
    offset = len(text[: _came_from(position, text)].encode())
    return InvalidArgumentError(f"JSON Parse error: {what} at offset: {offset}")


def _came_from(position: int, text: str) -> int:
    """Where a character of the text with every Inf spelled out stands in the text as it came."""
    for match in _STRING_OR_INF.finditer(text):
        if match.end() > position:
            break
        position -= len(_spell_out(match)) - len(match.group())
    return position


def _spell_out(match: re.Match[str]) -> str:
    token = match.group()
    return token if token[0] == '"' else f"{token}inity"
