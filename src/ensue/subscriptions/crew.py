"""The runners of a worker: taken on with a lease, brought up to the tail, and let go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Literal

from ensue.events import Recorded
from ensue.log import Log, Selection
from ensue.subscriptions.applying import Applier, Place, Surroundings, partition_at
from ensue.subscriptions.declared import Subscription
from ensue.subscriptions.leasing import Claimed, Lease
from ensue.subscriptions.patience import end, patiently
from ensue.subscriptions.runner import Runner
from ensue.subscriptions.stations import Station
from ensue.subscriptions.tail import BATCH, Tail
from ensue.subscriptions.working import Works

logger = logging.getLogger("ensue")

_LOOK_EVERY = 0.05
"""Seconds between two looks whether the tail has come to where a runner is."""


class Reader:
    """Reads for runners, however long it takes until the database answers."""

    def __init__(self, log: Log, station: Station) -> None:
        self.log = log
        self.station = station

    async def events(self, selection: Selection, limit: int) -> list[Recorded[Any]]:
        """Return the first events of a selection, so many at most."""
        return await patiently("reading parked events", lambda: self.station.do(self.log.read(selection, limit)))

    async def place(self, lease: Lease) -> Place | None:
        """Return where a partition stands, None if it is no more."""
        return await patiently(
            "looking where a partition stands", lambda: self.station.do(partition_at(self.log, lease))
        )


class Crew:
    """Whoever works on the leased partitions of a worker."""

    def __init__(
        self, log: Log, worker: str, tail: Tail, station: Station, changed: asyncio.Event, due: asyncio.Event
    ) -> None:
        self.runners: dict[Lease, Works] = {}
        self._log = log
        self._worker = worker
        self._tail = tail
        self._reader = Reader(log, station)
        self._changed = changed
        self._due = due
        self._catching_up: dict[Lease, asyncio.Task[None]] = {}

    # --- on and off

    def take_on(self, claimed: Claimed, subscription: Subscription) -> None:
        """Begin to work on a partition that has just been leased."""
        lease, read = claimed.lease, self._reader.events
        self.tell(lease, "taken")
        runner: Works
        if subscription.applies is not None:
            around = Surroundings(self._log, self._worker, read, self._reader.place, self._tail.detach, self.due_in)
            runner = Applier(subscription, claimed, subscription.applies(), around)
        else:
            runner = Runner(subscription, claimed, self._worker, read, self._changed.set, self._log.observer)
        self.runners[lease] = runner
        self._catching_up[lease] = asyncio.ensure_future(
            patiently(f"catching up {lease.subscription}", partial(self._catch_up, runner))
        )

    def lose(self, lease: Lease) -> None:
        """Stop working on a partition at once: another worker has it."""
        self.tell(lease, "lost")
        runner = self.runners.pop(lease)
        self._catching_up.pop(lease).cancel()
        self._tail.detach(runner)
        runner.abandon()

    async def finish(self, lease: Lease, grace: float) -> None:
        """Let the events in hand of a partition be finished, and begin nothing more."""
        runner = self.runners.get(lease)
        if runner is not None:
            self._catching_up[lease].cancel()
            self._tail.detach(runner)
            await runner.stop(grace)

    def let_go(self, lease: Lease) -> None:
        """Forget the runner of a partition, which has finished."""
        self.runners.pop(lease, None)
        self._catching_up.pop(lease, None)

    def tell(self, lease: Lease, change: Literal["taken", "given back", "lost"]) -> None:
        """Tell the observer, if there is one, what becomes of a lease."""
        if self._log.observer is not None:
            self._log.observer.leased(lease.subscription, change)

    # --- all of them

    def pause(self, wanted: Callable[[str], bool]) -> None:
        """Let those pause whose subscriptions are wanted to, and the others go on."""
        for runner in self.runners.values():
            runner.pause(wanted(runner.subscription.name))

    def rewind(self) -> None:
        """Read again from what was saved: a connection was lost, perhaps because the database crashed."""
        self._tail.reset()
        for runner in self.runners.values():
            runner.rewind()

    async def end_catching_up(self, others: Collection[asyncio.Task[None]]) -> None:
        """Read nothing more; these other tasks end with it."""
        await end([*self._catching_up.values(), *others])

    async def stop(self, grace: float) -> None:
        """Finish what is in hand within the grace (seconds)."""
        await asyncio.gather(*(runner.stop(grace) for runner in self.runners.values()))

    def disband(self) -> None:
        """Forget all: nobody works any more."""
        self._tail.reset()
        self.runners.clear()
        self._catching_up.clear()

    def due_in(self, delay: float) -> None:
        """Note that something parked will be due then."""
        asyncio.get_running_loop().call_later(delay + 0.01, self._due.set)

    # --- catching up

    async def _catch_up(self, runner: Works) -> None:
        """Read for a runner that is behind, until it can be fed by the tail; again when it has fallen off."""
        tail, reader = self._tail, self._reader
        while not runner.stopping:
            await runner.alone.wait()
            await runner.roomy.wait()
            if tail.position < runner.read_to:  # the tail has not begun, or another worker was further
                await asyncio.sleep(_LOOK_EVERY)
                continue
            if runner.attached or tail.attach(runner):
                continue
            after, until = runner.read_to, tail.position
            steps = self._log.read(Selection(after=after, until=until, types=tuple(runner.types)), BATCH)
            rows = await reader.station.do(steps)
            if runner.read_to == after:  # it may have had to go back meanwhile
                runner.take(rows, rows[-1].position if len(rows) == BATCH else until)
