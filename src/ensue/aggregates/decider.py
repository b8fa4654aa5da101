"""`Decider`: an aggregate as three functions, without any class."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from types import UnionType
from typing import Any, Generic, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from ensue.aggregates.aggregate import check_name
from ensue.errors import DeclarationError
from ensue.events import SourcedEvent
from ensue.log import is_awaited, never_awaited

C = TypeVar("C")
E = TypeVar("E", bound=SourcedEvent)
S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class Decider(Generic[C, E, S]):
    """An aggregate as pure functions: `decide` what follows from a command, `evolve` the state by an event.

    The state is a value: `evolve` returns a new one and leaves the old one as it is, and `initial` is shared by all.
    Streams begin with `name`. After an event of `deleted_by` the aggregate is gone. The idea is Jérémie Chassaing's:
    https://thinkbeforecoding.com/post/2021/12/17/functional-event-sourcing-decider
    """

    name: str
    initial: S
    decide: Callable[[C, S], Iterable[E]]
    evolve: Callable[[S, E], S]
    deleted_by: tuple[type[SourcedEvent], ...] = ()

    def __post_init__(self) -> None:
        check_name(self.name, f"decider {self.name!r}")
        _check_function(self.decide, f"decider {self.name!r}: decide", "a command and a state")
        _check_function(self.evolve, f"decider {self.name!r}: evolve", "a state and an event")

    def events(self) -> tuple[type[SourcedEvent], ...]:
        """Return the event classes that `evolve` takes, as its annotation says; none if it says nothing."""
        hint = self._hints().get(list(inspect.signature(self.evolve).parameters)[1])
        parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        return tuple(part for part in parts if isinstance(part, type) and issubclass(part, SourcedEvent))

    def state(self) -> Any:
        """Return the type of its state, as `evolve` is annotated, else as it begins."""
        return self._hints().get("return", type(self.initial))

    def _hints(self) -> dict[str, Any]:
        try:
            return get_type_hints(behind(self.evolve))
        except NameError as error:
            raise DeclarationError(f"decider {self.name!r}: {error} in the annotations of evolve") from error


def behind(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function behind what can be called: behind partials, or the method by which an object is called."""
    while isinstance(function, partial):
        function = function.func
    found: Callable[..., Any] = function if inspect.isroutine(function) else type(function).__call__
    return found


def _check_function(function: Any, where: str, takes: str) -> None:
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        raise DeclarationError(f"{where} is {function!r}: it is a function that takes {takes}") from error
    if is_awaited(function):
        raise DeclarationError(f"{where} is async: it decides or evolves by what it is given, and waits for nothing")


def decided(decider: Decider[C, E, Any], command: C, state: Any) -> tuple[E, ...]:
    """Let a decider decide; raise `DeclarationError` unless it returns event-sourced events, in a tuple or the like."""
    answer: object = decider.decide(command, state)
    several = isinstance(answer, Iterable) and not never_awaited(cast("object", answer))
    events = tuple(cast("Iterable[object]", answer)) if several else None
    if events is None or not all(isinstance(each, SourcedEvent) for each in events):
        raise DeclarationError(
            f"decider {decider.name!r}: decide returned {answer!r}: return event-sourced events in a list or a tuple, "
            "an empty one if nothing follows. Events of the other kinds follow from these, by @app.translate or @app.on"
        )
    return cast("tuple[E, ...]", events)
