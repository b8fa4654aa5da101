"""What fails, in groups: by subscription, type and the class of the error."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from ensue.log import Log, Steps


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Parked keys that have failed in the same way."""

    subscription: str
    type: str
    fault: str
    """What the reason says in front of its first colon: the class of the error."""
    waiting: int
    """Keys that wait for a person."""
    retrying: int
    """Keys that are tried again by themselves, or are about to be skipped or discarded."""
    hours: dict[int, int]
    """How many of them were parked in which hour; the hours are counted since 1970."""

    def trend(self, hours: int, now: datetime) -> list[int]:
        """Return how many were parked in each of the last so many hours, the oldest first."""
        last = int(now.timestamp() // 3600)
        return [self.hours.get(each, 0) for each in range(last - hours + 1, last + 1)]


def faults(log: Log, subscription: str | None = None) -> Steps[list[Fault]]:
    """Return what fails, the most frequent first."""
    rows = yield log.dialect.sql["faults"](subscription=subscription)
    groups: dict[tuple[str, str, str], list[Sequence[Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[:3]), []).append(row)
    found = [_fault(group, its) for group, its in groups.items()]
    return sorted(found, key=lambda each: (-each.waiting - each.retrying, each.subscription, each.type, each.fault))


def _fault(group: tuple[str, str, str], rows: list[Sequence[Any]]) -> Fault:
    waiting = retrying = 0
    hours: dict[int, int] = {}
    for *_, goes_on, hour, count in rows:
        waiting, retrying = (waiting, retrying + count) if goes_on else (waiting + count, retrying)
        number = _hour(hour)
        hours[number] = hours.get(number, 0) + count
    subscription, type, fault = group
    return Fault(subscription=subscription, type=type, fault=fault, waiting=waiting, retrying=retrying, hours=hours)


def _hour(stored: int | str) -> int:
    """SQLite has the beginning of a moment."""
    if isinstance(stored, int):
        return stored
    return int(datetime.fromisoformat(f"{stored}:00:00").replace(tzinfo=UTC).timestamp() // 3600)
