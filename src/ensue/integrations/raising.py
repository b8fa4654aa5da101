"""What entities of any ORM share: the events that they have raised, whose log these go to, and how."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count, groupby
from operator import attrgetter
from typing import NamedTuple

from ensue.app import App
from ensue.errors import DeclarationError, EventValueError
from ensue.events import Event, Kind, Metadata, current_metadata, restored
from ensue.log import SyncConnection

_APP = "__ensue_app__"
_numbers = count(1)


class Raised(NamedTuple):
    """An event that an entity has raised, and that waits to be recorded."""

    number: int
    """It grows in the order in which events are raised in this process."""
    event: Event
    metadata: Metadata


def next_number() -> int:
    """Return a number greater than that of all events raised so far, and smaller than that of the next one."""
    return next(_numbers)


def connect(app: App, cls: type) -> None:
    """Name the application whose log the events of a class and of those derived from it go to."""
    if not isinstance(app, App):
        raise DeclarationError(f"entities({app!r}, …): the first argument is the App in whose log they record")
    setattr(cls, _APP, app)
    app.declarations.declare_entities(cls)


def app_of(cls: type) -> App:
    """Return the application of a class of entities; raise `DeclarationError` if none has been named."""
    app: App | None = getattr(cls, _APP, None)
    if app is None:
        raise DeclarationError(
            f"{cls.__qualname__} raises events, but nobody has said in which application's log they are recorded: "
            "call entities(app, …) once, where the program starts"
        )
    return app


def raised(event: Event, by: type) -> Raised:
    """Take an event as raised here and now.

    Raises `EventValueError` for what an entity cannot raise, `DeclarationError` if it has no application.
    """
    app_of(by)
    cls = type(event)
    if not isinstance(event, Event) or not hasattr(cls, "__structure__"):
        what = event.__qualname__ if isinstance(event, type) else cls.__qualname__
        raise EventValueError(
            f"{by.__qualname__}.raise_event: {what} is not an event: pass an object of a class derived from "
            "DomainEvent or IntegrationEvent"
        )
    if cls.__kind__ is Kind.SOURCED:
        raise EventValueError(
            f"{by.__qualname__}.raise_event: {cls.__qualname__} is an event-sourced event, the state of an aggregate; "
            f"the state of {by.__qualname__} is its row. Derive the event from DomainEvent or IntegrationEvent"
        )
    said: tuple[type[Event], ...] = getattr(by, "__raises__", ())
    if said and not isinstance(event, said):
        raise EventValueError(
            f"{by.__qualname__} does not say that it raises {cls.__qualname__}: add it to its __raises__"
        )
    return Raised(next_number(), event, current_metadata())


def stream_of(cls: type, key: Iterable[object]) -> str:
    """Return the stream of an entity: its aggregate's name and its primary key."""
    name = getattr(cls, "__aggregate__", cls.__name__)
    return f"{name}-{':'.join(map(str, key))}"


def record(app: App, events: Iterable[Raised], *, stream: str, via: SyncConnection) -> None:
    """Record what one entity has raised, each event with the metadata of the moment at which it was raised."""
    for metadata, group in groupby(events, attrgetter("metadata")):
        first, *more = (each.event for each in group)
        with restored(metadata):
            app.record(first, *more, via=via, stream=stream)
