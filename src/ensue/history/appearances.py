"""Where a person appears: in which events, and in what else the log holds; read from what is stored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime

import msgspec

from ensue.events import find_class
from ensue.events.personal import TOKEN, personal_types
from ensue.history.errands import Ask, Errand
from ensue.log import Log, Rows, Steps

Progress = Callable[[int, int], None]
"""Is told how many positions are looked at, and of how many."""

_WINDOW = 10_000
"""Positions that are looked at in one statement."""


class Appearance(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one type, in one stream or in none, with something of the person in them."""

    type: str
    stream: str | None
    events: int
    first_position: int
    last_position: int


class Readable(msgspec.Struct, frozen=True, kw_only=True):
    """Events in which a personal field of the person stands unencrypted: no key can make it unreadable.

    They were recorded before the field was personal, or in SQL.
    """

    type: str
    field: str
    events: int
    first_position: int
    last_position: int


class Appearances(msgspec.Struct, frozen=True, kw_only=True):
    """Where a person appears in a log."""

    subject: str
    known: bool
    """Whether anything was ever encrypted with a key of this person."""
    since: datetime | None
    """When that began."""
    forgotten_at: datetime | None
    """None: what is encrypted can be read."""
    events: tuple[Appearance, ...]
    elsewhere: dict[str, int]
    """What else holds something encrypted of this person: snapshots, dead letters, timers, processes, the audit table;
    how many each."""
    readable: tuple[Readable, ...]
    handlers: tuple[str, ...]
    """What is declared for these events and may have copies of its own: `projection users`, `on send_mail`."""


def appearances(
    log: Log,
    subject: str,
    handlers: Callable[[Collection[str]], Sequence[str]],
    progress: Progress | None = None,
) -> Errand[Appearances]:
    """Look through the log for a person. `handlers` tells what is declared for events of these wire types."""
    row = yield Ask(log, _one(log, subject))
    key, wrapped, since, forgotten_at = row or (None, False, None, None)
    found: dict[tuple[str, str | None], Appearance] = {}
    elsewhere: dict[str, int] = {}
    if key is not None:
        horizon = yield Ask(log, log.horizon())
        for after in range(0, horizon, _WINDOW):
            if progress is not None:
                progress(after, horizon)
            rows = yield Ask(log, _window(log, key, after, min(after + _WINDOW, horizon)))
            for each in rows:
                _add(
                    found,
                    Appearance(
                        type=each[0], stream=each[1], events=each[2], first_position=each[3], last_position=each[4]
                    ),
                )
        elsewhere = {name: count for name, count in (yield Ask(log, _elsewhere(log, key))) if count}
    readable = yield Ask(log, _readable(log, subject))
    types = {each.type for each in found.values()} | {each.type for each in readable}
    return Appearances(
        subject=subject,
        known=bool(wrapped) or bool(found) or bool(elsewhere),
        since=_moment(since) if found or wrapped else None,
        forgotten_at=_moment(forgotten_at),
        events=tuple(sorted(found.values(), key=lambda each: each.first_position)),
        elsewhere=elsewhere,
        readable=tuple(readable),
        handlers=tuple(handlers(types)),
    )


def _add(found: dict[tuple[str, str | None], Appearance], new: Appearance) -> None:
    place = (new.type, new.stream)
    if (known := found.get(place)) is not None:
        new = msgspec.structs.replace(known, events=known.events + new.events, last_position=new.last_position)
    found[place] = new


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _one(log: Log, subject: str) -> Steps[Sequence[object] | None]:
    rows = yield log.dialect.sql["person"](subject=subject)
    return rows[0] if rows else None


def _window(log: Log, key: str, after: int, until: int) -> Steps[Rows]:
    return (yield log.dialect.sql["appearances"](key=key, after=after, until=until))


def _elsewhere(log: Log, key: str) -> Steps[Rows]:
    return (yield log.dialect.sql["appearances_elsewhere"](key=key))


def _readable(log: Log, subject: str) -> Steps[list[Readable]]:
    found: list[Readable] = []
    for type in personal_types():
        cls = find_class(type)
        for field in () if cls is None else cls.__structure__.personal:
            rows = yield log.dialect.sql["readable"](
                type=type, subject_member=field.subject_member, subject=subject, member=field.member, token=TOKEN
            )
            count, first, last = rows[0]
            if count:
                found.append(
                    Readable(type=type, field=field.name, events=count, first_position=first, last_position=last)
                )
    return found
