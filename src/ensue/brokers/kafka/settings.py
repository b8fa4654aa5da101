"""What a URL of Kafka says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from ensue.brokers.address import Address
from ensue.errors import DeclarationError

_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_COMPRESSIONS = ("none", "gzip", "snappy", "lz4", "zstd")


@dataclass(frozen=True)
class Settings:
    """The address, and its options read."""

    address: Address
    compression: str
    sasl: str
    """How a user logs in."""
    start: str
    """Where a group begins that has never committed: earliest or latest."""
    partitions: int
    """Of a topic that is made."""
    replication: int
    """Of a topic that is made; 0: on up to three of the brokers."""

    @classmethod
    def of(cls, address: Address) -> Self:
        """Read the address. Raises `DeclarationError`."""
        address.check_options("compression", "partitions", "replication", "sasl", "start")
        found = cls(
            address=address,
            compression=_one_of(address, "compression", _COMPRESSIONS),
            sasl=_one_of(address, "sasl", _MECHANISMS),
            start=_one_of(address, "start", ("earliest", "latest")),
            partitions=_count(address, "partitions", 8),
            replication=_count(address, "replication", 0),
        )
        if "sasl" in address.options and address.user is None:
            raise DeclarationError(f"{address}: sasl= needs a user and a password in the URL")
        if address.path:
            raise DeclarationError(f"{address}: the URL of Kafka has no path")
        return found

    @property
    def places(self) -> list[tuple[str, int]]:
        """The hosts and ports of the brokers that are named."""
        return self.address.places(9092)


def _one_of(address: Address, option: str, known: Sequence[str]) -> str:
    value = address.options.get(option, known[0])
    if value not in known:
        raise DeclarationError(f"{address}: {option}={value!r}: one of {', '.join(known)}")
    return value


def _count(address: Address, option: str, usual: int) -> int:
    value = address.options.get(option, str(usual))
    if not value.isdecimal() or (option in address.options and int(value) < 1):
        raise DeclarationError(f"{address}: {option}={value!r}: a number from 1 on")
    return int(value)
