"""What a service publishes and what it reads, without knowing any broker."""

from __future__ import annotations

from dataclasses import dataclass

from ensue.events import IntegrationEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """An event that a service publishes, and where."""

    event: type[IntegrationEvent]
    channel: str | None = None
    """The subject, topic, routing key, stream or path; None as long as no relay is declared for it."""
    protocol: str | None = None
    """`nats`, `kafka`, `amqp`, `redis` or `http`. It differs from place to place and is in no contract file."""
    address: str | None = None
    """The broker's host and port, without credentials. Likewise."""
    exchange: str | None = None
    """The exchange, for AMQP. Likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An event of another service that a service reads, and from where."""

    event: type[IntegrationEvent]
    channel: str | None = None
    source: str | None = None
    """The broker's URL, without credentials. It differs from place to place and is in no contract file."""
    consumer: str | None = None
    """The name under which it is read: the consumer group, the durable consumer, or the queue."""
    exchange: str | None = None
    """The exchange to which the queue is bound, for AMQP. It is in no contract file."""

    @property
    def protocol(self) -> str | None:
        """The protocol of the source: `nats`, `kafka`, `amqp`, `redis` or `http`."""
        if self.source is None:
            return None
        scheme = self.source.partition(":")[0].partition("+")[0]
        return _PROTOCOLS.get(scheme, scheme)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service as others see it."""

    name: str
    publishes: tuple[Publication, ...] = ()
    reads: tuple[Reading, ...] = ()


_PROTOCOLS = {"https": "http", "amqps": "amqp", "rediss": "redis", "tls": "nats"}
