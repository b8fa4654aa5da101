"""Events: searching them, and everything about one."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from ensue.app.searching import Found
from ensue.app.telling import pretty, read_moment
from ensue.console.trees import Tree, draw
from ensue.console.views.contracts import known
from ensue.console.visits import Page, Visit, is_number
from ensue.errors import UndecodableEvent, UnknownName
from ensue.events import Event, Metadata, Recorded, find_class, has_past
from ensue.log import Selection

_ROWS = 50
_SECONDS = 0.4
_FAMILY = 200
"""Events of the same request that are looked at for the drawing."""


def search(visit: Visit) -> Page:
    """Show the latest events that match."""
    wanted, wrong = selection(visit)
    found = Found(events=[], down_to=0) if wrong else look(visit, wanted)
    values = {
        "title": "Events",
        "found": found,
        "wrong": wrong,
        "types": visit.app.operations.stored_types(),
        "more": found.down_to > wanted.after,
        "tail": not any(visit.asked(each) for each in ("before", "until", "since")),
        "names": _NAMES,
    }
    return Page("events_part.html" if visit.partial else "events.html", values)


_NAMES = ("type", "key", "stream", "correlation", "since", "before", "text")


def selection(visit: Visit) -> tuple[Selection, str]:
    """Return what is asked for, and what is wrong with it."""
    since, before = visit.asked("since"), visit.asked("before")
    after, until, wrong = 0, visit.number("until"), ""
    for text, name in ((since, "since"), (before, "before")):
        if text and read_moment(text) is None:
            wrong = f"{name}: {text!r} is no moment: write 2026-03-01T09:30 (UTC), or how long ago: 15m, 2h, 3d."
    if not wrong and since and (moment := read_moment(since)) is not None:
        after = visit.app.history.position_at(moment) - 1
    if not wrong and before and (moment := read_moment(before)) is not None:
        end = visit.app.history.position_at(moment) - 1
        until = end if until is None else min(until, end)
    text = visit.asked("text")
    if text:
        visit.need_payloads()
    type = visit.asked("type")
    wanted = Selection(
        after=after,
        until=until,
        types=(type,) if type else (),
        key=visit.asked("key") or None,
        stream=visit.asked("stream") or None,
        correlation_id=visit.asked("correlation") or None,
        contains=text or None,
    )
    return wanted, wrong


def look(visit: Visit, wanted: Selection) -> Found:
    """Return the latest events of a selection."""
    return visit.app.operations.search(wanted, limit=_ROWS, seconds=_SECONDS)


def event(visit: Visit) -> Page:
    """Show everything about one event."""
    recorded = event_named(visit, visit.part("id"))
    trace = visit.app.history.trace(recorded.id_text, also=visit.also, limit=_FAMILY)
    tree: Tree = draw(trace, visit.root)
    return Page(
        "event.html",
        {
            "title": f"{recorded.type} {recorded.position:,}",
            "event": recorded,
            "about": about(recorded),
            "known": find_class(recorded.type),
            "contract": recorded.kind_text == "integration" and recorded.type in known(visit),
            "today": _today(recorded),
            "passages": visit.app.operations.passages(recorded),
            "decisions": visit.app.operations.audit(50, event_id=recorded.id_text, key=recorded.key),
            "trace": trace,
            "tree": tree,
        },
    )


def _today(recorded: Recorded[Any]) -> list[tuple[str, str]]:
    """Return what upcasters make of an event that was stored in an older structure: types and contents, or why not."""
    if not has_past(recorded.type):
        return []
    try:
        events: tuple[Event, ...] = recorded.events
    except UndecodableEvent as error:
        return [("It cannot be read", str(error))]
    found = [(each.__type__, type(each).__structure__.encode(each).decode()) for each in events]
    return [] if [(name, pretty(data)) for name, data in found] == [(recorded.type, pretty(recorded.shown))] else found


def event_named(visit: Visit, id: str) -> Recorded[Any]:
    """Return the event of an id or a position; raise `UnknownName` if there is none."""
    if is_number(id):
        found = list(visit.app.read(after=int(id) - 1, until=int(id)))
    else:
        try:
            found = list(visit.app.read(id=str(UUID(id))))
        except ValueError:
            raise UnknownName(f"{id!r} is neither the id of an event (a UUID) nor a position (a number)") from None
    if not found:
        raise UnknownName(f"the log has no event {id}, or the transaction that recorded it is still open")
    return found[0]


def about(recorded: Recorded[Any]) -> Metadata:
    """Return what is known beside an event's contents."""
    try:
        return recorded.metadata
    except UndecodableEvent:  # recorded by SQL, in a way of its own
        return Metadata()
