"""Retention: domain and integration events that nobody needs any more are deleted; event-sourced ones never."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from ensue.errors import EnsueError, StillNeeded
from ensue.events import Event, Kind, SourcedEvent, find_class, new_id, stored_types
from ensue.history.errands import Ask, Errand, Rest
from ensue.log import Call, Hold, Log, Sqlite, Steps, iso
from ensue.subscriptions import seconds

Progress = Callable[[int, int], None]
"""Is told how many events are deleted, and of how many."""
Age = float | timedelta | str | datetime
"""How old, in seconds or as text such as "90d"; or the moment before which something was recorded."""

_BATCH = 1000
"""Events that are looked at in one transaction."""
_STREAM = "ensue.pruning"
"""In it a sealed log tells what was pruned."""


class EventsPruned(SourcedEvent, name="ensue.events-pruned"):
    """Events of a sealed log were deleted: it is recorded with them, so that nobody takes that for a falsification."""

    run: str
    of: str
    """Their type."""
    positions: tuple[tuple[int, int], ...]
    """From here to there, each; what lies between was deleted, as far as it was of this type."""


class Prunable(msgspec.Struct, frozen=True, kw_only=True):
    """What pruning does with the events of one type that are old enough."""

    type: str
    events: int
    """How many are deleted."""
    waiting: int
    """How many stay because they are parked, or queue behind a parked event of their key."""
    newest: int
    """How many stay because they are the last event of their stream, which tells its version."""
    first_position: int | None
    last_position: int | None
    """Between these positions lie those that are deleted."""


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """Who still needs events that were to be pruned."""

    kind: Literal["subscription", "hold", "seal"]
    name: str
    position: int
    """It needs what lies behind this."""
    reason: str

    def __str__(self) -> str:
        if self.kind == "hold":
            return f"hold {self.name!r} keeps everything behind position {self.position}: {self.reason}"
        if self.kind == "seal":
            return (
                f"the log is sealed, and signed up to position {self.position} only: what lies behind could be denied"
            )
        return f"subscription {self.name!r} has done everything up to position {self.position} only"


class Pruning(msgspec.Struct, frozen=True, kw_only=True):
    """What was pruned, or would be."""

    run: str
    """Under this id it stands in what `pruned` returns."""
    recorded_before: datetime
    until: int
    """The position up to which events are old enough; the last event of the log always stays."""
    events: int
    """How many were deleted, or would be."""
    types: tuple[Prunable, ...]
    holds: tuple[Hold, ...]
    """All that there are."""
    needs: tuple[Need, ...]
    """Why it is refused; none: it is not."""
    dry_run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What somebody wants to have pruned."""

    older_than: Age
    types: tuple[str, ...]
    """Wire types; none means all."""
    actor: str
    reason: str
    dry_run: bool


def order(older_than: Age, types: Collection[type[Event] | str], actor: str, reason: str, dry_run: bool) -> Order:
    """Return an order; raise `StillNeeded` for an event-sourced type, `DeclarationError` for what is no duration."""
    names: list[str] = []
    for each in types:
        cls = find_class(each) if isinstance(each, str) else each
        if cls is not None and cls.__kind__ is Kind.SOURCED:
            raise StillNeeded(f"{cls.__type__} is event-sourced: it is the state of an aggregate, and kept for ever")
        names += [each] if isinstance(each, str) else stored_types(each)
    if isinstance(older_than, datetime):
        if older_than.tzinfo is None:
            raise EnsueError(f"{older_than!r} has no time zone: make it aware, for example datetime.now(UTC)")
    elif seconds(older_than) < 0:
        raise EnsueError(f"older_than={older_than!r}: 0 or more")
    return Order(older_than=older_than, types=tuple(dict.fromkeys(names)), actor=actor, reason=reason, dry_run=dry_run)


def prune(log: Log, wanted: Order, progress: Progress | None = None) -> Errand[Pruning]:
    """Delete what is old enough and needed by nobody, batch by batch, each in a transaction; return what was done.

    All or nothing is decided first: if a subscription has not passed all that is to be deleted, or a hold keeps some of
    it, `StillNeeded` is raised and says which. Every batch asks again. What is parked, or queues behind it, stays.
    Whatever ends it half way, what each batch has deleted is written down.
    """
    plan: Pruning = yield Ask(log, _plan(log, wanted, str(new_id())))
    if wanted.dry_run:
        return plan
    if plan.needs:
        raise StillNeeded(_refusal("nothing was pruned", plan.needs))
    gone = _Gone(plan.events, progress)
    done: list[Prunable] = []
    for each in plan.types:
        done.append((yield from _prune_type(log, wanted, plan, each, gone)))  # noqa: PERF401 yields
    return msgspec.structs.replace(plan, events=gone.events, types=tuple(done), dry_run=False)


class _Gone:
    """How much is done."""

    def __init__(self, planned: int, progress: Progress | None) -> None:
        self._planned = planned
        self._progress = progress
        self.batches = 0
        self.events = 0

    def add(self, events: int) -> None:
        self.batches += 1
        self.events += events
        if self._progress is not None:
            self._progress(self.events, self._planned)


def _refusal(what: str, needs: Sequence[Need]) -> str:
    kinds = {each.kind for each in needs}
    cures = {
        "subscription": "A subscription catches up (ensue lag, ensue run), or is retired (ensue retire)",
        "hold": "A hold is lifted by who has set it",
        "seal": "The seal catches up (ensue seal, ensue run)",
    }
    return f"{what}: {'; '.join(map(str, needs))}. {'. '.join(cures[each] for each in sorted(kinds, reverse=True))}"


# --- planning


def _plan(log: Log, wanted: Order, run: str) -> Steps[Pruning]:
    moment = yield from _moment(log, wanted.older_than)
    complete = yield from log.horizon()
    until = min((yield from log.position_at(moment)), complete) - 1
    found: list[Prunable] = []
    for type in wanted.types or (yield from log.stored_types()):
        cls = find_class(type)
        if cls is not None and cls.__kind__ is Kind.SOURCED:
            continue
        row = (yield log.dialect.sql["prunable"](type=type, until=until))[0]
        events, waiting, newest, first, last = row
        if events or waiting or newest or wanted.types:
            found.append(
                Prunable(
                    type=type, events=events, waiting=waiting, newest=newest, first_position=first, last_position=last
                )
            )
    last = max((each.last_position or 0 for each in found), default=0)
    return Pruning(
        run=run,
        recorded_before=moment,
        until=until,
        events=sum(each.events for each in found),
        types=tuple(found),
        holds=tuple((yield from log.holds())),
        needs=tuple((yield from _needs(log, last))),
        dry_run=True,
    )


def _moment(log: Log, older_than: Age) -> Steps[datetime]:
    """Return the moment that is meant; an age counts back from now by the clock of the database."""
    if isinstance(older_than, datetime):
        return older_than.astimezone(UTC)
    now = datetime.fromisoformat((yield Call(log.dialect.sql["clock"]))[0][0])
    return now - timedelta(seconds=seconds(older_than))


def _needs(log: Log, position: int) -> Steps[list[Need]]:
    """Return who needs something up to a position, the furthest behind first."""
    needs = [
        Need(kind="hold", name=each.name, position=each.position, reason=each.reason)
        for each in (yield from log.holds())
        if each.position < position
    ]
    for name, checkpoint in (yield log.dialect.sql["slowest"](position=position)):
        needs.append(
            Need(kind="subscription", name=name, position=checkpoint, reason="it has not passed what lies behind")
        )
    for (signed,) in (yield Call(log.dialect.sql["seal_reach"])):
        if signed < position:
            needs.append(Need(kind="seal", name="seal", position=signed, reason="it has not been signed"))
    return sorted(needs, key=lambda each: each.position)


# --- deleting


def _prune_type(log: Log, wanted: Order, plan: Pruning, what: Prunable, gone: _Gone) -> Errand[Prunable]:
    """Delete the events of a type, window by window; return what was deleted."""
    events, first, last = 0, None, None
    after, until = (what.first_position or 1) - 1, what.last_position or 0
    while True:
        window = log.dialect.sql["window"](type=what.type, after=after, until=until, limit=_BATCH)
        ((upto,),) = yield Ask(log, _call(window))
        if upto is None:
            return msgspec.structs.replace(what, events=events, first_position=first, last_position=last)
        began = time.monotonic()
        batch = _batch(log, wanted, plan, what.type, after, upto, first=gone.batches == 0)
        positions, needs = yield Ask(log, log.transaction(log.impatiently(batch)))
        gone.add(len(positions))
        if needs:
            raise StillNeeded(_refusal(f"pruning has stopped after {gone.events} events", needs))
        if positions:
            events, first, last = events + len(positions), first or positions[0], positions[-1]
        after = upto
        if isinstance(log.dialect, Sqlite):  # who waits for the write lock looks for it now and then only
            yield Rest(time.monotonic() - began)


def _call(call: Call) -> Steps[Sequence[Sequence[int | None]]]:
    return (yield call)


def _batch(
    log: Log, wanted: Order, plan: Pruning, type: str, after: int, until: int, *, first: bool
) -> Steps[tuple[list[int], list[Need]]]:
    """Delete what lies in a window, unless somebody has begun to need it meanwhile."""
    sql = log.dialect.sql
    if "lock_for_pruning" in sql:
        yield Call(sql["lock_for_pruning"])
    if needs := (yield from _needs(log, until)):
        return [], needs
    rows = yield sql["prune"](type=type, after=after, until=until)
    positions = sorted(position for (position,) in rows)
    if positions:
        yield sql["note_pruned"](
            run=plan.run,
            type=type,
            first=positions[0],
            last=positions[-1],
            events=len(positions),
            recorded_before=iso(plan.recorded_before),
            actor=wanted.actor,
            reason=wanted.reason,
        )
        yield from _record(log, plan.run, type, positions)
    if first:
        detail = {
            "run": plan.run,
            "recorded_before": plan.recorded_before,
            "until": plan.until,
            "types": {each.type: each.events for each in plan.types if each.events},
        }
        yield sql["insert_audit"](
            actor=wanted.actor,
            action="prune",
            subscription=None,
            key=None,
            event_id=None,
            reason=wanted.reason,
            detail=msgspec.json.encode(detail).decode(),
        )
    return positions, []


def _record(log: Log, run: str, type: str, positions: list[int]) -> Steps[None]:
    """Record in a sealed log what was deleted, in the transaction that does it."""
    if not (yield Call(log.dialect.sql["seal_reach"])):
        return
    ranges: list[tuple[int, int]] = []
    for each in positions:
        if ranges and ranges[-1][1] == each - 1:
            ranges[-1] = (ranges[-1][0], each)
        else:
            ranges.append((each, each))
    yield from log.append((EventsPruned(run=run, of=type, positions=tuple(ranges)),), stream=_STREAM)
