"""A repository for aggregates that are written as functions."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Generic, TypeVar, overload

from ensue.aggregates.aggregate import AggregateId
from ensue.aggregates.decider import Decider, decided
from ensue.aggregates.looking import Looking
from ensue.aggregates.models import DeciderModel, Loaded
from ensue.aggregates.snapshots import Snapshots
from ensue.aggregates.store import Recorder, Store, again, again_async, check_retry
from ensue.errors import AggregateDeleted, DeclarationError
from ensue.events import SourcedEvent
from ensue.log import AsyncConnection, Log, SyncConnection, is_async

C = TypeVar("C")
E = TypeVar("E", bound=SourcedEvent)
S = TypeVar("S")


class DecidingRepository(Looking[S], Generic[C, E, S]):
    """Loads the states of one decider's aggregates, and handles commands.

    `via=` is as for a `Repository`: the user's own connection, or one of ensue's own.
    """

    def __init__(
        self, log: Log, decider: Decider[C, E, S], recorder: Recorder, *, snapshots: Snapshots | None, cache: int | None
    ) -> None:
        self.decider = decider
        self._store: Store[S] = Store(log, DeciderModel(decider), recorder, snapshots, cache)

    @overload
    def handle(
        self,
        id: AggregateId,
        command: C,
        *,
        retry: int = 0,
        dedupe: str | None = None,
        via: SyncConnection | None = None,
    ) -> S: ...

    @overload
    def handle(
        self, id: AggregateId, command: C, *, retry: int = 0, dedupe: str | None = None, via: AsyncConnection
    ) -> Coroutine[Any, Any, S]: ...

    def handle(
        self,
        id: AggregateId,
        command: C,
        *,
        retry: int = 0,
        dedupe: str | None = None,
        via: SyncConnection | AsyncConnection | None = None,
    ) -> S | Coroutine[Any, Any, S]:
        """Load the state, decide, record what follows, and return the new state; the first command begins it.

        On a conflict it is done again, up to `retry` times. Under a `dedupe` key it is done once and for ever; later
        calls return the state as it is. Raises `VersionConflict`, `AggregateDeleted`, and what `decide` raises; then
        nothing is recorded.
        """
        check_retry(retry)
        if via is None:
            return again(lambda: self._handle(id, command, dedupe, None), retry)
        if retry:
            raise DeclarationError("retry= needs transactions of its own: leave via= out, or repeat your transaction")
        if is_async(via):
            return self._handle_async(id, command, dedupe, via)
        return self._handle(id, command, dedupe, via)

    async def handle_async(self, id: AggregateId, command: C, *, retry: int = 0, dedupe: str | None = None) -> S:
        """As `handle`, in an event loop, on a connection of ensue's own."""
        check_retry(retry)
        return await again_async(lambda: self._handle_async(id, command, dedupe, None), retry)

    def _handle(self, id: AggregateId, command: C, dedupe: str | None, via: object) -> S:
        loaded: Loaded[S] = self._store.run(self._store.load(id, via, create=True), via)
        loaded.dedupe = dedupe
        if dedupe is not None and self._store.run(self._store.done(dedupe), via):
            return loaded.state
        events = self._decide(loaded, command)
        if events and self._store.save(loaded, events, via).duplicate:  # somebody was faster
            loaded = self._store.run(self._store.load(id, via), via)
        return loaded.state

    async def _handle_async(self, id: AggregateId, command: C, dedupe: str | None, via: object) -> S:
        loaded = await self._store.run_async(self._store.load(id, via, create=True), via)
        loaded.dedupe = dedupe
        if dedupe is not None and await self._store.run_async(self._store.done(dedupe), via):
            return loaded.state
        events = self._decide(loaded, command)
        if events and (await self._store.save_async(loaded, events, via)).duplicate:
            loaded = await self._store.run_async(self._store.load(id, via), via)
        return loaded.state

    def _decide(self, loaded: Loaded[S], command: C) -> tuple[E, ...]:
        events = decided(self.decider, command, loaded.state)
        for number, event in enumerate(events, 1):
            loaded.state = self.decider.evolve(loaded.state, event)
            if type(event) in self.decider.deleted_by and number < len(events):
                raise AggregateDeleted(self.decider.name, loaded.id, loaded.version + number, event.__type__)
        return events
