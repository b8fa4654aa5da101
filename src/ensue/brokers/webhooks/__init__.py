"""Webhooks: events POSTed to a URL as CloudEvents over HTTP, signed by the Standard Webhooks convention.

Headers are not signed: so events travel in structured mode, where all of their attributes are in the body. `receive` is
the other end, `Receiver` is that end as an ASGI application, and `App.webhooks` one that leads to an inbox.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from ensue.brokers.address import Address
from ensue.brokers.broker import Consumer
from ensue.brokers.webhooks.endpoint import Endpoint, Receiver, receive
from ensue.brokers.webhooks.publishing import WebhookPublisher
from ensue.brokers.webhooks.settings import Settings
from ensue.brokers.webhooks.signing import TOLERANCE, Secrets, new_secret
from ensue.contracts.cloudevents import HTTP, Binding
from ensue.errors import DeclarationError


class Webhooks:
    """A receiver at `https://host/path?secret_env=NAME`; `{topic}` in the path stands for the message's topic.

    Raises `DeclarationError` for an address that means nothing to it, or without a secret.
    """

    protocol: ClassVar[str] = "http"
    binding: ClassVar[Binding] = HTTP
    shares: ClassVar[bool] = False
    signs_bodies: ClassVar[Literal[True]] = True

    def __init__(self, address: Address) -> None:
        self._settings = Settings.of(address)

    def __repr__(self) -> str:
        return f"Webhooks({self._settings.address})"

    @property
    def signing(self) -> Secrets:
        """The secrets that are accepted of those who send to this address."""
        return self._settings.signing

    def publisher(self) -> WebhookPublisher:
        return WebhookPublisher(self._settings)

    def consumer(self, topics: Sequence[str], group: str) -> Consumer:
        """Raise `DeclarationError`: nothing can be fetched, webhooks come by themselves."""
        raise DeclarationError(
            f"{self._settings.address}: webhooks cannot be fetched: they are sent to you. Mount app.webhooks(…) in "
            "your web application, or ensue.brokers.webhooks.Receiver for a function of your own"
        )


__all__ = ["TOLERANCE", "Endpoint", "Receiver", "Secrets", "Webhooks", "new_secret", "receive"]
