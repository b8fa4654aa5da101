"""Parked keys: an event that failed, and the later ones of its key that queue behind it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

import msgspec

from ensue.events import Recorded
from ensue.log import Log, Steps

_json = msgspec.json.Encoder().encode

GOES_ON = "done, the next one's turn comes"
"""The reason of a parked key whose event has been handled: those behind it are next, and nobody decides on it."""

NextStep = Literal["retry", "wait", "skip", "discard"]


class Settled(msgspec.Struct, frozen=True):
    """Up to where a key is done, if it was parked before that."""

    subscription: str
    key: str
    upto: int
    handled: bool
    revision: int
    epoch: int


class Parked(msgspec.Struct, frozen=True, kw_only=True):
    """A key that waits. `skip`: go on behind the position. `discard`: go on behind all that queued by then."""

    subscription: str
    key: str
    slot: int
    position: int
    id: str
    type: str
    next_step: NextStep
    delay: float | None
    """Seconds until the next step is due; None: waits for a person."""
    attempt: int
    """How many attempts have failed."""
    reason: str
    traceback: str | None
    worker: str
    revision: int
    epoch: int
    handled: bool = False
    """Whether the event for which the key was parked before has succeeded since, rather than been given up."""

    @property
    def settled(self) -> Settled:
        """What is done of the key: all in front of this event, and it too if only those behind it are left."""
        upto = self.position - (self.reason != GOES_ON)
        return Settled(self.subscription, self.key, upto, self.handled, self.revision, self.epoch)


class Due(msgspec.Struct, frozen=True, array_like=True):
    """A parked key whose time has come."""

    subscription: str
    key: str
    slot: int
    position: int
    id: str
    type: str
    next_step: NextStep
    attempt: int
    data: str | None
    """The event as a person has edited it."""
    revision: int
    since_first: float
    """Seconds since the first failure, or since a person last said retry."""
    until: int | None = None
    """`discard`: the last position on which a person has decided."""


class Checkpoint(msgspec.Struct, frozen=True):
    """How far a partition is done, and why it does not go on if it is held."""

    subscription: str
    first_slot: int
    epoch: int
    checkpoint: int
    held: str | None
    """What its handler waits for; None: it is not held."""
    again: float
    """Seconds until it is called again."""


class Unparked(msgspec.Struct, frozen=True):
    """A key behind which nothing waits any more."""

    subscription: str
    key: str
    position: int
    """Up to here all of the key is done."""
    revision: int
    handled: bool
    """As of `Parked`."""
    epoch: int

    @property
    def settled(self) -> Settled:
        """What is done of the key."""
        return Settled(self.subscription, self.key, self.position, self.handled, self.revision, self.epoch)


PLACE = "dead letter"
"""What binds a reason that is encrypted to its table."""


def kept(row: Recorded[Any], text: str) -> str:
    """Return a reason as it is kept: it may tell of what is personal in the event, and is encrypted likewise."""
    return text if row.opener is None else row.opener.seal(text, PLACE, like=row.data)


def save(
    log: Log, parked: Sequence[Parked], unparked: Sequence[Unparked], checkpoints: Sequence[Checkpoint]
) -> Steps[set[tuple[str, int]]]:
    """Write what has happened since the last time, in one transaction; return the partitions that were still ours.

    A checkpoint may pass an event only if the event is done or its key is parked: so the two are written together.
    """
    if parked or unparked:
        return (yield from log.transaction(_save(log, parked, unparked, checkpoints)))
    return (yield from _save(log, parked, unparked, checkpoints))


def _save(
    log: Log, parked: Sequence[Parked], unparked: Sequence[Unparked], checkpoints: Sequence[Checkpoint]
) -> Steps[set[tuple[str, int]]]:
    yield from move(log, parked, unparked)
    rows = yield log.dialect.sql["save_checkpoints"](rows=_json(checkpoints).decode())
    return {(subscription, first_slot) for subscription, first_slot in rows}


def move(log: Log, parked: Sequence[Parked], unparked: Sequence[Unparked]) -> Steps[None]:
    """Park keys and let keys go on, in the open transaction, and write down what is done of those that were parked."""
    sql = log.dialect.sql
    if settled := [*(each.settled for each in parked), *(each.settled for each in unparked)]:
        yield sql["settle"](rows=_json(settled).decode(), goes_on=GOES_ON)
    if parked:
        yield sql["park"](rows=_json(parked).decode())
    if unparked:
        yield sql["unpark"](rows=_json(unparked).decode())


def find_due(log: Log, worker: str, subscriptions: Collection[str], limit: int) -> Steps[list[Due]]:
    """Return the parked keys of this worker's partitions that are due now: of each subscription so many at most.

    Those of a subscription that takes none up at present, paused or held, stay due, and others are not to wait for it.
    """
    found = yield from _find_due(log, worker, subscriptions, limit)
    if len(found) < limit or len(subscriptions) == 1:
        return found
    found.clear()
    for name in subscriptions:
        found += yield from _find_due(log, worker, [name], limit)
    return found


def _find_due(log: Log, worker: str, subscriptions: Collection[str], limit: int) -> Steps[list[Due]]:
    rows = yield log.dialect.sql["due"](worker=worker, subscriptions=_json(sorted(subscriptions)).decode(), limit=limit)
    return [Due(*row) for row in rows]
