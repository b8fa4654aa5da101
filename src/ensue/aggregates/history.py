"""What happened to an aggregate, event by event, and what each event changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ensue.events import Event, Recorded


@dataclass(frozen=True, slots=True)
class Change:
    """One event of an aggregate and what it changed; the values are as JSON has them."""

    version: int
    recorded: Recorded[Any]
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    @property
    def event(self) -> Event:
        """The event; raises `UndecodableEvent` where an upcaster makes several or none of it: ask for `events` then."""
        event: Event = self.recorded.event
        return event

    @property
    def events(self) -> tuple[Event, ...]:
        """The event, or what an upcaster makes of it if that is several or none."""
        return self.recorded.events

    @property
    def diff(self) -> dict[str, tuple[Any, Any]]:
        """The parts of the state that differ: (before, after), None where there is none."""
        names = dict.fromkeys([*self.before, *self.after])
        pairs = {name: (self.before.get(name), self.after.get(name)) for name in names}
        return {name: (before, after) for name, (before, after) in pairs.items() if before != after}

    @property
    def at(self) -> datetime:
        """When it was recorded."""
        return self.recorded.recorded_at

    @property
    def actor(self) -> str | None:
        """Who did it, if that was recorded."""
        return self.recorded.metadata.actor

    @property
    def causation_id(self) -> str | None:
        """The id of the event or command that caused it, if that was recorded."""
        return self.recorded.causation_id

    @property
    def correlation_id(self) -> str:
        """What it belongs to."""
        return self.recorded.correlation_id
