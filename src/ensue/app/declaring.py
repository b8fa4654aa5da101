"""What an application and its modules declare: handlers and repositories."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, overload

from ensue.aggregates import Aggregate, Decider, DecidingRepository, Repository, Snapshots
from ensue.app.recording import Recording
from ensue.brokers.receivers import Receiver
from ensue.contracts import Publication, Reading
from ensue.errors import DeclarationError, DuplicateName
from ensue.events import Command, Event, IntegrationEvent, SourcedEvent, stored_types
from ensue.events.methods import is_event_class
from ensue.handlers import (
    Downcasting,
    Function,
    Guards,
    Reacting,
    Translating,
    Watching,
    Within,
    check_versions,
    downcasting,
    name_of,
    reaction,
    translates_to,
    translation,
)
from ensue.handlers.processes import ProcessManager, Undoing
from ensue.handlers.projections import Build, Projection, resolve, subscription_of
from ensue.handlers.timers import Alarm, Schedule, Timers
from ensue.log import Log, Steps
from ensue.seals import Bell, Sealer
from ensue.subscriptions import Backoff, Chore, Cursors, Start, Subscription

if TYPE_CHECKING:
    from typing import Unpack

E = TypeVar("E", bound=Event)
E2 = TypeVar("E2", bound=Event)
E3 = TypeVar("E3", bound=Event)
New = TypeVar("New", bound=IntegrationEvent)
Old = TypeVar("Old", bound=IntegrationEvent)
A = TypeVar("A", bound=Aggregate)
C = TypeVar("C")
D = TypeVar("D", bound=SourcedEvent)
S = TypeVar("S")


AS_STORED = frozenset(("relay", "receive", "inbox"))
"""Those whose subscriptions want their own wire types only: what they carry is upcast elsewhere, or not at all."""


class Options(TypedDict, total=False):
    """How a subscription works."""

    start: Start
    """Where it begins when it is new: "now" (the default) is when it is registered, by `ensue migrate` or by the first
    worker that knows it; "beginning", a moment, or a position."""
    retry: Backoff
    """What happens after a failure."""
    concurrency: int
    """How many keys are handled side by side, in each partition (10)."""
    partitions: int
    """Into how many parts it is cut, for several processes (1)."""
    timeout: float | timedelta | str | None
    """Seconds after which a call counts as failed (60)."""


@dataclass(frozen=True, slots=True)
class Handler:
    """A declared function, as it is drawn and checked."""

    name: str
    how: str
    """`on`, `within`, `translate`, `downcast`, `handle`, `process`, `projection`, `relay`, `receive` or `inbox`."""
    types: tuple[type[Event], ...]
    function: Callable[..., Any] | None
    """None: nothing of the user's is called."""
    module: str | None
    makes: type[IntegrationEvent] | None = None
    """What a downcast makes."""
    records: Callable[[], tuple[type[Event], ...]] | None = None
    """Tells what a process records."""

    @property
    def emits(self) -> tuple[type[Event], ...]:
        """The events that it records, as far as its declaration says so."""
        if self.records is not None:
            return self.records()
        if self.makes is not None:
            return (self.makes,)
        return translates_to(self.function) if self.how == "translate" and self.function is not None else ()


@dataclass(frozen=True, slots=True)
class Owned:
    """A declared repository, as it is drawn and checked."""

    name: str
    aggregate: type[Aggregate] | Decider[Any, Any, Any]
    events: tuple[type[Event], ...]
    module: str | None

    def takes(self, event: Event) -> bool:
        """Tell whether it evolves an event, as far as its declaration says."""
        if isinstance(self.aggregate, Decider):
            return not self.events or isinstance(event, self.events)
        return type(event) in self.events


def again_of(subscription: str) -> str:
    """Return the name of the cursor under which a subscription is called again by a replay."""
    return f"{subscription}:again"


@dataclass(slots=True)
class Declarations:
    """Everything that an application and its modules have declared."""

    subscriptions: dict[str, Subscription] = field(default_factory=dict[str, Subscription])
    projections: dict[str, Projection] = field(default_factory=dict[str, Projection])
    guards: Guards = field(default_factory=Guards)
    handlers: list[Handler] = field(default_factory=list[Handler])
    repositories: list[Owned] = field(default_factory=list[Owned])
    publications: list[Publication] = field(default_factory=list[Publication])
    """What is published, and where."""
    readings: list[Reading] = field(default_factory=list[Reading])
    """What is read of other services, and from where."""
    receivers: list[Receiver] = field(default_factory=list[Receiver])
    entities: list[type] = field(default_factory=list[type])
    """Classes of which, and of those derived from them, entities record in this application's log."""

    managers: dict[str, ProcessManager] = field(default_factory=dict[str, ProcessManager])
    schedules: dict[str, Schedule] = field(default_factory=dict[str, Schedule])
    alarm: Alarm = field(default_factory=Alarm)
    """Is told of timers that are due soon."""
    sealer: Sealer | None = None
    bell: Bell = field(default_factory=Bell)
    """Is told of events that have been hashed and not yet signed."""
    chores: list[Chore] = field(default_factory=list[Chore])
    """What workers do beside the subscriptions, as collecting into a lake."""
    folds: dict[str, Callable[..., Any]] = field(default_factory=dict[str, Callable[..., Any]])
    """The pure functions that make a projection's rows, by its name."""

    def handler_of(self, command: type[Command]) -> str | None:
        """Return the name of a command's handler, None if it has none."""
        return next((each.name for each in self.handlers if each.how == "handle" and command in each.types), None)

    def declare_entities(self, cls: type) -> None:
        """Add a class of entities, or their base."""
        if cls not in self.entities:
            self.entities.append(cls)

    def current(self) -> dict[str, Subscription]:
        """Return those that have one cursor, with every wire type under which their events may be stored."""
        classes = {each.name: each.types for each in self.handlers if each.how not in AS_STORED}
        return {
            name: replace(each, types=tuple(dict.fromkeys(type for cls in classes[name] for type in stored_types(cls))))
            if name in classes
            else each
            for name, each in self.subscriptions.items()
        }

    def declares(self, cursor: str) -> bool:
        """Tell whether a subscription of the log is declared here, or is of a build of a projection, or of a replay."""
        name, _, number = cursor.rpartition(":")
        return (
            cursor in self.subscriptions
            or cursor in self.projections
            or (number.isdecimal() and name in self.projections)
            or (name in self.subscriptions and cursor == again_of(name))
        )

    def missing(self, cursors: Collection[str]) -> list[str]:
        """Return what is declared and has none of these cursors of the log; of a projection, any build's will do."""
        built = {name for name, _, number in (each.rpartition(":") for each in cursors) if number.isdecimal()}
        return [
            *(name for name in self.subscriptions if name not in cursors),
            *(name for name in self.projections if name not in cursors and name not in built),
        ]

    def cursors(self, log: Log, *, create: bool) -> Steps[Cursors]:
        """Find out which subscriptions the code here works on; with `create`, make the builds that are missing."""
        again = frozenset(again_of(name) for name in self.subscriptions)
        if not self.projections:
            return Cursors(self.current(), again)
        found = yield from resolve(log, self.projections.values(), create=create)
        builds = {each.cursor: self.cursor(log, each) for each in found.builds}
        return Cursors(self.current() | builds, found.others | again)

    def cursor(self, log: Log, build: Build, *, partitions: int | None = None) -> Subscription:
        """Return the subscription that works on a build."""
        made = subscription_of(log, self.projections[build.projection], build, partitions=partitions)
        classes = self.projections[build.projection].types
        return replace(made, types=tuple(dict.fromkeys(type for cls in classes for type in stored_types(cls))))

    def names_of(self, how: str) -> set[str]:
        """Return the names of the handlers that are declared in one way."""
        return {each.name for each in self.handlers if each.how == how}

    def aggregates(self) -> dict[str, type[Aggregate] | Decider[Any, Any, Any]]:
        """Return the aggregates that have a repository, by what their streams begin with."""
        return {each.name: each.aggregate for each in self.repositories}

    def subscribe(self, subscription: Subscription) -> None:
        """Add a subscription; raise `DuplicateName` if its name is taken."""
        if subscription.name in self.subscriptions or subscription.name in self.projections:
            raise DuplicateName(
                f"two subscriptions are called {subscription.name!r}: a checkpoint belongs to a name; "
                "give one of them another with name=…"
            )
        self.subscriptions[subscription.name] = subscription


def check_types(how: str, types: tuple[object, ...]) -> None:
    """Refuse what is no event class at once: `@app.on` without parentheses would register nothing."""
    for thing in types:
        if not is_event_class(thing):
            given: object = getattr(thing, "__qualname__", thing)
            raise DeclarationError(
                f"app.{how}({given}): that is not an event class; write "
                f"@app.{how}(EventClass) above the function, with a class derived from DomainEvent, SourcedEvent or "
                "IntegrationEvent"
            )
        if isinstance(thing, type) and issubclass(thing, Command):
            raise DeclarationError(
                f"app.{how}({thing.__qualname__}): that is a command, which has one handler: write "
                f"@app.handle({thing.__qualname__}) above it"
            )


class Declares:
    """An `App` or a module."""

    _log: Log
    _module: str | None
    declarations: Declarations
    """What has been declared so far."""


class Declaring(Declares):
    """What an `App` and a module declare inside their service."""

    _recording: Recording

    # --- handlers

    @overload
    def on(self, type: type[E], /, *, name: str | None = None, **options: Unpack[Options]) -> Reacting[E]: ...

    @overload
    def on(
        self, type: type[E], second: type[E2], /, *, name: str | None = None, **options: Unpack[Options]
    ) -> Reacting[E | E2]: ...

    @overload
    def on(
        self,
        type: type[E],
        second: type[E2],
        third: type[E3],
        /,
        *,
        name: str | None = None,
        **options: Unpack[Options],
    ) -> Reacting[E | E2 | E3]: ...

    @overload
    def on(
        self, type: type[Event], /, *more: type[Event], name: str | None = None, **options: Unpack[Options]
    ) -> Reacting[Any]: ...

    def on(self, type: type[Event], /, *more: type[Event], name: str | None = None, **options: Unpack[Options]) -> Any:
        """Call a sync or async function with every event of these types, at least once, in the order of its key.

        The subscription's name is the function's unless `name` pins another: checkpoints belong to the name. The
        options are `start`, `retry`, `concurrency`, `partitions` and `timeout`, see `Options`. Raises `DuplicateName`
        and `DeclarationError`.
        """
        check_types("on", (type, *more))

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            self._subscribe("on", function, function, (type, *more), name or name_of(function), options)
            return function

        return declare

    @overload
    def translate(self, type: type[E], /, *, name: str | None = None, **options: Unpack[Options]) -> Translating[E]: ...

    @overload
    def translate(
        self, type: type[Event], /, *more: type[Event], name: str | None = None, **options: Unpack[Options]
    ) -> Translating[Any]: ...

    def translate(
        self, type: type[Event], /, *more: type[Event], name: str | None = None, **options: Unpack[Options]
    ) -> Any:
        """Record the integration events that a function makes of these events: one, several or none, exactly once.

        The function is called at least once, in the order of the key; what it returns is recorded under the delivery's
        idempotency key, in a transaction of its own, and so only once. Options and errors are those of `on`.
        """
        check_types("translate", (type, *more))

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            label = name or name_of(function)
            handle = translation(function, label, self._recording.once)
            self._subscribe("translate", function, handle, (type, *more), label, options)
            return function

        return declare

    def downcast(
        self, new: type[New], old: type[Old], /, *, name: str | None = None, **options: Unpack[Options]
    ) -> Downcasting[New, Old]:
        """Publish an older version of an integration event beside the newer one, as long as somebody reads it.

        The function makes the old one of the new one, or None where the old version has no words for it. It is a
        translation: what it returns is recorded exactly once, and published like everything else. Options and errors
        are those of `on`; `DeclarationError` also for versions of different events, for a version that is not older,
        and if the old version is made already.
        """
        check_versions(new, old)
        if other := next((each for each in self.declarations.handlers if each.makes is old), None):
            raise DeclarationError(
                f"downcast({new.__qualname__}, {old.__qualname__}): {other.name!r} makes {old.__type__} already, and "
                "each event would be published in it twice; go from version to version, one downcast each"
            )

        def declare(function: Callable[..., Any]) -> Any:
            label = name or name_of(function)
            handle = translation(downcasting(function, label, old), label, self._recording.once)
            self._subscribe("downcast", function, handle, (new,), label, options, makes=old)
            return function

        return declare

    def _subscribe(
        self,
        how: str,
        function: Callable[..., Any],
        handle: Callable[..., Any],
        types: tuple[type[Event], ...],
        name: str,
        options: Options,
        makes: type[IntegrationEvent] | None = None,
        undoing: Undoing | None = None,
    ) -> None:
        if unknown := sorted(options.keys() - Options.__optional_keys__):
            raise DeclarationError(
                f"subscription {name!r}: there is no option {', '.join(unknown)}; "
                f"there are name, {', '.join(sorted(Options.__optional_keys__))}"
            )
        timers = Timers(self._log, self.declarations.alarm, self.declarations.guards.check_timer)
        self.declarations.subscribe(reaction(handle, types, name=name, timers=timers, undoing=undoing, **options))
        self.declarations.handlers.append(Handler(name, how, types, function, self._module, makes))

    @overload
    def within(self, type: type[E], /) -> Watching[E]: ...

    @overload
    def within(self, type: type[E], second: type[E2], /) -> Watching[E | E2]: ...

    @overload
    def within(self, type: type[Event], /, *more: type[Event]) -> Watching[Any]: ...

    def within(self, type: type[Event], /, *more: type[Event]) -> Any:
        """Call a function while an event of these types is recorded, inside the recording transaction.

        It gets the event, and the connection that `record` was given if it takes two arguments. Several are called in
        the order of their declaration. If one raises, neither the event nor what they did in the database is there,
        and `record` raises it. For guards, and for read models that must never lag: all else belongs under `on`. An
        async function needs an async connection. Events recorded by SQL alone do not come here. Raises
        `DeclarationError`.
        """
        check_types("within", (type, *more))

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            label = name_of(function)
            called = Function(function, label, "the recording connection")
            self.declarations.guards.add(Within(label, (type, *more), called))
            self.declarations.handlers.append(Handler(label, "within", (type, *more), function, self._module))
            return function

        return declare

    # --- aggregates

    @overload
    def repository(
        self, aggregate: type[A], /, *, snapshots: Snapshots | None = None, cache: int | None = None
    ) -> Repository[A]: ...

    @overload
    def repository(
        self, aggregate: Decider[C, D, S], /, *, snapshots: Snapshots | None = None, cache: int | None = None
    ) -> DecidingRepository[C, D, S]: ...

    def repository(
        self,
        aggregate: type[A] | Decider[Any, Any, Any],
        /,
        *,
        snapshots: Snapshots | None = None,
        cache: int | None = None,
    ) -> Repository[A] | DecidingRepository[Any, Any, Any]:
        """Return where the aggregates of a class, or of a decider, are loaded from and saved to.

        `snapshots` says when the state is kept beside the log, to shorten loading. `cache` is how many of the
        aggregates used last are kept in memory; each is checked against its stream before it is believed.
        Raises `DeclarationError`, and `DuplicateName` if another class or decider has the same name.
        """
        made: Repository[A] | DecidingRepository[Any, Any, Any]
        if isinstance(aggregate, Decider):
            name, events = aggregate.name, tuple[type[Event], ...](aggregate.events())
            made = DecidingRepository(self._log, aggregate, self._recording, snapshots=snapshots, cache=cache)
        elif isinstance(aggregate, type) and issubclass(aggregate, Aggregate) and aggregate is not Aggregate:
            name, events = aggregate.__aggregate__, tuple(aggregate.__evolvers__)
            made = Repository(self._log, aggregate, self._recording, snapshots=snapshots, cache=cache)
        else:
            raise DeclarationError(f"repository({aggregate!r}): give it a class derived from Aggregate, or a Decider")
        known = [each for each in self.declarations.repositories if each.name == name]
        if known and known[0].aggregate is not aggregate:
            raise DuplicateName(
                f"two aggregates are called {name!r}, and their streams would mix: give one of them another with name=…"
            )
        if all(each.module != self._module for each in known):  # a request may ask for it anew each time
            self._declare_repository(Owned(name, aggregate, events, self._module))
        return made

    def _declare_repository(self, owned: Owned) -> None:
        self.declarations.repositories.append(owned)
