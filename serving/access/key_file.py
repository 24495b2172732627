"""The file of keys: a line of JSON for each key or client certificate, with its rights.

Owns the form of the file, both ways, and how a key is made. The file holds digests, never keys: a key has 256 random
bits, so nothing slower or saltier than SHA-256 is needed to keep it from being found by trying. A whole file:

    # who may ask what
    {"name": "shop", "sha256": "9f86d081…", "predict": ["titanic", "iris-*"], "metadata": ["titanic"]}
    {"name": "prometheus", "certificate": "DNS:prometheus.example", "metrics": true}
    {"name": "deploy", "sha256": "60303ae2…", "management": ["*"], "expires": "2027-01-31T00:00:00+00:00"}
"""

from __future__ import annotations

import enum
import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

# Of a caller, and of a model that a caller may name.
NAME_CHARACTERS_MAX = 256
# Tells a key from other secrets, for the tools that look for secrets in places where they do not belong.
KEY_PREFIX = "es_"
_KEY_BYTES = 32
_SHA256 = re.compile(r"[0-9a-f]{64}")
# What of a client's certificate a line may name.
CERTIFICATE_FORMS = ("CN=", "SUBJECT:", "DNS:", "URI:", "EMAIL:", "IP:")


class KeyFileError(ValueError):
    """A line that is none; the text names the line and what is wrong with it."""


class Right(enum.StrEnum):
    """What a caller may be allowed. Each but METRICS is given for models."""

    PREDICT = "predict"
    METADATA = "metadata"
    MANAGEMENT = "management"
    METRICS = "metrics"


MODEL_RIGHTS = (Right.PREDICT, Right.METADATA, Right.MANAGEMENT)


@dataclass(frozen=True)
class Entry:
    """A line of the file. It has either a digest or a certificate.

    Attributes:
        name: of the caller, for logs.
        sha256: the digest of the key, in hexadecimal.
        certificate: what the client's certificate has to say, such as "DNS:host.example" or "CN=host".
        models: by right, the names of models or patterns in which * stands for any characters.
        metrics: whether the caller may read the metrics.
        expires: the moment from which on it is not valid, with a time zone; None for never.
    """

    name: str
    sha256: str = ""
    certificate: str = ""
    models: Mapping[Right, tuple[str, ...]] = field(default_factory=dict)
    metrics: bool = False
    expires: datetime | None = None


def make_key() -> str:
    """A new key, of random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def digest(key: bytes) -> str:
    """What the file holds of a key."""
    return hashlib.sha256(key).hexdigest()


def write_line(entry: Entry) -> str:
    """The line of an entry, without its end."""
    line: dict[str, Any] = {"name": entry.name}
    line |= {"sha256": entry.sha256} if entry.sha256 else {"certificate": entry.certificate}
    line |= {right.value: list(entry.models[right]) for right in MODEL_RIGHTS if entry.models.get(right)}
    if entry.metrics:
        line[Right.METRICS.value] = True
    if entry.expires is not None:
        line["expires"] = entry.expires.isoformat()
    return json.dumps(line)


def parse(text: str) -> list[Entry]:
    """The entries of a file. Empty lines and lines that begin with # say nothing.

    Raises KeyFileError.
    """
    entries = []
    seen: dict[str, int] = {}
    # By line feeds only: a JSON text may hold the other ends of lines that Python knows.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            entry = _parse_line(line)
        except (ValueError, RecursionError) as error:
            raise KeyFileError(f"Line {number} cannot be used: {error}") from None
        first = seen.setdefault(entry.sha256 or entry.certificate, number)
        if first != number:
            what = "key" if entry.sha256 else "certificate"
            raise KeyFileError(f"Lines {first} and {number} are for the same {what}; keep one of them.")
        entries.append(entry)
    return entries


def _parse_line(line: str) -> Entry:
    """Raises ValueError with what is wrong; the text quotes no digest."""
    try:
        members = json.loads(line, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not a JSON object ({error.msg}); make it with `estimator-serving key`.") from None
    if not isinstance(members, dict):
        raise ValueError("it is not a JSON object; make it with `estimator-serving key`.")
    known = {"name", "sha256", "certificate", "expires", *(right.value for right in Right)}
    if unknown := sorted(members.keys() - known):
        raise ValueError(f"it has {', '.join(unknown)}, which is unknown; a line may have {', '.join(sorted(known))}.")
    name, sha256, certificate = _read_caller(members)
    models = {}
    for right in MODEL_RIGHTS:
        names = members.get(right.value, [])
        if not isinstance(names, list) or not all(isinstance(one, str) and one for one in names):
            raise ValueError(f'its {right.value} has to be a list of models, such as ["titanic", "iris-*"].')
        if names:
            models[right] = tuple(names)
    metrics = members.get(Right.METRICS.value, False)
    if not isinstance(metrics, bool):
        raise ValueError("its metrics has to be true or false.")
    return Entry(name, sha256, certificate, models, metrics, read_moment(members.get("expires")))


def _read_caller(members: Mapping[str, Any]) -> tuple[str, str, str]:
    """Name, digest and certificate of a line. Raises ValueError."""
    name, sha256, certificate = (members.get(key, "") for key in ("name", "sha256", "certificate"))
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= NAME_CHARACTERS_MAX:
        raise ValueError(f"it needs a name of 1 to {NAME_CHARACTERS_MAX} printable characters.")
    if ("sha256" in members) == ("certificate" in members):
        raise ValueError("it needs one of sha256, for a key, and certificate, for a client's certificate.")
    if "sha256" in members and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
        raise ValueError("its sha256 is not 64 hexadecimal digits in lower case.")
    is_form = isinstance(certificate, str) and certificate.startswith(CERTIFICATE_FORMS) and certificate[-1] not in "=:"
    if "certificate" in members and not is_form:
        raise ValueError(
            f"its certificate has to begin with one of {' '.join(CERTIFICATE_FORMS)} and name something behind it."
        )
    return name, sha256, certificate


def read_moment(text: Any) -> datetime | None:
    """A moment, in UTC where the text names no time zone; None for None. Raises ValueError."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise ValueError(f"its expires is {text!r}; write a date, such as 2027-01-31, or a moment.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose members come once each: which of two would count, nobody could tell."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("it has a member twice; keep one.")
    return members
