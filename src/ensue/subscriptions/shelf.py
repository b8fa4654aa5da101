"""What a runner has set aside, and taken up again, since its worker last wrote it down."""

from __future__ import annotations

from typing import Any

import msgspec

from ensue.events import Observer, Recorded
from ensue.subscriptions.declared import Subscription
from ensue.subscriptions.failing import Failure
from ensue.subscriptions.leasing import Lease
from ensue.subscriptions.outcomes import Outcome
from ensue.subscriptions.parking import Parked, Unparked
from ensue.subscriptions.verdicts import Verdict, set_aside, tell, verdict


class Shelf:
    """The parked keys of a partition, as far as the database does not hold them like this yet."""

    def __init__(self, subscription: Subscription, lease: Lease, worker: str, observer: Observer | None) -> None:
        self.moved: set[str] = set()
        """Keys whose parking has changed since the worker began to look for due ones: what it finds of them is old."""
        self._subscription = subscription
        self._lease = lease
        self._worker = worker
        self._observer = observer
        self._parks: dict[str, Parked | Unparked] = {}

    def park(
        self,
        row: Recorded[Any],
        outcome: Outcome | Failure,
        *,
        attempt: int,
        since_first: float,
        revision: int,
        handled: bool = False,
    ) -> None:
        """Set a key aside since an attempt at its event has failed, and say so."""
        found = verdict(outcome, self._subscription.retry, attempt, since_first)
        tell(self.put(row, found, attempt, revision, handled=handled), self._observer)

    def put(self, row: Recorded[Any], found: Verdict, attempt: int, revision: int, *, handled: bool = False) -> Parked:
        """Set a key aside with what is to be done next."""
        pending = self._parks.get(row.key)
        if isinstance(pending, Unparked):  # its row is still there, under the revision that a person gave it
            revision, handled = pending.revision, pending.handled
        made = set_aside(row, found, self._lease, self._worker, attempt=attempt, revision=revision, handled=handled)
        self._parks[row.key] = made
        self.moved.add(row.key)
        return made

    def take_off(self, key: str, position: int, revision: int, *, handled: bool) -> None:
        """Note that nothing of a key waits any more: up to a position all of it is done."""
        lease = self._lease
        self._parks[key] = Unparked(lease.subscription, key, position, revision, handled, lease.epoch)
        self.moved.add(key)

    # --- what is to be saved

    def collect(self) -> dict[str, Parked | Unparked]:
        """Return what has changed since the last time, and forget it."""
        parks, self._parks = self._parks, {}
        return parks

    def keep(self, parks: dict[str, Parked | Unparked]) -> None:
        """Take back what could not be saved; what has happened since is newer."""
        for key, each in parks.items():
            newer = self._parks.get(key)
            if isinstance(each, Unparked) and isinstance(newer, Parked):
                self._parks[key] = msgspec.structs.replace(newer, revision=each.revision, handled=each.handled)
            elif newer is None:
                self._parks[key] = each
        self.moved |= parks.keys()

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
