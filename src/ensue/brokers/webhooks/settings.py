"""What a URL of webhooks says."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from ensue.brokers.address import Address
from ensue.brokers.webhooks.signing import Secrets
from ensue.errors import DeclarationError

_OPTIONS = ("timeout", "ca", "cert", "key", "secret_env", "most")


@dataclass(frozen=True)
class Settings:
    """The address, and its options read."""

    address: Address
    most: int
    """Requests at a time."""
    signing: Secrets

    @classmethod
    def of(cls, address: Address) -> Self:
        """Read the address; the secrets are found in the environment variable that it names, separated by spaces.

        Raises `DeclarationError`, also if there is no secret: what is not signed can be sent by anybody.
        """
        most = address.options.get("most", "20")
        if not most.isdecimal() or int(most) < 1:
            raise DeclarationError(f"{address}: most={most!r}: a number of requests at a time, from 1 on")
        return cls(address, int(most), _from_environment(address))

    def url(self, topic: str) -> str:
        """Return where messages of a topic go: without what the URL says to us."""
        parts = urlsplit(self.address.url)
        kept = [(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True) if name not in _OPTIONS]
        path = parts.path.replace("{topic}", quote(topic, safe=""))
        netloc = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=netloc, path=path, query=urlencode(kept), fragment="").geturl()


def _from_environment(address: Address) -> Secrets:
    name = address.options.get("secret_env")
    if name is None:
        raise DeclarationError(f"{address}: name the environment variable that holds the secret: ?secret_env=NAME")
    if not (texts := os.environ.get(name, "").split()):
        raise DeclarationError(f"{address}: the environment variable {name} is not set; it holds the webhooks' secret")
    return Secrets(*texts)
