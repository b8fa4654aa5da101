"""A subscription as an application declares it."""

from __future__ import annotations

import zlib
from bisect import bisect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Literal, NamedTuple, Protocol

from ensue.errors import DeclarationError
from ensue.events import Recorded
from ensue.log import Steps
from ensue.subscriptions.failing import Failure
from ensue.subscriptions.outcomes import Backoff, Delivery, Outcome, Park, Retry

SLOTS = 65536
"""Keys are spread over this many slots; a partition is a range of them."""

Start = Literal["now", "beginning"] | int | datetime
Handle = Callable[[Delivery], Awaitable[Outcome | None]]


class Opened(Protocol):
    """What stands behind one partition while a worker holds it: it may keep a connection."""

    async def handle(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome | Exception | None]:
        """Handle events of different keys together; return for each its outcome, or the error with which it failed.

        To raise says that none of them is handled.
        """
        ...

    async def close(self) -> None:
        """Give up: the partition has been given back, or is lost."""
        ...


class NotApplied(Exception):
    """An event could not be applied: the transaction has been rolled back. `index` is None if it is not known which."""

    def __init__(self, index: int | None, outcome: Failure | Park | Retry) -> None:
        super().__init__(index, outcome)
        self.index = index
        self.outcome = outcome


class Applies(Protocol):
    """What stands behind one partition and applies events."""

    async def apply(self, rows: Sequence[Recorded[Any]], progress: Callable[[], Steps[None]], *, careful: bool) -> None:
        """Apply all of them in one transaction, and carry out the progress as its last operation.

        Raises `NotApplied` for an event that cannot be applied, saying which one if `careful`; what `progress` raises;
        and `DatabaseUnavailable` for what may succeed later.
        """
        ...


def slot_of(key: str) -> int:
    """Return the slot of a key: the same on every machine and for ever."""
    return zlib.crc32(key.encode()) % SLOTS


class Condition(NamedTuple):
    """How it is with what works beside a runner."""

    reason: str | None
    """Why it brings nothing in; None: it does."""
    again_at: float
    """When it tries again, by the event loop's clock."""


class Beside(Protocol):
    """What works beside a partition's runner while a worker holds it, and brings events in."""

    @property
    def condition(self) -> Condition | None:
        """How it is with it; None as long as it has not found out."""
        ...

    async def work(self) -> None:
        """Work until it is stopped. What it raises stops the worker: an outage is its own to wait for."""
        ...

    def pause(self, paused: bool) -> None:
        """Bring nothing more in, or go on."""
        ...

    async def stop(self, grace: float) -> None:
        """Finish what is in hand within the grace (seconds), bring nothing more in, and let go."""
        ...


@cache
def edges(parts: int) -> tuple[int, ...]:
    """Return where so many partitions begin, and where the last one ends."""
    return tuple(SLOTS * part // parts for part in range(parts + 1))


def partition_of(key: str, parts: int) -> int:
    """Return into which of so many partitions a key belongs (0, 1, …): the same on every machine and for ever."""
    return bisect(edges(parts), slot_of(key)) - 1


def _whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


@dataclass(frozen=True, slots=True)
class Outlet:
    """Where a relay publishes."""

    system: str
    """The protocol of the broker."""
    topics: Mapping[str, str]
    """By wire type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A named, durable cursor over the log with a handler behind it."""

    name: str
    types: tuple[str, ...]
    """Wire types of the events that it wants."""
    every_type: bool = False
    """Instead: it wants all events, whatever their type, and applies them in position order; none is set aside."""
    handle: Handle | None = None
    """Handles one event."""
    opens: Callable[[], Opened] | None = None
    """Instead: makes what handles several together, anew for each partition that a worker takes."""
    applies: Callable[[], Applies] | None = None
    """Instead: makes what writes the effect of events and the checkpoint in one transaction, for each partition."""
    beside: Callable[[int, int], Beside] | None = None
    """Makes what works beside the runner of a partition, given its first and its last slot."""
    outlet: Outlet | None = None
    """Where what it wants is published; None: it is handled here."""
    batch: int = 1
    """How many are handled together at most."""
    start: Start = "now"
    retry: Backoff = Backoff()
    concurrency: int = 10
    """How many calls of the handler run at once, in each partition: as many keys, or batches."""
    partitions: int = 1
    """Into how many parts it is cut when it is registered; each part is worked by one process at a time."""
    timeout: float | None = 60.0
    """Seconds after which a handler counts as failed."""

    def __post_init__(self) -> None:
        where = f"subscription {self.name!r}"
        if not isinstance(self.name, str) or not 0 < len(self.name) <= 200 or not self.name.isprintable():
            raise DeclarationError(f"{where}: a name is printable text of at most 200 characters")
        if bool(self.types) == self.every_type:
            raise DeclarationError(f"{where}: it names no event type")
        if sum(each is not None for each in (self.handle, self.opens, self.applies)) != 1:
            raise DeclarationError(f"{where}: it has one of handle=, opens= and applies=")
        if not _whole(self.batch) or not 1 <= self.batch <= 100_000:
            raise DeclarationError(f"{where}: batch={self.batch!r}: a whole number from 1 to 100000")
        if not isinstance(self.retry, Backoff):
            raise DeclarationError(f"{where}: retry={self.retry!r}: a Backoff, such as Backoff(attempts=5)")
        if not _whole(self.concurrency) or self.concurrency < 1:
            raise DeclarationError(f"{where}: concurrency={self.concurrency!r}: a whole number, at least 1")
        if not _whole(self.partitions) or not 1 <= self.partitions <= 1024:
            raise DeclarationError(f"{where}: partitions={self.partitions!r}: a whole number from 1 to 1024")
        if self.timeout is not None and self.timeout <= 0:
            raise DeclarationError(f"{where}: timeout={self.timeout}: more than 0 seconds, or None")
        if isinstance(self.start, datetime):
            if self.start.tzinfo is None:
                raise DeclarationError(f"{where}: start={self.start!r} has no time zone")
        elif self.start not in ("now", "beginning") and not (_whole(self.start) and int(self.start) >= 0):
            raise DeclarationError(f"{where}: start={self.start!r}: 'now', 'beginning', a datetime or a position")


@dataclass(frozen=True, slots=True)
class Cursors:
    """What a worker works on: subscriptions by name, and those that it knows of but leaves to others."""

    declared: Mapping[str, Subscription]
    others: frozenset[str] = frozenset()
