"""What actions take, and how they are carried out: by what `App` offers, which writes them to the audit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Annotated

import msgspec

from ensue.app.telling import count, read_moment
from ensue.console.jobs import Progress
from ensue.console.visits import Visit
from ensue.subscriptions.operating import DeadLetter, Decision, Filter

_LINE = r"^[^\x00-\x1f\x7f]*$"
Text = Annotated[str, msgspec.Meta(max_length=400, pattern=_LINE)]
"""A name, a key, an id."""
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=400, pattern=_LINE)]
Why = Annotated[str, msgspec.Meta(max_length=2000, pattern=_LINE, description="Why, for the audit.")]
NeededWhy = Annotated[
    str, msgspec.Meta(min_length=3, max_length=2000, pattern=_LINE, description="Why, for the audit.")
]
Letter = Annotated[
    str, msgspec.Meta(max_length=500, pattern=r"^[^\x00-\x20@\x7f]+@[^\x00-\x1f\x7f]+$", description="id@subscription")
]
Json = Annotated[str, msgspec.Meta(max_length=1_000_000, pattern=r"^[^\x00]*$")]
_AT_ONCE = 200
"""Dead letters that are decided on while the visitor waits."""
_PAGE = 500


class Given(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an action takes."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of an action."""

    told: str
    """In words."""
    job: int | None = None
    """It goes on, as a job of this number."""


# --- subscriptions


class Pause(Given, frozen=True, kw_only=True):
    """Which subscription is to stop."""

    subscription: Name
    reason: Why = ""


class Resume(Given, frozen=True, kw_only=True):
    """Which subscription is to go on."""

    subscription: Name
    reason: Why = ""


class Retire(Given, frozen=True, kw_only=True):
    """Which subscription is to be forgotten."""

    subscription: Name
    reason: NeededWhy


class Repartition(Given, frozen=True, kw_only=True):
    """Into how many partitions a subscription is to be cut."""

    subscription: Name
    partitions: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    reason: Why = ""


def pause(given: Pause, visit: Visit) -> Outcome:
    """Stop a subscription on all workers, within a few seconds; nothing is lost."""
    visit.app.operations.pause(given.subscription, actor=visit.visitor.name, reason=given.reason)
    return Outcome(told=f"{given.subscription} is paused: its events wait.")


def resume(given: Resume, visit: Visit) -> Outcome:
    """Let a paused subscription go on where it stopped."""
    visit.app.operations.resume(given.subscription, actor=visit.visitor.name, reason=given.reason)
    return Outcome(told=f"{given.subscription} goes on.")


def retire(given: Retire, visit: Visit) -> Outcome:
    """Forget a subscription with its checkpoints and what it has parked."""
    visit.app.operations.retire(given.subscription, actor=visit.visitor.name, reason=given.reason)
    return Outcome(told=f"{given.subscription} is retired.")


def repartition(given: Repartition, visit: Visit) -> Outcome:
    """Cut a subscription into so many partitions, while it runs."""
    before = visit.app.operations.repartition(
        given.subscription, given.partitions, actor=visit.visitor.name, reason=given.reason
    )
    return Outcome(told=f"{given.subscription} has {count(given.partitions, 'partition')} now, and had {before}.")


# --- dead letters


class Which(Given, frozen=True, kw_only=True):
    """Which dead letters are meant; all conditions must hold."""

    letters: Annotated[list[Letter], msgspec.Meta(max_length=1000)] = []
    """Just these; then what else is said must hold for them too."""
    subscription: Text | None = None
    type: Text | None = None
    fault: Text | None = None
    key: Text | None = None
    contains: Text | None = None
    """A part of the reason, in any case."""
    since: Text | None = None
    """Parked since then: a moment, or how long ago."""
    before: Text | None = None
    all: bool = False
    """Has to be said if nothing else is."""


class Retry(Which, frozen=True, kw_only=True):
    """Which dead letters are to be tried again."""

    reason: Why = ""


class Skip(Which, frozen=True, kw_only=True):
    """Which dead letters are to be given up."""

    reason: NeededWhy


class Discard(Which, frozen=True, kw_only=True):
    """Which dead letters are to be dropped, with what queues behind them."""

    reason: NeededWhy


class Edit(Given, frozen=True, kw_only=True):
    """A dead letter, and what it is to hold."""

    subscription: Name
    id: Name
    data: Json
    """JSON."""
    reason: NeededWhy


def retry(given: Retry, visit: Visit) -> Outcome:
    """Try dead letters again now, with all attempts anew."""
    return _decide("retry", given, given.reason, visit)


def skip(given: Skip, visit: Visit) -> Outcome:
    """Give up dead letters, and go on with those that queue behind them."""
    return _decide("skip", given, given.reason, visit)


def discard(given: Discard, visit: Visit) -> Outcome:
    """Drop dead letters and all that queue behind them."""
    return _decide("discard", given, given.reason, visit)


def edit(given: Edit, visit: Visit) -> Outcome:
    """Deliver a dead letter with other contents, to this subscription only, and retry it now."""
    visit.need_payloads()
    visit.app.operations.edit(
        given.subscription, given.id, compact(given.data), actor=visit.visitor.name, reason=given.reason
    )
    return Outcome(told=f"{given.subscription} gets the event as you have edited it.")


def compact(data: str) -> str:
    """Return JSON without spaces, its numbers to the letter; raise `msgspec.ValidationError` if it is none."""
    try:
        return msgspec.json.format(data, indent=-1)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise msgspec.ValidationError(f"this is no JSON: {error}") from error


def filters_of(given: Which) -> list[Filter]:
    """Return which parked events are meant; raise `msgspec.ValidationError` for what nobody can mean."""
    one = Filter(
        subscription=given.subscription,
        type=given.type,
        fault=given.fault,
        key=given.key,
        reason=given.contains,
        parked_since=_moment(given.since),
        parked_before=_moment(given.before),
        waiting_only=not given.letters,
    )
    if not given.letters:
        if not given.all and one == Filter(parked_before=one.parked_before):
            raise msgspec.ValidationError("which ones? Name letters, filter them, or say all")
        return [one]
    by_subscription: dict[str, set[str]] = {}
    for each in given.letters:
        id, _, subscription = each.partition("@")
        by_subscription.setdefault(subscription, set()).add(id)
    return [
        replace(one, subscription=subscription, ids=frozenset(ids))
        for subscription, ids in sorted(by_subscription.items())
        if given.subscription in (None, subscription)
    ]


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    if (found := read_moment(text)) is None:
        raise msgspec.ValidationError(f"{text!r} is no moment: write 2026-03-01T09:30, or how long ago: 15m, 2h, 3d")
    return found


def _decide(decision: Decision, given: Which, reason: str, visit: Visit) -> Outcome:
    filters, actor = filters_of(given), visit.visitor.name
    operations = visit.app.operations
    if any(len(operations.dead_letters(each, limit=_AT_ONCE + 1)) > _AT_ONCE for each in filters):

        def work(progress: Progress) -> str:
            done, total = 0, sum(_matching(visit, each) for each in filters)
            for each in filters:
                for page in _pages(visit, each, decision, reason, actor):
                    done += len(page)
                    progress(done, max(done, total))
            return _decided(decision, done, visit)

        job = visit.jobs.begin(f"{decision} dead letters", actor, work)
        return Outcome(told=f"{decision}: it has begun.", job=job.number)
    letters = sum(len(operations.decide(each, decision, actor=actor, reason=reason)) for each in filters)
    return Outcome(told=_decided(decision, letters, visit))


def _matching(visit: Visit, filter: Filter) -> int:
    """Return how many there are of what is filtered by, about: a part of a reason and a moment are not counted."""
    return sum(
        each.waiting
        for each in visit.app.operations.faults(filter.subscription)
        if filter.type in (None, each.type) and filter.fault in (None, each.fault)
    )


def _pages(visit: Visit, filter: Filter, decision: Decision, reason: str, actor: str) -> Iterator[list[DeadLetter]]:
    """Decide on one page after the other, each in a transaction, so that nobody waits for all of them."""
    behind = (0, "")
    while True:
        there = visit.app.operations.dead_letters(filter, limit=_PAGE, behind=behind)
        if not there:
            return
        yield visit.app.operations.decide(filter, decision, actor=actor, reason=reason, limit=len(there), behind=behind)
        behind = (there[-1].position, there[-1].subscription)


def _decided(decision: Decision, number: int, visit: Visit) -> str:
    if not number:
        return "Nothing matches any more: nothing was done."
    nobody = "" if visit.app.operations.alive() else " No worker is alive: it will be done when one runs."
    return f"{decision}: {count(number, 'event')}; the worker carries it out, in the order of each key.{nobody}"


# --- processes and timers


class CancelProcess(Given, frozen=True, kw_only=True):
    """Which process is to end where it stands."""

    process: Name
    key: Name
    compensate: bool = False
    """Also undo its steps, the last first, one after the other."""
    reason: NeededWhy


class FireTimer(Given, frozen=True, kw_only=True):
    """Which timer is to be due now."""

    owner: Text = ""
    """The process that has set it, as name/key; empty: the application."""
    name: Name
    reason: Why = ""


class CancelTimer(Given, frozen=True, kw_only=True):
    """Which timer is to be dropped."""

    owner: Text = ""
    name: Name
    reason: NeededWhy


def cancel_process(given: CancelProcess, visit: Visit) -> Outcome:
    """End a running process where it stands: its timers go, and no event moves it any more."""
    recorded = visit.app.processes.cancel(
        given.process, given.key, actor=visit.visitor.name, reason=given.reason, compensate=given.compensate
    )
    undone = f" Undone by: {', then '.join(recorded)}." if recorded else ""
    return Outcome(told=f"{given.process} of {given.key} is cancelled.{undone}")


def fire_timer(given: FireTimer, visit: Visit) -> Outcome:
    """Let a timer be due now; a worker records its event within a second."""
    visit.app.processes.fire_timer(given.owner, given.name, actor=visit.visitor.name, reason=given.reason)
    return Outcome(told=f"Timer {given.name} is due now; a worker records its event.")


def cancel_timer(given: CancelTimer, visit: Visit) -> Outcome:
    """Drop a timer: its event is never recorded."""
    visit.app.processes.cancel_timer(given.owner, given.name, actor=visit.visitor.name, reason=given.reason)
    return Outcome(told=f"Timer {given.name} is dropped.")
