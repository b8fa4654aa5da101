"""Receivers: what an application declares to handle messages of other services."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from ensue.brokers.broker import Pushes
from ensue.brokers.choosing import broker_at
from ensue.brokers.inbox import Calling, Effect, Inbox, Recording
from ensue.brokers.messages import kept_event, read_again
from ensue.brokers.receiving import Line, Receiving, Source
from ensue.brokers.relays import Topic, checked_topic, topic_of
from ensue.brokers.sweeping import Sweeping
from ensue.brokers.windows import watch
from ensue.errors import DeclarationError
from ensue.events import IntegrationEvent
from ensue.handlers import Function
from ensue.handlers.carrying import MakeTransaction
from ensue.log import Log
from ensue.subscriptions import Backoff, Beside, Delivery, Subscription, seconds

_SHORTEST_KEEP = 3600.0


@dataclass(frozen=True, slots=True)
class Receiver:
    """A receiver as it was declared, its subscription and its inbox."""

    subscription: Subscription
    source: Source
    inbox: Inbox


def receiver(
    function: Callable[..., Any] | None,
    types: tuple[type[IntegrationEvent], ...],
    log: Log,
    *,
    source: str,
    name: str,
    transaction: MakeTransaction,
    topic: Topic = topic_of,
    group: str | None = None,
    partitions: int = 1,
    batch: int = 200,
    keep: float | timedelta | str = "7d",
    retry: Backoff = Backoff(),
    timeout: float | timedelta | str | None = 60.0,
) -> Receiver:
    """Make a receiver; raise `DeclarationError` for what cannot be one."""
    for each in types:
        if not (isinstance(each, type) and issubclass(each, IntegrationEvent) and hasattr(each, "__type__")):
            raise DeclarationError(
                f"{name!r} receives {getattr(each, '__qualname__', each)}: only integration events come from other "
                "services"
            )
    if not isinstance(batch, int) or batch < 1:
        raise DeclarationError(f"{name!r}: batch={batch!r}: at least 1 message")
    if (known_for := seconds(keep)) < _SHORTEST_KEEP:
        raise DeclarationError(
            f"{name!r}: keep={keep!r}: keep the marks of what was received for an hour at least, and longer than the "
            "broker may deliver a message again"
        )
    broker = broker_at(source)
    limit = None if timeout is None else seconds(timeout)
    effect: Effect = (
        Recording(log) if function is None else Calling(log, Function(function, name, "the connection"), limit)
    )
    kept = kept_event(name)
    inbox = Inbox(log, name, kept.__type__, effect, transaction)
    wanted = frozenset(each.__type__ for each in types)
    origin = Source(
        broker,
        source,
        tuple(dict.fromkeys(checked_topic(topic(each), each, name) for each in types)),
        group or f"{log.place.app}.{name}",
        wanted,
        partitions,
        batch,
        known_for,
    )

    async def handle(delivery: Delivery) -> None:
        """Handle a message that was recorded because it could not be handled directly."""
        recorded = delivery.recorded
        await inbox.finish(read_again(recorded, wanted, name), recorded.id_text)

    def beside(first_slot: int, last_slot: int) -> Beside:
        if isinstance(broker, Pushes):
            return Sweeping(inbox, log, known_for) if first_slot == 0 else Receiving([], None)
        held = origin.held(first_slot, last_slot)
        lines = [Line(origin, inbox, log, topics, group) for topics, group in held]
        return Receiving(lines, partial(watch, name, origin) if first_slot == 0 else None)  # one of them is enough

    subscription = Subscription(
        name=name,
        types=(kept.__type__,),
        handle=handle,
        beside=beside,
        retry=retry,
        partitions=partitions,
        timeout=limit,
    )
    return Receiver(subscription, origin, inbox)
