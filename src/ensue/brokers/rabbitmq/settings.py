"""What a URL of RabbitMQ says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from ensue.brokers.address import Address
from ensue.errors import DeclarationError

SHORT = 255
"""Bytes of a name, a routing key, a message id and a content type in AMQP 0-9-1."""


@dataclass(frozen=True)
class Settings:
    """The address, and its options read."""

    address: Address
    exchange: str
    queue_type: str
    """Of a queue that is made: quorum or classic."""
    prefetch: int
    """How many messages a consumer may have fetched and not acknowledged."""

    @classmethod
    def of(cls, address: Address) -> Self:
        """Read the address. Raises `DeclarationError`."""
        address.check_options("exchange", "queue_type", "prefetch")
        exchange = address.options.get("exchange", "ensue")
        queue_type = address.options.get("queue_type", "quorum")
        prefetch = address.options.get("prefetch", "1000")
        if not exchange or len(exchange.encode()) > SHORT:
            raise DeclarationError(f"{address}: exchange= needs a name of at most {SHORT} bytes")
        if queue_type not in ("quorum", "classic"):
            raise DeclarationError(f"{address}: queue_type={queue_type!r}: quorum or classic")
        if not prefetch.isdecimal() or not 0 < int(prefetch) < 65536:
            raise DeclarationError(f"{address}: prefetch={prefetch!r}: a number of messages from 1 to 65535")
        return cls(address=address, exchange=exchange, queue_type=queue_type, prefetch=int(prefetch))
