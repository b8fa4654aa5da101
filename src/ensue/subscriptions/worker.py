"""The worker: tail, runners, leases, checkpoints and parked keys of one process, held together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from ensue.errors import DatabaseUnavailable
from ensue.log import Log, Steps
from ensue.subscriptions import marking
from ensue.subscriptions.chores import Chore
from ensue.subscriptions.crew import Crew
from ensue.subscriptions.declared import Cursors, Subscription
from ensue.subscriptions.leasing import Lease, Round, lease_round, leave, release, renew, worker_id
from ensue.subscriptions.parking import find_due
from ensue.subscriptions.patience import end, forever, is_cancelled, patiently
from ensue.subscriptions.registering import register
from ensue.subscriptions.saving import Saver
from ensue.subscriptions.stations import PostgresStation, station
from ensue.subscriptions.tail import Tail
from ensue.subscriptions.wakers import PostgresWaker, SqliteWaker

logger = logging.getLogger("ensue")

_SAVE_EVERY = 0.05
"""Seconds between two saves while events are handled."""
_DRIFT_EVERY = 1.0
"""Seconds between two saves of checkpoints that only moved because other events passed."""
_DUE_EVERY = 1.0
_DUE_AT_ONCE = 1000


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
        self._changed = asyncio.Event()
        self._due = asyncio.Event()
        self._crew = Crew(log, self.id, self._tail, self._reading, self._changed, self._due)
        self._saver = Saver(log, self._crew, self._state)
        self._leaving: dict[Lease, asyncio.Task[None]] = {}
        """What is being given back, to be finished here and worked on elsewhere."""
        self._overdue: set[tuple[str, int]] = set()
        self._expiry: asyncio.TimerHandle | None = None
        self._marked_at = -marking.EVERY
        self.leased_until = 0.0
        """By the monotonic clock: until then its leases are its own, if it has any."""
        self.working = False
        """It has started, and has not ended."""

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
            await patiently("starting", self._start)
            self.working = True
            started()
            loops = [
                asyncio.ensure_future(forever("reading the log", self._tail_loop)),
                asyncio.ensure_future(forever("renewing leases", self._lease_loop)),
                asyncio.ensure_future(forever("saving progress", self._save_loop)),
                asyncio.ensure_future(forever("looking for parked events", self._due_loop)),
                *(
                    asyncio.ensure_future(forever(each.what, partial(each.work, self._reading.do)))
                    for each in self._chores
                ),
            ]
            try:
                if is_cancelled():  # a driver has swallowed it while we started, see `end`
                    raise asyncio.CancelledError
                done, _ = await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
                for loop in done:
                    loop.result()
            finally:
                async with self._state.still():  # a lost connection would mean to read again from what was saved
                    await end(loops)
                await self._finish()
        finally:
            self.working = False
            if self._expiry is not None:
                self._expiry.cancel()
            self._crew.disband()
            for each in (self._state, self._reading, self._tailing):
                await each.close()

    # --- the beginning

    async def _start(self) -> None:
        await self._state.do(self._log.confirm_ready())
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

    # --- reading

    async def _tail_loop(self) -> None:
        try:
            await self._tail.run()
        except DatabaseUnavailable:
            self._crew.rewind()
            raise

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
        crew, runners = self._crew, self._crew.runners
        for lease in runners.keys() - set(found.held) - {claimed.lease for claimed in found.claimed}:
            logger.warning("partition %s of %s is no longer ours", lease.first_slot, lease.subscription)
            crew.lose(lease)
        for claimed in found.claimed:
            crew.take_on(claimed, self._declared[claimed.lease.subscription])
        for lease in found.held:
            if lease not in runners and lease.subscription in self._declared:
                await self._state.do(release(self._log, self.id, lease))  # claimed by a round that did not come back
        crew.pause(lambda name: name in found.paused)
        for lease in [lease for lease in runners if lease.subscription not in self._declared]:
            self._leave(lease)
        staying = [lease for lease in found.surplus if lease in runners and lease not in self._leaving]
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
                patiently(f"giving back {lease.subscription}", partial(self._give_back, lease))
            )

    async def _give_back(self, lease: Lease) -> None:
        """Finish the events in hand, however much longer than a lease that takes, and let others go on."""
        if lease in self._crew.runners:
            await self._crew.finish(lease, self._grace)
            await self._saver.save()
        self._crew.let_go(lease)
        await self._state.do(release(self._log, self.id, lease))
        self._crew.tell(lease, "given back")

    def _count_on_leases(self, asked: float) -> None:
        """Begin something new for as long as they last at least; the next round says whether they are still held."""
        if self._expiry is not None:
            self._expiry.cancel()
        self.leased_until = asked + self._lease
        loop = asyncio.get_running_loop()
        due = loop.time() + max(0.0, self.leased_until - time.monotonic())
        self._expiry = loop.call_at(due, self._expire, due)

    def _expire(self, due: float) -> None:
        late = asyncio.get_running_loop().time() - due
        logger.warning(
            "no lease could be renewed for %.3g s: nothing more is begun until that succeeds%s",
            self._lease + late,
            f"; the event loop of this process stood still for {late:.1f} s or longer: an async handler, or other code "
            "in the loop, blocks it; a sync handler (def) runs in a thread"
            if late > self._lease / 10
            else "",
        )
        self._crew.pause(lambda _: True)

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
            for runner in self._crew.runners.values():
                if runner.broken is not None:
                    raise runner.broken
            await self._saver.save()
            await asyncio.sleep(_SAVE_EVERY)

    # --- parked keys

    async def _due_loop(self) -> None:
        runners = self._crew.runners
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_DUE_EVERY):
                    await self._due.wait()
            self._due.clear()
            for runner in runners.values():
                runner.moved.clear()
            await self._saver.save()  # from here on what has moved before is in the database, the rest is in `moved`
            found = await self._state.do(find_due(self._log, self.id, self._declared.keys(), _DUE_AT_ONCE))
            for due in found:
                for lease, runner in runners.items():
                    if lease.covers(due.subscription, due.slot) and not runner.paused:
                        runner.resume(due)
            await asyncio.sleep(_SAVE_EVERY)

    # --- the end

    async def _finish(self) -> None:
        async with self._state.still():
            await self._crew.end_catching_up(self._leaving.values())
        renewing = asyncio.ensure_future(forever("renewing leases", self._renew_loop))
        await self._crew.stop(self._grace)
        async with self._state.still():
            await end([renewing])
        try:
            await self._saver.save()
            await self._waker.close()
            await self._state.do(leave(self._log, self.id))
        except DatabaseUnavailable as error:
            logger.warning(
                "stopping: %s; what was done since the last save is delivered again, the leases run out by themselves",
                error,
            )
