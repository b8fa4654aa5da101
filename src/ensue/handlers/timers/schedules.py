"""Schedules: a function is asked for an event at every tick of a cron expression, and it is recorded once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError

from ensue.errors import DatabaseUnavailable, DeclarationError, Permanent
from ensue.events import Event
from ensue.handlers.functions import Function
from ensue.log import Log, Steps, iso
from ensue.subscriptions import Backoff, Carry, Chore

logger = logging.getLogger("ensue")

_json = msgspec.json.Encoder().encode
_LONGEST = 5.0
"""Seconds between two looks at the clock: it may be set meanwhile."""
_AGAIN = Backoff(first=1.0, most=60.0)

Scheduled = Event | Iterable[Event] | None
Ticking = TypeVar("Ticking", bound=Callable[[datetime], Any])


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a function is asked for an event. Raises `DeclarationError` for what is no cron expression or time zone."""

    name: str
    cron: str
    timezone: str
    function: Function
    _zone: ZoneInfo = field(init=False)

    def __post_init__(self) -> None:
        where = f"schedule {self.name!r}"
        try:
            object.__setattr__(self, "_zone", ZoneInfo(self.timezone))
        except (ZoneInfoNotFoundError, ValueError, TypeError) as error:
            raise DeclarationError(
                f"{where}: timezone={self.timezone!r} is none that this machine knows; write it as 'Europe/Berlin'"
            ) from error
        try:
            CronSim(self.cron, datetime.now(self._zone))
        except (CronSimError, TypeError) as error:
            raise DeclarationError(
                f"{where}: {self.cron!r} is no cron expression ({error}): minute, hour, day, month and weekday, "
                "as in '0 3 * * *'"
            ) from error
        if self.function.takes_two:
            raise DeclarationError(f"{where}: its function is called with the moment of the tick, and nothing else")

    def after(self, moment: datetime) -> datetime | None:
        """Return the first tick after a moment; None if there is none any more."""
        return next(CronSim(self.cron, moment.astimezone(self._zone)), None)

    def last(self, after: datetime, until: datetime) -> datetime | None:
        """Return the last tick after a moment and up to another one: those before it have been missed."""
        just_after = until.astimezone(UTC) + timedelta(microseconds=1)  # the way back leaves out where it begins
        found = next(CronSim(self.cron, just_after.astimezone(self._zone), reverse=True), None)
        return found if found is not None and found > after else None


def ticking(log: Log, schedules: Sequence[Schedule]) -> Chore:
    """Return what a worker does about schedules."""

    async def tick(carry: Carry) -> None:
        failures: dict[str, int] = {}
        await carry(log.transaction(_insert(log, schedules)))
        while True:
            pause = _LONGEST
            standing = await carry(_standing(log, schedules))
            for schedule in schedules:
                reached, now = standing[schedule.name]
                due = schedule.last(datetime.fromisoformat(reached), now)
                if due is not None:
                    pause = min(pause, await _tick(log, schedule, reached, due, carry, failures))
                elif (coming := schedule.after(now)) is not None:
                    pause = min(pause, max(0.0, (coming - now).total_seconds()) + 0.002)
            await asyncio.sleep(pause)

    return Chore("recording what is scheduled", tick)


def missed(log: Log, schedules: Sequence[Schedule]) -> Steps[list[str]]:
    """Return the schedules that have a tick which is due and not recorded, of those that a worker has met."""
    standing = yield from _standing(log, schedules)
    return [
        each.name
        for each in schedules
        if each.name in standing
        and each.last(datetime.fromisoformat(standing[each.name][0]), standing[each.name][1]) is not None
    ]


async def _tick(
    log: Log, schedule: Schedule, reached: str, due: datetime, carry: Carry, failures: dict[str, int]
) -> float:
    """Record the event of a tick; return after how many seconds to look again."""
    try:
        events = _events(await schedule.function(due, None), schedule.name)
        await carry(log.transaction(_record(log, schedule.name, reached, due, events)))
    except DatabaseUnavailable:
        raise
    except Exception:
        failures[schedule.name] = failures.get(schedule.name, 0) + 1
        pause = _AGAIN.wait(failures[schedule.name])
        logger.exception("schedule %s failed at its tick %s; again in %.1f s", schedule.name, due.isoformat(), pause)
        return pause
    failures.pop(schedule.name, None)
    return 0.0


def _events(answer: Any, name: str) -> tuple[Event, ...]:
    if answer is None:
        return ()
    several = isinstance(answer, Iterable) and not isinstance(answer, Event)
    events = tuple(cast("Iterable[Any]", answer)) if several else (cast("Any", answer),)
    for event in events:
        if not isinstance(event, Event):
            raise Permanent(f"{name} returned {event!r}: a schedule returns events, one or several, or None")
    return events


def _insert(log: Log, schedules: Sequence[Schedule]) -> Steps[None]:
    yield log.dialect.sql["insert_schedules"](names=_json([each.name for each in schedules]).decode())


def _standing(log: Log, schedules: Sequence[Schedule]) -> Steps[dict[str, tuple[str, datetime]]]:
    rows = yield log.dialect.sql["schedules"](names=_json([each.name for each in schedules]).decode())
    return {name: (reached, datetime.fromisoformat(now)) for name, reached, now in rows}


def _record(log: Log, name: str, reached: str, due: datetime, events: tuple[Event, ...]) -> Steps[None]:
    """Record in the transaction that moves the schedule: whoever comes second, here or elsewhere, finds it moved."""
    moved = yield log.dialect.sql["move_schedule"](name=name, tick=iso(due), before=reached)
    if moved and events:
        yield from log.append(events)
