"""`@evolves`: which method of an aggregate takes in which event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ensue.events import Event, SourcedEvent
from ensue.events.methods import methods

A = TypeVar("A")
E = TypeVar("E", bound=SourcedEvent)

Evolver = Callable[[Any, Any], None]

_methods = methods(
    "an Aggregate",
    "evolve",
    "def _(self, event: SomethingHappened) -> None",
    plain="it is called for every event of the past again, and awaits or yields nothing: write a plain def",
    refuse=lambda event: (
        None
        if issubclass(event, SourcedEvent)
        else "is not an event-sourced event; an aggregate's state is made of SourcedEvent classes"
    ),
)


def evolves(function: Callable[[A, E], None]) -> Callable[[A, E], None]:
    """Let a method of an aggregate take in the events that its parameter is annotated with.

    It changes the state and decides nothing: it is called for every event of the past again. Any name will do, `_` for
    all of them too. Raises `DeclarationError`, here or when the class is made, for a parameter that is no event.
    """
    _methods.mark("evolves", function)
    return function


def collect(owner: type) -> dict[type[Event], Evolver]:
    """Return the methods that were declared in a class body, by event."""
    return {event: marked.function for event, marked in _methods.collect(owner).items()}
