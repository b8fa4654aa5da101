"""Which method of a class takes which event: a decorator marks the method, the annotation of its parameter says it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, TypeGuard, Union, get_args, get_origin

from ensue.errors import DeclarationError
from ensue.events.kinds import Event

_NOT_PLAIN = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


@dataclass(frozen=True, slots=True)
class Marked:
    """A method that takes an event."""

    how: str
    """The decorator."""
    function: Callable[..., Any]
    around: Mapping[str, Any]
    """The names where the class stands."""


@dataclass(frozen=True, slots=True)
class Methods:
    """The methods that decorators have marked, until the class that they belong to is made."""

    owner: str
    """What the class is, with its article."""
    verb: str
    """What its methods do to an event."""
    shape: str
    """How such a method is written."""
    parameters: tuple[int, ...]
    """How many it has, the object included."""
    plain: str
    """Why it awaits and yields nothing; empty: it may."""
    refuse: Callable[[type[Event]], str | None]
    """Tells why an event cannot be taken; None: it can."""
    _marked: dict[tuple[str, str], dict[int, Marked]]
    """By module and class, and by line: methods may all be called `_`, and a class body may run twice."""

    def mark(self, how: str, function: Callable[..., Any]) -> None:
        """Note a method; to be called by the decorator itself. Raises `DeclarationError` for what is none."""
        where = f"@{how} {function.__qualname__}"
        owner = function.__qualname__.rpartition(".")[0]
        if not owner or owner.endswith("<locals>"):
            raise DeclarationError(f"{where}: it belongs on a method of {self.owner}")
        if self.plain and any(is_kind(function) for is_kind in _NOT_PLAIN):
            raise DeclarationError(f"{where}: {self.plain}")
        frame = inspect.currentframe()
        for _ in range(3):  # this function, the decorator, the class
            frame = None if frame is None else frame.f_back
        lines = self._marked.setdefault((function.__module__, owner), {})
        lines[function.__code__.co_firstlineno] = Marked(how, function, {} if frame is None else frame.f_locals)

    def collect(self, owner: type) -> dict[type[Event], Marked]:
        """Return what was marked in a class body, by event. Raises `DeclarationError` for what is no such method."""
        found: dict[type[Event], Marked] = {}
        for marked in self._marked.pop((owner.__module__, owner.__qualname__), {}).values():
            for event in self._events(marked):
                if event in found:
                    raise DeclarationError(f"{owner.__qualname__}: two methods {self.verb} {event.__qualname__}")
                found[event] = marked
        return found

    def _events(self, marked: Marked) -> Iterator[type[Event]]:
        function = marked.function
        where = f"@{marked.how} {function.__qualname__}"
        parameters = list(inspect.signature(function).parameters.values())
        if len(parameters) not in self.parameters or parameters[1].annotation is inspect.Parameter.empty:
            raise DeclarationError(f"{where}: write it as {self.shape}")
        hint: Any = parameters[1].annotation
        if isinstance(hint, str):
            try:
                hint = eval(hint, getattr(function, "__globals__", {}), dict(marked.around))  # noqa: S307 the user's own
            except NameError as error:
                raise DeclarationError(f"{where}: {error}: define or import the event before the class") from error
        for event in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
            name = getattr(event, "__qualname__", event)
            if not is_event_class(event):
                raise DeclarationError(f"{where}: {name} is not an event class")
            if (fault := self.refuse(event)) is not None:
                raise DeclarationError(f"{where}: {name} {fault}")
            yield event


def methods(
    owner: str,
    verb: str,
    shape: str,
    *,
    parameters: tuple[int, ...] = (2,),
    plain: str = "",
    refuse: Callable[[type[Event]], str | None] = lambda _: None,
) -> Methods:
    """Return where the decorators of one kind of class note what they mark."""
    return Methods(owner, verb, shape, parameters, plain, refuse, {})


def is_event_class(thing: object) -> TypeGuard[type[Event]]:
    """Tell whether something is the class of an event, and not one of their bases."""
    return isinstance(thing, type) and issubclass(thing, Event) and hasattr(thing, "__type__")
