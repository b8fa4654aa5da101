"""`app.history`: looking back, and how much of the past is kept; the same in both styles."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from ensue.aggregates import Recorder
from ensue.events import Event
from ensue.history import errands
from ensue.history.pruning import Age, Progress, Pruning, order, prune
from ensue.history.states import Difference, Kept, State, Streams
from ensue.history.tracing import Service, Trace, trace
from ensue.log import Hold, Log, Pruned, Steps

_LIMIT = 1000


class HasHistory(Protocol):
    """An application."""

    @property
    def history(self) -> History: ...


class History:
    """Looks back in an application's log: what caused what, what was at a moment; and prunes what nobody needs.

    Every method uses a connection of ensue's own. Those called `…_async` are for event loops.
    """

    def __init__(
        self,
        log: Log,
        recorder: Recorder,
        aggregates: Callable[[], Mapping[str, Kept]],
        relays: Callable[[], Collection[str]],
    ) -> None:
        self._log = log
        self._recorder = recorder
        self._aggregates = aggregates
        self._relays = relays

    # --- what caused what

    def trace(self, id: str, *, also: Sequence[HasHistory] = (), limit: int = _LIMIT) -> Trace:
        """Return the tree of what caused what around an event: from its furthest known cause to all that followed.

        Events are joined by their causation ids. What is looked at is everything of the same correlation id, in this
        log and in those of `also`, other applications: an event that came over a broker keeps both ids. Of each log,
        `limit` events are looked at, and as many behind the event itself: `complete` says whether that was all. Raises
        `UnknownName` if none of the logs holds the event.
        """
        return errands.run(trace(self._services(also), str(id), limit))

    async def trace_async(self, id: str, *, also: Sequence[HasHistory] = (), limit: int = _LIMIT) -> Trace:
        """As `trace`, in an event loop."""
        return await errands.run_async(trace(self._services(also), str(id), limit))

    def _services(self, also: Sequence[HasHistory]) -> list[Service]:
        services = [self._service(), *(each.history._service() for each in also)]  # noqa: SLF001 of this class
        return list({(each.log.place.url, each.log.place.schema): each for each in reversed(services)}.values())[::-1]

    def _service(self) -> Service:
        return Service(self._log.place.app, self._log, self._relays())

    # --- what was

    def position_at(self, moment: datetime) -> int:
        """Return the first position of what was recorded at a moment or later, now and for ever.

        Nothing before it was recorded at the moment or later, nor will anything be; `app.read(after=position - 1)`
        reads all that was. Behind it there may be events of concurrent transactions that were recorded just before
        the moment. If nothing has been recorded since, it is the position behind which the next event will be. Raises
        `EnsueError` for a moment without a time zone.
        """
        return self._log.own.run(self._log.position_at(moment))

    async def position_at_async(self, moment: datetime) -> int:
        """As `position_at`, in an event loop."""
        return await self._log.own.run_async(self._log.position_at(moment))

    def state(self, stream: str, *, at_version: int | None = None, as_of: datetime | None = None) -> State:
        """Return the state of a declared aggregate by its stream, "wallet-7": as it is, was at a version or a moment.

        The moment means the last version that was recorded by then, as for a repository's `get`. Raises `UnknownName`
        if no aggregate of that name is declared, or the version is not there yet, and what `get` raises.
        """
        return self._log.own.run(self._streams().state(stream, at_version, as_of))

    async def state_async(self, stream: str, *, at_version: int | None = None, as_of: datetime | None = None) -> State:
        """As `state`, in an event loop."""
        return await self._log.own.run_async(self._streams().state(stream, at_version, as_of))

    def diff(self, stream: str, first: int, last: int) -> Difference:
        """Compare a declared aggregate at two versions, with the events between; version 0 is before it began.

        Raises `EnsueError` unless the first version is the earlier one, `UnknownName` for an aggregate or a version
        that is not there, `AggregateNotFound` if it has no events.
        """
        return self._log.own.run(self._streams().difference(stream, first, last))

    async def diff_async(self, stream: str, first: int, last: int) -> Difference:
        """As `diff`, in an event loop."""
        return await self._log.own.run_async(self._streams().difference(stream, first, last))

    def _streams(self) -> Streams:
        return Streams(self._log, self._recorder, self._aggregates())

    # --- how much of the past is kept

    def prune(
        self,
        older_than: Age,
        *,
        actor: str,
        reason: str = "",
        types: Collection[type[Event] | str] = (),
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Pruning:
        """Delete domain and integration events that are old enough and that every subscription has passed.

        `older_than` is an age ("90d", a `timedelta`, seconds), by the clock of the database, or a moment; `types` are
        classes or wire types, none means all. What is parked or queues behind it stays, and so do the last event of
        each stream and of the log, and event-sourced events always. It deletes in batches, each in a transaction with
        a note of what is gone, see `pruned`; it may be broken off at any time. With `dry_run` nothing is deleted, and
        `needs` says who would make it refuse. Raises `StillNeeded`, before anything is deleted, if a subscription or a
        hold still needs something of it; also half way, if one begins to.
        """
        wanted = order(older_than, types, actor, reason, dry_run)
        return errands.run(prune(self._log, wanted, progress))

    async def prune_async(
        self,
        older_than: Age,
        *,
        actor: str,
        reason: str = "",
        types: Collection[type[Event] | str] = (),
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> Pruning:
        """As `prune`, in an event loop."""
        wanted = order(older_than, types, actor, reason, dry_run)
        return await errands.run_async(prune(self._log, wanted, progress))

    def pruned(self, *, after: int = 0, types: Collection[str] = ()) -> list[Pruned]:
        """Return what has been pruned behind a position, of these wire types or of all, in the log's order.

        Nothing: whoever reads the log from there reads everything that was ever recorded.
        """
        return self._log.own.run(self._log.pruned(after, types))

    async def pruned_async(self, *, after: int = 0, types: Collection[str] = ()) -> list[Pruned]:
        """As `pruned`, in an event loop."""
        return await self._log.own.run_async(self._log.pruned(after, types))

    def hold(self, name: str, position: int, *, reason: str) -> list[Pruned]:
        """Keep everything behind a position from being pruned, until it is lifted; return what is missing already.

        A hold of this name that is there is moved. It waits for a batch that is just being pruned: what is not returned
        is there, and stays.
        """
        return self._log.own.run(self._held(name, position, reason))

    async def hold_async(self, name: str, position: int, *, reason: str) -> list[Pruned]:
        """As `hold`, in an event loop."""
        return await self._log.own.run_async(self._held(name, position, reason))

    def _held(self, name: str, position: int, reason: str) -> Steps[list[Pruned]]:
        return self._log.transaction(self._log.impatiently(self._log.hold(name, position, reason)))

    def lift(self, name: str) -> None:
        """Take a hold away; raise `UnknownName` if there is none of this name."""
        self._log.own.run(self._log.transaction(self._log.lift(name)))

    async def lift_async(self, name: str) -> None:
        """As `lift`, in an event loop."""
        await self._log.own.run_async(self._log.transaction(self._log.lift(name)))

    def holds(self) -> list[Hold]:
        """Return the holds, the one that keeps most first."""
        return self._log.own.run(self._log.holds())

    async def holds_async(self) -> list[Hold]:
        """As `holds`, in an event loop."""
        return await self._log.own.run_async(self._log.holds())
