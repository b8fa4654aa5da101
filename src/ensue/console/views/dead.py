"""Dead letters: what fails, in groups; each letter; and deciding about many at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from ensue.app.telling import count
from ensue.console.acting import Retry, filters_of
from ensue.console.visits import Page, Visit
from ensue.errors import ConsoleRefused, UnknownName
from ensue.log import iso
from ensue.subscriptions.operating import DeadLetter, Filter

_ROWS = 50
_HOURS = 24
NAMES = ("subscription", "type", "fault", "key", "contains", "since", "before")
DECISIONS = {
    "retry": ("operate", "Tried again now, with all attempts anew; then what queues behind goes on, in order."),
    "skip": ("operate", "Given up; then what queues behind goes on, in order."),
    "discard": ("administer", "Dropped, with all that queues behind them now. The log keeps them."),
}


def groups(visit: Visit) -> Page:
    """Show what fails, grouped by subscription, type and the class of the error."""
    found = visit.app.operations.faults(visit.asked("subscription") or None)
    now = datetime.now(UTC)
    values = {
        "title": "Dead letters",
        "faults": found,
        "trends": [each.trend(_HOURS, now) for each in found],
        "waiting": sum(each.waiting for each in found),
        "retrying": sum(each.retrying for each in found),
    }
    return Page("dead.html", values)


def letters(visit: Visit) -> Page:
    """Show dead letters one by one, in the log's order."""
    filter, wrong = _filter(visit)
    behind = (visit.number("after") or 0, visit.asked("behind"))
    found = [] if wrong else visit.app.operations.dead_letters(filter, limit=_ROWS + 1, behind=behind)
    shown = found[:_ROWS]
    values = {
        "title": "Dead letters",
        "letters": shown,
        "queued": visit.app.operations.queued(shown),
        "more": (shown[-1].position, shown[-1].subscription) if len(found) > _ROWS else None,
        "wrong": wrong,
        "filtered": any(visit.asked(each) for each in NAMES),
        "decisions": DECISIONS,
        "all": bool(visit.asked("all")),
    }
    return Page("letters_part.html" if visit.partial else "letters.html", values)


def _asked(visit: Visit) -> dict[str, Any]:
    return {name: value for name in NAMES if (value := visit.asked(name))}


def _filter(visit: Visit) -> tuple[Filter, str]:
    """Return what the query asks for, and what is wrong with it."""
    try:
        (filter,) = filters_of(msgspec.convert({**_asked(visit), "all": True}, Retry))
    except msgspec.ValidationError as error:
        return Filter(), str(error)
    return replace(filter, waiting_only=not visit.asked("all")), ""


def deciding(visit: Visit) -> Page:
    """Show what a decision would be about, in the order that will be kept, before it is sent."""
    decision = visit.asked("decision")
    if decision not in DECISIONS:
        raise UnknownName(f"there is no decision {decision!r}: use {', '.join(DECISIONS)}")
    role, about = DECISIONS[decision]
    visit.need("administer" if role == "administer" else "operate")
    chosen = visit.request.query_params.getlist("letters")
    asked = _asked(visit)
    if not chosen and "before" not in asked:  # not what comes in between now and then
        asked["before"] = iso(datetime.now(UTC))
    given = msgspec.convert({**asked, "letters": chosen, "all": True}, Retry)
    found: list[DeadLetter] = []
    for filter in filters_of(given):
        found += visit.app.operations.dead_letters(filter, limit=_ROWS + 1)
    found.sort(key=lambda each: (each.position, each.subscription))
    shown = found[:_ROWS]
    queued = visit.app.operations.queued(shown)
    total = _total(visit, asked, found)
    return Page(
        "deciding.html",
        {
            "title": f"{decision.capitalize()} {count(len(found), 'dead letter') if total is None else total}",
            "decision": decision,
            "about": about,
            "letters": shown,
            "queued": queued,
            "behind": sum(queued),
            "more": len(found) > _ROWS,
            "total": total,
            "chosen": chosen,
            "asked": asked,
        },
    )


def _total(visit: Visit, asked: dict[str, Any], found: list[DeadLetter]) -> str | None:
    """Say how many there are, where that is more than are shown."""
    if len(found) <= _ROWS:
        return None
    groups = visit.app.operations.faults(asked.get("subscription"))
    same = [
        each.waiting
        for each in groups
        if asked.get("type") in (None, each.type) and asked.get("fault") in (None, each.fault)
    ]
    exact = not {"key", "contains", "since"} & asked.keys()
    return f"{'about' if exact else 'up to'} {sum(same):,} dead letters"


def letter(visit: Visit) -> Page:
    """Show everything about one."""
    found = letter_named(visit)
    operations = visit.app.operations
    queued = operations.queued([found])[0]
    return Page(
        "letter.html",
        {
            "title": f"{found.type} {found.position:,}",
            "letter": found,
            "queued": queued,
            "queue": operations.waiting(found)[:_ROWS] if queued else [],
            "decisions": operations.audit(20, event_id=found.id, key=found.key),
            "one": f"{found.id}@{found.subscription}",
        },
    )


def letter_named(visit: Visit) -> DeadLetter:
    """Return the dead letter of a position and a subscription; raise if there is none, or several."""
    position, subscription = visit.numbered("position"), visit.asked("subscription") or None
    filter = Filter(subscription=subscription, waiting_only=False)
    found = visit.app.operations.dead_letters(filter, limit=20, behind=(position, ""))
    there = [each for each in found if each.position == position]
    if not there:
        whose = f" for {subscription}" if subscription else ""
        raise UnknownName(f"the event at {position} is not parked{whose}: it has been handled, skipped or discarded")
    if len(there) > 1:
        names = ", ".join(each.subscription for each in there)
        raise ConsoleRefused(f"the event at {position} is parked for several subscriptions: say which of {names}")
    return there[0]
