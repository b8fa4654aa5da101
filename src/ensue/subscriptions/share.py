"""What of the log belongs to a leased partition."""

from __future__ import annotations

from typing import Any

from ensue.events import Recorded
from ensue.subscriptions.declared import SLOTS, slot_of
from ensue.subscriptions.leasing import Claimed


class Share:
    """The keys of a partition, but for what an earlier cut of the subscription has done of them already."""

    def __init__(self, claimed: Claimed) -> None:
        lease = claimed.lease
        self._first, self._last = lease.first_slot, lease.last_slot
        self._ahead = tuple(segment for segment in claimed.ahead if segment[2] > claimed.checkpoint)
        self.everything = (self._first, self._last) == (0, SLOTS - 1) and not self._ahead
        """Whatever comes belongs to it."""

    def has(self, row: Recorded[Any]) -> bool:
        """Tell whether an event belongs to it and has not been done."""
        if self.everything:
            return True
        slot = slot_of(row.key)
        if not self._first <= slot <= self._last:
            return False
        return not any(first <= slot <= last and row.position <= done for first, last, done in self._ahead)

    def reached(self, slot: int, position: int) -> int:
        """Return how far a slot is when the partition is at a position: for some, more had been done before."""
        return max([position, *(done for first, last, done in self._ahead if first <= slot <= last)])
