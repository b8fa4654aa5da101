"""The worker: tail, runners, leases, checkpoints and parked keys of one process, held together."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal, Protocol

from ensue.errors import DatabaseUnavailable, NotMigrated
from ensue.events import Recorded
from ensue.log import Log, Selection, Steps
from ensue.subscriptions import marking
from ensue.subscriptions.applying import Applier, Place, Surroundings, partition_at
from ensue.subscriptions.chores import Chore
from ensue.subscriptions.declared import Cursors, Subscription
from ensue.subscriptions.leasing import Claimed, Lease, Round, lease_round, leave, release, renew, worker_id
from ensue.subscriptions.parking import Checkpoint, Parked, Unparked, find_due, save
from ensue.subscriptions.registering import register
from ensue.subscriptions.runner import Runner
from ensue.subscriptions.stations import PostgresStation, station
from ensue.subscriptions.tail import BATCH, Tail
from ensue.subscriptions.wakers import PostgresWaker, SqliteWaker
from ensue.subscriptions.working import Works

logger = logging.getLogger("ensue")

_SAVE_EVERY = 0.05
"""Seconds between two saves while events are handled."""
_DRIFT_EVERY = 1.0
"""Seconds between two saves of checkpoints that only moved because other events passed."""
_DUE_EVERY = 1.0
_DUE_AT_ONCE = 1000
_LONGEST_PAUSE = 5.0


class FindCursors(Protocol):
    """Finds out, in the log, what a worker works on; with `create`, what is missing there is made."""

    def __call__(self, *, create: bool) -> Steps[Cursors]: ...


class Worker:
    """Carries events to the declared subscriptions until it is stopped."""

    def __init__(
        self,
        log: Log,
        cursors: FindCursors,
        *,
        lease: float,
        grace: float,
        chores: Sequence[Chore] = (),
        prepare: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.id = worker_id()
        self.vanished: list[str] = []
        """Subscriptions of the log that nobody declares any more."""
        self._log = log
        self._cursors = cursors
        self._declared: Mapping[str, Subscription] = {}
        self._lease = lease
        self._grace = grace
        self._chores = chores
        self._prepare = prepare
        """Makes in the log what the worker cannot make itself, before it registers."""
        self._state, self._reading, self._tailing = (station(log, lease) for _ in range(3))
        waker = PostgresWaker(log, self._tailing) if isinstance(self._tailing, PostgresStation) else SqliteWaker(log)
        self._waker = waker
        self._tail = Tail(log, self._tailing, waker)
        self._runners: dict[Lease, Works] = {}
        self._around = Surroundings(log, self.id, self._read, self._look, self._detach, self._due_in)
        self._catching_up: dict[Lease, asyncio.Task[None]] = {}
        self._leaving: dict[Lease, asyncio.Task[None]] = {}
        """What is being given back, to be finished here and worked on elsewhere."""
        self._overdue: set[tuple[str, int]] = set()
        self._expiry: asyncio.TimerHandle | None = None
        self._marked_at = -marking.EVERY
        self.leased_until = 0.0
        """By the monotonic clock: until then its leases are its own, if it has any."""
        self.working = False
        """It has started, and has not ended."""
        self._generation = 0
        self._changed = asyncio.Event()
        self._due = asyncio.Event()

    @property
    def statements(self) -> int:
        """How many statements the worker has sent to the database."""
        return self._state.statements + self._reading.statements + self._tailing.statements

    @property
    def read_at(self) -> float:
        """When it last looked for events, by the monotonic clock."""
        return self._tail.read_at

    @property
    def tail_statements(self) -> int:
        """How many of them the tail has sent: as many for a hundred subscriptions as for one."""
        return self._tailing.statements

    async def run(self, started: Callable[[], None] = lambda: None) -> None:
        """Register, work, and on cancellation stop gracefully: finish, checkpoint, release.

        Raises what registering raises, and any error that is not an outage of the database; an outage is waited for.
        """
        try:
            await self._patiently("starting", self._start)
            self.working = True
            started()
            loops = [
                asyncio.ensure_future(self._forever("reading the log", self._tail_loop)),
                asyncio.ensure_future(self._forever("renewing leases", self._lease_loop)),
                asyncio.ensure_future(self._forever("saving progress", self._save_loop)),
                asyncio.ensure_future(self._forever("looking for parked events", self._due_loop)),
                *(
                    asyncio.ensure_future(self._forever(each.what, partial(each.work, self._reading.do)))
                    for each in self._chores
                ),
            ]
            me = asyncio.current_task()
            try:
                if me is not None and me.cancelling():  # a driver has swallowed it while we started, see `_end`
                    raise asyncio.CancelledError
                done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
                for loop in done:
                    loop.result()
            finally:
                async with self._state.still():  # a lost connection would mean to read again from what was saved
                    await _end(loops)
                await self._finish()
        finally:
            self.working = False
            if self._expiry is not None:
                self._expiry.cancel()
            for each in (self._state, self._reading, self._tailing):
                await each.close()

    async def _start(self) -> None:
        if missing := await self._state.do(self._log.pending()):
            raise NotMigrated(
                f"the log in {self._log.place.schema!r} lacks the migrations {', '.join(missing)}: run `ensue migrate`"
            )
        if self._prepare is not None:
            await self._prepare()
        self.vanished = await self._state.do(self._log.transaction(self._register()))
        for name in self.vanished:
            logger.warning(
                "subscription %s is in the log but nobody declares it: it stays where it is; "
                "if it is gone for good: ensue retire %s",
                name,
                name,
            )
        await self._round()

    def _register(self) -> Steps[list[str]]:
        found = yield from self._cursors(create=True)
        self._declared = found.declared
        return (yield from register(self._log, found))

    # --- outages

    async def _forever(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            await self._patiently(what, work)

    async def _patiently(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do it, again and again while the database cannot be reached."""
        pause = 0.05
        while True:
            try:
                return await work()
            except DatabaseUnavailable as error:
                logger.warning("%s: %s; again in %.1f s", what, error, pause)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(_LONGEST_PAUSE, pause * 2)

    async def _read(self, selection: Selection, limit: int) -> list[Recorded[Any]]:
        found: list[Recorded[Any]] = []

        async def read() -> None:
            found[:] = await self._reading.do(self._log.read(selection, limit))

        await self._patiently("reading parked events", read)
        return found

    async def _look(self, lease: Lease) -> Place | None:
        found: list[Place | None] = []

        async def look() -> None:
            found.append(await self._reading.do(partition_at(self._log, lease)))

        await self._patiently("looking where a partition stands", look)
        return found[-1]

    def _detach(self, runner: Works) -> None:
        self._tail.detach(runner)

    async def _tail_loop(self) -> None:
        try:
            await self._tail.run()
        except DatabaseUnavailable:
            self._rewind()
            raise

    def _rewind(self) -> None:
        """Read again from what was saved: a connection was lost, perhaps because the database crashed."""
        self._tail.reset()
        for runner in self._runners.values():
            runner.rewind()

    # --- leases

    async def _lease_loop(self) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            await self._round()

    async def _round(self) -> None:
        for lease in [lease for lease, task in self._leaving.items() if task.done()]:
            self._leaving.pop(lease).result()
        self._declared = (await self._state.do(self._cursors(create=False))).declared
        found = await self._state.do(self._log.transaction(self._lease_round()))
        self._count_on_leases(found.asked)
        self._overdue = set(found.overdue)
        for lease in self._runners.keys() - set(found.held) - {claimed.lease for claimed in found.claimed}:
            logger.warning("partition %s of %s is no longer ours", lease.first_slot, lease.subscription)
            self._tell(lease, "lost")
            self._drop(lease).abandon()
        for claimed in found.claimed:
            self._take_over(claimed)
        for lease in found.held:
            if lease not in self._runners and lease.subscription in self._declared:
                await self._state.do(release(self._log, self.id, lease))  # claimed by a round that did not come back
        for runner in self._runners.values():
            runner.pause(runner.subscription.name in found.paused)
        for lease in [lease for lease in self._runners if lease.subscription not in self._declared]:
            self._leave(lease)
        staying = [lease for lease in found.surplus if lease in self._runners and lease not in self._leaving]
        for lease in staying[: max(0, len(found.surplus) - len(self._leaving))]:
            self._leave(lease)

    def _lease_round(self) -> Steps[Round]:
        found = yield from lease_round(self._log, self.id, self._declared.keys(), self._lease, self._overdue)
        if time.monotonic() - self._marked_at >= marking.EVERY:
            self._marked_at = time.monotonic()
            yield from marking.mark(self._log, self.id)
        return found

    def _leave(self, lease: Lease) -> None:
        if lease not in self._leaving:
            self._leaving[lease] = asyncio.ensure_future(
                self._patiently(f"giving back {lease.subscription}", partial(self._give_back, lease))
            )

    def _count_on_leases(self, asked: float) -> None:
        """Begin something new for as long as they last at least; the next round says whether they are still held."""
        if self._expiry is not None:
            self._expiry.cancel()
        self.leased_until = asked + self._lease
        left = self.leased_until - time.monotonic()
        self._expiry = asyncio.get_running_loop().call_later(max(0.0, left), self._expire)

    def _expire(self) -> None:
        logger.warning("no lease could be renewed for %g s: nothing more is begun until that succeeds", self._lease)
        for runner in self._runners.values():
            runner.pause(True)

    def _take_over(self, claimed: Claimed) -> None:
        lease = claimed.lease
        self._tell(lease, "taken")
        subscription = self._declared[lease.subscription]
        runner: Works
        if subscription.applies is not None:
            runner = Applier(subscription, claimed, subscription.applies(), self._around)
        else:
            runner = Runner(subscription, claimed, self.id, self._read, self._changed.set, self._log.observer)
        self._runners[lease] = runner
        self._catching_up[lease] = asyncio.ensure_future(
            self._patiently(f"catching up {lease.subscription}", partial(self._catch_up, runner))
        )

    def _drop(self, lease: Lease) -> Works:
        runner = self._runners.pop(lease)
        self._catching_up.pop(lease).cancel()
        self._tail.detach(runner)
        return runner

    async def _give_back(self, lease: Lease) -> None:
        """Finish the events in hand, however much longer than a lease that takes, and let others go on."""
        runner = self._runners.get(lease)
        if runner is not None:
            self._catching_up[lease].cancel()
            self._tail.detach(runner)
            await runner.stop(self._grace)
            await self._save()
        self._runners.pop(lease, None)
        self._catching_up.pop(lease, None)
        await self._state.do(release(self._log, self.id, lease))
        self._tell(lease, "given back")

    def _tell(self, lease: Lease, change: Literal["taken", "given back", "lost"]) -> None:
        if self._log.observer is not None:
            self._log.observer.leased(lease.subscription, change)

    async def _catch_up(self, runner: Works) -> None:
        """Read for a runner that is behind, until it can be fed by the tail; again when it has fallen off."""
        while not runner.stopping:
            await runner.alone.wait()
            await runner.roomy.wait()
            if self._tail.position < runner.read_to:  # the tail has not begun, or another worker was further
                await asyncio.sleep(_SAVE_EVERY)
                continue
            if runner.attached or self._tail.attach(runner):
                continue
            after, until = runner.read_to, self._tail.position
            rows = await self._reading.do(
                self._log.read(Selection(after=after, until=until, types=tuple(runner.types)), BATCH)
            )
            if runner.read_to == after:  # it may have had to go back meanwhile
                runner.take(rows, rows[-1].position if len(rows) == BATCH else until)

    async def _renew_loop(self) -> None:
        """Keep what is held while the last events are finished, and take nothing new."""
        while True:
            asked, _ = await self._state.do(renew(self._log, self.id, self._lease))
            self._count_on_leases(asked)
            await asyncio.sleep(self._lease / 3)

    # --- progress

    async def _save_loop(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_DRIFT_EVERY):
                    await self._changed.wait()
            self._changed.clear()
            for runner in self._runners.values():
                if runner.broken is not None:
                    raise runner.broken
            await self._save()
            await asyncio.sleep(_SAVE_EVERY)

    async def _reconnect(self) -> None:
        await self._state.connect()
        if self._generation not in (0, self._state.generation):
            self._rewind()
        self._generation = self._state.generation

    async def _save(self) -> None:
        """Write what has changed; if the database refuses that, once more with less about what failed."""
        try:
            await self._write()
        except DatabaseUnavailable:
            raise
        except Exception as error:
            if not [runner for runner in self._runners.values() if runner.say_less(error)]:
                raise
            logger.exception("what failed could not be saved as it is, and is saved without its reasons")
            await self._write()

    async def _write(self) -> None:
        """Write the checkpoints of all runners, and what they have parked, together.

        Over the connection for which they were collected: over a new one only after reading again.
        """
        await self._reconnect()
        parked: list[Parked] = []
        unparked: list[Unparked] = []
        checkpoints: list[Checkpoint] = []
        taken: dict[Works, dict[str, Parked | Unparked]] = {}
        for runner in self._runners.values():
            checkpoint, parks = runner.collect()
            if checkpoint is not None:
                checkpoints.append(checkpoint)
                taken[runner] = parks
                for each in parks.values():
                    (parked if isinstance(each, Parked) else unparked).append(each)  # type: ignore[arg-type]
        if not checkpoints:
            return
        try:
            ours = await self._state.do(save(self._log, parked, unparked, checkpoints), self._generation)
        except BaseException:
            for runner, parks in taken.items():
                runner.keep(parks)
            raise
        reached = {(each.subscription, each.first_slot): each.checkpoint for each in checkpoints}
        for runner in taken:
            if runner.lease.place in ours:
                runner.saved(reached[runner.lease.place])
            elif self._runners.get(runner.lease) is runner:
                self._tell(runner.lease, "lost")
                self._drop(runner.lease).abandon()
        for delay in {round(each.delay, 2) for each in parked if each.delay is not None}:
            self._due_in(delay)

    def _due_in(self, delay: float) -> None:
        asyncio.get_running_loop().call_later(delay + 0.01, self._due.set)

    # --- parked keys

    async def _due_loop(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_DUE_EVERY):
                    await self._due.wait()
            self._due.clear()
            for runner in self._runners.values():
                runner.moved.clear()
            await self._save()  # from here on what has moved before is in the database, the rest is in `moved`
            found = await self._state.do(find_due(self._log, self.id, self._declared.keys(), _DUE_AT_ONCE))
            for due in found:
                for lease, runner in self._runners.items():
                    if lease.covers(due.subscription, due.slot) and not runner.paused:
                        runner.resume(due)
            await asyncio.sleep(_SAVE_EVERY)

    # --- the end

    async def _finish(self) -> None:
        async with self._state.still():
            await _end([*self._catching_up.values(), *self._leaving.values()])
        renewing = asyncio.ensure_future(self._forever("renewing leases", self._renew_loop))
        await asyncio.gather(*(runner.stop(self._grace) for runner in self._runners.values()))
        async with self._state.still():
            await _end([renewing])
        try:
            await self._save()
            await self._waker.close()
            await self._state.do(leave(self._log, self.id))
        except DatabaseUnavailable as error:
            logger.warning(
                "stopping: %s; what was done since the last save is delivered again, the leases run out by themselves",
                error,
            )


async def _end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: in Python 3.11 `asyncio.wait_for`, which drivers use, may swallow one."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=1.0)
    await asyncio.gather(*tasks, return_exceptions=True)
