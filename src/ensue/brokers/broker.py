"""What ensue needs of a broker: a few methods for each direction, and no more.

An adapter is a thin layer over the client that the broker's users use. It knows nothing of logs, subscriptions or
events: it carries messages, and says of each whether the broker has it for good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import msgspec

from ensue.contracts.cloudevents import Binding


class Outgoing(msgspec.Struct, frozen=True, gc=False):
    """A message to be published."""

    topic: str
    """The subject, topic, routing key, stream or path."""
    key: str
    """What order is kept by: the broker's partition key, where it has one."""
    id: str
    """The same for every attempt: the broker drops a second one by it, where it can."""
    content_type: str
    headers: dict[str, str]
    """Ready for the protocol: with its prefix, and with the content type where that is a header."""
    body: bytes


class Refused(msgspec.Struct, frozen=True):
    """The broker does not take this message; others may have been taken."""

    reason: str
    permanent: bool = False
    """Trying again is no use: the message is too large, or its topic may not exist."""
    after: float = 0.0
    """Seconds before which the broker does not want to be asked again, where it says so."""
    sent: bool = True
    """False: it was kept back, since the broker has asked to wait; nothing is known against this message."""


class Incoming(msgspec.Struct, gc=False):
    """A message as it came."""

    topic: str
    key: str | None
    """The broker's own key, where it has one."""
    content_type: str | None
    """Where the protocol has no header for it."""
    headers: Mapping[str, Any] | Sequence[tuple[str, Any]]
    body: bytes
    handle: Any
    """The adapter's own: how it acknowledges this message."""


class Publisher(Protocol):
    """Publishes over one connection, which comes back after an outage."""

    async def open(self, topics: Sequence[str]) -> None:
        """Connect, and make what the topics need so that nothing published is lost, if it is not there yet.

        Idempotent. Raises `BrokerUnavailable` if it may succeed later, `BrokerRefused` if somebody has to mend
        something: wrong credentials, no permission, a stream of that name that does not fit.
        """
        ...

    async def publish(self, messages: Sequence[Outgoing]) -> list[Refused | None]:
        """Publish all, many in flight at once; return for each None once the broker has it for good, or why not.

        No two messages of a call have one key. It never takes longer than the address's `timeout`: what has not been
        acknowledged by then is refused, though the broker may have it. Raises `BrokerUnavailable` if the connection is
        gone and it is not known what the broker has: the caller publishes all of them again, under the same ids. It
        connects again by itself with the next call, which may raise as `open` does. Calls may overlap.
        """
        ...

    async def close(self) -> None:
        """Close the connection; idempotent."""
        ...


class Consumer(Protocol):
    """Reads the messages of one partition, in order, over one connection, which comes back after an outage.

    At most one process at a time opens the consumer of a partition, unless the broker itself shares partitions among
    the members of a group (`Broker.shares`).
    """

    async def prepare(self) -> list[str]:
        """Make what keeps messages for this reader, before it reads for the first time, and leave.

        Return what was made, in words; nothing if it was all there. One that reads meanwhile does not notice. Only for
        a consumer that is not open. Raises as `Publisher.open`.
        """
        ...

    async def open(self) -> None:
        """Connect, and make the durable consumer, group or queue if it is not there yet. Raises as `Publisher.open`."""
        ...

    async def fetch(self, most: int, wait: float) -> list[Incoming]:
        """Return the next messages, as soon as there is one; none after so many seconds.

        What was fetched and not acknowledged is not returned again by this consumer, unless it was released. Raises
        `BrokerUnavailable`, also where somebody else turns out to have read from this partition, and `BrokerRefused`;
        after that, and after a call that was cancelled, `open` and `fetch` begin with the first message not
        acknowledged. `acknowledge` may be called meanwhile.
        """
        ...

    async def acknowledge(self, messages: Sequence[Incoming]) -> None:
        """Tell the broker that messages are done, in the order in which they were fetched, for good.

        A connection that is gone is no error: the broker delivers them again, and the inbox knows them.
        """
        ...

    async def release(self, messages: Sequence[Incoming]) -> None:
        """Give messages back, to be fetched again in their order: they and all fetched after them."""
        ...

    async def close(self) -> None:
        """Close the connection; what is not acknowledged goes to the next consumer. Idempotent."""
        ...


class Broker(Protocol):
    """A broker at an address: makes publishers and consumers. Nothing is connected before they are opened."""

    protocol: ClassVar[str]
    """`nats`, `kafka`, `amqp`, `redis` or `http`, as in contracts."""
    binding: ClassVar[Binding]
    """How the attributes of CloudEvents are written as headers."""
    shares: ClassVar[bool]
    """The broker divides the partitions of a topic among the consumers of a group (Kafka), and the key of a message
    decides on its partition. Otherwise a partition is a topic of its own: see `partition_topic`."""

    def publisher(self) -> Publisher: ...

    def consumer(self, topics: Sequence[str], group: str) -> Consumer:
        """Return a reader of these topics, for a durable consumer or group of this name."""
        ...


@runtime_checkable
class Redelivers(Protocol):
    """An ability of a broker: it can tell for how long it may deliver a message again."""

    async def redelivers_for(self, topics: Sequence[str]) -> float | None:
        """Return the seconds, of the topic that keeps its messages for longest; None: no limit is set, or known.

        It makes nothing, and disturbs no consumer. Raises as `Publisher.open`.
        """
        ...


@runtime_checkable
class SignsBodies(Protocol):
    """An ability of a broker: it signs the body of a message, and nothing else.

    So everything that the receiver relies on has to be in the body: its relays write CloudEvents in structured mode.
    """

    signs_bodies: ClassVar[Literal[True]]


@runtime_checkable
class Pushes(Protocol):
    """An ability of a broker: its messages are sent to a web application, and cannot be fetched."""

    @property
    def signing(self) -> Any:
        """By what it is known that a message comes from the broker."""
        ...


@runtime_checkable
class HasExchange(Protocol):
    """A broker to which topics are routing keys of an exchange, and groups are queues (AMQP)."""

    @property
    def exchange(self) -> str: ...


def exchange_of(broker: Broker) -> str | None:
    """Return the exchange that is published to and read from, where the broker has such a thing."""
    return broker.exchange if isinstance(broker, HasExchange) else None


def partition_topic(topic: str, partition: int, partitions: int) -> str:
    """Return the topic of a partition, for brokers that do not divide a topic: the topic itself if it is whole."""
    return topic if partitions == 1 else f"{topic}.p{partition}"
