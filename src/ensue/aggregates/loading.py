"""Loading an aggregate from its stream and saving what is new: operations that any connection can carry."""

from __future__ import annotations

import logging
import sys
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from ensue.aggregates.aggregate import AggregateId
from ensue.aggregates.keeping import Unkeepable
from ensue.aggregates.models import Loaded, Model
from ensue.aggregates.snapshots import Snapshots
from ensue.errors import AggregateDeleted, AggregateNotFound, PersonalDataError, UndecodableEvent
from ensue.events import Event, decode
from ensue.events.personal import TOKEN, holds_tokens
from ensue.log import Call, Log, Rows, Steps, iso

logger = logging.getLogger("ensue")

S = TypeVar("S")

_ALL = sys.maxsize
_from_json = msgspec.json.Decoder(str).decode


def _as_json(state: str) -> str:
    """Return a state as JSON: one that was sealed is a text, and none yet."""
    return state if not state.startswith(TOKEN) else msgspec.json.encode(state).decode()


def _place(stream: str, version: int) -> str:
    """Return what binds a sealed snapshot to its place."""
    return f"snapshot\0{stream}\0{version}"


class Loader(Generic[S]):
    """Loads aggregates of one kind."""

    def __init__(self, log: Log, model: Model[S], snapshots: Snapshots | None) -> None:
        self._log = log
        self._model = model
        self._snapshots = snapshots
        self._structure: str | None = None
        self._warned = False
        if snapshots is not None:
            model.check_types()

    @property
    def structure(self) -> str | None:
        """What a snapshot must fit; None if none are taken. It is found out at first use: upcasters may come late."""
        if self._structure is None and self._snapshots is not None:
            self._structure = self._model.structure(self._snapshots.edition)
        return self._structure

    def load(
        self, id: AggregateId, *, at_version: int | None = None, as_of: datetime | None = None
    ) -> Steps[Loaded[S]]:
        """Load it as it is, was at a version, or was at a moment. An aggregate without events is at version 0."""
        sql, stream, until = self._log.dialect.sql, self._model.stream(id), _ALL
        if as_of is not None:
            until = (yield sql["version_at"](stream=stream, moment=iso(as_of)))[0][0]
        if at_version is not None:
            until = min(until, at_version)
        if self.structure is not None:
            rows = yield sql["load_from_snapshot"](stream=stream, structure=self.structure, until=until)
            if not rows or rows[0][1] is not None:
                return self._fold(str(id), (yield from self.opened(stream, rows)))
            version, _, data = rows[0]
            try:
                state = yield from self._kept(str(id), version, data)
            except Exception as error:  # noqa: BLE001 it does not fit after all, and the events say the same
                logger.warning("the snapshot of %r at version %d is not read: %s", stream, version, error)
            else:
                if state is not None:
                    return self._fold(str(id), (yield from self.opened(stream, rows[1:])), state, version)
        rows = yield from self.opened(stream, (yield Call(sql["load"], (stream, 0, until))))
        return self._fold(str(id), rows)

    def opened(self, stream: str, rows: Rows) -> Steps[Rows]:
        """Return stored events with their personal fields in them."""
        personal = self._log.personal
        if not rows or not personal.vault.used:
            return rows
        try:
            return (yield from personal.open_rows(rows, stream))
        except PersonalDataError as error:
            raise UndecodableEvent(
                f"stream {stream!r}: {error}", position=None, type=str(rows[-1][1]), stream=stream
            ) from error

    def _kept(self, id: str, version: int, state: str) -> Steps[S | None]:
        """Return the state that a snapshot holds; None if a person whose data may be in it is forgotten."""
        if state.startswith(f'"{TOKEN}'):
            sealed: str = _from_json(state)
            ring = yield from self._log.personal.ring([sealed])
            opened = ring.read(sealed, _place(self._model.stream(id), version))
            if opened is None:
                return None
            state = opened
        return self._model.load(id, state)

    def _fold(self, id: str, rows: Any, begun: S | None = None, snapshot: int = 0) -> Loaded[S]:
        model = self._model
        state = begun if snapshot and begun is not None else model.begin(id)
        state = model.fold(id, state, rows)
        version = rows[-1][0] if rows else snapshot
        size = sum(len(row[2]) for row in rows) if self._snapshots is not None else 0
        loaded = Loaded(id, state, version, snapshot, size, self.ended_by(rows))
        model.settle(state, loaded)
        return loaded

    def ended_by(self, rows: Any) -> str | None:
        """Return the wire type of the last event if it deletes the aggregate."""
        if not rows or not self._model.deleted_by:
            return None
        _, type, data, *_ = rows[-1]
        last = decode(type, data)[-1:]
        return last[0].__type__ if last and isinstance(last[0], tuple(self._model.deleted_by)) else None

    def alive(self, loaded: Loaded[S]) -> Loaded[S]:
        """Raise `AggregateNotFound` or `AggregateDeleted` unless there is such an aggregate."""
        if loaded.version == 0:
            raise AggregateNotFound(self._model.name, loaded.id)
        if loaded.ended_by is not None:
            raise AggregateDeleted(self._model.name, loaded.id, loaded.version, loaded.ended_by)
        return loaded

    @property
    def keeps_snapshots(self) -> bool:
        """Whether snapshots are taken at all."""
        return self._snapshots is not None

    def snapshot(self, loaded: Loaded[S], events: tuple[Event, ...]) -> Steps[None]:
        """Keep a snapshot of what has just been recorded, if one is due."""
        if self._snapshots is None or loaded.ended_by is not None:
            return
        size = loaded.size + sum(len(type(each).__structure__.encode(each)) for each in events)
        version = loaded.version + len(events)
        loaded.size = size
        if self._snapshots.due(version - loaded.snapshot, size) and (
            state := (yield from self._sealed(loaded, version))
            if self._log.personal.vault.used
            else self._dumped(loaded, version)
        ):
            yield self._log.dialect.sql["save_snapshot"](
                stream=self._model.stream(loaded.id), version=version, structure=self.structure, state=state
            )
            loaded.snapshot, loaded.size = version, 0

    def _sealed(self, loaded: Loaded[S], version: int) -> Steps[str | None]:
        """Return the state as it is kept, encrypted with the keys of all persons whose data may be in it.

        Where there are such, it is made of the events again, after the keys were asked for: the state in memory may be
        older than the end of one of them, and so tell of a person who is forgotten.
        """
        stream = self._model.stream(loaded.id)
        rows = yield self._log.dialect.sql["load_from_snapshot"](stream=stream, structure=self.structure, until=version)
        stored = "".join(row[2] for row in rows)
        if not holds_tokens(stored):
            return self._dumped(loaded, version)
        ring = yield from self._log.personal.ring([stored])
        state = self._dumped((yield from self.load(loaded.id, at_version=version)), version)
        return None if state is None else _as_json(ring.seal(state, _place(stream, version), like=stored))

    def _dumped(self, loaded: Loaded[S], version: int) -> str | None:
        """Return the state as JSON; None, and say so once, if it cannot be kept: what was recorded counts."""
        try:
            return self._model.dump(loaded.state).decode()
        except Unkeepable as error:
            if not self._warned:
                stream = self._model.stream(loaded.id)
                logger.warning("no snapshot of %r at version %d: %s", stream, version, error)
            self._warned = True
            return None
