"""`@starts` and `@moves`: which method of a process takes which event."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from ensue.errors import DeclarationError
from ensue.events import Command, Event, SourcedEvent

P = TypeVar("P")
E = TypeVar("E", bound=Event)

How = Literal["starts", "moves"]
_NOT_PLAIN = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


@dataclass(frozen=True, slots=True)
class Step:
    """A method that takes an event."""

    how: How
    function: Callable[[Any, Any], None]
    around: Mapping[str, Any]
    """The names where the class stands."""


_declared: dict[tuple[str, str], dict[int, Step]] = {}
"""By module and class, and by line: methods may all be called `_`, and a class body may run twice."""


def starts(function: Callable[[P, E], None]) -> Callable[[P, E], None]:
    """Let a method begin a process when the event comes that its parameter is annotated with.

    If there is a process of that key already, running or ended, nothing happens. Raises `DeclarationError`, here or
    when the class is made, for a parameter that is no event.
    """
    return _declare("starts", function)


def moves(function: Callable[[P, E], None]) -> Callable[[P, E], None]:
    """Let a method move a running process when the event comes that its parameter is annotated with.

    If none of that key is running, nothing happens. Raises as `starts` does.
    """
    return _declare("moves", function)


def _declare(how: How, function: Callable[[P, E], None]) -> Callable[[P, E], None]:
    owner = function.__qualname__.rpartition(".")[0]
    if not owner or owner.endswith("<locals>"):
        raise DeclarationError(f"@{how} {function.__qualname__}: it belongs on a method of a Process")
    if any(is_kind(function) for is_kind in _NOT_PLAIN):
        raise DeclarationError(
            f"@{how} {function.__qualname__}: a step decides, and awaits or yields nothing: write a plain def, and "
            "leave what takes time to a command's handler"
        )
    declaring = inspect.currentframe()
    for _ in range(3):  # this function, the decorator, the class
        declaring = None if declaring is None else declaring.f_back
    around = {} if declaring is None else declaring.f_locals
    lines = _declared.setdefault((function.__module__, owner), {})
    lines[function.__code__.co_firstlineno] = Step(how, function, around)
    return function


def collect(owner: type) -> dict[type[Event], Step]:
    """Return the steps that were declared in a class body, by event."""
    found: dict[type[Event], Step] = {}
    for step in _declared.pop((owner.__module__, owner.__qualname__), {}).values():
        for event in _events(step):
            if event in found:
                raise DeclarationError(
                    f"{owner.__qualname__}: two methods take {event.__qualname__}: an event begins a process or moves "
                    "it, by one method"
                )
            found[event] = step
    return found


def _events(step: Step) -> Iterator[type[Event]]:
    function = step.function
    where = f"@{step.how} {function.__qualname__}"
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) != 2 or parameters[1].annotation is inspect.Parameter.empty:
        raise DeclarationError(f"{where}: write it as def _(self, event: SomethingHappened) -> None")
    hint: Any = parameters[1].annotation
    if isinstance(hint, str):
        try:
            hint = eval(hint, getattr(function, "__globals__", {}), dict(step.around))  # noqa: S307 the user's own
        except NameError as error:
            raise DeclarationError(f"{where}: {error}: define or import the event before the process") from error
    events: tuple[Any, ...] = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for event in events:
        if not _is_event(event):
            raise DeclarationError(f"{where}: {getattr(event, '__qualname__', event)} is not an event class")
        if issubclass(event, Command):
            raise DeclarationError(
                f"{where}: {event.__qualname__} is a command, whose one handler is a function under @app.handle(…); a "
                "process takes events"
            )
        if issubclass(event, SourcedEvent):
            raise DeclarationError(
                f"{where}: {event.__qualname__} is the state of an aggregate: let a translation, or whoever records "
                "it, record a domain event too, and take that"
            )
        yield event


def _is_event(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, Event) and hasattr(thing, "__type__")
