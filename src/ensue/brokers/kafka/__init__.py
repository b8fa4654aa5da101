"""Kafka, over aiokafka: an idempotent producer with acks=all, and a consumer group whose offsets follow the effects.

`kafka://host:9092,host:9092`, or `kafkas://user:password@host:9093` with TLS. A message counts as published when all
replicas in sync have it. Kafka divides the partitions of a topic among the consumers of a group; the key decides on the
partition, by the same function as in Kafka's own clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ensue.brokers.address import Address
from ensue.brokers.kafka.consuming import KafkaConsumer
from ensue.brokers.kafka.link import in_our_words
from ensue.brokers.kafka.publishing import KafkaPublisher
from ensue.brokers.kafka.settings import Settings
from ensue.brokers.kafka.topics import longest_retention
from ensue.contracts.cloudevents import KAFKA, Binding


class Kafka:
    """Kafka at an address. Raises `DeclarationError` for an address that means nothing to it."""

    protocol: ClassVar[str] = "kafka"
    binding: ClassVar[Binding] = KAFKA
    shares: ClassVar[bool] = True

    def __init__(self, address: Address) -> None:
        self._settings = Settings.of(address)

    def __repr__(self) -> str:
        return f"Kafka({self._settings.address})"

    def publisher(self) -> KafkaPublisher:
        return KafkaPublisher(self._settings)

    def consumer(self, topics: Sequence[str], group: str) -> KafkaConsumer:
        return KafkaConsumer(self._settings, topics, group)

    async def redelivers_for(self, topics: Sequence[str]) -> float | None:
        """Return the longest retention of the topics: who sets a group back reads all that is there.

        None if one is kept without end, or only compacted. Kafka removes whole segments, so some a little later.
        """
        async with in_our_words(self._settings):
            return await longest_retention(self._settings, topics)


__all__ = ["Kafka"]
