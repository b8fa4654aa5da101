"""Relays: subscriptions that publish integration events to a broker, in windows of many messages in flight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ensue.brokers.broker import Broker, Outgoing, Refused, SignsBodies, partition_topic
from ensue.brokers.choosing import broker_at
from ensue.contracts.cloudevents import binary, source_of, structured
from ensue.errors import BrokerRefused, BrokerUnavailable, DeclarationError
from ensue.events import Event, IntegrationEvent, Recorded
from ensue.subscriptions import Backoff, Delivery, Hold, Outcome, Outlet, Park, Start, Subscription, partition_of

Topic = Callable[[type[IntegrationEvent]], str]
"""Names the topic of an event class."""
Mode = Literal["binary", "structured"]

_MANY = 2
"""Windows in flight at once, in each partition: one is written while the other is on its way."""
_LONGEST_HOLD = 30.0
_WRITERS = {"binary": binary, "structured": structured}


def topic_of(event: type[IntegrationEvent]) -> str:
    """Return the topic that an event class has unless the application names another: its wire type."""
    return event.__type__


@dataclass(frozen=True, slots=True)
class Relay:
    """What a relay is declared with."""

    url: str
    broker: Broker
    service: str
    topics: Mapping[str, str]
    """By wire type."""
    partitions: int
    mode: Mode

    def open(self) -> Publishing:
        """Begin to publish for a partition of the subscription."""
        return Publishing(self)

    def all_topics(self) -> list[str]:
        """Return every topic to which it publishes."""
        parts = 1 if self.broker.shares else self.partitions
        return [partition_topic(topic, part, parts) for topic in self.topics.values() for part in range(parts)]


def relay(
    url: str,
    types: tuple[type[IntegrationEvent], ...],
    service: str,
    *,
    name: str | None = None,
    topic: Topic = topic_of,
    partitions: int = 1,
    window: int = 500,
    mode: Mode | None = None,
    start: Start = "now",
    retry: Backoff = Backoff(),
) -> tuple[Relay, Subscription]:
    """Make a relay and its subscription; raise `DeclarationError` for what cannot be one."""
    broker = broker_at(url)
    label = name or "relay"  # not the broker's: who changes brokers goes on where the other one was
    topics: dict[str, str] = {}
    for each in types:
        if not (isinstance(each, type) and issubclass(each, IntegrationEvent) and hasattr(each, "__type__")):
            kind = (
                f"a {each.__kind__} event" if isinstance(each, type) and issubclass(each, Event) else "no event class"
            )
            raise DeclarationError(
                f"{label!r} publishes {getattr(each, '__qualname__', each)}, which is {kind}: only integration events "
                "leave the service. Make one of it with @app.translate(…)"
            )
        topics[each.__type__] = checked_topic(topic(each), each, label)
    if not isinstance(window, int) or window < 1:
        raise DeclarationError(f"{label!r}: window={window!r}: at least 1 message in flight")
    made = Relay(url, broker, service, topics, partitions, _checked_mode(mode, broker, label))
    subscription = Subscription(
        name=label,
        types=tuple(topics),
        opens=made.open,
        outlet=Outlet(broker.protocol, topics),
        batch=window,
        start=start,
        retry=retry,
        concurrency=_MANY,
        partitions=partitions,
        timeout=None,  # the broker's address has one
    )
    return made, subscription


def _checked_mode(mode: Mode | None, broker: Broker, label: str) -> Mode:
    if mode is not None and mode not in get_args(Mode):
        raise DeclarationError(f"{label!r}: mode={mode!r}: use 'binary' or 'structured'")
    if not isinstance(broker, SignsBodies):
        return mode or "binary"
    if mode == "binary":
        raise DeclarationError(
            f"{label!r}: mode='binary' writes the type, the source and the key as headers, and only the body "
            "of a webhook is signed: leave mode= out, and all of it is in the body"
        )
    return "structured"


def checked_topic(topic: object, event: type[IntegrationEvent], label: str) -> str:
    """Return a topic; raise `DeclarationError` for what cannot be one."""
    if not isinstance(topic, str) or not topic or not topic.isprintable() or " " in topic:
        raise DeclarationError(
            f"{label!r}: the topic of {event.__qualname__} is {topic!r}: it must be printable text without spaces. "
            "Name another one with topic=…, or pin the event's wire name with name=…"
        )
    return topic


class Publishing:
    """Publishes for one partition, over a connection of its own."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._publisher = relay.broker.publisher()
        self._source = source_of(relay.service)
        self._write = _WRITERS[relay.mode]
        self._opened = False
        self._failures = 0

    async def handle(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome | Exception | None]:
        """Publish; an event is done once the broker has it for good."""
        try:
            if not self._opened:
                await self._publisher.open(self._relay.all_topics())
                self._opened = True
            results = await self._publisher.publish([self._message(each.recorded) for each in deliveries])
        except (BrokerUnavailable, BrokerRefused) as error:
            self._opened = False
            return self._held(len(deliveries), str(error))
        sent = [each for each in results if each is None or each.sent]
        refused = [each for each in sent if each is not None and not each.permanent]
        if len(refused) == len(sent) > 1:
            after = max(each.after for each in refused)
            return self._held(len(results), f"it takes none of {len(sent)} messages: {refused[0].reason}", after)
        self._failures = 0
        return [None if each is None else _outcome(each) for each in results]

    def _message(self, recorded: Recorded[Any]) -> Outgoing:
        broker, topic = self._relay.broker, self._relay.topics[recorded.type]
        if self._relay.partitions > 1 and not broker.shares:
            topic = partition_topic(topic, partition_of(recorded.key, self._relay.partitions), self._relay.partitions)
        content_type, headers, body = self._write(recorded, self._source, broker.binding)
        return Outgoing(topic, recorded.key, recorded.id_text, content_type, headers, body)

    def _held(self, count: int, reason: str, after: float = 0.0) -> list[Outcome]:
        """Nothing is wrong with the events: wait, longer each time, and begin again with all of them."""
        wait = max(after, min(_LONGEST_HOLD, 0.5 * 2.0 ** min(self._failures, 10)))
        self._failures += 1
        return [Hold(wait, reason)] * count

    async def close(self) -> None:
        """Close the connection."""
        await self._publisher.close()


def _outcome(refused: Refused) -> Outcome | Exception:
    """Say what becomes of one message that was not taken while others were: only its key waits, if it was sent."""
    if not refused.sent:
        return Hold(refused.after, refused.reason)
    return Park(refused.reason) if refused.permanent else BrokerUnavailable(refused.reason, after=refused.after)
