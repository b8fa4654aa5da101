"""RabbitMQ, over aio-pika: a topic exchange to publish to, and a durable queue for each group to read from.

`amqp://user:password@host:5672/vhost?exchange=ensue`, or `amqps://…`; the whole path is the virtual host. A message
counts as published when RabbitMQ has confirmed it (quorum queues: by most of the nodes; classic ones: on disk) and at
least one queue has it. A connection is made anew by the next call after it is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ensue.brokers.address import Address
from ensue.brokers.rabbitmq.consuming import RabbitMQConsumer
from ensue.brokers.rabbitmq.publishing import RabbitMQPublisher
from ensue.brokers.rabbitmq.settings import Settings
from ensue.contracts.cloudevents import AMQP, Binding


class RabbitMQ:
    """RabbitMQ at an address. Raises `DeclarationError` for an address that means nothing to it."""

    protocol: ClassVar[str] = "amqp"
    binding: ClassVar[Binding] = AMQP
    shares: ClassVar[bool] = False

    def __init__(self, address: Address) -> None:
        self._settings = Settings.of(address)

    def __repr__(self) -> str:
        return f"RabbitMQ({self._settings.address})"

    @property
    def exchange(self) -> str:
        return self._settings.exchange

    def publisher(self) -> RabbitMQPublisher:
        return RabbitMQPublisher(self._settings)

    def consumer(self, topics: Sequence[str], group: str) -> RabbitMQConsumer:
        return RabbitMQConsumer(self._settings, topics, group)


__all__ = ["RabbitMQ"]
