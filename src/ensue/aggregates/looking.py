"""Looking at aggregates: as they are, as they were, and what has happened to them; the same in both styles."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime
from typing import Any, Generic, TypeVar, overload

from ensue.aggregates.aggregate import AggregateId
from ensue.aggregates.history import Change
from ensue.aggregates.models import Loaded
from ensue.aggregates.store import Store
from ensue.log import AsyncConnection, Steps, SyncConnection, is_async

S = TypeVar("S")


class Looking(Generic[S]):
    """What all repositories can be asked; `S` is an aggregate, or the state of a decider's."""

    _store: Store[S]

    @overload
    def get(
        self,
        id: AggregateId,
        *,
        at_version: int | None = None,
        as_of: datetime | None = None,
        via: SyncConnection | None = None,
    ) -> S: ...

    @overload
    def get(
        self,
        id: AggregateId,
        *,
        at_version: int | None = None,
        as_of: datetime | None = None,
        via: AsyncConnection,
    ) -> Coroutine[Any, Any, S]: ...

    def get(
        self,
        id: AggregateId,
        *,
        at_version: int | None = None,
        as_of: datetime | None = None,
        via: SyncConnection | AsyncConnection | None = None,
    ) -> S | Coroutine[Any, Any, S]:
        """Return the aggregate, or its state, as it is, as it was at a version, or as it was at a moment.

        Raises `AggregateNotFound` if it has (or had) no events, `AggregateDeleted` if it is (or was) gone.
        """
        steps = self._steps(id, at_version, as_of, via)
        if via is not None and is_async(via):
            return self._get_async(steps, via)
        loaded: Loaded[S] = self._store.run(steps, via)
        return loaded.state

    async def get_async(self, id: AggregateId, *, at_version: int | None = None, as_of: datetime | None = None) -> S:
        """As `get`, in an event loop, on a connection of ensue's own."""
        return await self._get_async(self._steps(id, at_version, as_of, None), None)

    async def _get_async(self, steps: Steps[Loaded[S]], via: object) -> S:
        return (await self._store.run_async(steps, via)).state

    def _steps(self, id: AggregateId, at_version: int | None, as_of: datetime | None, via: object) -> Steps[Loaded[S]]:
        past = at_version is not None or as_of is not None
        return self._store.load_past(id, at_version, as_of) if past else self._store.load(id, via)

    @overload
    def history(self, id: AggregateId, *, via: SyncConnection | None = None) -> list[Change]: ...

    @overload
    def history(self, id: AggregateId, *, via: AsyncConnection) -> Coroutine[Any, Any, list[Change]]: ...

    def history(
        self, id: AggregateId, *, via: SyncConnection | AsyncConnection | None = None
    ) -> list[Change] | Coroutine[Any, Any, list[Change]]:
        """Return every event, the first one first, with what it changed, who did it, when and why."""
        found: list[Change] | Coroutine[Any, Any, list[Change]] = self._store.run(self._store.history(id), via)
        return found

    async def history_async(self, id: AggregateId) -> list[Change]:
        """As `history`, in an event loop, on a connection of ensue's own."""
        return await self._store.run_async(self._store.history(id), None)
