"""`Module`: a part of a service that declares for itself, and whose event-sourced events are its own."""

from __future__ import annotations

from typing import TypeVar, cast, overload

from ensue.aggregates import Aggregate, Decider
from ensue.app.between import Between
from ensue.app.declarations import Declarations, Owned
from ensue.app.ownership import Ownable, Ownership, is_entity, label_of, raises
from ensue.app.processing import Processing
from ensue.app.projecting import Projections
from ensue.app.recording import Recording
from ensue.errors import DeclarationError
from ensue.events import Event, SourcedEvent
from ensue.log import Log

T = TypeVar("T", bound=Ownable)


class Module(Processing, Between, Projections):
    """A part of a service, made by `app.module(…)`: handlers and repositories that are declared on it are its own.

    What it owns are the events and aggregates of its package, those that `owns` names, and the aggregates that it has
    a repository of, with the event-sourced events that they evolve. Others may use of it domain events and
    integration events only; `App.migrate` and `App.running` see to that.
    """

    def __init__(
        self, name: str, declarations: Declarations, ownership: Ownership, log: Log, recording: Recording
    ) -> None:
        self.name = name
        self.declarations = declarations
        self._module = name
        self._log = log
        self._recording = recording
        self._ownership = ownership

    def __repr__(self) -> str:
        return f"Module({self.name!r})"

    @overload
    def owns(self, thing: T, /) -> T: ...

    @overload
    def owns(self, thing: Ownable, second: Ownable, /, *more: Ownable) -> None: ...

    def owns(self, thing: Ownable, /, *more: Ownable) -> Ownable | None:
        """Make events and aggregates the module's own, an aggregate with the event-sourced events that it evolves.

        An entity is an aggregate too, and owned with the events that its `__raises__` names.

        A single one is given back, so `@billing.owns` may stand above a class. Raises `DeclarationError` if one of
        them belongs to another module, or is neither event nor aggregate.
        """
        things = (thing, *more)
        for each in things:
            if not _can_be_owned(each):
                raise DeclarationError(
                    f"module {self.name!r} owns {each!r}: it can own event classes, Aggregate classes, Deciders and "
                    "entities"
                )
        for each in things:
            because = f"{self.name}.owns({label_of(each)})"
            self._ownership.claim(self.name, each, because)
            for event in raises(each) if is_entity(each) else evolved(each):
                self._ownership.claim_if_free(self.name, event, because)
        return None if more else thing

    def _declare_repository(self, owned: Owned) -> None:
        super()._declare_repository(owned)
        because = f"{self.name}.repository({label_of(owned.aggregate)})"
        self._ownership.claim_if_free(self.name, owned.aggregate, because)
        if self._ownership.owner(owned.aggregate) == self.name:
            for event in owned.events:
                self._ownership.claim_if_free(self.name, event, because)


def evolved(thing: Ownable) -> tuple[type[SourcedEvent], ...]:
    """Return the events that an aggregate's state is made of; none for an event."""
    if isinstance(thing, Decider):
        return thing.events()
    return tuple(each for each in getattr(thing, "__evolvers__", ()) if issubclass(each, SourcedEvent))


def _can_be_owned(thing: object) -> bool:
    if isinstance(thing, Decider):
        return True
    if not isinstance(thing, type):
        return False
    return (
        (issubclass(thing, Event) and hasattr(thing, "__type__"))
        or (issubclass(thing, Aggregate) and thing is not Aggregate)
        or is_entity(cast("object", thing))
    )
