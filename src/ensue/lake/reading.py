"""A log whose past is read from a lake: up to where the lake has collected it, events come from there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from typing import Any

from ensue.contracts.cloudevents import source_of
from ensue.errors import LakeError
from ensue.events import Recorded
from ensue.lake.lake import Lake
from ensue.lake.seeing import rows
from ensue.log import Log, Pruned, Selection, Steps

_MOST_STREAMS = 4
_ALL = 2**62
_COUNT = """
select count(*) from events
where source = $source and position <= $until and (len($types) = 0 or list_contains($types, type))
"""
_FIRST = "select min(position) from events where source = $source and recorded_at >= $moment"


class LakeLog(Log):
    """The log of an application, with its past from a lake; all else, positions too, is that of the log.

    What was pruned from the log can be read again so. Its reads block while the lake is asked: it is for replays, and
    not for the worker of an application.
    """

    def __init__(self, log: Log, lake: Lake, source: str | None = None) -> None:
        """Take also whose events are read if that is another service: positions of the past are those of its log."""
        super().__init__(log.place)
        self.personal = log.personal
        self.lake = lake
        self.source = source or source_of(log.place.app)
        lake.require()
        self.covered = lake.events.checkpoint(self.source).position
        """The position up to which events are read from the lake."""
        if not self.covered:
            known = ", ".join(each.source for each in lake.sources()) or "nothing"
            raise LakeError(f"{lake.address} has collected nothing of {self.source}; it has collected {known}")
        self._streams: list[_Stream] = []
        self._by_key: _ByKey | None = None

    def read(self, selection: Selection, limit: int) -> Steps[list[Recorded[Any]]]:
        """Read the first events of a selection, as of the log."""
        if selection.after >= self.covered or _beyond(selection):
            return (yield from super().read(selection, limit))
        until = self.covered if selection.until is None else min(selection.until, self.covered)
        found = self._past(selection, until, limit)
        if self.personal.vault.used:
            yield from self.personal.equip(found)
        if len(found) < limit and (selection.until is None or selection.until > self.covered):
            found += yield from super().read(replace(selection, after=self.covered), limit - len(found))
        return found

    def pruned(self, after: int = 0, types: Collection[str] = ()) -> Steps[list[Pruned]]:
        """Return what has been pruned and is not in the lake either."""
        gone = yield from super().pruned(after, types)
        return [each for each in gone if each.last_position > self.covered]

    def expect(self, keys: Sequence[str], types: Sequence[str]) -> None:
        """Get ready for keys that are about to be read one by one, in their order: the lake is read once for all."""
        self._by_key = _ByKey(self.lake, self.source, types, sorted(keys), self.covered)

    def confirm(self, types: Sequence[str]) -> None:
        """Raise `LakeError` unless the lake has every event of these types that the log has recorded so far."""
        there = self._count(types)
        here = self.own.run(self._logged(types))
        gone = sum(each.events for each in self.own.run(super().pruned(0, types)) if each.last_position <= self.covered)
        if there != here + gone:
            hint = (
                "what was pruned before it was collected is not there"
                if gone
                else "a lake of what services publish has no domain and event-sourced events: collect --everything"
            )
            raise LakeError(
                f"up to position {self.covered} {self.lake.address} has {there} events of {', '.join(types)}, and the "
                f"log has recorded {here + gone}: {hint}"
            )

    def keys(self, types: Sequence[str], after: int, until: int | None) -> set[str]:
        """Return the keys of which the lake has events of these types between two positions."""
        asked = (
            "select distinct coalesce(key, id) from events where source = $source and erased_at is null "
            "and position > $after and position <= $until and list_contains($types, type)"
        )
        upto = self.covered if until is None else min(until, self.covered)
        values = {"source": self.source, "after": after, "until": upto, "types": list(types)}
        return {key for (key,) in rows(asked, values, events=self.lake.events.data())}

    def position_of(self, moment: datetime) -> int:
        """Return the first position of what was recorded at a moment or later, pruned from the log or not."""
        there = self._first_since(moment)
        here: int = self.own.run(super().position_at(moment))
        return here if there is None else min(here, there)

    def _first_since(self, moment: datetime) -> int | None:
        values = {"source": self.source, "moment": moment}
        found: int | None = rows(_FIRST, values, events=self.lake.events.data())[0][0]
        return found

    def _count(self, types: Sequence[str]) -> int:
        values = {"source": self.source, "until": self.covered, "types": list(types)}
        return int(rows(_COUNT, values, events=self.lake.events.data())[0][0])

    def _logged(self, types: Sequence[str]) -> Steps[int]:
        count = 0
        for each in types:
            count += (yield self.dialect.sql["count_type"](type=each, after=0, until=self.covered, most=_ALL))[0][0]
        return count

    def _past(self, selection: Selection, until: int, limit: int) -> list[Recorded[Any]]:
        if selection.key is not None:
            keyed = self._by_key
            if keyed is None or not keyed.has(selection.key, selection.types):
                keyed = _ByKey(self.lake, self.source, selection.types, [selection.key], self.covered)
            found = keyed.events_of(selection.key)
            return [each for each in found if selection.after < each.position <= until][:limit]
        for stream in self._streams:
            if stream.types == selection.types and stream.last <= selection.after:
                return stream.take(selection.after, until, limit)
        stream = _Stream(self.lake, self.source, selection.types, selection.after, self.covered)
        self._streams = [stream, *self._streams[: _MOST_STREAMS - 1]]
        return stream.take(selection.after, until, limit)


def _beyond(selection: Selection) -> bool:
    """Tell whether it asks for what only the log's indexes can find."""
    others = (selection.since, selection.before, selection.stream, selection.correlation_id, selection.id)
    return bool(selection.kinds) or any(each is not None for each in others)


class _Stream:
    """Events of some types in their order, read on and on."""

    def __init__(self, lake: Lake, source: str, types: Sequence[str], after: int, until: int) -> None:
        self.types = tuple(types)
        self.last = after
        """The position behind which it stands."""
        self._events = lake.read(source, after=after, until=until, types=types)
        self._next: Recorded[Any] | None = next(self._events, None)

    def take(self, after: int, until: int, limit: int) -> list[Recorded[Any]]:
        found: list[Recorded[Any]] = []
        while self._next is not None and self._next.position <= until and len(found) < limit:
            if self._next.position > after:
                found.append(self._next)
            self._next = next(self._events, None)
        self.last = found[-1].position if len(found) == limit else max(after, until)
        return found


class _ByKey:
    """The events of some keys, one key after the other."""

    def __init__(self, lake: Lake, source: str, types: Sequence[str], keys: Sequence[str], until: int) -> None:
        self._types = frozenset(types)
        self._keys = frozenset(keys)
        events = lake.read(source, until=until, types=types, keys=keys, by_key=True)
        self._groups = groupby(events, lambda each: each.key)
        self._at = ""
        self._found: list[Recorded[Any]] = []

    def has(self, key: str, types: Sequence[str]) -> bool:
        return key in self._keys and key >= self._at and self._types == frozenset(types)

    def events_of(self, key: str) -> list[Recorded[Any]]:
        while self._at < key:
            self._at, group = next(self._groups, (_LAST, iter(())))
            self._found = list(group)
        return self._found if self._at == key else []


_LAST = "\U0010ffff" * 500
"""Behind every key."""
