"""What all repositories do, in terms of operations: load, save, look back."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from ensue.aggregates.aggregate import AggregateId
from ensue.aggregates.cache import Cache, Kept
from ensue.aggregates.history import Change
from ensue.aggregates.loading import Loader
from ensue.aggregates.models import Loaded, Model
from ensue.aggregates.snapshots import Snapshots
from ensue.errors import AggregateNotFound, DeclarationError, EnsueError, UnknownName, VersionConflict
from ensue.events import Event, Receipt, Recorded, stored_types
from ensue.events.personal import declared, is_personal
from ensue.log import Call, Log, Selection, Steps, Transaction

S = TypeVar("S")
T = TypeVar("T")

_PAGE = 1000
_FIRST_WAIT = 0.005
_LONGEST_WAIT = 0.5
"""Seconds to wait at most before a block that met a conflict is run again; each wait is drawn below twice the last."""


class Recorder(Protocol):
    """How an application records: with all that belongs to it."""

    def alone(self, events: tuple[Event, ...]) -> bool:
        """Tell whether nothing else runs in the recording transaction: no handler wants these events there."""
        ...

    def ready(self, steps: Steps[T], via: object) -> Steps[T]:
        """Put before an operation what must be done first; None: it runs on a connection of ensue's own."""
        ...

    def record(self, events: tuple[Event, ...], via: Any, *, stream: str, expected: int, dedupe: str | None) -> Any:
        """Record in the open transaction: a receipt on a sync connection, an awaitable of it on an async one."""
        ...


class Store(Generic[S]):
    """Aggregates of one kind in one log; everything that does not depend on the style they are written in."""

    def __init__(
        self, log: Log, model: Model[S], recorder: Recorder, snapshots: Snapshots | None, cache: int | None
    ) -> None:
        if cache is not None and cache < 1:
            raise DeclarationError(f"repository of {model.name}: cache={cache}: at least 1 aggregate, or leave it out")
        self.log = log
        self.model = model
        self._recorder = recorder
        self._loader = Loader(log, model, snapshots)
        self._cache: Cache[S] | None = None if cache is None else Cache(cache)

    @property
    def _is_personal(self) -> bool:
        """Whether personal fields may be in the state."""
        return declared() and any(is_personal(name) for each in self.model.events for name in stored_types(each))

    # --- carrying operations out, on the user's connection or on one of ours

    def run(self, steps: Steps[T], via: object) -> Any:
        """Return the result on no or a sync connection, an awaitable of it on an async one."""
        steps = self._recorder.ready(steps, via)
        return self.log.own.run(steps) if via is None else self.log.run(steps, via)

    async def run_async(self, steps: Steps[T], via: object) -> T:
        """As `run`, in an event loop."""
        steps = self._recorder.ready(steps, via)
        found: T = await (self.log.own.run_async(steps) if via is None else self.log.run(steps, via))
        return found

    # --- loading

    def load(self, id: AggregateId, via: object, *, create: bool = False) -> Steps[Loaded[S]]:
        """Load an aggregate as it is; with `create`, also one that does not exist."""
        cached = self._cache is not None and via is None and not self._is_personal
        # what is not committed must not be kept, nor what could outlive a person's key
        loaded = yield from (self._load_cached(str(id)) if cached else self._loader.load(id))
        return loaded if create and loaded.version == 0 else self._loader.alive(loaded)

    def load_past(self, id: AggregateId, at_version: int | None, as_of: datetime | None) -> Steps[Loaded[S]]:
        """Load an aggregate as it was.

        Raises `EnsueError` for what is no moment and no version, `UnknownName` for a version that is not there yet.
        """
        _check_past(at_version, as_of)
        loaded = self._loader.alive((yield from self._loader.load(id, at_version=at_version, as_of=as_of)))
        if at_version is not None and loaded.version < at_version:
            raise UnknownName(
                f"stream {self.model.stream(id)!r} is at version {loaded.version}, not yet at {at_version}"
            )
        return loaded

    def _load_cached(self, id: str) -> Steps[Loaded[S]]:
        assert self._cache is not None  # noqa: S101
        sql, stream = self.log.dialect.sql, self.model.stream(id)
        if (kept := self._cache.get(id)) is not None:
            rows = yield from self._loader.opened(stream, (yield Call(sql["load_again"], (stream, kept.version))))
            if rows and rows[0][3] == kept.event_id:
                state = self.model.fold(id, self.model.copy(kept.state), [row[:3] for row in rows[1:]])
                version, event_id = rows[-1][0], rows[-1][3]
                loaded = Loaded(id, state, version, kept.snapshot, kept.size, self._loader.ended_by(rows[1:]))
                loaded.size += sum(len(row[2]) for row in rows[1:])
                self.model.settle(state, loaded)
                self._keep(loaded, event_id)
                return loaded
            self._cache.forget(id)
        loaded = yield from self._loader.load(id)
        for (event_id,) in (yield Call(sql["event_id_at"], (stream, loaded.version))):
            self._keep(loaded, event_id)
        return loaded

    def _keep(self, loaded: Loaded[S], event_id: str) -> None:
        """Keep what is committed, if there is a cache."""
        if self._cache is not None and loaded.ended_by is None and not self._is_personal:
            self._cache.put(
                loaded.id, Kept(self.model.copy(loaded.state), loaded.version, event_id, loaded.snapshot, loaded.size)
            )

    def done(self, dedupe: str) -> Steps[bool]:
        """Tell whether something has been recorded under a key."""
        return bool((yield Call(self.log.dialect.sql["is_deduplicated"], (dedupe,))))

    # --- saving

    def save(self, loaded: Loaded[S], events: tuple[Event, ...], via: object) -> Receipt:
        """Record what is new, and a snapshot if one is due. `loaded` has the state that the events lead to."""
        self._look_ahead(loaded, events)
        if via is not None:
            receipt = self._save_on(loaded, events, via)
        elif self._recorder.alone(events):
            receipt = self.run(self._save_alone(loaded, events), None)
        else:
            with Transaction(self.log) as connection:
                receipt = self._save_on(loaded, events, connection)
        return self._saved(loaded, receipt, via)

    def _save_on(self, loaded: Loaded[S], events: tuple[Event, ...], via: object) -> Receipt:
        receipt: Receipt = self._recorder.record(
            events, via, stream=self.model.stream(loaded.id), expected=loaded.version, dedupe=loaded.dedupe
        )
        if self._loader.keeps_snapshots and not receipt.duplicate:
            self.log.run(self._loader.snapshot(loaded, events), via)
        return receipt

    async def save_async(self, loaded: Loaded[S], events: tuple[Event, ...], via: object) -> Receipt:
        """As `save`, in an event loop."""
        self._look_ahead(loaded, events)
        if via is not None:
            receipt = await self._save_on_async(loaded, events, via)
        elif self._recorder.alone(events):
            receipt = await self.run_async(self._save_alone(loaded, events), None)
        else:
            async with Transaction(self.log) as connection:
                receipt = await self._save_on_async(loaded, events, connection)
        return self._saved(loaded, receipt, via)

    async def _save_on_async(self, loaded: Loaded[S], events: tuple[Event, ...], via: object) -> Receipt:
        receipt: Receipt = await self._recorder.record(
            events, via, stream=self.model.stream(loaded.id), expected=loaded.version, dedupe=loaded.dedupe
        )
        if self._loader.keeps_snapshots and not receipt.duplicate:
            await self.log.run(self._loader.snapshot(loaded, events), via)
        return receipt

    def _save_alone(self, loaded: Loaded[S], events: tuple[Event, ...]) -> Steps[Receipt]:
        def steps() -> Steps[Receipt]:
            stream = self.model.stream(loaded.id)
            receipt = yield from self.log.append(events, stream=stream, expected=loaded.version, dedupe=loaded.dedupe)
            if not receipt.duplicate:
                yield from self._loader.snapshot(loaded, events)
            return receipt

        keyed = declared() and any(is_personal(type(each).__type__) for each in events)
        return self.log.alone(steps(), single=not self._loader.keeps_snapshots and not keyed)

    def _look_ahead(self, loaded: Loaded[S], events: tuple[Event, ...]) -> None:
        if type(events[-1]) in self.model.deleted_by:
            loaded.ended_by = events[-1].__type__

    def _saved(self, loaded: Loaded[S], receipt: Receipt, via: object) -> Receipt:
        if receipt.duplicate:  # somebody has recorded it meanwhile; the state that this led to never was
            return receipt
        loaded.version = receipt.version or 0
        self.model.settle(loaded.state, loaded)
        if via is None:
            self._keep(loaded, receipt.id_texts[-1])
        return receipt

    # --- looking back

    def history(self, id: AggregateId, *, after: int = 0, until: int | None = None) -> Steps[list[Change]]:
        """Read the events of an aggregate behind one version and up to another, with what each has changed."""
        stream, found, position = self.model.stream(id), list[Recorded[Any]](), 0
        while True:
            rows = yield from self.log.read(Selection(stream=stream, after=position), _PAGE)
            found += rows
            if len(rows) < _PAGE:
                break
            position = rows[-1].position
        if not found:
            raise AggregateNotFound(self.model.name, str(id))
        wanted = [each for each in found if until is None or (each.version or 0) <= until]
        return self._changes(str(id), wanted, after)

    def _changes(self, id: str, events: list[Recorded[Any]], version: int) -> list[Change]:
        model = self.model
        state, changes = model.begin(id), list[Change]()
        before = model.plain(state) if version == 0 else None
        for recorded in events:
            state = model.fold(id, state, [(recorded.version, recorded.type, recorded.plain)], recorded.position)
            after = model.plain(state) if (recorded.version or 0) >= version else None
            if before is not None and after is not None:
                changes.append(Change(recorded.version or 0, recorded, before, after))
            before = after
        return changes


def _check_past(at_version: object, as_of: object) -> None:
    if at_version is not None and (type(at_version) is not int or at_version < 1):
        raise EnsueError(f"at_version={at_version!r}: versions are 1, 2, …")
    if as_of is not None and not isinstance(as_of, datetime):
        raise EnsueError(f"as_of={as_of!r}: it must be a datetime, with a time zone")
    if as_of is not None and as_of.tzinfo is None:
        raise EnsueError(f"as_of={as_of!r} has no time zone: make it aware, for example datetime.now(UTC)")


# --- running a block again


def check_retry(retry: object) -> None:
    """Raise `DeclarationError` for what is no number of times."""
    if type(retry) is not int or retry < 0:
        raise DeclarationError(f"retry={retry!r}: how often at most, 0 or more")


def again(attempt: Callable[[], T], retry: int) -> T:
    """Do it, and again up to so many times when somebody else was faster."""
    for number in range(retry + 1):
        try:
            return attempt()
        except VersionConflict:
            if number == retry:
                raise
            time.sleep(_wait(number))
    raise AssertionError  # pragma: no cover


async def again_async(attempt: Callable[[], Coroutine[Any, Any, T]], retry: int) -> T:
    """As `again`, for asyncio."""
    for number in range(retry + 1):
        try:
            return await attempt()
        except VersionConflict:
            if number == retry:
                raise
            await asyncio.sleep(_wait(number))
    raise AssertionError  # pragma: no cover


def _wait(number: int) -> float:
    return random.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(number, 16)))
