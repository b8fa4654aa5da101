"""What was expected beside what came, line by line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from ensue.errors import DeclarationError
from ensue.events import Event

E = TypeVar("E", bound=Event)


def as_read(event: E) -> E:
    """Return an event as the log gives it back.

    Raises `EventValueError` if it cannot be recorded, `DeclarationError` if it is none.
    """
    if not isinstance(event, Event):
        raise DeclarationError(f"then({event!r}): give it events, or for an aggregate the class of one exception")
    found: E = type(event).__structure__.decode(type(event).__structure__.encode(event))
    return found


def unmatched(ours: Iterable[Event], theirs: Iterable[Event]) -> list[bool]:
    """Tell of each of ours whether theirs lack it; what is there once matches once."""
    left = list(theirs)
    found: list[bool] = []
    for event in ours:
        found.append(event not in left)
        if not found[-1]:
            left.remove(event)
    return found


def compared(expected: Sequence[Event], got: Sequence[Event]) -> list[str]:
    """Show both, one event a line; `-` marks what did not come, `+` what nobody expected."""
    return [
        "expected:",
        *_marked(expected, unmatched(expected, got), "-"),
        "got:",
        *_marked(got, unmatched(got, expected), "+"),
    ]


def _marked(events: Sequence[Event], alone: Sequence[bool], mark: str) -> list[str]:
    lines = [f"  {mark if lonely else ' '} {event!r}" for event, lonely in zip(events, alone, strict=True)]
    return lines or ["    nothing"]
