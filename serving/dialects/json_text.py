"""JSON text to Python values, for every REST dialect: quickly if the text is strict JSON, tolerantly if it is not.

Owns the limit on nesting, the refusal of a key that an object has twice, the tokens beyond strict JSON (NaN, Infinity)
that TensorFlow's clients send, and {"b64": …}. Knows no tensor and no request.
"""

from __future__ import annotations

import base64
import binascii
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
_CONTAINERS = (dict, list)
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_ESCAPED = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
# A string without an end goes on to the end of the text: looking for its end from each of its quotes would take the
# square of its length.
_STRING_OR_INF = re.compile(r'"(?:[^"\\]|\\.)*"?|-?\bInf\b', re.DOTALL)
# A number ends where the decoder ends it, whatever follows: "1e400.0" has the number 1e400.
_STRING_OR_NUMBER = re.compile(r'"(?:[^"\\]|\\.)*"?|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?', re.DOTALL)


def parse(text: bytes) -> Any:
    """The first JSON value of a text; what follows it is ignored, as in TensorFlow Serving.

    Raises InvalidArgumentError for an empty text, bad JSON (with the offset), what is not Unicode, nesting too deep,
    and a key that an object has twice, because no parser can know which of the two is meant.
    """
    if text.count(b"[") + text.count(b"{") > DEPTH_MAX:
        check_depth(text)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return _parse_tolerantly(text)
    _check_keys(text, value)
    return value


def parse_strictly(text: bytes) -> Any:
    """The one JSON value of a text, by the letter of RFC 8259: nothing behind it, and neither NaN nor Infinity.

    Raises InvalidArgumentError as `parse` does, with the offset in bytes.
    """
    if text.count(b"[") + text.count(b"{") > DEPTH_MAX:
        check_depth(text)
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        what = error.msg.partition(":")[0]
        try:
            offset = len(text.decode()[: error.pos].encode())
        except UnicodeDecodeError as broken:
            offset = broken.start
        raise InvalidArgumentError(f"JSON Parse error: {what} at offset: {offset}") from None
    _check_keys(text, value)
    return value


def _check_keys(text: bytes, value: Any) -> None:
    """Refuse a key that an object has twice. value: what orjson made of the text."""
    colons = text.count(b":")
    # orjson keeps the last of two equal keys without a word. Nearly always every colon belongs to a key and keys are
    # few, so counting colons is enough. Python's parser finds the key.
    if (
        colons > (len(value) if type(value) is dict else 0)
        and colons > (members := _count_members(value))
        and len(_outside_strings(text, _ALL_BUT_COLONS)) > members
    ):
        json.loads(text, object_pairs_hook=_unique)


def check_depth(text: bytes) -> None:
    """Refuse nesting deeper than DEPTH_MAX before a parser meets it.

    Works only on the text's brackets, by bytes methods that run at the speed of memory. Raises InvalidArgumentError.
    """
    brackets = _outside_strings(text, _ALL_BUT_BRACKETS)
    if max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > DEPTH_MAX:
        raise InvalidArgumentError(f"JSON Parse error: nesting too deep; values may nest {DEPTH_MAX} levels.")


def quote(value: object) -> str:
    """A value as JSON for a message, cut short."""
    return json.dumps(value, ensure_ascii=True)[:QUOTE_CHARACTERS_MAX]


def kind(value: object) -> str:
    """The word for a JSON type in TensorFlow Serving's messages."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    if isinstance(value, str):
        return "String"
    return "Object" if isinstance(value, dict) else "Array" if isinstance(value, list) else "Number"


def is_base64(value: Any) -> bool:
    """Whether this is {"b64": …}: a JSON string's stand-in for bytes."""
    return isinstance(value, dict) and len(value) == 1 and "b64" in value


def read_base64(value: dict[str, Any]) -> bytes:
    """The bytes of {"b64": "…"}. Raises InvalidArgumentError."""
    text = value["b64"]
    if not isinstance(text, str):
        raise InvalidArgumentError(f"JSON Value: {quote(value)} not formatted correctly for base64 data")
    try:
        # Padding may be missing, as in TensorFlow Serving.
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidArgumentError("Unable to base64 decode") from None


def _outside_strings(text: bytes, dropped: bytes) -> bytes:
    """What is left of a text without its strings and without these characters, of which the quote is none."""
    if b"\\" in text:
        text = _ESCAPE.sub(b"", text)
    return b"".join(text.translate(None, dropped).split(b'"')[::2])


def _count_members(value: Any) -> int:
    """How many keys the objects of a value have together."""
    if type(value) is dict:
        return len(value) + sum([_count_members(one) for one in value.values() if type(one) in _CONTAINERS])
    return sum([_count_members(one) for one in value if type(one) in _CONTAINERS]) if type(value) is list else 0


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of its keys and values. Raises InvalidArgumentError for a key that comes twice."""
    members = dict(pairs)
    if len(members) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise InvalidArgumentError(f"JSON Parse error: an object has the key {quote(twice)} twice; send it once.")
    return members


class _TooBigError(ValueError):
    """A number that no double holds; its digits are the argument."""


def _read_integer(digits: str) -> int | float:
    """An integer as orjson and TensorFlow Serving's parser read it: a double if 64 bits do not hold it."""
    value = int(digits) if len(digits) <= INTEGER_CHARACTERS_MAX else math.inf
    return value if -(2**63) <= value < 2**64 else _read_float(digits)


def _read_float(digits: str) -> float:
    """Raises _TooBigError where Python would say infinity."""
    value = float(digits)
    if math.isinf(value):
        raise _TooBigError(digits)
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_read_integer, parse_float=_read_float)


def _parse_tolerantly(text: bytes) -> Any:
    """The value by Python's parser, which takes NaN and Infinity; TensorFlow's clients also write Inf."""
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
    except _TooBigError as error:
        # The first such number outside strings; any before it would have been told first.
        (digits,) = error.args
        at = next(m.start() for m in _STRING_OR_NUMBER.finditer(spelled, start) if m.group() == digits)
        raise _invalid("Number too big to be stored in double.", at, decoded) from None
    # Python's parser takes half of a character, as in "\\ud800"; no other does.
    high = None
    for escape in _ESCAPED.finditer(spelled, start, end):
        code = int(escape[1], 16) if escape[1] else 0
        is_low = 0xDC00 <= code < 0xE000
        if high and not (is_low and high.end() == escape.start()):
            break
        if is_low and not high:
            high = escape
            break
        high = escape if 0xD800 <= code < 0xDC00 else None
    if high:
        raise _invalid("The surrogate pair in string is invalid.", high.start(), decoded)
    return value


def _invalid(what: str, position: int, text: str) -> InvalidArgumentError:
    """The refusal of a text for what stands at a position of it with every Inf spelled out."""
    for match in _STRING_OR_INF.finditer(text):
        if match.end() > position:
            break
        position -= len(_spell_out(match)) - len(match.group())
    return InvalidArgumentError(f"JSON Parse error: {what} at offset: {len(text[:position].encode())}")


def _spell_out(match: re.Match[str]) -> str:
    token = match.group()
    return token if token[0] == '"' else f"{token}inity"
