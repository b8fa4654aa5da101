"""Repositories: where aggregates are loaded from and saved to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

from ensue.aggregates.aggregate import Aggregate, AggregateId
from ensue.aggregates.looking import Looking
from ensue.aggregates.models import ClassModel, Loaded
from ensue.aggregates.snapshots import Snapshots
from ensue.aggregates.store import Recorder, Store, again, again_async, check_retry
from ensue.errors import DeclarationError
from ensue.events import Receipt
from ensue.log import AsyncConnection, Log, SyncConnection, is_async, is_awaited, never_awaited

A = TypeVar("A", bound=Aggregate)
R = TypeVar("R")


class Repository(Looking[A]):
    """Loads and saves the aggregates of one class.

    Methods take `via=`, the user's own connection with its open transaction: then all is part of that, and on an async
    connection an awaitable comes back. Without it a connection of ensue's own is used, in a transaction of its own;
    the methods that do that in an event loop are called `…_async`. Saving records with the version that was loaded: if
    somebody else was faster, `VersionConflict` is raised and nothing is recorded.
    """

    def __init__(
        self, log: Log, cls: type[A], recorder: Recorder, *, snapshots: Snapshots | None, cache: int | None
    ) -> None:
        self.aggregate = cls
        self._store: Store[A] = Store(log, ClassModel(cls), recorder, snapshots, cache)

    # --- saving

    @overload
    def save(self, aggregate: A, *, via: SyncConnection | None = None) -> Receipt | None: ...

    @overload
    def save(self, aggregate: A, *, via: AsyncConnection) -> Coroutine[Any, Any, Receipt | None]: ...

    def save(
        self, aggregate: A, *, via: SyncConnection | AsyncConnection | None = None
    ) -> Receipt | Coroutine[Any, Any, Receipt | None] | None:
        """Record what has been applied to the aggregate; return None if nothing has.

        If your transaction is rolled back afterwards, load the aggregate again: this object counts as saved. Raises
        `VersionConflict` if somebody else has changed it meanwhile, `AggregateSpoiled` if a command has failed
        half way; then nothing is recorded.
        """
        loaded = _loaded(aggregate)
        if via is not None and is_async(via):
            return self._save_async(loaded, via)
        return self._save(loaded, via)

    async def save_async(self, aggregate: A) -> Receipt | None:
        """As `save`, in an event loop, on a connection of ensue's own."""
        return await self._save_async(_loaded(aggregate), None)

    def _save(self, loaded: Loaded[A], via: object) -> Receipt | None:
        events = tuple(_unspoiled(loaded.state).pending)
        return self._store.save(loaded, events, via) if events else None

    async def _save_async(self, loaded: Loaded[A], via: object) -> Receipt | None:
        events = tuple(_unspoiled(loaded.state).pending)
        return await self._store.save_async(loaded, events, via) if events else None

    # --- editing

    @overload
    def edit(self, id: AggregateId, /, *, create: bool = False) -> Edit[A]: ...

    @overload
    def edit(
        self, id: AggregateId, /, *, create: bool = False, via: SyncConnection
    ) -> AbstractContextManager[A, None]: ...

    @overload
    def edit(
        self, id: AggregateId, /, *, create: bool = False, via: AsyncConnection
    ) -> AbstractAsyncContextManager[A, None]: ...

    @overload
    def edit(
        self,
        id: AggregateId,
        block: Callable[[A], Coroutine[Any, Any, R]],
        /,
        *,
        create: bool = False,
        retry: int = 0,
        dedupe: str,
    ) -> Coroutine[Any, Any, R | None]: ...

    @overload
    def edit(
        self, id: AggregateId, block: Callable[[A], R], /, *, create: bool = False, retry: int = 0, dedupe: str
    ) -> R | None: ...

    @overload
    def edit(
        self, id: AggregateId, block: Callable[[A], Coroutine[Any, Any, R]], /, *, create: bool = False, retry: int = 0
    ) -> Coroutine[Any, Any, R]: ...

    @overload
    def edit(self, id: AggregateId, block: Callable[[A], R], /, *, create: bool = False, retry: int = 0) -> R: ...

    def edit(
        self,
        id: AggregateId,
        block: Callable[[A], Any] | None = None,
        /,
        *,
        create: bool = False,
        retry: int = 0,
        dedupe: str | None = None,
        via: SyncConnection | AsyncConnection | None = None,
    ) -> Any:
        """Load the aggregate, let a block change it, and save it if the block does not raise.

        `with wallets.edit(id) as wallet` or `async with`. Or give the block as a function, sync or async, that takes
        the aggregate: then it is run again on a conflict, up to `retry` times, and what it returns is returned.
        With `create` an aggregate that does not exist begins. Under a `dedupe` key, a delivery's `idempotency_key` for
        example, what the block applies is recorded once and for ever: if it has been, the block is not run, and None is
        returned. Raises what `get` and `save` raise.
        """
        if block is None:
            if retry or dedupe is not None:
                raise DeclarationError(
                    "retry= and dedupe= decide whether the block is run: give it as a function, edit(id, block, …)"
                )
            return Edit(self, id, create, via)
        if via is not None:
            raise DeclarationError(
                "edit(id, block) has a transaction of its own, to be repeated as a whole; in yours, use "
                "with repository.edit(id, via=…) and repeat your transaction"
            )
        check_retry(retry)
        if is_awaited(block):
            return again_async(lambda: self._run_block_async(id, block, create, dedupe), retry)
        return again(lambda: self._run_block(id, block, create, dedupe), retry)

    def _run_block(self, id: AggregateId, block: Callable[[A], R], create: bool, dedupe: str | None) -> R | None:
        if dedupe is not None and self._store.run(self._store.done(dedupe), None):
            return None
        with Edit(self, id, create, None, dedupe) as aggregate:
            answer = block(aggregate)
            if never_awaited(answer):
                raise DeclarationError(
                    f"edit({id!r}, block): the block returned an awaitable, and nothing was recorded: only what is "
                    "defined with async def is awaited here, so write async def block(aggregate): return await …"
                )
            return answer

    async def _run_block_async(
        self, id: AggregateId, block: Callable[[A], Awaitable[R]], create: bool, dedupe: str | None
    ) -> R | None:
        if dedupe is not None and await self._store.run_async(self._store.done(dedupe), None):
            return None
        async with Edit(self, id, create, None, dedupe) as aggregate:
            return await block(aggregate)


class Edit(Generic[A]):
    """One editing of one aggregate: `with` or `async with`."""

    def __init__(
        self, repository: Repository[A], id: AggregateId, create: bool, via: object, dedupe: str | None = None
    ) -> None:
        self._repository = repository
        self._dedupe = dedupe
        self._id = id
        self._create = create
        self._via = via
        self._loaded: Loaded[A] | None = None

    def _steps(self) -> Any:
        return self._repository._store.load(self._id, self._via, create=self._create)  # noqa: SLF001

    def _check_colour(self, asynchronous: bool, right: str) -> None:
        if self._via is not None and is_async(self._via) is not asynchronous:
            kind = "sync" if asynchronous else "async"
            raise DeclarationError(f"edit({self._id!r}, via=…): its connection is {kind}: write {right}, not the other")

    def __enter__(self) -> A:
        self._check_colour(False, "async with")
        loaded: Loaded[A] = self._repository._store.run(self._steps(), self._via)  # noqa: SLF001
        loaded.dedupe = self._dedupe
        self._loaded = loaded
        return loaded.state

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._loaded is not None:
            self._repository._save(self._loaded, self._via)  # noqa: SLF001

    async def __aenter__(self) -> A:
        self._check_colour(True, "with")
        loaded: Loaded[A] = await self._repository._store.run_async(self._steps(), self._via)  # noqa: SLF001
        loaded.dedupe = self._dedupe
        self._loaded = loaded
        return loaded.state

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._loaded is not None:
            await self._repository._save_async(self._loaded, self._via)  # noqa: SLF001


def _loaded(aggregate: A) -> Loaded[A]:
    """Return where an aggregate was before what is pending."""
    aggregate._ensue_refuse()  # noqa: SLF001
    version = aggregate.version - len(aggregate.pending)
    return Loaded(aggregate.id, aggregate, version, aggregate._ensue_snapshot, aggregate._ensue_size)  # noqa: SLF001


def _unspoiled(aggregate: A) -> A:
    aggregate._ensue_refuse()  # noqa: SLF001
    return aggregate
