"""One partition of a subscription whose effect and checkpoint are written in one transaction of the log's database.

Events are applied in position order, many to a transaction, and the checkpoint moves in that transaction. It is fenced
twice: by the epoch of the lease, so that a worker which has lost it writes nothing more, and by the checkpoint from
which it set out, so that nothing is applied twice whatever became of the transaction before.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from ensue.errors import DatabaseUnavailable
from ensue.events import DONE, UNDONE, Recorded, seen
from ensue.log import Log, Selection, Steps
from ensue.subscriptions.declared import Applies, NotApplied, Subscription
from ensue.subscriptions.leasing import Claimed, Lease
from ensue.subscriptions.parking import GOES_ON, Checkpoint, Due, Parked, Unparked, move
from ensue.subscriptions.share import Share
from ensue.subscriptions.verdicts import Verdict, set_aside, tell, verdict
from ensue.subscriptions.witnessing import ending

logger = logging.getLogger("ensue")

_WINDOW = 4
"""How many batches are in memory at most."""
_DRIFT_EVERY = 1.0
"""Seconds between two saves of a checkpoint that only moved because events of others passed."""
_LONGEST_PAUSE = 5.0


class Overtaken(Exception):
    """The partition is not where this transaction set out from: it has been rolled back."""


@dataclass(frozen=True, slots=True)
class Place:
    """What the database says of a partition."""

    epoch: int
    checkpoint: int
    parked: Mapping[str, int]
    """The revision of each parked key."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an applier asks of its worker."""

    log: Log
    worker: str
    read: Callable[[Selection, int], Awaitable[list[Recorded[Any]]]]
    look: Callable[[Lease], Awaitable[Place | None]]
    """Returns where the partition stands; however long it takes until the database answers."""
    detach: Callable[[Applier], None]
    """Sees to it that it is fed no more, but read for from where it is."""
    due_in: Callable[[float], None]
    """Notes that something parked will be due then."""


def partition_at(log: Log, lease: Lease) -> Steps[Place | None]:
    """Return where a partition stands, None if it is no more."""
    sql = log.dialect.sql
    rows = yield sql["partition_at"](subscription=lease.subscription, first_slot=lease.first_slot)
    if not rows:
        return None
    parked = yield sql["parked_of"](
        subscription=lease.subscription, first_slot=lease.first_slot, last_slot=lease.last_slot
    )
    epoch, checkpoint = rows[0]
    return Place(epoch, checkpoint, {key: revision for key, _, revision in parked})


class Applier:
    """Works on one leased partition, one transaction after the other."""

    def __init__(self, subscription: Subscription, claimed: Claimed, applies: Applies, around: Surroundings) -> None:
        self.subscription = subscription
        self.lease = claimed.lease
        self.types = frozenset(subscription.types)
        self.read_to = claimed.checkpoint
        """Everything up to here has been taken in."""
        self.alone = asyncio.Event()
        """Set while it is not fed by the tail and reads on its own."""
        self.alone.set()
        self.paused = False
        self.moved: set[str] = set()
        """Keys whose parking has changed since the worker began to look for due ones: what it finds of them is old."""
        self.roomy = asyncio.Event()
        self.roomy.set()
        self.broken: BaseException | None = None
        """An error of its own, which its worker raises."""
        self._applies = applies
        self._around = around
        self._share = Share(claimed)
        self._checkpoint = claimed.checkpoint
        self._aside = {key: revision for key, (_, revision) in claimed.parked.items()}
        self._queue: deque[Recorded[Any]] = deque()
        self._due: dict[str, Due] = {}
        self._uncertain = False
        """What the database holds may be something else than what is known here."""
        self._drifting = False
        self._drifted_at = 0.0
        self._stopping = False
        self._wanted = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._work())
        self._task.add_done_callback(self._has_ended)

    def _has_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.broken = error

    @property
    def attached(self) -> bool:
        """Fed by the tail."""
        return not self.alone.is_set()

    @property
    def stopping(self) -> bool:
        """Picks up nothing more."""
        return self._stopping

    # --- taking in

    def take(self, rows: Sequence[Recorded[Any]], upto: int) -> None:
        """Take in the next events of its types, complete up to a position; what it knows already is passed over."""
        if upto <= self.read_to:
            return
        if self._share.everything and rows and rows[0].position > self.read_to:
            self._queue.extend(rows)
        else:
            self._queue.extend(row for row in rows if row.position > self.read_to and self._share.has(row))
        self.read_to = upto
        if len(self._queue) >= _WINDOW * self.subscription.batch:
            self.roomy.clear()
        self._wanted.set()

    def resume(self, due: Due) -> None:
        """Go on with a parked key whose time has come."""
        if due.key not in self.moved and not self._stopping:
            self._aside[due.key] = due.revision
            self._due[due.key] = due
            self._wanted.set()

    def pause(self, paused: bool) -> None:
        """Begin nothing more, or go on."""
        self.paused = paused
        self._wanted.set()

    # --- working

    async def _work(self) -> None:
        pause = 0.05
        while not self._stopping:
            if self.paused or self._drifting or not (self._uncertain or self._due or self._queue):
                self._wanted.clear()
                await self._wanted.wait()
                continue
            try:
                if self._uncertain:
                    await self._look()
                elif self._due:
                    await self._go_on(self._due.pop(next(iter(self._due))))
                else:
                    await self._apply_next()
                pause = 0.05
            except Overtaken:
                self._uncertain = True
            except DatabaseUnavailable as error:
                self._uncertain = True
                logger.warning("%s: %s; again in %.1f s", self.subscription.name, error, pause)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(_LONGEST_PAUSE, pause * 2)

    async def _look(self) -> None:
        """Begin anew where the database says that the partition stands; end if it belongs to another by now."""
        place = await self._around.look(self.lease)
        if place is None or place.epoch != self.lease.epoch:
            logger.warning("partition %s of %s is no longer ours", self.lease.first_slot, self.lease.subscription)
            self._stopping = True
            return
        self._around.detach(self)
        self._queue.clear()
        self._due.clear()
        self.read_to = self._checkpoint = place.checkpoint
        self._aside = dict(place.parked)
        self._uncertain = False
        self.roomy.set()

    async def _apply_next(self) -> None:
        queue = self._queue
        taken = [queue.popleft() for _ in range(min(len(queue), self.subscription.batch))]
        rows = [row for row in taken if row.key not in self._aside] if self._aside else taken
        await self._apply(rows, taken[-1].position if queue else self.read_to)
        if taken[-1].position > self._checkpoint:
            # those of parked keys as well: such a key may go on, and be done, before the checkpoint has passed them
            queue.extendleft(reversed([row for row in taken if row.position > self._checkpoint]))
        self._make_room()

    def _make_room(self) -> None:
        if len(self._queue) < _WINDOW * self.subscription.batch:
            self.roomy.set()

    async def _apply(self, rows: list[Recorded[Any]], upto: int) -> None:
        """Apply events and move the checkpoint; or as many as there are before one that fails, and park its key."""
        end, parked, careful = rows, None, False
        while True:
            try:
                await self._carry(end, upto, parked, None, careful=careful)
                break
            except NotApplied as failed:
                if failed.index is not None or len(end) == 1:
                    at = failed.index or 0
                    parked = self._parked(end[at], self._verdict(failed, 1, 0.0), attempt=1, revision=0)
                    end, upto = end[:at], end[at].position
                elif careful:  # not while one of them was handled: when all were committed
                    end = end[: len(end) // 2]
                    parked, upto = None, end[-1].position
                careful = True
        self._checkpoint = upto
        if parked is not None:
            self._put_aside(parked)

    async def _go_on(self, due: Due) -> None:
        """Carry out the next step of a parked key, then apply what queues behind it, until it fails or is empty."""
        position, first = due.position, None
        handled = due.next_step == "retry"
        if due.next_step == "discard":
            position = max(position, due.until or 0)
        elif due.next_step == "retry":
            found = await self._around.read(Selection(after=position - 1, until=position, edited=due.data), 1)
            if found:
                first = found[0]
            else:
                logger.error("%s: event %s is parked but no longer in the log", self.subscription.name, due.id)
        while True:
            until = self._share.reached(due.slot, self._checkpoint)
            behind = Selection(after=position, until=until, types=self.subscription.types, key=due.key)
            size = self.subscription.batch
            rows = [] if due.key == due.id else await self._around.read(behind, size)  # without a key, nothing queues
            more = len(rows) == size
            if first is not None:
                rows.insert(0, first)
            if self.paused or self._stopping:  # it stays due
                return
            if not await self._go_on_with(due, rows, more=more, handled=handled, retried=first is not None):
                return
            position, first = rows[-1].position, None
            due = msgspec.structs.replace(due, position=position)

    async def _go_on_with(
        self, due: Due, rows: list[Recorded[Any]], *, more: bool, handled: bool, retried: bool
    ) -> bool:
        """Apply some events of a parked key; tell whether there is more to do."""
        end, careful = rows, False
        last = rows[-1].position if rows else due.position
        change: Parked | Unparked
        if more:
            step = Verdict("skip", 0.0, GOES_ON, None)
            change = self._parked(rows[-1], step, attempt=0, revision=due.revision, handled=handled)
        else:
            change = Unparked(self.subscription.name, due.key, last, due.revision, handled, self.lease.epoch)
        goes_on = more
        while True:
            try:
                await self._carry(end, self._checkpoint, change, due, careful=careful)
                break
            except NotApplied as failed:
                goes_on = False
                if failed.index is not None or len(end) == 1:
                    at = failed.index or 0
                    again = retried and at == 0
                    attempt, since = (due.attempt + 1, due.since_first) if again else (1, 0.0)
                    found = self._verdict(failed, attempt, since)
                    change = self._parked(end[at], found, attempt=attempt, revision=due.revision, handled=handled)
                    end = end[:at]
                elif careful:
                    end = end[: len(end) // 2]
                    step = Verdict("skip", 0.0, GOES_ON, None)
                    change = self._parked(end[-1], step, attempt=0, revision=due.revision, handled=handled)
                careful = True
        self._due.pop(due.key, None)  # found once more meanwhile, where it was before
        if isinstance(change, Unparked):
            self._aside.pop(due.key, None)
            self.moved.add(due.key)
        else:
            self._put_aside(change)
        return goes_on

    async def _carry(
        self,
        rows: Sequence[Recorded[Any]],
        upto: int,
        change: Parked | Unparked | None,
        held: Due | None,
        *,
        careful: bool,
    ) -> None:
        progress = partial(self._progress, upto, change, held)
        observer = self._around.log.observer
        if observer is None or not rows:
            await self._applies.apply(rows, progress, careful=careful)
            return
        attempt = held.attempt + 1 if held is not None and held.next_step == "retry" else 1
        about = [seen(row, attempt if held and row.id_text == held.id else 1) for row in rows]
        with observer.process(self.subscription.name, about) as act:
            try:
                await self._applies.apply(rows, progress, careful=careful)
                act.end([DONE] * len(rows))
            except NotApplied as failed:
                endings = [UNDONE] * len(rows)
                if failed.index is not None or len(rows) == 1:
                    endings[failed.index or 0] = ending(failed.outcome, rows[failed.index or 0])
                act.end(endings)
                raise

    def _progress(self, upto: int, change: Parked | Unparked | None, held: Due | None) -> Steps[None]:
        """Write how far it is: the last operation of a transaction, which rolls back if it is not ours to write."""
        sql, lease = self._around.log.dialect.sql, self.lease
        if held is not None:  # a person may have decided otherwise since, or it has gone on already
            found = yield sql["hold_parked"](subscription=held.subscription, key=held.key)
            if not found or tuple(found[0]) != (held.revision, held.position):
                raise Overtaken
        if change is not None:
            parked, unparked = ([change], []) if isinstance(change, Parked) else ([], [change])
            yield from move(self._around.log, parked, unparked)
        moved = yield sql["advance"](
            subscription=lease.subscription,
            first_slot=lease.first_slot,
            epoch=lease.epoch,
            before=self._checkpoint,
            after=upto,
        )
        if not moved:
            raise Overtaken
        with suppress(RuntimeError):  # a function's thread may outlive the loop
            self._loop.call_soon_threadsafe(self._make_room)  # more is read while this one commits, not while it works

    # --- setting aside

    def _verdict(self, failed: NotApplied, attempt: int, since_first: float) -> Verdict:
        return verdict(failed.outcome, self.subscription.retry, attempt, since_first)

    def _parked(
        self, row: Recorded[Any], found: Verdict, *, attempt: int, revision: int, handled: bool = False
    ) -> Parked:
        worker = self._around.worker
        return set_aside(row, found, self.lease, worker, attempt=attempt, revision=revision, handled=handled)

    def _put_aside(self, parked: Parked) -> None:
        """Note that a key has been parked, once that is committed."""
        self._aside[parked.key] = parked.revision
        self.moved.add(parked.key)
        if parked.delay is not None:
            self._around.due_in(parked.delay)
        if parked.next_step != "skip":
            tell(parked, self._around.log.observer)

    # --- what its worker saves for it

    def collect(self) -> tuple[Checkpoint | None, dict[str, Parked | Unparked]]:
        """Return how far others' events have brought it; until that is saved it begins nothing."""
        now = self._loop.time()
        busy = self._queue or self._due or self._uncertain or self._drifting or self._stopping or not self._idle
        if busy or self.read_to <= self._checkpoint or now - self._drifted_at < _DRIFT_EVERY:
            return None, {}
        self._drifting, self._drifted_at = True, now
        return Checkpoint(*self.lease.place, self.lease.epoch, self.read_to, None, 0.0), {}

    @property
    def _idle(self) -> bool:
        return not self._wanted.is_set()

    def saved(self, checkpoint: int) -> None:
        """Note that what was collected has been written down for good."""
        self._checkpoint = checkpoint
        self._drifting = False
        self._wanted.set()

    def keep(self, parks: dict[str, Parked | Unparked]) -> None:
        """Take back what could not be saved, perhaps: the database is asked."""
        self._drifting, self._uncertain = False, True
        self._wanted.set()

    def say_less(self, error: Exception) -> bool:
        """Tell that nothing of it can be said with fewer words."""
        return False

    def rewind(self) -> None:
        """After an outage: ask the database where it stands."""
        self._uncertain = True
        self._wanted.set()

    # --- the end

    async def stop(self, grace: float) -> None:
        """Finish the transaction in hand within the grace (seconds), or let it be rolled back."""
        self._stopping = True
        self._wanted.set()
        await asyncio.wait([self._task], timeout=grace)
        self.abandon()
        await asyncio.wait([self._task], timeout=_LONGEST_PAUSE)

    def abandon(self) -> None:
        """Stop at once: what is in hand is rolled back, or refused."""
        self._stopping = True
        self._task.cancel()
