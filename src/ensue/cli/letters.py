"""Dead letters: which ones are meant, and how they are shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from ensue.cli.output import (
    BAD,
    WARN,
    Cell,
    ago,
    line,
    parse_moment,
    raw,
    span,
    styled,
    table,
)
from ensue.errors import UnknownName
from ensue.subscriptions.operating import DeadLetter, Filter

_PART = 8
"""Characters of an id that are enough to mean it."""

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID", help="An event's position, its id, or 8 characters of either end of it."),
]
Id = Annotated[
    str, typer.Argument(metavar="ID", help="An event's position, its id, or 8 characters of either end of it.")
]
SubscriptionOption = Annotated[str | None, typer.Option(metavar="NAME", help="Only of this subscription.")]
TypeOption = Annotated[str | None, typer.Option(help="Only of this event type.")]
KeyOption = Annotated[str | None, typer.Option(help="Only of this key.")]
ReasonContainsOption = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Only if the error holds this, in any case.")
]
SinceOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only if parked since then: a moment, or 2h ago.")
]
BeforeOption = Annotated[str | None, typer.Option(metavar="TIME", help="Only if parked before then.")]


def chosen(
    subscription: str | None,
    type: str | None,
    key: str | None,
    reason: str | None,
    since: str | None,
    before: str | None,
    *,
    waiting_only: bool,
) -> Filter:
    """Return what the options mean."""
    return Filter(
        subscription=subscription,
        type=type,
        key=key,
        reason=reason,
        parked_since=parse_moment(since) if since else None,
        parked_before=parse_moment(before) if before else None,
        waiting_only=waiting_only,
    )


def named(letters: list[DeadLetter], ids: list[str]) -> list[DeadLetter]:
    """Return those that are named, in the log's order; each name must fit one event, of any subscriptions."""
    found: set[str] = set()
    for id in ids:
        events = _meant(letters, id)
        if not events:
            raise UnknownName(f"no parked event is called {id!r}; `ensue dead list --all` shows them. Nothing was done")
        if len(events) > 1:
            raise UnknownName(f"{id!r} fits {len(events)} parked events: give more of the id, or the position")
        found |= events
    return [letter for letter in letters if letter.id in found]


def _meant(letters: list[DeadLetter], id: str) -> set[str]:
    """Return the events that a position, an id, or a part of one that is long enough not to be a position, may mean."""
    at = {letter.id for letter in letters if str(letter.position) == id}
    if at or len(id) < _PART:
        return at
    part = id.lower()
    return {letter.id for letter in letters if letter.id.startswith(part) or letter.id.endswith(part)}


def as_json(letter: DeadLetter, queued: int | None) -> dict[str, Any]:
    """Return a dead letter for programs, with how many events queue behind it where that is known."""
    shown = msgspec.to_builtins(letter)
    return {**shown, "data": raw(letter.data), **({} if queued is None else {"queued": queued})}


def letter_table(letters: list[DeadLetter], queued: list[int]) -> Table | str:
    """Return dead letters for people, with how many events queue behind each."""
    rows: list[list[Cell]] = [
        [
            letter.position,
            letter.subscription,
            letter.type,
            None if letter.key == letter.id else letter.key,
            behind,
            letter.attempt,
            next_step(letter),
            f"{ago(letter.parked_at)} ago",
            line(letter.reason),
        ]
        for letter, behind in zip(letters, queued, strict=True)
    ]
    columns = [">position", "subscription", "type", "key", ">queued", ">attempts", "next", "parked", "~reason"]
    return table(columns, rows)


def next_step(letter: DeadLetter) -> Text:
    """Return what happens next with one, and when."""
    if letter.next_step == "wait":
        return styled("waits", BAD)
    if letter.due_at is None:
        return styled(letter.next_step, WARN)
    left = (letter.due_at - datetime.now(UTC)).total_seconds()
    return styled(f"{letter.next_step} in {span(left)}" if left > 0 else f"{letter.next_step} now", WARN)
