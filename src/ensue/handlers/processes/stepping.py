"""`@starts` and `@moves`: which method of a process takes which event."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ensue.events import Command, Event, SourcedEvent
from ensue.events.methods import methods

P = TypeVar("P")
E = TypeVar("E", bound=Event)


def _refuse(event: type[Event]) -> str | None:
    if issubclass(event, Command):
        return (
            "is a command, whose one handler is a function under @app.handle(…); a process takes events, as the one "
            "that the handler records when it is done"
        )
    if issubclass(event, SourcedEvent):
        return (
            "is the state of an aggregate: let a translation, or whoever records it, record a domain event too, and "
            "take that"
        )
    return None


steps = methods(
    "a Process",
    "take",
    "def _(self, event: SomethingHappened) -> None",
    plain="a step decides, and awaits or yields nothing: write a plain def, and leave what takes time to a command's "
    "handler",
    refuse=_refuse,
)


def starts(function: Callable[[P, E], None]) -> Callable[[P, E], None]:
    """Let a method begin a process when the event comes that its parameter is annotated with.

    If there is a process of that key already, running or ended, nothing happens. Raises `DeclarationError`, here or
    when the class is made, for a parameter that is no event.
    """
    steps.mark("starts", function)
    return function


def moves(function: Callable[[P, E], None]) -> Callable[[P, E], None]:
    """Let a method move a running process when the event comes that its parameter is annotated with.

    If none of that key is running, nothing happens. Raises as `starts` does.
    """
    steps.mark("moves", function)
    return function
