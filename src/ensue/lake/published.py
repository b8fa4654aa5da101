"""What another service has published, as a lake has it, and where what a log has received of it begins.

An inbox records an event under an id of its own; its causation id is the one that the event had in its service, and a
header says which service that is. So it is known, by id, what a log and a lake both have.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ensue.events import RECEIVED_FROM, Recorded
from ensue.lake.libraries import pa
from ensue.lake.reading import LakeLog
from ensue.lake.seeing import rows
from ensue.log import Log, Pruned, Selection, Steps

_CHUNK = 5000
_NEVER = 2**62
_RECEIVED: Any = pa.schema([("id", pa.string()), ("key", pa.string()), ("type", pa.string())])
_LANES = f"""
with theirs as (
    select id, coalesce(key, id) as key, type, coalesce(position, sequence) as place, erased_at
    from events where source = $source and list_contains($types, type)),
lanes as (
    select key, type, min(place) as place from theirs where id in (select id from received) group by all),
newer as (
    select key, type from received where id not in (select id from theirs)),
seen as (
    select key, type, min(place) as place
    from (select * from lanes union all select key, type, {_NEVER} from newer) group by all),
starts as (
    select type, min(place) as place from lanes group by all)
"""
_SEEN = _LANES + "select key, type, place from seen"
_NEWER = _LANES + "select distinct key from newer"
_OUTSTANDING = f"""{_LANES}
select distinct theirs.key from theirs anti join seen using (key, type) left join starts using (type)
where theirs.erased_at is null and theirs.place >= coalesce(starts.place, (select min(place) from starts))
"""


@dataclass(frozen=True)
class Overlap:
    """From where on a log has the events of another service itself, by key and type: the lake gives those before.

    An inbox takes the events of a key and a type in their service's order. So what is before the first one that the log
    has does not come any more, and what is behind it has come, or will, or was discarded: the log is asked for that.
    """

    seen: dict[tuple[str, str], int]
    """The position, in the service's log, of the first event of a key and a type that this log has."""
    starts: dict[str, int]
    """The first of these positions, of each type."""
    outstanding: frozenset[str]
    """Keys of which the lake has events of a type from behind its start, and the log none: they are on their way, or
    were never received."""
    newer: frozenset[str]
    """Keys of which the log has events that the lake has not got yet."""
    received: int
    """How many events of the service the log has."""
    others: int
    """How many events of the same types it has that are not of that service."""

    def gives(self, recorded: Recorded[Any], *, outstanding: bool = False) -> bool:
        """Tell whether the lake has to give an event; `outstanding`: those that are outstanding, too."""
        own = self.seen.get((recorded.key, recorded.type))
        if own is None and not outstanding:
            own = self.starts.get(recorded.type, min(self.starts.values(), default=None))
        return own is None or recorded.position < own


class Published(LakeLog):
    """A log whose past is what another service has published: its positions are those of that service's log."""

    def overlap(self, types: Sequence[str], kept: Sequence[str]) -> Overlap:
        """Find out what the log has of events of these types itself, and the lake too; all of them are read.

        `kept` are the types as which inboxes keep what they could not record.
        """
        received, others = self._received(types, kept)
        if not received.num_rows:
            return Overlap({}, {}, frozenset(), frozenset(), 0, others)
        about = {"source": self.source, "types": list(types)}

        def asked(query: str) -> list[tuple[Any, ...]]:
            return rows(query, about, events=self.lake.events.data(), received=received)

        seen = {(key, type): at for key, type, at in asked(_SEEN)}
        starts: dict[str, int] = {}
        for (_, type), at in seen.items():
            if at < _NEVER:
                starts[type] = min(at, starts.get(type, at))
        outstanding, newer = (frozenset(key for (key,) in asked(each)) for each in (_OUTSTANDING, _NEWER))
        return Overlap(seen, starts, outstanding, newer, received.num_rows, others)

    def pruned(self, after: int = 0, types: Collection[str] = ()) -> Steps[list[Pruned]]:
        """Return nothing: what the log had of the service, the lake has."""
        yield from ()
        return []

    def pruned_here(self, types: Collection[str]) -> list[Pruned]:
        """Return what has been pruned from the log, of that service or not."""
        found: list[Pruned] = self.own.run(Log.pruned(self, 0, types))
        return found

    def position_of(self, moment: datetime) -> int:
        """Return the first position, in the service's log, of what was recorded at a moment or later."""
        there = self._first_since(moment)
        return self.covered + 1 if there is None else there

    def _received(self, types: Sequence[str], kept: Sequence[str]) -> tuple[Any, int]:
        """Return a table of what the log has of the service, by the ids there, and how much else of these types."""
        parts: list[Any] = [_RECEIVED.empty_table()]
        others, after = 0, 0
        while True:
            selection = Selection(after=after, types=(*types, *kept))
            events: list[Recorded[Any]] = self.own.run(Log.read(self, selection, _CHUNK))
            mine = [each for each in events if _received_from(each) == self.source]
            others += sum(each.type in types for each in events) - sum(each.type in types for each in mine)
            columns = zip(*((each.causation_id, each.key, each.type) for each in mine), strict=True)
            if mine:
                parts.append(pa.table(dict(zip(_RECEIVED.names, map(list, columns), strict=True)), schema=_RECEIVED))
            if len(events) < _CHUNK:
                return pa.concat_tables(parts), others
            after = events[-1].position


def _received_from(recorded: Recorded[Any]) -> str | None:
    if recorded.extra is None or RECEIVED_FROM not in recorded.extra:
        return None
    return recorded.metadata.headers.get(RECEIVED_FROM)
