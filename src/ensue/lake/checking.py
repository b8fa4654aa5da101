"""Checking a lake: that each source's events are there once, without a gap, in order; and that none of its log's is
missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec

from ensue.lake.seeing import rows, seeing
from ensue.lake.table import Table
from ensue.log import Log, Selection

What = Literal["hole", "doubled", "disorder", "checkpoint", "missing", "unknown"]
MOST = 20
"""Findings of each kind that are reported for a source."""
_BATCH = 5000


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A source, and how far it has been collected."""

    source: str
    events: int
    erased: int
    """How many of them are tombstones."""
    sequence: int
    """The number up to which its events were committed: as many as there are, if all is well."""
    position: int
    """The position in its log up to which everything is here."""
    last_recorded_at: str


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong."""

    source: str
    what: What
    """`hole`: numbers are missing; `doubled`: a number or an id is there twice; `disorder`: the order is not that of
    the log; `checkpoint`: more or less was committed than is there; `missing`: the log has an event that the lake has
    not; `unknown`: the lake has one that the log has not."""
    first: int
    """The number, or for `missing` and `unknown` the position, of the first event concerned."""
    last: int
    detail: str


def stand(events: Table) -> list[Standing]:
    """Return each source, and how far it has been collected."""
    found: list[Standing] = []
    for source, count, erased, last in _ask(events, _SOURCES):
        checkpoint = events.checkpoint(source)
        found.append(
            Standing(
                source=source,
                events=count,
                erased=erased,
                sequence=checkpoint.sequence,
                position=checkpoint.position,
                last_recorded_at=last,
            )
        )
    return found


_SOURCES = """
select source, count(*), count(erased_at), strftime(max(recorded_at), '%Y-%m-%dT%H:%M:%SZ')
from events group by source order by source
"""
_SUMS = """
select source, count(*), min(sequence), max(sequence), count(distinct sequence), count(distinct id), max(position)
from events group by source order by source
"""
_HOLES = """
select previous + 1, sequence - 1 from
    (select sequence, lag(sequence, 1, 0) over (order by sequence) as previous from events where source = $source)
where sequence > previous + 1 order by 1 limit $most
"""
_DOUBLED = """
select min(sequence), max(sequence), {name}, count(*) from events where source = $source
group by {name} having count(*) > 1 order by 1 limit $most
"""
_DISORDER = """
select sequence, position, previous from
    (select sequence, position, lag(position) over (order by sequence) as previous from events where source = $source)
where position <= previous order by 1 limit $most
"""


def check(events: Table, *, in_order: bool) -> list[Finding]:
    """Return what is wrong inside a lake; `in_order`: positions grow as the numbers do."""
    found: list[Finding] = []
    for source, count, least, most, numbers, ids, position in _ask(events, _SUMS):

        def add(what: What, first: int, last: int, detail: str, source: str = source) -> None:
            found.append(Finding(source=source, what=what, first=first, last=last, detail=detail))

        about = {"source": source, "most": MOST}
        if least != 1 or most - least + 1 != numbers:
            for first, last in _ask(events, _HOLES, about):
                add("hole", first, last, f"no events with the numbers {first} to {last}")
        for name, distinct in (("sequence", numbers), ("id", ids)):
            if distinct != count:
                for first, last, value, times in _ask(events, _DOUBLED.format(name=name), about):
                    add("doubled", first, last, f"{name} {value} is there {times} times")
        checkpoint = events.checkpoint(source)
        if checkpoint.sequence != most:
            add(
                "checkpoint",
                most,
                checkpoint.sequence,
                f"{checkpoint.sequence} events were committed, {most} are there",
            )
        if position is not None and checkpoint.position < position:
            add("checkpoint", most, most, f"it says position {checkpoint.position}, and there is {position}")
        for number, here, before in _ask(events, _DISORDER, about) if in_order else ():
            add("disorder", number, number, f"position {here} comes behind position {before}")
    return found


def _ask(events: Table, query: str, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
    return rows(query, values, events=events.data())


def compare(
    events: Table,
    source: str,
    log: Log,
    kinds: tuple[str, ...],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Read a log and a lake side by side, and return which events only one of them has, up to the lake's checkpoint.

    What was pruned from the log after it had been collected is no finding.
    """
    until = events.checkpoint(source).position
    gone = log.own.run(log.pruned())
    found: list[Finding] = []

    def add(what: What, position: int, detail: str) -> None:
        if sum(each.what == what for each in found) < MOST:
            found.append(Finding(source=source, what=what, first=position, last=position, detail=detail))

    there = _positions(events, source)
    theirs = next(there, None)
    for position, id in _logged(log, kinds, until):
        while theirs is not None and theirs[0] < position:
            if not any(each.first_position <= theirs[0] <= each.last_position for each in gone):
                add("unknown", theirs[0], f"the log has no event {theirs[1]} at position {theirs[0]}")
            theirs = next(there, None)
        if theirs is not None and theirs == (position, id):
            theirs = next(there, None)
        else:
            add("missing", position, f"the lake has no event {id}, which the log has at position {position}")
        if progress is not None:
            progress(position, until)
    while theirs is not None:
        if not any(each.first_position <= theirs[0] <= each.last_position for each in gone):
            add("unknown", theirs[0], f"the log has no event {theirs[1]} at position {theirs[0]}")
        theirs = next(there, None)
    return found


def _positions(events: Table, source: str) -> Iterator[tuple[int, str]]:
    asked = "select position, id from events where source = $source and position is not null order by 1"
    with seeing(events=events.data()) as connection:
        answer = connection.execute(asked, {"source": source})
        while found := answer.fetchmany(_BATCH):
            yield from found


def _logged(log: Log, kinds: tuple[str, ...], until: int) -> Iterator[tuple[int, str]]:
    after = 0
    while found := log.own.run(log.read(Selection(after=after, until=until, kinds=kinds), _BATCH)):
        for each in found:
            yield each.position, each.id_text
        after = found[-1].position
