"""What has been declared, by an application and its modules: the one place where it is kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ensue.aggregates import Aggregate, Decider
from ensue.brokers.receivers import Receiver
from ensue.contracts import Publication, Reading
from ensue.errors import DuplicateName
from ensue.events import Command, Event, IntegrationEvent, stored_types
from ensue.handlers import Guards, translates_to
from ensue.handlers.processes import ProcessManager
from ensue.handlers.projections import Build, Projection, resolve, subscription_of
from ensue.handlers.timers import Alarm, Schedule
from ensue.log import Log, Steps
from ensue.seals import Bell, Sealer
from ensue.subscriptions import Chore, Cursors, Subscription

AS_STORED = frozenset(("relay", "receive", "inbox"))
"""Those whose subscriptions want their own wire types only: what they carry is upcast elsewhere, or not at all."""


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

    contracts: Path | None = None
    """The folder of the contract files."""
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
        return handler_of(command, self.handlers)

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
        projection = self.projections[build.projection]
        return replace(subscription_of(log, projection, build, partitions=partitions), types=projection.stored)

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


def handler_of(command: type[Command], handlers: Iterable[Handler]) -> str | None:
    """Return the name of a command's handler among these, None if it has none."""
    return next((each.name for each in handlers if each.how == "handle" and command in each.types), None)
