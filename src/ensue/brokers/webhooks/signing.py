"""Signing by the Standard Webhooks convention, https://www.standardwebhooks.com.

`webhook-id` is the event's id, the same for every attempt; `webhook-signature` holds HMAC-SHA256 of id, time and body
for each secret that counts. Headers are not signed.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from ensue.contracts.cloudevents import Headers
from ensue.errors import DeclarationError, UnverifiedMessage

TOLERANCE = timedelta(minutes=5)
"""How far the time of a signature may be from the receiver's: one that was overheard is of no use for longer."""

_PREFIX = "whsec_"


def new_secret() -> str:
    """Make a secret to be shared with a receiver."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


class Secrets:
    """The secrets that sign, or that are accepted: more than one while one is replaced. It is never shown."""

    def __init__(self, *texts: str) -> None:
        """Take secrets as `whsec_…`, base64 after the prefix. Raises `DeclarationError` for one that is none."""
        if not texts:
            raise DeclarationError("webhooks need at least one secret")
        self._keys = [_key(text) for text in texts]

    def __repr__(self) -> str:
        return f"<{len(self._keys)} secrets>"

    def sign(self, id: str, at: datetime, body: bytes) -> dict[str, str]:
        """Return the headers that say who sent a body, and when."""
        moment = str(int(at.timestamp()))
        content = b"%s.%s.%s" % (id.encode(), moment.encode(), body)
        signatures = " ".join(f"v1,{_signature(key, content)}" for key in self._keys)
        return {"webhook-id": id, "webhook-timestamp": moment, "webhook-signature": signatures}

    def verify(
        self, headers: Headers, body: bytes, *, now: datetime | None = None, tolerance: timedelta = TOLERANCE
    ) -> str:
        """Return the id under which a body was signed. Raises `UnverifiedMessage` if it was not, or not lately."""
        id, moment, signatures = (header_of(headers, f"webhook-{name}") for name in ("id", "timestamp", "signature"))
        if not id or not moment or not signatures:
            raise UnverifiedMessage("the request is not signed: webhook-id, -timestamp or -signature is missing")
        if not (moment.isascii() and moment.isdecimal() and len(moment) < 12):
            raise UnverifiedMessage("webhook-timestamp is no number of seconds")
        age = (now or datetime.now(UTC)) - datetime.fromtimestamp(int(moment), UTC)
        if abs(age) > tolerance:
            raise UnverifiedMessage(f"the request was signed {age.total_seconds():.0f} s ago: it may be a repeated one")
        content = b"%s.%s.%s" % (id.encode(), moment.encode(), body)
        given = [
            text.encode() for version, _, text in (s.partition(",") for s in signatures.split()) if version == "v1"
        ]
        fits = [hmac.compare_digest(_signature(key, content).encode(), text) for key in self._keys for text in given]
        if not any(fits):
            raise UnverifiedMessage("no signature of the request fits one of the secrets")
        return id


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text.strip().removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < 16:
        raise DeclarationError(
            f"a secret of webhooks is {_PREFIX} and base64 of 24 to 64 bytes; new_secret() makes one"
        )
    return key


def _signature(key: bytes, content: bytes) -> str:
    return base64.b64encode(hmac.digest(key, content, "sha256")).decode()


def header_of(headers: Headers, name: str) -> str | None:
    """Return the value of a header, whatever the case of its name; None if it is not there."""
    pairs = cast("Iterable[tuple[Any, Any]]", headers.items() if isinstance(headers, Mapping) else headers)
    for found, value in pairs:
        if (found.decode("latin-1") if isinstance(found, bytes) else str(found)).lower() == name:
            return value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return None
