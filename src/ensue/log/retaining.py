"""What keeps events in the log, and what has been taken out of it: holds, and the record of what was pruned."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import msgspec

from ensue.errors import UnknownName
from ensue.log.dialect import Dialect
from ensue.log.statements import Steps


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody still needs what lies behind a position: it is not pruned."""

    name: str
    position: int
    reason: str
    created_at: datetime


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What one run has pruned of one type: some of the events between two positions are there no more."""

    run: str
    type: str
    first_position: int
    last_position: int
    events: int
    """How many were deleted."""
    recorded_before: datetime
    """What was asked for: only older ones were deleted."""
    actor: str
    reason: str
    pruned_at: datetime


def holds(dialect: Dialect) -> Steps[list[Hold]]:
    """Return the holds, the one that keeps most first."""
    return [
        Hold(name=name, position=position, reason=reason, created_at=datetime.fromisoformat(created_at))
        for name, position, reason, created_at in (yield dialect.sql["holds"]())
    ]


def hold(dialect: Dialect, name: str, position: int, reason: str) -> Steps[list[Pruned]]:
    """Keep everything behind a position from now on, or move a hold of this name; return what is missing there already.

    It waits for a batch of events that is just being pruned: what is not told is still there, and stays.
    """
    yield dialect.sql["set_hold"](name=name, position=position, reason=reason)
    return (yield from pruned(dialect, position))


def lift(dialect: Dialect, name: str) -> Steps[None]:
    """Take a hold away; raise `UnknownName` if there is none of this name."""
    if not (yield dialect.sql["lift_hold"](name=name)):
        raise UnknownName(f"there is no hold {name!r}")


def pruned(dialect: Dialect, after: int = 0, types: Collection[str] = ()) -> Steps[list[Pruned]]:
    """Return what has been pruned behind a position, of these types or of all."""
    rows = yield dialect.sql["pruned"](after=after)
    found = [
        Pruned(
            run=run,
            type=type,
            first_position=first,
            last_position=last,
            events=events,
            recorded_before=datetime.fromisoformat(before),
            actor=actor,
            reason=reason,
            pruned_at=datetime.fromisoformat(at),
        )
        for run, type, first, last, events, before, actor, reason, at in rows
    ]
    return [each for each in found if not types or each.type in types]
