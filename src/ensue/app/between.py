"""What an application and its modules declare towards other services: relays, receivers, inboxes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, TypeVar, overload

from ensue.app.declarations import Handler
from ensue.app.declaring import Declares
from ensue.brokers import Address
from ensue.brokers.arriving import Arrivals
from ensue.brokers.broker import Pushes, exchange_of
from ensue.brokers.receivers import receiver
from ensue.brokers.relays import Mode, Topic, relay, topic_of
from ensue.contracts import Publication, Reading
from ensue.errors import DeclarationError
from ensue.events import IntegrationEvent
from ensue.handlers import name_of
from ensue.log import Transaction
from ensue.subscriptions import Backoff, Start

if TYPE_CHECKING:
    from typing import Unpack

    from ensue.brokers.webhooks import Endpoint

E = TypeVar("E", bound=IntegrationEvent)
E2 = TypeVar("E2", bound=IntegrationEvent)
Answer = TypeVar("Answer", bound=Awaitable[None] | None)


class Receiving(Protocol[E]):
    """Takes a function of an event, or of an event and the connection of its transaction, and gives it back."""

    @overload
    def __call__(self, function: Callable[[E], Answer], /) -> Callable[[E], Answer]: ...

    @overload
    def __call__(self, function: Callable[[E, Any], Answer], /) -> Callable[[E, Any], Answer]: ...


class ReceiverOptions(TypedDict, total=False):
    """How messages of another service are received."""

    topic: Topic
    """Names the topic of an event class: its wire type unless the services have agreed on another."""
    group: str
    """The durable consumer, group or queue at the broker: `<app>.<name>` unless you say otherwise."""
    partitions: int
    """Into how many parts the relay cuts the topic, for brokers that do not do it themselves; for Kafka, how many
    consumers share its partitions (1)."""
    batch: int
    """How many messages are taken in in one transaction at most (200)."""
    keep: float | timedelta | str
    """How long it is known that a message was taken in: longer than the broker may deliver it again ("7d")."""
    retry: Backoff
    """What happens after a failure."""
    timeout: float | timedelta | str | None
    """Seconds after which a call of an async handler counts as failed (60)."""


class Between(Declares):
    """What an `App` and a module declare towards other services."""

    def relay(
        self,
        url: str,
        type: type[IntegrationEvent],
        /,
        *more: type[IntegrationEvent],
        name: str | None = None,
        topic: Topic = topic_of,
        partitions: int = 1,
        window: int = 500,
        mode: Mode | None = None,
        start: Start = "now",
        retry: Backoff = Backoff(),
    ) -> None:
        """Publish integration events to a broker, at least once, in the order of their key.

        The scheme of the URL says which broker: `nats`, `kafka`, `amqp`, `redis`, or `https` for webhooks. An event
        counts as published once the broker has acknowledged it for good, with the event's id as the message's. They
        travel as CloudEvents, in `mode` "binary" unless you say "structured"; to webhooks always structured, since only
        the body is signed.

        `topic` names the subject, topic or routing key of an event class: its wire type unless you say otherwise.
        `partitions` is into how many parts the work is cut, and the topic too where the broker does not do that itself
        (`<topic>.p0`, `.p1`, …); `window` how many messages are in flight at once at most, each of another key. While
        the broker is away the relay waits; a message that it refuses parks its key. Raises `DeclarationError`, also
        for an event that is no integration event: the others never leave the service.
        """
        types = (type, *more)
        made, subscription = relay(
            url,
            types,
            self._log.place.app,
            name=name,
            topic=topic,
            partitions=partitions,
            window=window,
            mode=mode,
            start=start,
            retry=retry,
        )
        self.declarations.subscribe(subscription)
        self.declarations.handlers.append(Handler(subscription.name, "relay", types, None, self._module))
        address = Address(url)
        self.declarations.publications.extend(
            Publication(
                event=each,
                channel=made.topics[each.__type__],
                protocol=made.broker.protocol,
                address=",".join(address.servers),
                exchange=exchange_of(made.broker),
            )
            for each in types
        )

    @overload
    def receive(
        self,
        type: type[E],
        /,
        *,
        source: str,
        name: str | None = None,
        transaction: Callable[[], AbstractContextManager[Any] | AbstractAsyncContextManager[Any]] | None = None,
        **options: Unpack[ReceiverOptions],
    ) -> Receiving[E]: ...

    @overload
    def receive(
        self,
        type: type[E],
        second: type[E2],
        /,
        *,
        source: str,
        name: str | None = None,
        transaction: Callable[[], AbstractContextManager[Any] | AbstractAsyncContextManager[Any]] | None = None,
        **options: Unpack[ReceiverOptions],
    ) -> Receiving[E | E2]: ...

    @overload
    def receive(
        self,
        type: type[IntegrationEvent],
        /,
        *more: type[IntegrationEvent],
        source: str,
        name: str | None = None,
        transaction: Callable[[], AbstractContextManager[Any] | AbstractAsyncContextManager[Any]] | None = None,
        **options: Unpack[ReceiverOptions],
    ) -> Receiving[Any]: ...

    def receive(
        self,
        type: type[IntegrationEvent],
        /,
        *more: type[IntegrationEvent],
        source: str,
        name: str | None = None,
        transaction: Callable[[], AbstractContextManager[Any] | AbstractAsyncContextManager[Any]] | None = None,
        **options: Unpack[ReceiverOptions],
    ) -> Any:
        """Handle events of other services that come from a broker: each once, in the order of its key.

        The function is called inside a transaction of the log's database, with the event, and with the connection if
        it takes two arguments. What it does there, and the mark that the message was taken in, are committed together;
        then the message is acknowledged. `transaction` opens one of your own (`sessionmaker.begin`): it lends what the
        function gets; otherwise it is a connection of `app.transaction()`.

        A message whose handler fails is recorded in the log, and with it all later ones of its key: there it is tried
        again, and becomes a dead letter, like every event. So does a message that cannot be read, or whose type the
        receiver does not read, at once. Nothing is dropped. Raises `DeclarationError` and `DuplicateName`.

        With an `https` source the messages are webhooks, which are sent to you: `webhooks` lets them in.
        """

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            self._receive(function, (type, *more), source, name or name_of(function), transaction, options)
            return function

        return declare

    def inbox(
        self,
        source: str,
        type: type[IntegrationEvent],
        /,
        *more: type[IntegrationEvent],
        name: str | None = None,
        **options: Unpack[ReceiverOptions],
    ) -> None:
        """Record events of other services that come from a broker in the log: each once, in the order of its key.

        Handlers declared with `on` and `translate` do the rest. What cannot be recorded becomes a dead letter of the
        inbox. Raises `DeclarationError` and `DuplicateName`.
        """
        self._receive(None, (type, *more), source, name or "inbox", None, options)

    def webhooks(self, source: str) -> Endpoint:
        """Return an ASGI application that takes in what is sent to this source, for the receivers that read from it.

        To be mounted where the URL of the source leads. A request that is signed with one of the secrets of the source
        is answered with 204 once it is committed: its effect, or that it is kept for its receiver, to be tried again or
        mended there. One that is not signed gets 401; when the database is away it is 500, and the sender tries again.
        Raises `DeclarationError` if no receiver has been declared for this source.
        """
        found = [each for each in self.declarations.receivers if each.source.address == source]
        broker = found[0].source.broker if found else None
        if not isinstance(broker, Pushes):
            why = "declare it before, with this source=" if broker is None else "only http and https are sent to you"
            raise DeclarationError(f"no receiver takes webhooks from {Address(source)}: {why}")
        from ensue.brokers.webhooks import Endpoint

        return Endpoint(Arrivals(found, self._log).take, broker.signing)

    def _receive(
        self,
        function: Callable[..., Any] | None,
        types: tuple[type[IntegrationEvent], ...],
        source: str,
        name: str,
        transaction: Callable[[], AbstractContextManager[Any] | AbstractAsyncContextManager[Any]] | None,
        options: ReceiverOptions,
    ) -> None:
        log = self._log
        made = receiver(
            function,
            types,
            log,
            source=source,
            name=name,
            transaction=transaction or (lambda: Transaction(log)),
            **options,
        )
        self.declarations.subscribe(made.subscription)
        self.declarations.receivers.append(made)
        how = "inbox" if function is None else "receive"
        self.declarations.handlers.append(Handler(name, how, types, function, self._module))
        naming = options.get("topic", topic_of)
        self.declarations.readings.extend(
            Reading(
                event=each,
                channel=naming(each),
                source=str(Address(source)),
                consumer=made.source.group,
                exchange=exchange_of(made.source.broker),
            )
            for each in types
        )
