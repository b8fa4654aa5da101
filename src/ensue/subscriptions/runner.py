"""One partition at work: events of one key in order, different keys side by side, a failing key set aside."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

from ensue.events import Observer, Recorded
from ensue.subscriptions.attempting import Attempts
from ensue.subscriptions.declared import Condition, Subscription
from ensue.subscriptions.failing import Failure, reason_to_keep
from ensue.subscriptions.intake import Intake
from ensue.subscriptions.leasing import Claimed
from ensue.subscriptions.outcomes import Delivery, Done, Hold, Outcome
from ensue.subscriptions.parking import Checkpoint, Due, Parked, Unparked
from ensue.subscriptions.rest import Rest
from ensue.subscriptions.resuming import SOON, Aside, Read, Resuming
from ensue.subscriptions.share import Share
from ensue.subscriptions.shelf import Shelf
from ensue.subscriptions.verdicts import Verdict

logger = logging.getLogger("ensue")

_TURN = 64
"""Events after which a hand lets others have the loop."""


class Runner:
    """Works on one leased partition. All its state changes happen on the event loop, between two awaits."""

    def __init__(
        self,
        subscription: Subscription,
        claimed: Claimed,
        worker: str,
        read: Read,
        changed: Callable[[], None],
        observer: Observer | None = None,
    ) -> None:
        self.subscription = subscription
        self.lease = lease = claimed.lease
        self.types = frozenset(subscription.types)
        self.alone = asyncio.Event()
        """Set while it is not fed by the tail and reads on its own."""
        self.alone.set()
        self.roomy = asyncio.Event()
        self.roomy.set()
        self.broken: BaseException | None = None
        """An error of the runner itself, which its worker raises."""
        self._changed = changed
        self._share = Share(claimed)
        self._intake = Intake(claimed.checkpoint)
        self._rest = Rest(subscription.name, changed)
        self._shelf = Shelf(subscription, lease, worker, observer)
        self._aside = {key: Aside(position) for key, (position, _) in claimed.parked.items()}
        self._lanes: dict[str, deque[Recorded[Any]] | None] = {}
        """By key, what queues behind the event that is ready or in hand."""
        self._ready: deque[Recorded[Any] | Due] = deque()
        self._hands: set[asyncio.Task[None]] = set()
        self._in_hand: dict[str, Recorded[Any]] = {}
        self._attempts = Attempts(subscription, observer)
        self._resuming = Resuming(
            subscription, self._share, self._intake, self._attempts, self._shelf, self._rest, read, self._in_hand
        )
        self._collected = claimed.checkpoint
        self._condition: Condition | None = None
        """As last collected of what works beside it."""
        self._beside = None if subscription.beside is None else subscription.beside(lease.first_slot, lease.last_slot)
        self._working: asyncio.Future[None] | None = None
        if self._beside is not None:
            self._working = asyncio.ensure_future(self._beside.work())
            self._working.add_done_callback(self._has_ended)
        self._free_hands = 0
        """Those that are about to take something up."""
        self._letting_go: asyncio.Future[None] | None = None
        self._closing: asyncio.Future[None] | None = None

    def _has_ended(self, working: asyncio.Future[None]) -> None:
        if not working.cancelled() and (error := working.exception()) is not None:
            self.broken = error
            self._changed()

    @property
    def read_to(self) -> int:
        """Everything up to here has been taken in."""
        return self._intake.read_to

    @property
    def attached(self) -> bool:
        """Fed by the tail."""
        return not self.alone.is_set()

    @property
    def paused(self) -> bool:
        """Picks up nothing until it may go on."""
        return self._rest.paused

    @property
    def stopping(self) -> bool:
        """Picks up nothing more."""
        return self._rest.stopping

    @property
    def moved(self) -> set[str]:
        """Keys whose parking has changed since the worker began to look for due ones: what it finds of them is old."""
        return self._shelf.moved

    # --- taking in

    def take(self, rows: Sequence[Recorded[Any]], upto: int) -> None:
        """Take in the next events of its types, complete up to a position; what it knows already is passed over."""
        intake, has = self._intake, self._share.has
        after = intake.read_to
        if upto <= after:
            return
        lanes, ready, aside = self._lanes, self._ready, self._aside
        for row in rows:
            position = row.position
            if position <= after or not has(row) or not intake.is_new(position, row.id_text):
                continue
            key = row.key
            if key in aside:
                if position > aside[key].position:
                    aside[key].last_seen = position
                continue
            intake.open(position)
            if key not in lanes:
                lanes[key] = None
                ready.append(row)
            elif (lane := lanes[key]) is None:
                lanes[key] = deque((row,))
            else:
                lane.append(row)
        intake.read_to = upto
        if intake.full:
            self.roomy.clear()
        self._start_hands()

    def resume(self, due: Due) -> None:
        """Go on with a parked key whose time has come."""
        aside = self._aside.get(due.key)
        if due.key in self._shelf.moved or due.key in self._lanes:
            return  # in the latter case it was decided on while being let go
        if aside is None:
            aside = self._aside[due.key] = Aside(due.position)
        if not aside.busy and not self._rest.stopping:
            aside.busy, aside.position = True, due.position
            self._ready.append(due)
            self._start_hands()

    # --- working

    def pause(self, paused: bool) -> None:
        """Stop picking up events, or go on."""
        if self._beside is not None and paused != self._rest.paused:
            self._beside.pause(paused)
        self._rest.paused = paused
        self._start_hands()

    def _start_hands(self) -> None:
        if self._rest.now:
            return
        concurrency, batch, hands = self.subscription.concurrency, self.subscription.batch, self._hands
        while len(hands) < concurrency:
            taking = self._free_hands if batch == 1 else len(hands) * batch  # what are together wait for one another
            if taking >= len(self._ready):
                break
            hand = asyncio.get_running_loop().create_task(self._hand())
            self._free_hands += 1
            hands.add(hand)
            hand.add_done_callback(self._put_down)

    def _put_down(self, hand: asyncio.Task[None]) -> None:
        self._hands.discard(hand)
        if not hand.cancelled() and (error := hand.exception()) is not None:
            self.broken = error
            self._changed()
        elif self._ready:
            self._start_hands()

    async def _hand(self) -> None:
        turn, rest = 0, self._rest
        self._free_hands -= 1
        while self._ready and not rest.now:
            job = self._ready.popleft()
            if isinstance(job, Due):
                await self._go_on(job)
            elif not self._attempts.together:
                await self._work(job)
            else:
                await self._work_together(job)
            turn += 1
            if turn % _TURN == 0:  # handlers that never wait must not keep the loop for themselves
                await asyncio.sleep(0)

    async def _work(self, row: Recorded[Any]) -> None:
        key = row.key
        self._in_hand[key] = row
        outcome = await self._attempts.one(Delivery(self.subscription.name, row, 1))
        del self._in_hand[key]
        self._settle(row, outcome)

    async def _work_together(self, first: Recorded[Any]) -> None:
        """Handle what is ready in one call; each key is in it once."""
        rows, ready = [first], self._ready
        while len(rows) < self.subscription.batch and ready and not isinstance(ready[0], Due):
            rows.append(cast("Recorded[Any]", ready.popleft()))
        name, in_hand = self.subscription.name, self._in_hand
        for row in rows:
            in_hand[row.key] = row
        outcomes = await self._attempts.several([Delivery(name, row, 1) for row in rows])
        held: list[Recorded[Any]] = []
        for row, outcome in zip(rows, outcomes, strict=True):
            del in_hand[row.key]
            if isinstance(outcome, Hold):
                held.append(row)
                self._rest.begin(outcome, self._start_hands)
            else:
                self._settle(row, outcome)
        ready.extendleft(reversed(held))

    def _settle(self, row: Recorded[Any], outcome: Outcome | Failure) -> None:
        if isinstance(outcome, Done):
            lane = self._lanes[row.key]
            if lane:
                self._ready.append(lane.popleft())
            else:
                del self._lanes[row.key]
            self._finish(row.position)
        elif type(outcome) is Hold:
            self._ready.appendleft(row)
            self._rest.begin(outcome, self._start_hands)
        else:
            self._set_aside(row, outcome)

    def _finish(self, position: int) -> None:
        self._intake.finish(position)
        if not self.roomy.is_set() and not self._intake.full:
            self.roomy.set()
        self._rest.worked()

    # --- setting aside, and going on

    def _set_aside(self, row: Recorded[Any], outcome: Outcome | Failure) -> None:
        """Park the key of an event that failed at its first attempt; those behind it stay in the log."""
        self._shelf.park(row, outcome, attempt=1, since_first=0.0, revision=0)
        self._leave_lane(row)

    def _leave_lane(self, row: Recorded[Any]) -> None:
        aside = self._aside[row.key] = Aside(row.position)
        for behind in self._lanes.pop(row.key) or ():
            aside.last_seen = behind.position
            self._finish(behind.position)
        self._finish(row.position)

    async def _go_on(self, due: Due) -> None:
        aside = self._aside[due.key]
        answer = await self._resuming.go_on(due, aside)
        if isinstance(answer, Done):
            del self._aside[due.key]
            return
        aside.busy = False
        if answer is not None:
            self._rest.begin(answer, self._start_hands)
            self._rest.worked()

    # --- what is to be saved

    @property
    def checkpoint(self) -> int:
        """The position up to which everything is done or parked."""
        return self._intake.checkpoint

    @property
    def settled(self) -> bool:
        """That has been written down for good."""
        return self._intake.saved_to == self._intake.checkpoint

    def collect(self) -> tuple[Checkpoint | None, dict[str, Parked | Unparked]]:
        """Return what has changed since the last time, and forget it."""
        parks, checkpoint, rest = self._shelf.collect(), self._intake.checkpoint, self._rest
        condition = self._condition if self._beside is None else self._beside.condition
        if checkpoint == self._collected and condition == self._condition and not rest.untold and not parks:
            return None, {}
        self._collected, self._condition, rest.untold = checkpoint, condition, False
        held, again_at = rest.reason, rest.again_at
        if held is None and condition is not None and condition.reason is not None:
            held, again_at = reason_to_keep(condition.reason), condition.again_at
        again = 0.0 if again_at is None else max(0.0, again_at - asyncio.get_running_loop().time())
        return Checkpoint(*self.lease.place, self.lease.epoch, checkpoint, held, again), parks

    def keep(self, parks: dict[str, Parked | Unparked]) -> None:
        """Take back what could not be saved; what has happened since is newer."""
        self._shelf.keep(parks)
        self._collected = -1

    def say_less(self, error: Exception) -> bool:
        """Say of what is parked only that it is, since all of it could not be stored; tell whether that is less."""
        return self._shelf.say_less(error)

    def saved(self, checkpoint: int) -> None:
        """Note that what was collected has been written down for good."""
        self._intake.saved(checkpoint)

    def rewind(self) -> None:
        """Read on from the saved checkpoint, without taking in again what has been taken in since.

        After a crash of PostgreSQL, positions may be given out again that this worker has seen pass, empty or not:
        only those up to a checkpoint that the crash has survived are certain.
        """
        self._intake.rewind()

    # --- the end

    async def stop(self, grace: float) -> None:
        """Finish the events in hand within the grace (seconds), and leave everything so that nothing is done twice.

        What was not begun but lies before something that is done is set aside, due at once: so the checkpoint can
        pass what is done. What had to be broken off is set aside likewise.
        """
        self._rest.stop()
        if self._beside is not None:
            await self._beside.stop(grace)
        if self._hands:
            await asyncio.wait(self._hands, timeout=grace)
        self._attempts.unwatch()
        self._rest.cancel()
        broken_off = dict(self._in_hand)
        for hand in self._hands:
            hand.cancel()
        if self._hands:
            await asyncio.wait(self._hands, timeout=SOON)
        for key, row in broken_off.items():
            if self._in_hand.get(key) is row and key in self._lanes:
                self._leave(row, "broken off when its worker stopped")
        highest = self._intake.last_done
        waiting = [job for job in self._ready if not isinstance(job, Due)]
        for row in waiting:
            if row.position < highest and row.key in self._lanes:
                self._leave(row, "its worker stopped before its turn came")
        await self._close()

    def _leave(self, row: Recorded[Any], reason: str) -> None:
        self._shelf.put(row, Verdict("retry", 0.0, reason, None), 0, 0)
        self._leave_lane(row)

    async def _close(self) -> None:
        """Close what was opened for this partition; that it fails changes nothing any more."""
        try:
            async with asyncio.timeout(SOON):
                await self._attempts.close()
        except Exception as error:  # noqa: BLE001 said, and the partition is given back all the same
            logger.warning("%s: closing: %s: %s", self.subscription.name, type(error).__name__, error)

    def abandon(self) -> None:
        """Stop at once, the lease is lost: what is still done counts for nothing, another worker does it."""
        self._rest.stop()
        self._shelf.collect()
        self._rest.cancel()
        for hand in self._hands:
            hand.cancel()
        if self._beside is not None:
            self._letting_go = asyncio.ensure_future(self._beside.stop(0.0))
        self._closing = asyncio.ensure_future(self._close())
