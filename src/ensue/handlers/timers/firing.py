"""Firing: timers that are due become events of the log, in one transaction with the end of the timer."""

from __future__ import annotations

from ensue.events import Receipt, Written, written_again
from ensue.handlers.timers.alarm import SOON, Alarm
from ensue.handlers.timers.asking import OWNER as ASKED
from ensue.log import Log, Steps
from ensue.subscriptions import Carry, Chore

_BATCH = 500
_OTHERS = 0.05
"""Seconds to wait when what is due is in the hands of another worker."""


def firing(log: Log, alarm: Alarm) -> Chore:
    """Return what a worker does about timers: one look at an index while none is due, however many wait."""

    async def fire(carry: Carry) -> None:
        with alarm.sleeper() as sleeper:
            while True:
                left = await carry(next_due(log))
                if left is None or left > 0:
                    await sleeper.sleep(SOON if left is None else min(left, SOON))
                elif not await carry(log.transaction(fire_due(log))):
                    await sleeper.sleep(_OTHERS)

    return Chore("firing timers", fire)


def next_due(log: Log) -> Steps[float | None]:
    """Return in how many seconds the next timer is due, by the database's clock; None if there is none."""
    rows = yield log.dialect.sql["next_due"]()
    return rows[0][0] if rows else None


def fire_due(log: Log) -> Steps[int]:
    """Record the events of timers that are due, in the order of their time, in the open transaction; return how many.

    The row goes in the transaction in which the event comes: a worker that dies has done both or neither.
    """
    rows = yield log.dialect.sql["take_due"](limit=_BATCH)
    together: list[Written] = []
    for _, event, owner, name in sorted((due, event, owner, name) for due, event, owner, name in rows):
        written = written_again(event)
        if owner != ASKED:
            together.append(written)
            continue
        if together:  # in the order of their time
            yield from _append(log, together, None)
            together = []
        yield from _append(log, [written], name)
    if together:
        yield from _append(log, together, None)
    return len(rows)


def _append(log: Log, written: list[Written], dedupe: str | None) -> Steps[Receipt]:
    return log.dialect.append(written, stream=None, expected=None, dedupe=dedupe, log=log.place.app, rule="off")
