"""One sentence that says whether all is well, and if not, what is wrong and what mends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from urllib.parse import urlencode

from ensue.app.seeing import Seen
from ensue.app.telling import count, line, span, until
from ensue.console.pulse import COUNTED, Beat

LONG_TRANSACTION = 10.0
"""Seconds for which a transaction may hold back the horizon before it is worth a word."""
STUCK = 300.0
"""Seconds in which a checkpoint should have moved while events wait."""

Level = Literal["wrong", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """What mends it: a page to go to, or an action to carry out."""

    label: str
    page: str | None = None
    action: str | None = None
    values: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that is not as it should be."""

    level: Level
    what: str
    mend: str = ""
    """What to do where no button can."""
    button: Button | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How the application is."""

    sentence: str
    problems: list[Problem]
    """What is wrong first."""

    @property
    def level(self) -> Literal["well", "wrong", "note"]:
        """The worst of the problems."""
        return self.problems[0].level if self.problems else "well"


def judge(beat: Beat) -> Health:
    """Say how the application is."""
    problems = sorted(_problems(beat), key=lambda each: each.level == "note")
    if not problems:
        return Health(sentence=_well(beat), problems=[])
    more = len(problems) - 1
    return Health(
        sentence=problems[0].what + (f" And {count(more, 'more thing')}, below." if more else ""), problems=problems
    )


def _well(beat: Beat) -> str:
    waiting = sum(each.standing.behind for each in beat.seen if each.standing is not None)
    workers, names = count(len(beat.workers), "worker"), count(len(beat.seen), "subscription")
    if not beat.seen:
        return "All is well: there is no subscription yet, so nothing has to follow."
    if not waiting:
        return f"All is well: {workers} alive, {names}, and everything that was recorded is handled."
    return f"All is well: {workers} alive, {names}, {count(waiting, 'event')} on their way."


def _problems(beat: Beat) -> Iterator[Problem]:
    yield from _workers(beat)
    for seen in beat.seen:
        yield from _subscription(seen, beat)
    for holder in beat.holders:
        if holder.seconds >= LONG_TRANSACTION:
            who = "a prepared transaction" if holder.pid is None else f"process {holder.pid} ({holder.application})"
            yield Problem(
                level="wrong",
                what=f"A transaction that has recorded has been open for {span(holder.seconds)}, {who}: nothing behind "
                f"position {holder.position:,} can be delivered before it ends.",
                mend="End it where it was begun, or break it off with pg_terminate_backend.",
                button=Button(label="Who holds it back", page="/#horizon"),
            )


def _workers(beat: Beat) -> Iterator[Problem]:
    waiting = sum(each.standing.behind for each in beat.seen if each.standing is not None and not each.standing.paused)
    if not beat.workers and any(each.standing is not None for each in beat.seen):
        yield Problem(
            level="wrong",
            what=f"No worker is alive; {_many(waiting)} for one.",
            mend="Start one: ensue run.",
        )


def _many(waiting: int) -> str:
    return f"{count(waiting, 'event')} {'waits' if waiting == 1 else 'wait'}"


def _subscription(seen: Seen, beat: Beat) -> Iterator[Problem]:
    name, standing = seen.subscription, seen.standing
    if standing is None:
        yield Problem(
            level="wrong",
            what=f"{name} was never registered: what is recorded now is not for it.",
            mend="Register it: ensue migrate.",
        )
        return
    waits = f"more than {standing.behind:,} events wait" if standing.behind >= COUNTED else _many(standing.behind)
    if standing.dead:
        because = f": {line(seen.last_error.reason)[:140]}" if seen.last_error is not None else ""
        yield Problem(
            level="wrong",
            what=f"{count(standing.dead, 'event')} of {name} {'wait' if standing.dead > 1 else 'waits'} for a person"
            f"{because}.",
            button=Button(label="Look at them", page=f"/dead?{urlencode({'subscription': name})}"),
        )
    if standing.paused:
        yield Problem(
            level="note",
            what=f"{name} is paused; {waits}.",
            button=Button(label=f"Resume {name}", action="resume", values=(("subscription", name),)),
        )
    elif seen.state == "vanished":
        yield Problem(
            level="note",
            what=f"{name} is in the log, but the application declares it no more; {waits}.",
            button=Button(label="Look at it", page=f"/subscriptions/{name}"),
        )
    elif seen.free and standing.behind and beat.workers:
        yield Problem(
            level="wrong",
            what=f"Nobody works on {seen.free} of {count(len(standing.partitions), 'partition')} of {name}; {waits}.",
            mend="Workers with older code do not know it: restart them, or start one more.",
        )
    elif standing.held is not None:
        yield Problem(
            level="wrong" if _longer(standing.held.since, 60.0) else "note",
            what=f"{name} has waited for {_since(standing.held.since)}: {line(standing.held.reason)[:140]}",
            mend=f"Bring it back; the next try is {until(standing.held.again_at)}.",
        )
    elif standing.seconds_behind >= STUCK and all(_longer(each.moved_at, STUCK) for each in standing.partitions):
        yield Problem(
            level="wrong",
            what=f"{name} has not moved for {_since(max(each.moved_at for each in standing.partitions))}, and {waits}: "
            "its handler hangs, or takes very long.",
            mend="Look at its worker's log; give the handler a timeout; restart the worker.",
        )


def _longer(since: datetime, seconds: float) -> bool:
    return datetime.now(UTC) - since >= timedelta(seconds=seconds)


def _since(moment: datetime) -> str:
    return span((datetime.now(UTC) - moment).total_seconds())
