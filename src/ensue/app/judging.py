"""What is wrong with an application at work: one judgement for the doctor, the console and `/readyz`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from ensue.app.app import App
from ensue.app.seeing import Seen, look, state_of
from ensue.app.telling import ago, count, line, span, until
from ensue.subscriptions import Subscription
from ensue.subscriptions.operating import ALL
from ensue.subscriptions.standings import Holder, Standing

PATIENCE = 60.0
"""Seconds for which a transaction may hold back the horizon, and a broker may be away, before that is wrong: services
restart. A sixth of it is worth a word."""
STUCK = 300.0
"""Seconds in which a checkpoint should have moved while events wait."""

COUNTED = 20_000
"""Events of a type that are counted behind a subscription where people read how many; beyond that it is more than that:
whoever is far behind is not kept behind by who looks."""

Check = Literal["subscriptions", "workers", "leases", "progress", "held", "horizon", "dead letters"]
CHECKS: tuple[Check, ...] = ("subscriptions", "workers", "leases", "progress", "held", "horizon", "dead letters")
Level = Literal["wrong", "note"]
"""A note is worth knowing, and nothing has to be done."""
Cure = Literal["migrate", "run", "retire", "resume", "letters", "retries", "holders"]
"""What mends it: a command, or a button. Of what `letters` and `retries` are about one says what becomes of them."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it should be."""

    check: Check
    level: Level
    what: str
    because: str = ""
    """What an error, or a statement of somebody's, says of it; it may hold what not everybody may see."""
    advice: str = ""
    """What to do, in words; a cure may follow."""
    cure: Cure | None = None
    subscription: str | None = None
    """What it is about, and what the cure is to be applied to."""

    @property
    def whole(self) -> str:
        """What is wrong, and what an error says of it."""
        return f"{self.what}: {self.because}" if self.because else self.what


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is judged."""

    seen: list[Seen]
    workers: list[str]
    """Those that are alive."""
    holders: list[Holder]

    @property
    def ours(self) -> list[Standing]:
        """Those on which this code works: builds that are kept or built by hand are nobody's, nor what has vanished."""
        there = (each.standing for each in self.seen if each.state not in ("beside", "vanished"))
        return [each for each in there if each is not None]

    @property
    def waiting(self) -> int:
        """Events that subscriptions which are not paused have not passed."""
        return sum(each.behind for each in self.ours if not each.paused)


def facts_of(app: App, most: int = ALL) -> Facts:
    """Ask the log; what is behind is counted up to `most`. Raises what the database raises."""
    operations = app.operations
    return Facts(seen=look(app, most), workers=operations.alive(), holders=operations.holders())


def judge(app: App, facts: Facts, *, patience: float | None = None, most: int = ALL) -> list[Problem]:
    """Say what is wrong, in the order of the checks; `patience` is in seconds, `most` what was counted up to."""
    limit = PATIENCE if patience is None else patience
    found = [
        *_declarations(app, facts),
        *_workers(facts),
        *(each for seen in facts.seen for each in _subscription(seen, facts, limit, most)),
        *_holders(facts.holders, limit),
    ]
    return sorted(found, key=lambda each: CHECKS.index(each.check))


def _declarations(app: App, facts: Facts) -> Iterator[Problem]:
    declared = app.subscriptions
    vanished = {
        each.subscription: each.standing
        for each in facts.seen
        if each.state == "vanished" and each.standing is not None
    }
    for seen in facts.seen:
        if seen.state == "not registered":
            types = set(declared[seen.subscription].types) if seen.subscription in declared else set[str]()
            heirs = [name for name, old in vanished.items() if types.intersection(old.types)]
            yield _new(seen.subscription, heirs)
        elif seen.standing is not None and _wants_others(declared.get(seen.subscription), seen.standing):
            name = seen.subscription
            what = f"{name} wants other types in the code than in the log"
            yield Problem(check="subscriptions", level="note", what=what, cure="migrate", subscription=name)
    for name, standing in vanished.items():
        yield Problem(
            check="subscriptions",
            level="note",
            what=f"{name} has vanished: the log knows it, the application declares it no more; "
            f"{_waits(standing.behind)} for it",
            advice="declare it again, or if it is gone for good, retire it",
            cure="retire",
            subscription=name,
        )


def _wants_others(known: Subscription | None, standing: Standing) -> bool:
    return known is not None and set(known.types) != set(standing.types)


def _new(name: str, heirs: list[str]) -> Problem:
    if not heirs:
        what = f"{name} was never registered: what is recorded now is not for it, unless it starts earlier"
        return Problem(check="subscriptions", level="wrong", what=what, cure="migrate", subscription=name)
    return Problem(
        check="subscriptions",
        level="wrong",
        what=f"subscription {name} is new where {', '.join(heirs)} vanished: no worker starts like this, since a "
        "rename would lose events or deliver them again",
        advice=f"if it was renamed, keep its name in the code: name={heirs[0]!r}; if {heirs[0]} is gone for good, "
        "retire it",
        cure="retire",
        subscription=heirs[0],
    )


def _workers(facts: Facts) -> Iterator[Problem]:
    if facts.workers or not any(each.standing is not None for each in facts.seen):
        return
    yield Problem(
        check="workers", level="wrong", what=f"no worker is alive; {_waits(facts.waiting)} for one", cure="run"
    )


def _subscription(seen: Seen, facts: Facts, limit: float, most: int) -> Iterator[Problem]:
    standing = seen.standing
    if standing is None:
        return
    waits = f"more than {standing.behind:,} events wait" if standing.behind >= most else _waits(standing.behind)
    if standing.paused:
        yield Problem(
            check="subscriptions",
            level="note",
            what=f"{standing.subscription} is paused; {waits}",
            cure="resume",
            subscription=standing.subscription,
        )
    if seen.state not in ("vanished", "beside"):
        yield from _leases(standing, facts.workers, waits)
        yield from _stuck(standing, waits)
        yield from _held(standing, waits, limit)
    yield from _parked(seen, standing)


def _leases(standing: Standing, workers: list[str], waits: str) -> Iterator[Problem]:
    name, parts = standing.subscription, len(standing.partitions)
    advice = "the workers that live run older code, or have just begun: restart them, or add one" if workers else ""
    if expired := [each for each in standing.partitions if state_of(each) == "expired"]:
        owners = ", ".join(sorted({each.owner or "" for each in expired}))
        yield Problem(
            check="leases",
            level="wrong",
            what=f"{count(len(expired), 'lease')} on {name} ran out and nobody took over; {owners} is dead or cut off "
            "from the database",
            advice=advice,
            cure="run",
            subscription=name,
        )
    free = sum(state_of(each) == "free" for each in standing.partitions)
    if free and workers and not standing.paused:
        behind = f", and {waits}, the oldest for {span(standing.seconds_behind)}" if standing.behind else ""
        yield Problem(
            check="leases",
            level="wrong" if behind else "note",
            what=f"nobody works on {free} of {count(parts, 'partition')} of {name}{behind}",
            advice=advice,
            cure="run",
            subscription=name,
        )


def _stuck(standing: Standing, waits: str) -> Iterator[Problem]:
    if standing.paused or standing.seconds_behind < STUCK:
        return
    for each in standing.partitions:
        last = each.checkpoint == standing.checkpoint and state_of(each) == "worked"
        if last and each.held is None and _longer(each.moved_at, STUCK):
            yield Problem(
                check="progress",
                level="wrong",
                what=f"{standing.subscription} has not moved for {ago(each.moved_at)}, and {waits}: a handler hangs, "
                f"or takes very long (worker {each.owner})",
                advice="look at its log; give the handler a timeout=; restart that worker: others go on where it was",
                subscription=standing.subscription,
            )


def _held(standing: Standing, waits: str, limit: float) -> Iterator[Problem]:
    if (held := standing.held) is not None:
        waiting = f", and {waits}" if standing.behind else ""
        yield Problem(
            check="held",
            level="wrong" if _longer(held.since, limit) else "note",
            what=f"{standing.subscription} has been held for {ago(held.since)}{waiting}",
            because=line(held.reason)[:200],
            advice=f"bring back what it needs; then it goes on by itself (next try: {until(held.again_at)})",
            subscription=standing.subscription,
        )


def _parked(seen: Seen, standing: Standing) -> Iterator[Problem]:
    name = standing.subscription
    if standing.dead:
        yield Problem(
            check="dead letters",
            level="wrong",
            what=f"{count(standing.dead, 'event')} of {name} {'wait' if standing.dead > 1 else 'waits'} for a person",
            because=line(seen.last_error.reason)[:120] if seen.last_error is not None else "",
            cure="letters",
            subscription=name,
        )
    if standing.retrying:
        yield Problem(
            check="dead letters",
            level="note",
            what=f"{count(standing.retrying, 'event')} of {name} failed and will be tried again",
            cure="retries",
            subscription=name,
        )


def _holders(holders: list[Holder], limit: float) -> Iterator[Problem]:
    for each in holders:
        if each.seconds < limit / 6:
            continue
        by = "prepared" if each.pid is None else f"pid {each.pid}{', ' if each.application else ''}{each.application}"
        yield Problem(
            check="horizon",
            level="wrong" if each.seconds >= limit or each.pid is None else "note",
            what=f"a transaction that has recorded is open for {span(each.seconds)} ({by}, {each.state}): nothing "
            f"behind position {each.position:,} can be delivered before it ends",
            because=line(each.query)[:80],
            advice="list prepared transactions: select * from pg_prepared_xacts; then: rollback prepared '<gid>'"
            if each.pid is None
            else "end it where it was begun; or break it off, which takes back what it recorded: "
            f'psql -c "select pg_terminate_backend({each.pid})"',
            cure="holders",
        )


def _waits(behind: int) -> str:
    return f"{count(behind, 'event')} {'waits' if behind == 1 else 'wait'}"


def _longer(since: datetime, seconds: float) -> bool:
    return datetime.now(UTC) - since >= timedelta(seconds=seconds)
