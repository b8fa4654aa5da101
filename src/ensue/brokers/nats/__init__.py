"""NATS JetStream, over nats-py.

`nats://user:password@host:4222/STREAM`, or `tls://…`; several servers of a cluster are separated by commas. Topics are
subjects of one stream, `ensue` if none is named, which is made if it is not there. Servers from 2.9 on are known to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ensue.brokers.address import Address
from ensue.brokers.nats.consuming import NatsConsumer
from ensue.brokers.nats.link import Link
from ensue.brokers.nats.publishing import NatsPublisher
from ensue.brokers.nats.settings import Settings
from ensue.brokers.nats.stream import longest_age
from ensue.contracts import cloudevents
from ensue.contracts.cloudevents import Binding


class Nats:
    """NATS JetStream at an address. Raises `DeclarationError` for an address that means nothing to it."""

    protocol: ClassVar[str] = "nats"
    binding: ClassVar[Binding] = cloudevents.NATS
    shares: ClassVar[bool] = False

    def __init__(self, address: Address) -> None:
        self._settings = Settings.of(address)

    def __repr__(self) -> str:
        return f"Nats({self._settings.address})"

    def publisher(self) -> NatsPublisher:
        return NatsPublisher(self._settings)

    def consumer(self, topics: Sequence[str], group: str) -> NatsConsumer:
        return NatsConsumer(self._settings, topics, group)

    async def redelivers_for(self, topics: Sequence[str]) -> float | None:
        """Return for how long the stream keeps a message; None if it does so without end, or is not there yet.

        Consumers of ensue deliver until a message is acknowledged, and a new one begins anywhere in the stream.
        """
        link = await Link.open(self._settings)
        try:
            return await longest_age(link)
        finally:
            await link.close()


__all__ = ["Nats"]
