"""Who is told what happens in an application as it happens: traces and metrics are made of that.

Nobody is told by default. Then whatever could tell looks at one attribute, and that is all.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from ensue.errors import UndecodableEvent
from ensue.events.envelope import Receipt, Recorded
from ensue.events.kinds import Event

T = TypeVar("T")
Operation = Generator[Any, Any, T]
"""An operation of the log."""


class Seen(NamedTuple):
    """An event, or a message of another service, as an observer sees it."""

    id: str
    type: str
    key: str
    correlation_id: str | None
    traceparent: str | None
    """The W3C trace context of who recorded it."""
    position: int | None = None
    """In the log; None for a message."""
    attempt: int = 1


def seen(recorded: Recorded[Any], attempt: int = 1) -> Seen:
    """Return what an observer sees of a recorded event."""
    try:
        traceparent = recorded.metadata.traceparent if recorded.extra else None
    except UndecodableEvent:  # who handles it is told
        traceparent = None
    return Seen(
        recorded.id_text,
        recorded.type,
        recorded.key,
        recorded.correlation_id,
        traceparent,
        recorded.position,
        attempt,
    )


class Ending(NamedTuple):
    """How the handling of one event has ended."""

    how: Literal["done", "retry", "park", "hold", "failed", "undone"]
    """What the handler has answered; `failed`: it raised, or took too long; `undone`: rolled back together with another
    one that failed, and applied again."""
    reason: str = ""
    error: str = ""
    """The name of the exception's class, if it raised."""
    trace: str = ""


DONE, UNDONE = Ending("done"), Ending("undone")


class Act(Protocol):
    """Something that goes on until its block is left: `with observer.process(…) as act`."""

    def end(self, endings: Sequence[Ending]) -> None:
        """Take how it has ended for each event, in their order; an exception out of the block means that all failed."""
        ...


class Observer(Protocol):
    """Is told what happens. What it raises is raised where it happens, so it must raise nothing.

    It is called by any thread and in any event loop. A block is entered and left in one task or thread.
    """

    def record(
        self, events: Sequence[Event], stream: str | None, append: Callable[[], Operation[Receipt]]
    ) -> Operation[Receipt]:
        """Take part in recording: call `append`, which writes the events down with the current metadata, and return
        what it returns, to be carried out.
        """
        ...

    def traceparent(self) -> str | None:
        """Return the trace context of what goes on here and now, for an event that is recorded later; None: there is
        none.
        """
        ...

    def publish(
        self, subscription: str, system: str, topics: Sequence[str], events: Sequence[Seen]
    ) -> AbstractContextManager[Act]:
        """Make what is around the handing over of events to a broker of this system, each for its topic."""
        ...

    def receive(self, subscription: str, system: str, messages: Sequence[Seen]) -> AbstractContextManager[Act]:
        """Make what is around the taking in of messages that a broker of this system has delivered."""
        ...

    def process(self, subscription: str, events: Sequence[Seen]) -> AbstractContextManager[Act]:
        """Make what is around a handler's call with an event, or the transaction in which several are applied."""
        ...

    def failed(self, subscription: str, *, waits: bool) -> None:
        """Note that an event has failed: it is tried again by itself, or it waits for a person."""
        ...

    def leased(self, subscription: str, change: Literal["taken", "given back", "lost"]) -> None:
        """Note that the lease of a partition has changed hands."""
        ...

    def waited(self, seconds: float) -> None:
        """Note how long somebody has waited for a connection of ensue's own."""
        ...
