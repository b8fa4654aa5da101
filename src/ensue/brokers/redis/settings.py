"""What a URL of Redis says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ensue.brokers.address import Address
from ensue.errors import DeclarationError


@dataclass(frozen=True)
class Settings:
    """The address, and its options read."""

    address: Address
    database: int
    replicas: int
    """How many replicas have to have a message before it counts as published."""
    maxlen: int
    """About how many entries a stream keeps: the oldest go, whether they were read or not. 0: all."""

    @classmethod
    def of(cls, address: Address) -> Self:
        """Read the address. Raises `DeclarationError`."""
        address.check_options("replicas", "maxlen")
        if len(address.servers) > 1:
            raise DeclarationError(f"{address}: name one server; a cluster of Redis cannot be used")
        return cls(
            address=address,
            database=_number(address, "the database", address.path or "0"),
            replicas=_number(address, "replicas", address.options.get("replicas", "0")),
            maxlen=_number(address, "maxlen", address.options.get("maxlen", "0")),
        )


def _number(address: Address, what: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise DeclarationError(f"{address}: {what} is {text!r}: a whole number")
    return int(text)
