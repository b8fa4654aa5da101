"""Where a broker is: its URL, taken apart, and how it is shown."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ensue.errors import DeclarationError

_COMMON = frozenset(("timeout", "ca", "cert", "key"))


@dataclass(frozen=True)
class Address:
    """A broker's URL. Raises `DeclarationError` for one that cannot be read; its text never shows the password.

    Options stand in the query. Every broker knows `timeout`, the seconds after which a message that has not been
    acknowledged counts as refused (30), and for TLS `ca`, `cert` and `key`, paths of PEM files.
    """

    url: str

    def __post_init__(self) -> None:
        try:
            valid = all(_server(each).hostname for each in self.servers)
            _ = [_server(each).port for each in self.servers]
        except ValueError:
            valid = False
        if not valid:  # and may hold a password in a place where it cannot be found
            raise DeclarationError("that is not the URL of a broker: write it as nats://host:4222")
        try:
            if not 0 < self.timeout < float("inf"):
                raise ValueError
        except ValueError:
            raise DeclarationError(
                f"{self}: timeout={self.options['timeout']!r}: a number of seconds above 0"
            ) from None

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        who = f"{parts.username}@" if parts.username else ""
        where = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{who}{where}{parts.path}"

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme

    @property
    def host(self) -> str:
        """The first server's name."""
        return _server(self.servers[0]).hostname or ""

    def port(self, usual: int) -> int:
        """Return the first server's port, the usual one if none is named."""
        return _server(self.servers[0]).port or usual

    @property
    def servers(self) -> list[str]:
        """Host and port of each server, as written: a cluster's are separated by commas."""
        return urlsplit(self.url).netloc.rpartition("@")[2].split(",")

    def places(self, usual: int) -> list[tuple[str, int]]:
        """Return host and port of each server, with the usual port where none is named."""
        parts = [_server(each) for each in self.servers]
        return [(part.hostname or "", part.port or usual) for part in parts]

    @property
    def user(self) -> str | None:
        name = urlsplit(self.url).username
        return None if name is None else unquote(name)

    @property
    def password(self) -> str | None:
        word = urlsplit(self.url).password
        return None if word is None else unquote(word)

    @property
    def path(self) -> str:
        """The path without its first slash."""
        return unquote(urlsplit(self.url).path.removeprefix("/"))

    @cached_property
    def options(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))

    def check_options(self, *known: str) -> None:
        """Raise `DeclarationError` for an option that this broker does not know."""
        if unknown := self.options.keys() - _COMMON - set(known):
            names = ", ".join(sorted(_COMMON | set(known)))
            raise DeclarationError(f"{self}: unknown option {', '.join(sorted(unknown))}; there are {names}")

    @property
    def timeout(self) -> float:
        return float(self.options.get("timeout", "30"))

    def tls(self) -> ssl.SSLContext:
        """Return the context for a TLS connection. Raises `DeclarationError` for files that cannot be read."""
        try:
            context = ssl.create_default_context(cafile=self.options.get("ca"))
            if "cert" in self.options:
                context.load_cert_chain(self.options["cert"], self.options.get("key"))
        except (OSError, ssl.SSLError) as error:
            raise DeclarationError(f"{self}: ca, cert or key cannot be read: {error}") from error
        return context


def _server(text: str) -> SplitResult:
    """Take one of the servers apart; several of them in a URL are more than `urlsplit` knows."""
    return urlsplit(f"//{text}")
