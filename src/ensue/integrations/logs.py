"""Log records that say which event they are about.

A record that is made while an event is handled, by ensue or by your handler, gets `subscription`, `event_id`,
`event_type`, `position`, `correlation_id` and `attempt`; inside a span of OpenTelemetry also `trace_id` and `span_id`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Literal

from ensue.app import App
from ensue.events import Act, Ending, Event, Receipt, Seen, current_metadata
from ensue.log import Steps

Ids = dict[str, str | int]

_current: ContextVar[tuple[str, Sequence[Seen]] | None] = ContextVar("ensue_handled", default=None)


def log_ids(app: App) -> None:
    """Let log records know which event of this application is being handled. Call it before a worker is started."""
    app.observe(_Noting())


def ids_of(record: logging.LogRecord) -> Ids:
    """Return the ids of the event that a log record is about, by their names; none outside of handlers.

    What ensue says of an event in the record itself counts first. Call it where the record is made, as formatters and
    filters of a handler are.
    """
    found: Ids = {}
    if (current := _current.get()) is not None:
        found = _ids(*current)
    elif (correlation_id := current_metadata().correlation_id) is not None:
        found["correlation_id"] = correlation_id
    said = getattr(record, "ensue", None)
    if isinstance(said, dict):
        found |= said
    return found | _span()


class IdsFilter(logging.Filter):
    """Gives each record the ids as attributes, for formats such as `%(event_id)s`; "-" stands for what there is not."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        found = ids_of(record)
        for name in NAMES:
            if not hasattr(record, name):
                setattr(record, name, found.get(name, "-"))
        return True


NAMES = (
    "subscription",
    "event_id",
    "event_type",
    "position",
    "correlation_id",
    "attempt",
    "trace_id",
    "span_id",
)


def _ids(subscription: str, events: Sequence[Seen]) -> Ids:
    found: Ids = {"subscription": subscription}
    if len(events) == 1:
        (event,) = events
        found |= {"event_id": event.id, "event_type": event.type}
        if event.position is not None:
            found["position"] = event.position
        if event.correlation_id is not None:
            found["correlation_id"] = event.correlation_id
        if event.attempt > 1:
            found["attempt"] = event.attempt
    return found


def _span() -> Ids:
    """Return the ids of the current span, if the program uses OpenTelemetry."""
    opentelemetry = sys.modules.get("opentelemetry.trace")
    if opentelemetry is None:
        return {}
    about = opentelemetry.get_current_span().get_span_context()
    return {"trace_id": f"{about.trace_id:032x}", "span_id": f"{about.span_id:016x}"} if about.is_valid else {}


class _Noting:
    """Notes which event is in hand."""

    def record(
        self, events: Sequence[Event], stream: str | None, append: Callable[[], Steps[Receipt]]
    ) -> Steps[Receipt]:
        return append()

    def traceparent(self) -> str | None:
        return None

    def publish(
        self, subscription: str, system: str, topics: Sequence[str], events: Sequence[Seen]
    ) -> AbstractContextManager[Act]:
        return _noted(subscription, events)

    def receive(self, subscription: str, system: str, messages: Sequence[Seen]) -> AbstractContextManager[Act]:
        return _noted(subscription, messages)

    def process(self, subscription: str, events: Sequence[Seen]) -> AbstractContextManager[Act]:
        return _noted(subscription, events)

    def failed(self, subscription: str, *, waits: bool) -> None: ...

    def leased(self, subscription: str, change: Literal["taken", "given back", "lost"]) -> None: ...

    def waited(self, seconds: float) -> None: ...


class _Nothing:
    def end(self, endings: Sequence[Ending]) -> None: ...


@contextmanager
def _noted(subscription: str, events: Sequence[Seen]) -> Generator[Act]:
    token = _current.set((subscription, events))
    try:
        yield _Nothing()
    finally:
        _current.reset(token)
