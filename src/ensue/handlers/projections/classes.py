"""A projection as a class: one method for each event, and how it is built as attributes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar, TypeVar, overload

from ensue.errors import DeclarationError
from ensue.events import Event, Recorded
from ensue.events.methods import methods
from ensue.handlers.projections.projection import Schema, Tables
from ensue.log import is_awaited
from ensue.subscriptions import Backoff

P = TypeVar("P")
E = TypeVar("E", bound=Event)
V = TypeVar("V")
Answer = TypeVar("Answer")

Applier = Callable[..., Any]

_methods = methods(
    "a Projection",
    "apply",
    "def _(self, event: SomethingHappened, connection: …) -> None",
    parameters=(3, 4),
)


@overload
def applies(function: Callable[[P, E, V], Answer], /) -> Callable[[P, E, V], Answer]: ...


@overload
def applies(function: Callable[[P, E, V, Recorded[E]], Answer], /) -> Callable[[P, E, V, Recorded[E]], Answer]: ...


def applies(function: Callable[..., Any], /) -> Callable[..., Any]:
    """Let a method of a `Projection` apply the events that its first parameter is annotated with.

    It is called with the event, a connection, and, if it takes three arguments, the event's `Recorded`. Any name will
    do, `_` for all of them too. Raises `DeclarationError`, here or when the class is made, for a parameter that is no
    event.
    """
    _methods.mark("applies", function)
    return function


class Projection:
    """Tables that follow from events: a method under `@applies` for each event; declared with `@app.projection`.

    Its attributes are what `app.projection` takes for a function. One object is made of it, without arguments, for each
    application that declares it. Its methods are all sync, or all async. Give it a method `clear(self, key,
    connection)` if keys of it are to be repaired.

    Raises `DeclarationError` when the class is made and contradicts itself.
    """

    tables: ClassVar[Tables]
    """What it writes."""
    name: ClassVar[str] = ""
    """The name of its subscription: the class's name unless this pins another."""
    version: ClassVar[int] = 1
    """Grows with every change of what it makes of the events."""
    set_up: ClassVar[str | Schema | Callable[..., object] | None] = None
    """Makes the tables, where they are not there yet: SQL, SQLAlchemy's metadata, or a method that is given what the
    others get as their connection."""
    transaction: ClassVar[Callable[[], AbstractContextManager[Any] | AbstractAsyncContextManager[Any]] | None] = None
    """Opens a transaction of yours on the log's database, such as `sessionmaker.begin`, and lends what methods get."""
    batch: ClassVar[int] = 500
    partitions: ClassVar[int] = 1
    retry: ClassVar[Backoff] = Backoff()
    timeout: ClassVar[float | timedelta | str | None] = 60.0

    __appliers__: ClassVar[dict[type[Event], Applier]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__appliers__ = {
            **cls.__appliers__,
            **{event: marked.function for event, marked in _methods.collect(cls).items()},
        }
        if len({is_awaited(each) for each in cls.__appliers__.values()}) > 1:
            raise DeclarationError(
                f"{cls.__qualname__}: some of its methods are async and some are not: one transaction "
                "carries them all, so make all of them the one or the other"
            )


def as_function(projection: Projection) -> Callable[[Any, Any, Any], Any]:
    """Return a function that applies any event of a projection's class. Raises `DeclarationError` if there is none."""
    appliers = projection.__appliers__
    if not appliers:
        raise DeclarationError(f"{type(projection).__qualname__}: no method is under @applies: it would apply nothing")
    methods = {event: (partial(each, projection), _takes(each) == 4) for event, each in appliers.items()}

    def apply(event: Event, via: object, recorded: object) -> Any:
        method, more = methods[type(event)]
        return method(event, via, recorded) if more else method(event, via)

    async def apply_async(event: Event, via: object, recorded: object) -> Any:
        return await apply(event, via, recorded)

    return apply_async if is_awaited(next(iter(appliers.values()))) else apply


def _takes(function: Applier) -> int:
    return len(inspect.signature(function).parameters)
