"""Whether every event that is stored still loads, with the classes and upcasters of today."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ensue.app.declarations import Owned
from ensue.errors import UndecodableEvent
from ensue.events import Event, Recorded
from ensue.log import Call, Log, Selection, Steps

_BATCH = 1000
_SHOWN = 20
"""How many failures of a type are kept with their reasons."""

Progress = Callable[[int, int], None]


class Unloadable(msgspec.Struct, frozen=True):
    """A stored event that does not load."""

    position: int
    id: str
    reason: str


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What was found about the events of one wire type."""

    type: str
    total: int
    """How many there are."""
    looked_at: int
    becomes: dict[str, int]
    """How many events of which wire type of today they become."""
    unknown_fields: dict[str, int]
    """In how many there is something that the class does not take; it stays in the log."""
    failed: int
    failures: list[Unloadable]
    """The first of those that do not load."""


class _Tally:
    """What has been found of one type so far."""

    def __init__(self, aggregates: Mapping[str, Owned]) -> None:
        self._aggregates = aggregates
        self.looked_at = 0
        self.becomes: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.failed = 0
        self.failures: list[Unloadable] = []

    def look(self, recorded: Recorded[Any]) -> None:
        self.looked_at += 1
        try:
            events: tuple[Event, ...] = recorded.events
            self.becomes.update(type(each).__type__ for each in events)
            self.unknown.update(recorded.unknown_fields)
        except UndecodableEvent as error:
            self._fail(recorded, str(error))
        else:
            if (refused := self._refused(recorded, events)) is not None:
                self._fail(recorded, refused)

    def _refused(self, recorded: Recorded[Any], events: tuple[Event, ...]) -> str | None:
        """Say which of the events the aggregate in whose stream they are does not evolve."""
        owned = self._aggregates.get((recorded.stream or "").partition("-")[0])
        if owned is None or recorded.stream == owned.name:
            return None
        for event in events:
            if not owned.takes(event):
                return (
                    f"aggregate {owned.name!r} does not evolve {type(event).__qualname__}, which is in its stream "
                    f"{recorded.stream!r}"
                )
        return None

    def _fail(self, recorded: Recorded[Any], reason: str) -> None:
        self.failed += 1
        if len(self.failures) < _SHOWN:
            self.failures.append(Unloadable(recorded.position, recorded.id_text, reason))


def check_events(
    log: Log, aggregates: Iterable[Owned], sample: int | None, progress: Progress | None
) -> Steps[list[Checked]]:
    """Load so many of the oldest and as many of the newest events of every type, or all of them.

    Those in the stream of a declared aggregate must be events that it evolves.
    """
    named = {each.name: each for each in aggregates}
    counted = yield Call(log.dialect.sql["count_types"])
    totals: dict[str, int] = {str(type): int(total) for type, total in counted}
    wanted = sum(total if sample is None else min(total, 2 * sample) for total in totals.values())
    done = 0
    found: list[Checked] = []
    for name, total in totals.items():
        tally = _Tally(named)
        for start, limit in (yield from _spans(log, name, total, sample)):
            after, left = start, limit
            while left > 0:
                rows = yield from log.read(Selection(types=(name,), after=after), min(_BATCH, left))
                if not rows:
                    break
                for recorded in rows:
                    tally.look(recorded)
                after, left, done = rows[-1].position, left - len(rows), done + len(rows)
                if progress is not None:
                    progress(done, wanted)
        found.append(
            Checked(
                type=name,
                total=total,
                looked_at=tally.looked_at,
                becomes=dict(tally.becomes),
                unknown_fields=dict(tally.unknown),
                failed=tally.failed,
                failures=tally.failures,
            )
        )
    return found


def _spans(log: Log, name: str, total: int, sample: int | None) -> Steps[list[tuple[int, int]]]:
    """Return where to read, and how many: the oldest and the newest."""
    if sample is None or total <= 2 * sample:
        return [(0, total)]
    newest = (yield Call(log.dialect.sql["newest_of_type"], (name, sample)))[0][0]
    return [(0, sample), (newest - 1, sample)]


def unloadable(found: list[Checked]) -> Iterator[Checked]:
    """Yield the types of which events do not load."""
    return (each for each in found if each.failed)
