"""`given(…).when(…).then(…)`: tests that read as what they say, for aggregates, deciders and handlers."""

from __future__ import annotations

from typing import Any, TypeVar, overload

from ensue.aggregates import Aggregate, AggregateId, Decider
from ensue.app import App
from ensue.errors import DeclarationError
from ensue.events import Event, SourcedEvent
from ensue.testing.deciding import GivenAggregate, GivenDecider
from ensue.testing.handling import GivenApp

A = TypeVar("A", bound=Aggregate)
C = TypeVar("C")
E = TypeVar("E", bound=SourcedEvent)
S = TypeVar("S")


@overload
def given(subject: type[A], /, *events: SourcedEvent, id: AggregateId | None = None) -> GivenAggregate[A]: ...


@overload
def given(subject: Decider[C, E, S], /, *events: E) -> GivenDecider[C, E, S]: ...


@overload
def given(subject: App, /, *events: Event, stream: str | None = None) -> GivenApp: ...


def given(
    subject: type[A] | Decider[Any, Any, Any] | App,
    /,
    *events: Any,
    id: AggregateId | None = None,
    stream: str | None = None,
) -> GivenAggregate[A] | GivenDecider[Any, Any, Any] | GivenApp:
    """Begin a test with what has happened already, to an aggregate or in an application.

    An aggregate, of a class or a decider, needs no database: the events become its state as they would on loading. It
    has the `id`, or a new one. An application records them in its own log, the event-sourced ones in `stream` or in
    a new one. Raises `DeclarationError` for anything else.
    """
    if isinstance(subject, App):
        return GivenApp(subject, events, stream)
    if isinstance(subject, Decider):
        return GivenDecider(subject, events)
    if isinstance(subject, type) and issubclass(subject, Aggregate) and subject is not Aggregate:
        return GivenAggregate(subject, events, id)
    raise DeclarationError(f"given({subject!r}): give it a class derived from Aggregate, a Decider, or an App")
