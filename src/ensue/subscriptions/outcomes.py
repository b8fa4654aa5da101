"""What a handler may answer, and what it is told about the event in its hands."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import isfinite
from typing import Any
from uuid import UUID

from ensue.errors import DeclarationError
from ensue.events import Event, Recorded

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 10 * 365 * 86400.0
"""Seconds after which at the latest something is tried again: databases know no dates that are far off."""


def seconds(duration: float | timedelta | str) -> float:
    """Return a duration in seconds; text is a number and s, m, h or d, such as "3d"."""
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    if isinstance(duration, str) and (found := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", duration)):
        return float(found[1]) * _UNITS[found[2]]
    if isinstance(duration, bool) or not isinstance(duration, (int, float)) or not isfinite(duration):
        raise DeclarationError(f"{duration!r} is not a duration: use seconds, a timedelta, or text such as '90s', '3d'")
    return float(duration)


def _bounded(after: float | timedelta | str) -> float:
    return min(max(seconds(after), 0.0), _LONGEST)


def _check_reason(outcome: object, reason: object) -> None:
    if not isinstance(reason, str):
        raise DeclarationError(f"{type(outcome).__name__}(reason={reason!r}): a reason is text")


@dataclass(frozen=True, slots=True)
class Done:
    """The event is handled. Returning None says the same."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now: try again after so many seconds. Later events of the key wait behind it, others go on.

    A time that lies back means at once. Raises `DeclarationError` for what is no duration, and no text.
    """

    after: float | timedelta | str = 1.0
    reason: str = "the handler asked for another try"

    def __post_init__(self) -> None:
        seconds(self.after)
        _check_reason(self, self.reason)

    @property
    def delay(self) -> float:
        """Seconds until the next try: from none to ten years."""
        return _bounded(self.after)


@dataclass(frozen=True, slots=True)
class Park:
    """Trying again is no use: make the event a dead letter. Its key waits for a person, others go on.

    Raises `DeclarationError` for a reason that is no text.
    """

    reason: str

    def __post_init__(self) -> None:
        _check_reason(self, self.reason)


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing is wrong with the event, but what the handler needs is away: stop calling it for so many seconds.

    The whole partition waits, in order, and nothing counts as failed. Raises as `Retry` does.
    """

    after: float | timedelta | str = 1.0
    reason: str = "the handler asked to be held"

    def __post_init__(self) -> None:
        seconds(self.after)
        _check_reason(self, self.reason)

    @property
    def delay(self) -> float:
        """Seconds until events are picked up again: from none to ten years."""
        return _bounded(self.after)


Outcome = Done | Retry | Park | Hold


@dataclass(frozen=True, slots=True)
class Backoff:
    """How failures are retried: after `first` seconds, then `factor` times as long each time, never above `most`.

    Each wait is drawn between half of it and the whole, so that many keys which failed together do not come back
    together. When `give_up_after` has passed since the first failure, or `attempts` are spent, the event becomes a
    dead letter and waits for a person. Durations are seconds, timedeltas, or text such as "3d".
    """

    first: float | timedelta | str = 1.0
    most: float | timedelta | str = 300.0
    factor: float = 2.0
    attempts: int | None = None
    give_up_after: float | timedelta | str | None = "3d"

    def __post_init__(self) -> None:
        try:
            first, most, _, factor = map(seconds, (self.first, self.most, self.give_up_after or 0, self.factor))
        except DeclarationError as error:
            raise DeclarationError(f"{self}: {error}") from None
        if first <= 0 or most < first or factor < 1:
            raise DeclarationError(f"{self}: needs 0 < first <= most and factor >= 1")
        if self.attempts is not None and (type(self.attempts) is not int or self.attempts < 1):
            raise DeclarationError(f"{self}: attempts must be a whole number, at least 1, or None")

    def wait(self, attempt: int) -> float:
        """Return the seconds to wait after this attempt (1, 2, …) has failed."""
        longest = min(seconds(self.most), seconds(self.first) * self.factor ** min(attempt - 1, 64))
        return longest * random.uniform(0.5, 1.0)

    def spent(self, attempt: int, since_first: float) -> bool:
        """Tell whether no further attempt is due, so many seconds after the first failure."""
        if self.attempts is not None and attempt >= self.attempts:
            return True
        return self.give_up_after is not None and since_first >= seconds(self.give_up_after)


When = float | timedelta | str | datetime
"""Seconds, a duration such as "3d", or a moment."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a handler may want to know beside the event."""

    subscription: str
    recorded: Recorded[Any]
    attempt: int
    """1 the first time; counts every later try."""
    part: int = 1
    """Counts the events that an upcaster has made of one; 1 for all others."""
    again: bool = False
    """`ensue replay --with-effects` has asked for it."""
    _ask: Callable[[Delivery, When, Event], None] | None = field(default=None, repr=False, compare=False)

    @property
    def id(self) -> UUID:
        """The event's id."""
        return self.recorded.id

    @property
    def position(self) -> int:
        """The event's place in the log."""
        return self.recorded.position

    @property
    def recorded_at(self) -> datetime:
        """When the event was recorded."""
        return self.recorded.recorded_at

    @property
    def correlation_id(self) -> str:
        """The request, or whatever else the event belongs to."""
        return self.recorded.correlation_id

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this event by this subscription, and for nothing else.

        Deliveries are at least once: a service that is given this key can make the effect happen once.
        """
        key = f"{self.subscription}/{self.recorded.id_text}"
        return key if self.part == 1 else f"{key}/{self.part}"

    def after(self, when: When, event: Event) -> None:
        """Let an event be recorded later, once, however often the handler is called for this delivery.

        `when` is seconds, a timedelta, text such as "3d", or a moment. The timer is set when the handler has succeeded:
        if it raises, or asks for another try, there is none. It has no name and cannot be cancelled. Raises
        `DeclarationError` for what is no time, `EventValueError` for what cannot be recorded, and `DeclarationError`
        for a delivery that no worker has made.
        """
        if self._ask is None:
            raise DeclarationError(
                f"delivery.after({when!r}, …): nobody would set this timer; it is for functions under @app.on, "
                "@app.handle and @app.translate while a worker calls them. Elsewhere set it in a transaction of yours: "
                "app.after(…, via=connection)"
            )
        self._ask(self, when, event)
