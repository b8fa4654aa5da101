"""One partition at work: events of one key in order, different keys side by side, a failing key set aside."""

from __future__ import annotations

import asyncio
import logging
from bisect import insort
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec

from ensue.events import Observer, Recorded
from ensue.log import Selection
from ensue.subscriptions.attempting import Attempts
from ensue.subscriptions.declared import Condition, Subscription, slot_of
from ensue.subscriptions.failing import Failure, reason_to_keep
from ensue.subscriptions.leasing import Claimed
from ensue.subscriptions.outcomes import Delivery, Done, Hold, Outcome
from ensue.subscriptions.parking import GOES_ON, Checkpoint, Due, Parked, Unparked, kept
from ensue.subscriptions.verdicts import Verdict, tell, verdict

logger = logging.getLogger("ensue")

WINDOW = 1000
"""How many events of a partition are in memory at most, beyond the batch being taken in."""
_BATCH = 100
_TURN = 64
"""Events after which a hand lets others have the loop."""
_SOON = 5.0
"""Seconds after which another worker goes on with a key, should this one die on the way."""

_ITS_TURN = Verdict("retry", 0.0, "its turn comes", None)
_DONE_SO_FAR = Verdict("skip", _SOON, GOES_ON, None)

Read = Callable[[Selection, int], Awaitable[list[Recorded[Any]]]]
"""Reads from the log, however long it takes until the database answers."""


@dataclass(slots=True)
class _Aside:
    """A key that is parked, as the runner knows it: later events of the key are left in the log."""

    position: int
    revision: int
    last_seen: int = 0
    busy: bool = False


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
        self._worker = worker
        self._read = read
        self._changed = changed
        self._observer = observer
        self._ahead = tuple(segment for segment in claimed.ahead if segment[2] > claimed.checkpoint)
        self._whole = claimed.lease.last_slot - claimed.lease.first_slot == 65535
        self._aside = {key: _Aside(position, revision) for key, (position, revision) in claimed.parked.items()}
        self._attempts = Attempts(subscription, observer)
        self._hold: asyncio.TimerHandle | None = None
        self._held = ""
        """Why it rests, until something is handled again."""
        self._closing: asyncio.Future[None] | None = None
        self._letting_go: asyncio.Future[None] | None = None
        lease = claimed.lease
        self._beside = None if subscription.beside is None else subscription.beside(lease.first_slot, lease.last_slot)
        self._condition: Condition | None = None
        """As last collected of what works beside it."""
        self._working: asyncio.Future[None] | None = None
        if self._beside is not None:
            self._working = asyncio.ensure_future(self._beside.work())
            self._working.add_done_callback(self._has_ended)
        self._track: deque[int] = deque()
        self._done: set[int] = set()
        self._lanes: dict[str, deque[Recorded[Any]] | None] = {}
        self._ready: deque[Recorded[Any] | Due] = deque()
        self._hands: set[asyncio.Task[None]] = set()
        self._free_hands = 0
        """Those that are about to take something up."""
        self._in_hand: dict[str, Recorded[Any]] = {}
        self._stopping = False
        self._parks: dict[str, Parked | Unparked] = {}
        self._saved = claimed.checkpoint
        self._collected = claimed.checkpoint
        self._unsaved: deque[tuple[int, str]] = deque()
        """What has been taken in since the saved checkpoint: position and id."""
        self._again: frozenset[str] = frozenset()
        """After an outage: what need not be taken in again."""

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
        after = self.read_to
        if upto <= after:
            return
        lanes, ready, track, aside, unsaved = self._lanes, self._ready, self._track, self._aside, self._unsaved
        for row in rows:
            position = row.position
            if position <= after or not self._mine(row):
                continue
            if self._again and row.id_text in self._again:
                continue
            unsaved.append((position, row.id_text))
            key = row.key
            if key in aside:
                if position > aside[key].position:
                    aside[key].last_seen = position
                continue
            if track and position < track[-1]:  # read again after an outage
                insort(track, position)
            else:
                track.append(position)
            if key not in lanes:
                lanes[key] = None
                ready.append(row)
            elif (lane := lanes[key]) is None:
                lanes[key] = deque((row,))
            else:
                lane.append(row)
        self.read_to = upto
        if len(track) >= WINDOW:
            self.roomy.clear()
        self._start_hands()

    def _mine(self, row: Recorded[Any]) -> bool:
        if self._whole and not self._ahead:
            return True
        slot = slot_of(row.key)
        if not self.lease.first_slot <= slot <= self.lease.last_slot:
            return False
        return not any(first <= slot <= last and row.position <= done for first, last, done in self._ahead)

    def _reached(self, slot: int) -> int:
        """Return up to where all of a slot has been taken in: for some, another one did that and went further."""
        return max([self.read_to, *(done for first, last, done in self._ahead if first <= slot <= last)])

    def resume(self, due: Due) -> None:
        """Go on with a parked key whose time has come."""
        aside = self._aside.get(due.key)
        if due.key in self.moved or due.key in self._lanes:  # in the latter case it was decided on while being let go
            return
        if aside is None:
            aside = self._aside[due.key] = _Aside(due.position, due.revision)
        if not aside.busy and not self._stopping:
            aside.busy, aside.position, aside.revision = True, due.position, due.revision
            self._ready.append(due)
            self._start_hands()

    # --- working

    def pause(self, paused: bool) -> None:
        """Stop picking up events, or go on."""
        if self._beside is not None and paused != self.paused:
            self._beside.pause(paused)
        self.paused = paused
        self._start_hands()

    def _start_hands(self) -> None:
        if self._resting:
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

    def _has_ended(self, working: asyncio.Future[None]) -> None:
        if not working.cancelled() and (error := working.exception()) is not None:
            self.broken = error
            self._changed()

    broken: BaseException | None = None
    """An error of the runner itself, which its worker raises."""

    async def _hand(self) -> None:
        turn = 0
        self._free_hands -= 1
        while self._ready and not self._resting:
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
                self._rest(outcome)
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
            self._rest(outcome)
        else:
            self._set_aside(row, outcome)

    def _finish(self, position: int) -> None:
        track, done = self._track, self._done
        if track[0] == position:
            track.popleft()
            while track and track[0] in done:
                done.remove(track.popleft())
        else:
            done.add(position)
        if len(track) < WINDOW and not self.roomy.is_set():
            self.roomy.set()
        self._has_changed()

    # --- resting

    @property
    def _resting(self) -> bool:
        """Nothing more is picked up at present."""
        return self.paused or self._stopping or self._hold is not None

    def _rest(self, hold: Hold) -> None:
        """Pick up nothing more for a while: what the handler needs is away."""
        if self._hold is None:
            delay, reason = hold.delay, reason_to_keep(hold.reason)
            logger.warning("%s: %s; again in %.1f s", self.subscription.name, reason, delay)
            self._hold = asyncio.get_running_loop().call_later(delay, self._rested)
            self._held, self._collected = reason or "it does not say why", -1
            self._changed()

    def _rested(self) -> None:
        self._hold = None
        self._start_hands()

    def _has_changed(self) -> None:
        """Say that there is something to save; what is handled while it does not rest says that it is held no more."""
        if self._held and self._hold is None:
            self._held, self._collected = "", -1
        self._changed()

    # --- setting aside, and going on

    def _set_aside(self, row: Recorded[Any], outcome: Outcome | Failure) -> None:
        """Park the key of an event that failed at its first attempt; those behind it stay in the log."""
        key = row.key
        aside = self._aside[key] = _Aside(row.position, 0)
        self._park(row, outcome, attempt=1, since_first=0.0, revision=0)
        lane = self._lanes.pop(key) or ()
        for behind in lane:
            aside.last_seen = behind.position
            self._finish(behind.position)
        self._finish(row.position)

    def _park(
        self,
        row: Recorded[Any],
        outcome: Outcome | Failure,
        *,
        attempt: int,
        since_first: float,
        revision: int,
        handled: bool = False,
    ) -> None:
        found = verdict(outcome, self.subscription.retry, attempt, since_first)
        self._put(row, found, attempt, revision, handled=handled)
        tell(cast("Parked", self._parks[row.key]), self._observer)

    def _put(self, row: Recorded[Any], found: Verdict, attempt: int, revision: int, *, handled: bool = False) -> None:
        pending = self._parks.get(row.key)
        if isinstance(pending, Unparked):  # its row is still there, under the revision that a person gave it
            revision, handled = pending.revision, pending.handled
        self._parks[row.key] = Parked(
            subscription=self.subscription.name,
            key=row.key,
            slot=slot_of(row.key),
            position=row.position,
            id=row.id_text,
            type=row.type,
            next_step=found.step,
            delay=found.delay,
            attempt=attempt,
            reason=found.reason if found.step == "skip" else kept(row, found.reason),  # ensue's own words
            traceback=None if found.trace is None else kept(row, found.trace),
            worker=self._worker,
            revision=revision,
            epoch=self.lease.epoch,
            handled=handled,
        )
        self.moved.add(row.key)
        self._has_changed()

    async def _go_on(self, due: Due) -> None:
        """Carry out the next step of a parked key, then deliver what queues behind it, until it fails or is empty."""
        aside = self._aside[due.key]
        position = due.position
        handled = due.next_step == "retry"
        if due.next_step == "discard":
            position = max(position, due.until or 0)
        elif due.next_step == "retry" and (row := await self._find(due)) is not None:
            if self._resting:  # it stays due
                aside.busy = False
                return
            self._in_hand[due.key] = row
            outcome: Outcome | Failure = await self._attempts.one(
                Delivery(self.subscription.name, row, due.attempt + 1)
            )
            del self._in_hand[due.key]
            if isinstance(outcome, Hold):
                self._rest(outcome)
                aside.busy = False
                return
            if not isinstance(outcome, Done):
                self._park(row, outcome, attempt=due.attempt + 1, since_first=due.since_first, revision=due.revision)
                aside.busy = False
                return
        while True:
            until = self._reached(due.slot)
            behind = Selection(after=position, until=until, types=self.subscription.types, key=due.key)
            rows = [] if due.key == due.id else await self._read(behind, _BATCH)  # without a key, nothing queues
            for row in rows:
                aside.position = position = row.position
                if self._resting:
                    self._put(row, _ITS_TURN, 0, due.revision, handled=handled)
                    aside.busy = False
                    return
                self._in_hand[due.key] = row
                outcome = await self._attempts.one(Delivery(self.subscription.name, row, 1))
                del self._in_hand[due.key]
                if isinstance(outcome, Hold):
                    self._rest(outcome)
                    self._put(row, _ITS_TURN, 0, due.revision, handled=handled)
                    aside.busy = False
                    return
                if not isinstance(outcome, Done):
                    self._park(row, outcome, attempt=1, since_first=0.0, revision=due.revision, handled=handled)
                    aside.busy = False
                    return
                self._put(row, _DONE_SO_FAR, 0, due.revision, handled=handled)
            if len(rows) < _BATCH and aside.last_seen <= until:
                break
        del self._aside[due.key]
        self._parks[due.key] = Unparked(
            self.subscription.name, due.key, position, due.revision, handled, self.lease.epoch
        )
        self.moved.add(due.key)
        self._has_changed()

    async def _find(self, due: Due) -> Recorded[Any] | None:
        rows = await self._read(Selection(after=due.position - 1, until=due.position, edited=due.data), 1)
        if not rows:
            logger.error("%s: event %s is parked but no longer in the log", self.subscription.name, due.id)
            return None
        return rows[0]

    # --- what is to be saved

    @property
    def checkpoint(self) -> int:
        """The position up to which everything is done or parked."""
        return min(self._track[0] - 1, self.read_to) if self._track else self.read_to

    def say_less(self, error: Exception) -> bool:
        """Say of what is parked only that it is, since all of it could not be stored; tell whether that is less."""
        plain = f"it failed; more of it could not be stored ({type(error).__name__}): see the worker's log"
        less = {
            key: msgspec.structs.replace(each, reason=plain, traceback=None)
            for key, each in self._parks.items()
            if isinstance(each, Parked) and each.reason != plain
        }
        self._parks |= less
        return bool(less)

    def collect(self) -> tuple[Checkpoint | None, dict[str, Parked | Unparked]]:
        """Return what has changed since the last time, and forget it."""
        parks, self._parks = self._parks, {}
        checkpoint = self.checkpoint
        condition = self._condition if self._beside is None else self._beside.condition
        if checkpoint == self._collected and condition == self._condition and not parks:
            return None, {}
        self._collected, self._condition = checkpoint, condition
        held, again_at = self._held or None, None if self._hold is None else self._hold.when()
        if held is None and condition is not None and condition.reason is not None:
            held, again_at = reason_to_keep(condition.reason), condition.again_at
        again = 0.0 if again_at is None else max(0.0, again_at - asyncio.get_running_loop().time())
        return Checkpoint(*self.lease.place, self.lease.epoch, checkpoint, held, again), parks

    def keep(self, parks: dict[str, Parked | Unparked]) -> None:
        """Take back what could not be saved; what has happened since is newer."""
        for key, each in parks.items():
            newer = self._parks.get(key)
            if isinstance(each, Unparked) and isinstance(newer, Parked):
                self._parks[key] = msgspec.structs.replace(newer, revision=each.revision, handled=each.handled)
            elif newer is None:
                self._parks[key] = each
        self.moved |= parks.keys()
        self._collected = -1

    def saved(self, checkpoint: int) -> None:
        """Note that what was collected has been written down for good."""
        self._saved = checkpoint
        unsaved = self._unsaved
        while unsaved and unsaved[0][0] <= checkpoint:
            unsaved.popleft()
        if self._again and not (self._again & {id for _, id in unsaved}):
            self._again = frozenset()

    def rewind(self) -> None:
        """Read on from the saved checkpoint, without taking in again what has been taken in since.

        After a crash of PostgreSQL, positions may be given out again that this worker has seen pass, empty or not:
        only those up to a checkpoint that the crash has survived are certain.
        """
        if self.read_to > self._saved:
            self._again = frozenset(id for _, id in self._unsaved)
            self.read_to = self._saved

    # --- the end

    async def stop(self, grace: float) -> None:
        """Finish the events in hand within the grace (seconds), and leave everything so that nothing is done twice.

        What was not begun but lies before something that is done is set aside, due at once: so the checkpoint can
        pass what is done. What had to be broken off is set aside likewise.
        """
        self._stopping = True
        if self._beside is not None:
            await self._beside.stop(grace)
        if self._hands:
            await asyncio.wait(self._hands, timeout=grace)
        self._attempts.unwatch()
        if self._hold is not None:
            self._hold.cancel()
        broken_off = dict(self._in_hand)
        for hand in self._hands:
            hand.cancel()
        if self._hands:
            await asyncio.wait(self._hands, timeout=_SOON)
        for key, row in broken_off.items():
            if self._in_hand.get(key) is row and key in self._lanes:
                self._leave(row, "broken off when its worker stopped")
        highest = max(self._done, default=0)
        waiting = [job for job in self._ready if not isinstance(job, Due)]
        for row in waiting:
            if row.position < highest and row.key in self._lanes:
                self._leave(row, "its worker stopped before its turn came")
        await self._close()

    async def _close(self) -> None:
        """Close what was opened for this partition; that it fails changes nothing any more."""
        try:
            async with asyncio.timeout(_SOON):
                await self._attempts.close()
        except Exception as error:  # noqa: BLE001 said, and the partition is given back all the same
            logger.warning("%s: closing: %s: %s", self.subscription.name, type(error).__name__, error)

    def _leave(self, row: Recorded[Any], reason: str) -> None:
        aside = self._aside[row.key] = _Aside(row.position, 0)
        self._put(row, Verdict("retry", 0.0, reason, None), 0, 0)
        for behind in self._lanes.pop(row.key) or ():
            aside.last_seen = behind.position
            self._finish(behind.position)
        self._finish(row.position)

    def abandon(self) -> None:
        """Stop at once, the lease is lost: what is still done counts for nothing, another worker does it."""
        self._stopping = True
        self._parks.clear()
        if self._hold is not None:
            self._hold.cancel()
        for hand in self._hands:
            hand.cancel()
        if self._beside is not None:
            self._letting_go = asyncio.ensure_future(self._beside.stop(0.0))
        self._closing = asyncio.ensure_future(self._close())
