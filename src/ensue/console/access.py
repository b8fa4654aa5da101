"""Who may see and do what: visitors with roles, and the hooks that recognise them."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from starlette.requests import HTTPConnection

from ensue.errors import ConsoleRefused

Role = Literal["see", "operate", "administer"]
"""`see` looks; `operate` also retries, pauses, replays; `administer` also does what cannot be taken back."""

_ORDER = get_args(Role)
COOKIE = "ensue_session"
_LASTS = 12 * 3600
"""Seconds for which a browser stays signed in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Somebody who uses the console."""

    name: str
    """Stands in the audit as the actor."""
    role: Role = "see"
    payloads: bool = True
    """May see what events, states and errors hold, and search in it."""

    def may(self, role: Role) -> bool:
        """Tell whether the visitor has a role, or a higher one."""
        return _ORDER.index(self.role) >= _ORDER.index(role)


Recognise = Callable[[HTTPConnection], "Visitor | Awaitable[Visitor | None] | None"]
"""Says who sends a request; None: nobody who may see anything. It may be sync or async."""


def loopback(connection: HTTPConnection) -> Visitor | None:
    """Let in whoever sits at this machine, with every right; nobody else, and no one who comes through a proxy."""
    headers = connection.headers
    if connection.client is None or any(name in _PROXIES or name.startswith("x-forwarded-") for name in headers):
        return None
    if not _is_loopback(connection.client.host) or not _is_loopback(host_of(headers.get("host", ""))):
        return None
    return Visitor(name="local", role="administer")


_PROXIES = ("forwarded", "via", "x-real-ip")


def host_of(authority: str) -> str:
    """Return the host of a `Host` header, without its port."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host in ("localhost", "testclient"):
        return host == "localhost"
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Token:
    """A secret, and whose it is."""

    secret: str
    visitor: Visitor


class Tokens:
    """Lets in whoever knows a secret: in the header `Authorization: Bearer …`, or, in a browser, by signing in.

    A browser gets a cookie that is signed with the secret: it ends after twelve hours, or when the secret is taken
    away. Raises `ConsoleRefused` for secrets that are too short, or given twice.
    """

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = tuple(tokens)
        for each in self._tokens:
            if len(each.secret) < 16:
                raise ConsoleRefused(f"the token of {each.visitor.name!r} has fewer than 16 characters: make it longer")
        for name, what in (("name", [each.visitor.name for each in self._tokens]), ("secret", self._secrets())):
            if len(set(what)) < len(what):
                raise ConsoleRefused(f"two tokens have the same {name}")

    def _secrets(self) -> list[str]:
        return [each.secret for each in self._tokens]

    @classmethod
    def read(cls, path: str | Path) -> Tokens:
        """Read a file with a line for each token: name, role, secret, and `no-payloads` if they are to be hidden."""
        try:
            lines = Path(path).read_text("utf-8").splitlines()
        except OSError as error:
            raise ConsoleRefused(f"the tokens in {path} cannot be read: {error.strerror}") from error
        words = [(number, line.split()) for number, line in enumerate(lines, 1) if line.split("#")[0].strip()]
        return cls(_token(each, f"{path}, line {number}") for number, each in words)

    def __call__(self, connection: HTTPConnection) -> Visitor | None:
        """Recognise a visitor by the header, or by the cookie."""
        kind, _, secret = connection.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.holder(secret.strip())
        return self._signed_in(connection.cookies.get(COOKIE, ""))

    def holder(self, secret: str) -> Visitor | None:
        """Return whose secret it is; all are compared, so that time tells nothing."""
        found = [each for each in self._tokens if hmac.compare_digest(each.secret.encode(), secret.encode())]
        return found[0].visitor if found else None

    def session(self, secret: str) -> str:
        """Return the cookie that stands for a secret."""
        until = f"{int(time.time()) + _LASTS}"
        return f"{until}.{_sign(secret, until)}"

    def _signed_in(self, cookie: str) -> Visitor | None:
        until, _, signature = cookie.partition(".")
        if not until.isdecimal() or len(until) > 12 or int(until) < time.time() or not signature.isascii():
            return None
        found = [each for each in self._tokens if hmac.compare_digest(_sign(each.secret, until), signature)]
        return found[0].visitor if found else None


def _sign(secret: str, text: str) -> str:
    return hmac.new(secret.encode(), b"ensue console " + text.encode(), hashlib.sha256).hexdigest()


def _token(words: list[str], where: str) -> Token:
    if len(words) not in (3, 4) or words[1] not in _ORDER or (len(words) == 4 and words[3] != "no-payloads"):
        raise ConsoleRefused(f"{where}: write a name, {', '.join(_ORDER[:-1])} or {_ORDER[-1]}, a secret [no-payloads]")
    role: Role = next(each for each in _ORDER if each == words[1])
    return Token(words[2], Visitor(name=words[0], role=role, payloads=len(words) == 3))
