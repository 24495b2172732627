"""The one place that decides: which caller a key or a certificate is, and what that caller may do.

Owns the refusals, which reveal nothing about models: one that does not exist and one that the caller has no right to
are refused by the same sentence. Knows neither transports nor files: fronts hand in what came, and the server hands in
the entries. The fronts keep callers out who are not known; the dialects say, by `Context.require`, which right a call
needs for which model.

A key is looked up by its SHA-256, which the caller cannot choose; so the time the look-up takes tells nothing about the
digests. The digest that was found is then compared in constant time. Keys are kept nowhere.

The states of a Grant: in force, until the file no longer has its line, or until it expires; then over, for good. The
fronts end the streams that were opened before.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256

from estimator_serving.serving.access.key_file import NAME_CHARACTERS_MAX, Entry, Right
from estimator_serving.serving.errors import PermissionDeniedError, UnauthenticatedError

# The names of the headers, and of gRPC's metadata, that carry a key.
AUTHORIZATION, API_KEY = b"authorization", b"x-api-key"
_SCHEME = b"bearer "

MISSING_TEXT = "This server needs a key; send it as `Authorization: Bearer KEY` or as `x-api-key: KEY`."
WRONG_TEXT = "The key or the client's certificate is not valid here; ask the operator of this server for a key."
EXPIRED_TEXT = "The key or the client's certificate is no longer valid here; ask the operator of this server for a key."
OVER_TEXT = (
    "This stream has ended because its key or client's certificate was withdrawn, was changed or has expired; open it "
    "again with one that is valid."
)
SEVERAL_TEXT = "The request has several different keys, so the server cannot tell which of them counts; send one."


class Grant:
    """What one caller may do, by its entry."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.name = entry.name
        self._expires_s = None if entry.expires is None else entry.expires.timestamp()
        self._is_revoked = False
        self._everywhere = {right for right, names in entry.models.items() if "*" in names}
        if entry.metrics:
            self._everywhere.add(Right.METRICS)
        self._models = {
            right: re.compile("|".join(".*".join(map(re.escape, name.split("*"))) for name in names), re.DOTALL)
            for right, names in entry.models.items()
        }

    @property
    def is_over(self) -> bool:
        return self._is_revoked or (self._expires_s is not None and time.time() >= self._expires_s)

    def revoke(self) -> None:
        """Its line is gone."""
        self._is_revoked = True

    def may(self, right: Right, model: str | None = None) -> bool:
        """Whether the caller has a right for a model; without a model, for every one."""
        if self.is_over:
            return False
        if right in self._everywhere:
            return True
        names = self._models.get(right)
        # No model has a longer name, and a pattern could take long to look at one.
        if model is None or names is None or len(model) > NAME_CHARACTERS_MAX:
            return False
        return names.fullmatch(model) is not None

    def check(self, right: Right, model: str | None = None) -> None:
        """Raises PermissionDeniedError where the caller has no such right, whether or not the model exists, and
        UnauthenticatedError where the grant is over."""
        if self.is_over:
            raise UnauthenticatedError(EXPIRED_TEXT)
        if not self.may(right, model):
            whose = " for every model" if model is None else " for this model, whether or not there is one"
            whose = "" if right is Right.METRICS else whose
            raise PermissionDeniedError(
                f"This caller does not have the right `{right.value}`{whose}; ask the operator of this server for it."
            )


# Of a caller that is not known, where it need not be.
NOBODY = Grant(Entry("", "nobody"))


class Authorizer:
    """Knows the callers by their entries. Its methods may be called on any thread."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._by_digest: dict[bytes, tuple[bytes, Grant]] = {}
        self._by_certificate: dict[str, Grant] = {}
        self.replace(entries)

    def replace(self, entries: Sequence[Entry]) -> None:
        """Put other entries in force. The grants of those that are gone or changed are over."""
        before = [*(grant for _, grant in self._by_digest.values()), *self._by_certificate.values()]
        grants = {grant.entry.sha256 or grant.entry.certificate: grant for grant in before}
        kept = {}
        for entry in entries:
            known = grants.get(entry.sha256 or entry.certificate)
            kept[entry.sha256 or entry.certificate] = known if known and known.entry == entry else Grant(entry)
        digests = [(bytes.fromhex(grant.entry.sha256), grant) for grant in kept.values() if grant.entry.sha256]
        # Each table is replaced as a whole, so that a call on another thread finds the one or the other.
        self._by_digest = {found: (found, grant) for found, grant in digests}
        self._by_certificate = {name: grant for name, grant in kept.items() if grant.entry.certificate}
        still = set(map(id, kept.values()))
        for grant in grants.values():
            if id(grant) not in still:
                grant.revoke()

    @property
    def takes_certificates(self) -> bool:
        """Whether a caller may be known by a certificate instead of a key."""
        return bool(self._by_certificate)

    def identify(self, headers: Iterable[tuple[bytes, bytes]], certificate: Collection[str] = ()) -> Grant:
        """The caller of these headers (names in lower case); one that sends no key is known by its certificate.

        certificate: what the client's certificate says, as entries name it.

        Raises UnauthenticatedError.
        """
        key = None
        for name, value in headers:
            if name == AUTHORIZATION and value[: len(_SCHEME)].lower() == _SCHEME:
                value = value[len(_SCHEME) :].strip()
            elif name != API_KEY:
                continue
            if key is not None and key != value:
                raise UnauthenticatedError(SEVERAL_TEXT)
            key = value
        if key is None:
            table = self._by_certificate
            grants = [table[name] for name in certificate if name in table]
            if not grants:
                raise UnauthenticatedError(WRONG_TEXT if certificate and table else MISSING_TEXT)
            # A certificate has several names; the ones that are over do not hide another.
            return next((grant for grant in grants if not grant.is_over), None) or _in_force(grants[0])
        wanted = sha256(key).digest()
        found = self._by_digest.get(wanted)
        if found is None or not hmac.compare_digest(found[0], wanted):
            raise UnauthenticatedError(WRONG_TEXT)
        return _in_force(found[1])


def _in_force(grant: Grant) -> Grant:
    if grant.is_over:
        raise UnauthenticatedError(EXPIRED_TEXT)
    return grant
