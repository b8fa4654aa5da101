"""What operators ask about single events: who has passed them, what they hold up, what failed last."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from ensue.events import Recorded
from ensue.log import Log, Steps
from ensue.subscriptions.declared import slot_of
from ensue.subscriptions.operating import DeadLetter
from ensue.subscriptions.parking import PLACE

_json = msgspec.json.Encoder().encode
_segments = msgspec.json.Decoder(list[tuple[int, int, int]]).decode

State = Literal["passed", "parked", "queued", "waiting", "earlier"]


class Known(msgspec.Struct, frozen=True, array_like=True):
    """What is known of when an event was done. Handling writes nothing for it: it was done before this was written."""

    by: datetime
    """When it was written down that it is done."""
    worker: str | None
    """Who wrote that down."""
    checkpoint: int | None
    """The first checkpoint behind it that is known; None: it had failed, or queued, and was written down by itself."""
    failures: int = 0
    """Attempts that had failed, since a person last said retry; of an event that queued, those of the first of its
    key."""
    parked_at: datetime | None = None
    given_up: bool = False
    """It was skipped or discarded."""


_known = msgspec.json.Decoder(Known).decode


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """How far a subscription is with one event."""

    subscription: str
    state: State
    """`passed`: done, skipped or discarded. `parked`: it failed. `queued`: behind a parked event of its key.
    `waiting`: not reached yet. `earlier`: the subscription began behind it."""
    paused: bool
    checkpoint: int
    """Of the partition that the event belongs to."""
    parked_position: int | None
    """The event of its key that is parked."""
    next_step: str | None
    due_at: datetime | None
    attempt: int | None
    failed_at: datetime | None
    worker: str | None
    """In which the event of its key failed last."""
    reason: str | None
    known: Known | None
    """Of what has been passed, where that was not so long ago that it is forgotten."""


class LastError(msgspec.Struct, frozen=True, kw_only=True):
    """What failed last, of what is parked now."""

    position: int
    failed_at: datetime
    reason: str


def passages(log: Log, recorded: Recorded[Any]) -> Steps[list[Passage]]:
    """Return how far every subscription that wants an event is with it, by name."""
    slot, key = slot_of(recorded.key), recorded.key
    rows = yield log.dialect.sql["passages"](type=recorded.type, slot=slot, key=key, position=recorded.position)
    reasons = yield from log.personal.tell({row[0]: (row[-1], PLACE) for row in rows})
    return [_passage(recorded.position, slot, (*row[:-1], reasons[row[0]])) for row in rows]


def _passage(position: int, slot: int, row: Sequence[Any]) -> Passage:
    (
        name,
        paused,
        started_at,
        checkpoint,
        ahead,
        parked,
        next_step,
        due_at,
        attempt,
        failed_at,
        worker,
        settled,
        marked,
        reason,
    ) = row
    state: State
    if parked is not None and position >= parked:
        state = "parked" if position == parked else "queued"
    elif position <= started_at:
        state = "earlier"
    elif position <= checkpoint or any(low <= slot <= high and position <= to for low, high, to in _segments(ahead)):
        state = "passed"
    else:
        state = "waiting"
    held = state in ("parked", "queued")
    return Passage(
        subscription=name,
        state=state,
        paused=bool(paused),
        checkpoint=checkpoint,
        parked_position=parked if held else None,
        next_step=next_step if held else None,
        due_at=datetime.fromisoformat(due_at) if held and due_at is not None else None,
        attempt=attempt if held else None,
        failed_at=datetime.fromisoformat(failed_at) if held else None,
        worker=worker if held else None,
        reason=reason if held else None,
        known=_known(settled or marked) if state == "passed" and (settled or marked) else None,
    )


def queued(log: Log, letters: Sequence[DeadLetter]) -> Steps[list[int]]:
    """Return how many events queue behind each of these; none behind one without a key."""
    asked = [
        (letter.subscription, letter.key, letter.position, slot_of(letter.key))
        for letter in letters
        if letter.key != letter.id
    ]
    rows = yield log.dialect.sql["queued"](rows=_json(asked).decode())
    counts = {(subscription, key): count for subscription, key, count in rows}
    return [counts.get((letter.subscription, letter.key), 0) for letter in letters]


def last_errors(log: Log) -> Steps[dict[str, LastError]]:
    """Return by subscription what failed last, of what is parked now."""
    rows = yield log.dialect.sql["last_errors"]()
    reasons = yield from log.personal.tell({row[0]: (row[-1], PLACE) for row in rows})
    return {
        name: LastError(position=position, failed_at=datetime.fromisoformat(failed_at), reason=reasons[name] or "")
        for name, position, failed_at, _ in rows
    }


def owner(log: Log) -> Steps[str | None]:
    """Return the name of the application to which the log belongs; None if it belongs to nobody yet."""
    names = yield log.dialect.sql["log_names"]()
    return names[0][0] if names else None
