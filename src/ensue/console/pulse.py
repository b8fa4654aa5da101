"""The pulse: one look at the log for all who watch, as often as it may cost, and never while nobody does."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ensue.app import App
from ensue.app.judging import COUNTED, Facts, facts_of
from ensue.app.seeing import Seen

EVERY = 1.5
"""Seconds between two looks."""
_RESTS = 60
"""It rests so many times as long as a look took: what it costs the database stays below two in a hundred."""
_LONGEST = 15.0
"""Seconds that it rests at most: a database that is slow to answer is watched all the same."""
_KEPT = 400
_FRESH = 30.0
"""Seconds after which the last look is too old to compute a rate from."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast a subscription goes."""

    handled: float
    """Events in a second."""
    positions: float
    """Positions of the log in a second, less those by which the log has grown: how fast it catches up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """What one look has found."""

    at: datetime
    head: int
    facts: Facts
    recorded: float | None
    """Events in a second since the look before; None: there was none."""
    handled: float | None
    rates: dict[str, Rate] = field(default_factory=dict[str, Rate])
    """By subscription."""
    types: dict[str, float] = field(default_factory=dict[str, float])
    """Events recorded in a second, by type."""

    @property
    def oldest(self) -> float:
        """The age of the oldest event that a subscription which is not paused has not handled, in seconds."""
        return max((each.seconds_behind for each in self.facts.ours if not each.paused), default=0.0)

    @property
    def dead(self) -> int:
        """Keys that wait for a person."""
        return sum(each.standing.dead for each in self.facts.seen if each.standing is not None)

    @property
    def retrying(self) -> int:
        """Keys that are tried again by themselves."""
        return sum(each.standing.retrying for each in self.facts.seen if each.standing is not None)


@dataclass(frozen=True, slots=True)
class Point:
    """What is kept of a look for the chart."""

    at: float
    recorded: float
    handled: float


class Pulse:
    """Looks at the log when somebody asks, and not again before it has rested."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._last: Beat | None = None
        self._taken = 0.0
        self._rest = EVERY
        self._stale = False
        self.points: deque[Point] = deque(maxlen=_KEPT)

    @property
    def rest(self) -> float:
        """Seconds from one look to the next."""
        return self._rest

    def beat(self) -> Beat:
        """Return the last look, or a new one if it is time for that. Raises what the database raises."""
        with self._lock:
            age = time.monotonic() - self._taken
            if self._last is not None and age < self._rest and not self._stale:
                return self._last
            self._stale = False
            began = time.monotonic()
            beat = self._look(age if self._last is not None and age < _FRESH else None)
            ended = time.monotonic()
            self._rest = min(_LONGEST, max(EVERY, _RESTS * (ended - began)))
            self._last, self._taken = beat, ended
            if beat.recorded is not None and beat.handled is not None:
                self.points.append(Point(beat.at.timestamp(), beat.recorded, beat.handled))
            return beat

    def forget(self) -> None:
        """Look anew when next asked: somebody has changed something."""
        self._stale = True

    def _look(self, elapsed: float | None) -> Beat:
        operations = self._app.operations
        head = operations.horizon()
        facts = facts_of(self._app, COUNTED)
        now, last = datetime.now(UTC), self._last
        if last is None or elapsed is None or elapsed <= 0:
            return Beat(at=now, head=head, facts=facts, recorded=None, handled=None)
        seconds = (now - last.at).total_seconds() or elapsed
        then = {each.subscription: each.standing for each in last.facts.seen if each.standing is not None}
        moved = {
            each.subscription: (each.standing.types, before.checkpoint, each.standing.checkpoint)
            for each in facts.seen
            if each.standing is not None and (before := then.get(each.subscription)) is not None
        }
        flow = operations.flow(last.head, head, moved)
        passed: dict[str, int] = {}
        for (name, _), count in flow.passed.items():
            passed[name] = passed.get(name, 0) + count
        rates = {
            name: Rate(passed.get(name, 0) / seconds, (after - before - (head - last.head)) / seconds)
            for name, (_, before, after) in moved.items()
        }
        return Beat(
            at=now,
            head=head,
            facts=facts,
            recorded=sum(flow.recorded.values()) / seconds,
            handled=sum(passed.values()) / seconds,
            rates=rates,
            types={type: count / seconds for type, count in flow.recorded.items()},
        )


def time_left(seen: Seen, rate: Rate | None, head: int) -> float | None:
    """Return in how many seconds a subscription will have caught up at its rate; None: not at this rate."""
    standing = seen.standing
    if standing is None or not standing.behind:
        return 0.0
    if rate is None or rate.positions <= 0:
        return None
    return (head - standing.checkpoint) / rate.positions
