"""Parked keys whose time has come: the next step of the event, then what queues behind it in the log."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ensue.events import Recorded
from ensue.log import Selection
from ensue.subscriptions.attempting import Attempts
from ensue.subscriptions.declared import Subscription
from ensue.subscriptions.failing import Failure
from ensue.subscriptions.intake import Intake
from ensue.subscriptions.outcomes import Delivery, Done, Hold, Outcome
from ensue.subscriptions.parking import GOES_ON, Due
from ensue.subscriptions.rest import Rest
from ensue.subscriptions.share import Share
from ensue.subscriptions.shelf import Shelf
from ensue.subscriptions.verdicts import Verdict

logger = logging.getLogger("ensue")

_BATCH = 100
SOON = 5.0
"""Seconds after which another worker goes on with a key, should this one die on the way."""

_ITS_TURN = Verdict("retry", 0.0, "its turn comes", None)
_DONE_SO_FAR = Verdict("skip", SOON, GOES_ON, None)

Read = Callable[[Selection, int], Awaitable[list[Recorded[Any]]]]
"""Reads from the log, however long it takes until the database answers."""


@dataclass(slots=True)
class Aside:
    """A key that is parked, as the runner knows it: later events of the key are left in the log."""

    position: int
    last_seen: int = 0
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Resuming:
    """Goes on with the parked keys of one runner."""

    subscription: Subscription
    share: Share
    intake: Intake
    attempts: Attempts
    shelf: Shelf
    rest: Rest
    read: Read
    in_hand: dict[str, Recorded[Any]]

    async def go_on(self, due: Due, aside: Aside) -> Done | Hold | None:
        """Carry out the next step of a key, then deliver what queues behind it.

        `Done`: nothing queues any more, and the key is off the shelf. Otherwise it stays parked: an event has failed,
        its turn comes later, or, `Hold`, what the handler needs is away.
        """
        position = due.position
        handled = due.next_step == "retry"
        if due.next_step == "discard":
            position = max(position, due.until or 0)
        elif due.next_step == "retry" and (row := await self._find(due)) is not None:
            if self.rest.now:  # it stays due
                return None
            outcome = await self._attempt(row, due.attempt + 1)
            if isinstance(outcome, Hold):
                return outcome
            if not isinstance(outcome, Done):
                self.shelf.park(
                    row, outcome, attempt=due.attempt + 1, since_first=due.since_first, revision=due.revision
                )
                self.rest.worked()
                return None
        return await self._deliver_behind(due, aside, position, handled=handled)

    async def _deliver_behind(self, due: Due, aside: Aside, position: int, *, handled: bool) -> Done | Hold | None:
        shelf, revision = self.shelf, due.revision
        while True:
            until = self.share.reached(due.slot, self.intake.read_to)
            behind = Selection(after=position, until=until, types=self.subscription.types, key=due.key)
            rows = [] if due.key == due.id else await self.read(behind, _BATCH)  # without a key, nothing queues
            for row in rows:
                aside.position = position = row.position
                outcome = None if self.rest.now else await self._attempt(row, 1)
                if outcome is None or isinstance(outcome, Hold):
                    shelf.put(row, _ITS_TURN, 0, revision, handled=handled)
                elif isinstance(outcome, Done):
                    shelf.put(row, _DONE_SO_FAR, 0, revision, handled=handled)
                else:
                    shelf.park(row, outcome, attempt=1, since_first=0.0, revision=revision, handled=handled)
                if not isinstance(outcome, Hold):
                    self.rest.worked()
                if not isinstance(outcome, Done):
                    return outcome if isinstance(outcome, Hold) else None
            if len(rows) < _BATCH and aside.last_seen <= until:
                break
        shelf.take_off(due.key, position, revision, handled=handled)
        self.rest.worked()
        return Done()

    async def _attempt(self, row: Recorded[Any], number: int) -> Outcome | Failure:
        self.in_hand[row.key] = row
        outcome = await self.attempts.one(Delivery(self.subscription.name, row, number))
        del self.in_hand[row.key]
        return outcome

    async def _find(self, due: Due) -> Recorded[Any] | None:
        rows = await self.read(Selection(after=due.position - 1, until=due.position, edited=due.data), 1)
        if not rows:
            logger.error("%s: event %s is parked but no longer in the log", self.subscription.name, due.id)
            return None
        return rows[0]
