"""Which broker is meant: told by the scheme of its URL."""

from __future__ import annotations

from importlib import import_module

from ensue.brokers.address import Address
from ensue.brokers.broker import Broker
from ensue.errors import DeclarationError

_BROKERS = {
    "nats": ("nats", "Nats", "nats"),
    "tls": ("nats", "Nats", "nats"),
    "kafka": ("kafka", "Kafka", "kafka"),
    "kafkas": ("kafka", "Kafka", "kafka"),
    "amqp": ("rabbitmq", "RabbitMQ", "rabbitmq"),
    "amqps": ("rabbitmq", "RabbitMQ", "rabbitmq"),
    "redis": ("redis", "Redis", "redis"),
    "rediss": ("redis", "Redis", "redis"),
    "http": ("webhooks", "Webhooks", "webhooks"),
    "https": ("webhooks", "Webhooks", "webhooks"),
    "memory": ("memory", "Memory", ""),
}
"""By scheme: the adapter's file, its class, and the extra that installs its client."""


def broker_at(url: str) -> Broker:
    """Return the broker at a URL.

    Raises `DeclarationError` for a scheme that stands for none, for an option that it does not know, and if its client
    is not installed.
    """
    address = Address(url)
    if address.scheme not in _BROKERS:
        raise DeclarationError(f"{address}: no broker has the scheme {address.scheme!r}; use {', '.join(_BROKERS)}")
    module, name, extra = _BROKERS[address.scheme]
    try:
        found = import_module(f"ensue.brokers.{module}")
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("ensue"):
            raise
        raise DeclarationError(
            f"{address} needs {error.name}, which is not installed: pip install 'ensue[{extra}]'"
        ) from error
    broker: Broker = getattr(found, name)(address)
    return broker
