"""`@evolves`: which method of an aggregate takes in which event."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from ensue.errors import DeclarationError
from ensue.events import Event, SourcedEvent

A = TypeVar("A")
E = TypeVar("E", bound=SourcedEvent)

_NOT_PLAIN = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)

Evolver = Callable[[Any, Any], None]

_declared: dict[tuple[str, str], dict[int, tuple[Evolver, Mapping[str, Any]]]] = {}
"""By module and class, and by line: methods may all be called `_`, and a class body may run twice."""


def evolves(function: Callable[[A, E], None]) -> Callable[[A, E], None]:
    """Let a method of an aggregate take in the events that its parameter is annotated with.

    It changes the state and decides nothing: it is called for every event of the past again. Any name will do, `_` for
    all of them too. Raises `DeclarationError`, here or when the class is made, for a parameter that is no event.
    """
    owner = function.__qualname__.rpartition(".")[0]
    if not owner or owner.endswith("<locals>"):
        raise DeclarationError(f"@evolves {function.__qualname__}: it belongs on a method of an Aggregate")
    if any(is_kind(function) for is_kind in _NOT_PLAIN):
        raise DeclarationError(
            f"@evolves {function.__qualname__}: it is called for every event of the past again, and awaits or yields "
            "nothing: write a plain def"
        )
    body = inspect.currentframe()
    outside = body.f_back.f_back if body is not None and body.f_back is not None else None
    around = {} if outside is None else outside.f_locals  # where the class stands
    lines = _declared.setdefault((function.__module__, owner), {})
    lines[function.__code__.co_firstlineno] = (function, around)
    return function


def collect(owner: type) -> dict[type[Event], Evolver]:
    """Return the methods that were declared in a class body, by event."""
    found: dict[type[Event], Evolver] = {}
    for function, around in _declared.pop((owner.__module__, owner.__qualname__), {}).values():
        for event in _events(function, around):
            if event in found:
                raise DeclarationError(f"{owner.__qualname__}: two methods evolve {event.__qualname__}")
            found[event] = function
    return found


def _events(function: Evolver, around: Mapping[str, Any]) -> tuple[type[Event], ...]:
    where = f"@evolves {function.__qualname__}"
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) != 2 or parameters[1].annotation is inspect.Parameter.empty:
        raise DeclarationError(f"{where}: write it as def _(self, event: SomethingHappened) -> None")
    hint: Any = parameters[1].annotation
    if isinstance(hint, str):
        try:
            hint = eval(hint, getattr(function, "__globals__", {}), dict(around))  # noqa: S307 the user's own annotation
        except NameError as error:
            raise DeclarationError(f"{where}: {error}: define or import the event before the aggregate") from error
    events: tuple[Any, ...] = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for event in events:
        if not _is_sourced(event):
            raise DeclarationError(
                f"{where}: {getattr(event, '__qualname__', event)} is not an event-sourced event; an aggregate's state "
                "is made of SourcedEvent classes"
            )
    return events


def _is_sourced(event: object) -> bool:
    return isinstance(event, type) and issubclass(event, SourcedEvent) and hasattr(event, "__type__")
