"""What a URL of NATS says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from ensue.brokers.address import Address
from ensue.errors import DeclarationError

_NAME = re.compile(r"[^\s.*>/\\\x00-\x1f\x7f]{1,255}").fullmatch


@dataclass(frozen=True)
class Settings:
    """The address, and its options read."""

    address: Address
    stream: str
    duplicates: float | None
    """Seconds in which the stream drops a second message of an id; None: as it is, 120 for one that is made."""
    replicas: int | None
    """How many servers of a cluster hold the stream; None: as it is, 1 for one that is made."""
    max_age: float
    """Seconds after which a stream that is made forgets a message; 0: never."""
    max_bytes: int
    """How large a stream that is made may become: it is full then, and takes no more; -1: any size."""
    max_ack_pending: int
    """How many messages a consumer may have fetched and not acknowledged."""
    domain: str | None
    """The JetStream domain, of a leaf node's."""

    @classmethod
    def of(cls, address: Address) -> Self:
        """Read the address. Raises `DeclarationError`."""
        address.check_options(
            "duplicates", "replicas", "max_age", "max_bytes", "max_ack_pending", "domain", "token", "creds"
        )
        if address.user is not None and address.password is None:
            where = f"{address.scheme}://{','.join(address.servers)}/{address.path}"
            raise DeclarationError(f"{where}: a user needs a password; a token is written as the option token=…")
        stream = address.path or "ensue"
        if _NAME(stream) is None:
            raise DeclarationError(
                f"{address}: {stream!r} cannot be the name of a stream: no spaces, dots, * > / or \\"
            )
        return cls(
            address=address,
            stream=stream,
            duplicates=_number(address, "duplicates"),
            replicas=_whole(address, "replicas"),
            max_age=_number(address, "max_age") or 0,
            max_bytes=_whole(address, "max_bytes") or -1,
            max_ack_pending=_whole(address, "max_ack_pending") or 10_000,
            domain=address.options.get("domain"),
        )


def _number(address: Address, option: str) -> float | None:
    text = address.options.get(option)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 < number < 10**9:
        raise DeclarationError(f"{address}: {option}={text!r}: a number above 0")
    return number


def _whole(address: Address, option: str) -> int | None:
    text = address.options.get(option)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise DeclarationError(f"{address}: {option}={text!r}: a whole number above 0")
    return int(text)
