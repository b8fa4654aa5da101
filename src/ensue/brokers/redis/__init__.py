"""Redis Streams, over redis-py; Valkey and others that speak its protocol too.

`redis://user:password@host:6379/0`, or `rediss://…`. A topic is a stream of its name; one server, no cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ensue.brokers.address import Address
from ensue.brokers.redis.consuming import RedisConsumer
from ensue.brokers.redis.publishing import RedisPublisher
from ensue.brokers.redis.settings import Settings
from ensue.contracts import cloudevents
from ensue.contracts.cloudevents import Binding


class Redis:
    """Redis Streams at an address. Raises `DeclarationError` for an address that means nothing to it."""

    protocol: ClassVar[str] = "redis"
    binding: ClassVar[Binding] = cloudevents.REDIS
    shares: ClassVar[bool] = False

    def __init__(self, address: Address) -> None:
        self._settings = Settings.of(address)

    def __repr__(self) -> str:
        return f"Redis({self._settings.address})"

    def publisher(self) -> RedisPublisher:
        return RedisPublisher(self._settings)

    def consumer(self, topics: Sequence[str], group: str) -> RedisConsumer:
        return RedisConsumer(self._settings, topics, group)


__all__ = ["Redis"]
