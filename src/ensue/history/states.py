"""Aggregates as they were: their state at a version or a moment, and what lies between two versions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from ensue.aggregates import Aggregate, Change, Decider, Recorder
from ensue.aggregates.models import ClassModel, DeciderModel, Model
from ensue.aggregates.store import Store
from ensue.errors import EnsueError, UnknownName
from ensue.events import Recorded
from ensue.log import Call, Log, Selection, Steps

Kept = type[Aggregate] | Decider[Any, Any, Any]
"""What an aggregate is declared with."""


class State(msgspec.Struct, frozen=True, kw_only=True):
    """An aggregate as it was behind one of its events; the values are as JSON has them."""

    stream: str
    version: int
    position: int
    """Of the event that led to it."""
    id: str
    recorded_at: datetime
    state: dict[str, Any]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What lies between two versions of an aggregate; the values are as JSON has them."""

    stream: str
    first: int
    last: int
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    events: tuple[Change, ...]
    """Each with what it has changed."""

    @property
    def changed(self) -> dict[str, tuple[Any, Any]]:
        """The parts of the state that differ: (before, after), None where there is none."""
        return Change(self.last, self.events[-1].recorded, self.before, self.after).diff


class Streams:
    """Finds the aggregate that a stream belongs to, among those that are declared."""

    def __init__(self, log: Log, recorder: Recorder, declared: Mapping[str, Kept]) -> None:
        self._log = log
        self._recorder = recorder
        self._declared = declared

    def state(self, stream: str, at_version: int | None, as_of: datetime | None) -> Steps[State]:
        """Load an aggregate as it is, was at a version, or was at a moment."""
        store, id = self._store(stream)
        past = at_version is not None or as_of is not None
        loaded = yield from (store.load_past(id, at_version, as_of) if past else store.load(id, None))
        last = yield from self._event_at(stream, loaded.version)
        return State(
            stream=stream,
            version=loaded.version,
            position=last.position,
            id=last.id_text,
            recorded_at=last.recorded_at,
            state=store.model.plain(loaded.state),
        )

    def difference(self, stream: str, first: int, last: int) -> Steps[Difference]:
        """Compare an aggregate at two of its versions; version 0 is before it began."""
        if not 0 <= first < last:
            raise EnsueError(f"versions {first} and {last}: name the earlier one first; 0 is before it began")
        store, id = self._store(stream)
        changes = yield from store.history(id, after=first, until=last)
        if not changes or changes[-1].version < last:
            raise UnknownName(f"stream {stream!r} is not yet at version {last}")
        return Difference(
            stream=stream,
            first=first,
            last=last,
            before=changes[0].before,
            after=changes[-1].after,
            events=tuple(changes),
        )

    def _event_at(self, stream: str, version: int) -> Steps[Recorded[Any]]:
        ((id,),) = yield Call(self._log.dialect.sql["event_id_at"], (stream, version))
        (found,) = yield from self._log.read(Selection(id=id), 1)
        return found

    def _store(self, stream: str) -> tuple[Store[Any], str]:
        name, _, id = stream.partition("-")
        if name not in self._declared or not id:
            known = ", ".join(sorted(self._declared)) or "none"
            raise UnknownName(
                f"{stream!r} is the stream of no declared aggregate: write its name and its id as 'wallet-7'; "
                f"declared with app.repository(…): {known}"
            )
        kept = self._declared[name]
        model: Model[Any] = DeciderModel(kept) if isinstance(kept, Decider) else ClassModel(kept)
        return Store(self._log, model, self._recorder, None, None), id
