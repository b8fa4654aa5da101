"""How things are: how far subscriptions have come, who works on them, and who holds the log back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from ensue.log import Call, Log, Selection, Steps
from ensue.subscriptions.operating import ALL

_HEARD_WITHIN = 15.0
"""Seconds. A worker says that it lives three times per lease; a longer lease counts by itself."""
_names = msgspec.json.Decoder(list[str]).decode


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is wrong with the events, but what it needs is away: the broker of a relay or a receiver, for one."""

    since: datetime
    again_at: datetime
    """The next try."""
    reason: str


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a subscription, and who works on it."""

    first_slot: int
    last_slot: int
    checkpoint: int
    owner: str | None
    leased_until: datetime | None
    expired: bool
    """It has an owner, but its lease has run out: the owner is dead or cut off."""
    moved_at: datetime
    """When its checkpoint was last written."""
    held: Held | None
    """Why it does not go on; None: it is not held."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far a subscription is."""

    subscription: str
    paused: bool
    types: tuple[str, ...]
    checkpoint: int
    """The lowest of its partitions' checkpoints."""
    behind: int
    """Events of its types between that and the head of the log."""
    oldest: datetime | None
    """When the first of them was recorded."""
    seconds_behind: float
    """How long ago that was."""
    retrying: int
    """Keys that are parked and tried again by themselves."""
    dead: int
    """Keys that are parked and wait for a person."""
    held: Held | None
    """Of its partitions that are held, the one that has been so for longest; None: none is."""
    partitions: tuple[Partition, ...]


def standings(log: Log, most: int = ALL) -> Steps[list[Standing]]:
    """Return how far every subscription is, by name; of the events of a type, so many are counted at most."""
    sql = log.dialect.sql
    rows = yield sql["progress"]()
    parked = {name: (retrying, dead) for name, retrying, dead in (yield sql["parked_counts"]())}
    head = yield from log.horizon()
    grouped: dict[str, list[Sequence[Any]]] = {}
    for row in rows:
        grouped.setdefault(row[0], []).append(row)
    found: list[Standing] = []
    for name, parts in grouped.items():
        checkpoint = min(part[4] for part in parts)
        types = tuple(_names(parts[0][-1]))
        behind, oldest = yield from _behind(log, types, checkpoint, head, most)
        retrying, dead = parked.get(name, (0, 0))
        partitions = tuple(_partition(part) for part in parts)
        found.append(
            Standing(
                subscription=name,
                paused=bool(parts[0][1]),
                types=types,
                checkpoint=checkpoint,
                behind=behind,
                oldest=oldest,
                seconds_behind=max(0.0, (datetime.now(UTC) - oldest).total_seconds()) if oldest else 0.0,
                retrying=retrying,
                dead=dead,
                held=min((each.held for each in partitions if each.held), key=lambda held: held.since, default=None),
                partitions=partitions,
            )
        )
    return found


def _partition(row: Sequence[Any]) -> Partition:
    _, _, first, last, checkpoint, owner, until, expired, moved_at, since, again_at, reason, _ = row
    return Partition(
        first_slot=first,
        last_slot=last,
        checkpoint=checkpoint,
        owner=owner,
        leased_until=_moment(until),
        expired=bool(expired),
        moved_at=datetime.fromisoformat(moved_at),
        held=None
        if since is None
        else Held(since=datetime.fromisoformat(since), again_at=datetime.fromisoformat(again_at), reason=reason),
    )


def _behind(
    log: Log, types: tuple[str, ...], checkpoint: int, head: int, most: int
) -> Steps[tuple[int, datetime | None]]:
    first = yield from log.read(Selection(after=checkpoint, until=head, types=types), 1)
    if not first:
        return 0, None
    total = 0
    if not types:  # it wants all
        total = (yield log.dialect.sql["count_all"](after=checkpoint, until=head, most=most))[0][0]
    for type in types:
        total += (yield log.dialect.sql["count_type"](type=type, after=checkpoint, until=head, most=most))[0][0]
    return total, first[0].recorded_at


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction that has recorded and is still open: nothing behind its position can be delivered yet."""

    position: int
    pid: int | None
    application: str
    state: str
    seconds: float
    query: str


def holders(log: Log) -> Steps[list[Holder]]:
    """Return who holds the horizon back, the furthest first; nobody in SQLite."""
    if "holders" not in log.dialect.sql:
        return []
    return [
        Holder(
            position=position, pid=pid, application=app or "", state=state or "prepared", seconds=age, query=query or ""
        )
        for position, pid, app, state, age, query in (yield log.dialect.sql["holders"]())
    ]


class WorkerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that the log knows of."""

    id: str
    seconds: float
    """Since it was last heard of."""


def workers(log: Log) -> Steps[list[WorkerSeen]]:
    """Return the workers that have lived lately."""
    return [WorkerSeen(id=id, seconds=seconds) for id, seconds in (yield log.dialect.sql["workers"]())]


def alive(log: Log) -> Steps[list[str]]:
    """Return the workers that hold a lease or have been heard of lately."""
    rows = yield log.dialect.sql["progress"]()
    holding = {row[5] for row in rows if row[5] is not None and not row[7]}
    return sorted(holding | {each.id for each in (yield from workers(log)) if each.seconds < _HEARD_WITHIN})


def clock(log: Log) -> Steps[float]:
    """Return how far this machine's clock is ahead of the database's, in seconds."""
    found = (yield Call(log.dialect.sql["clock"]))[0][0]
    return (datetime.now(UTC) - datetime.fromisoformat(found)).total_seconds()
