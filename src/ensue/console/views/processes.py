"""Processes and timers: where each one stands on its diagram, and what comes next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from markupsafe import Markup

from ensue.app.telling import read_moment
from ensue.console.visits import Page, Visit
from ensue.drawing import Map, MapEvent, Part, svg
from ensue.errors import UnknownName
from ensue.handlers.processes import ProcessShown, Status

_ROWS = 50
STATUSES: Mapping[str, Status] = {
    "running": "running",
    "compensating": "compensating",
    "done": "done",
    "compensated": "compensated",
    "cancelled": "cancelled",
}


def all(visit: Visit) -> Page:
    """Show the processes of a name and a status, and the timers that are next."""
    names = list(visit.app.declarations.managers)
    name = visit.asked("name") or next(iter(names), "")
    asked = visit.asked("status") or "running"
    status = STATUSES.get(asked)
    if status is None:
        raise UnknownName(f"{asked!r} is no status of a process: {', '.join(STATUSES)}")
    key, moment = visit.asked("key"), read_moment(visit.asked("before"))
    if key:
        found = visit.app.processes.list(name, key=key)
    elif name:
        before = None if moment is None else (moment, visit.asked("behind"))
        found = list(visit.app.processes.begun(name, status, limit=_ROWS, before=before))
    else:
        found = []
    return Page(
        "processes.html",
        {
            "title": "Processes",
            "names": names,
            "name": name,
            "statuses": STATUSES,
            "status": status,
            "found": found,
            "more": found[-1] if len(found) == _ROWS and not key else None,
            "timers": visit.app.processes.next_timers(_ROWS),
            "drawing": None if name not in names else drawing(visit.app.processes.diagram(name), f"The process {name}"),
        },
    )


def one(visit: Visit) -> Page:
    """Show one process: its state, its steps, its timers, and where it stands."""
    found = visit.app.processes.show(visit.part("process"), visit.part("key"))
    return Page(
        "process.html",
        {
            "title": f"{found.process.process} of {found.process.key}",
            "found": found,
            "steps": [(each, _words(each.did)) for each in found.steps],
            "owner": f"{found.process.process}/{found.process.key}",
            "drawing": _standing(visit, found),
            "decisions": visit.app.operations.audit(10, subscription=found.process.process, key=found.process.key),
        },
    )


def _words(did: str) -> list[str]:
    """Say what a step did."""
    told: dict[str, Any] = msgspec.json.decode(did)
    words = [
        f"{word} {', '.join(told[name])}"
        for name, word in (("recorded", "recorded"), ("timers", "set"), ("cancelled", "cancelled"))
        if told.get(name)
    ]
    if told.get("compensated"):
        words.append("compensated")
    return [*words, *([f"ended: {told['ended']}"] if told.get("ended") else [])]


def _standing(visit: Visit, found: ProcessShown) -> Markup | None:
    """Draw the process with what has happened in it marked."""
    seen = found.process
    manager = visit.app.declarations.managers.get(seen.process)
    if manager is None or seen.version not in manager.versions:
        return None
    happened = {each.type for each in found.steps}
    waits = {each.type for each in found.timers}
    drawn = visit.app.processes.diagram(seen.process, seen.version)
    last = found.steps[-1].type if found.steps else None
    marked = Map(
        app=drawn.app,
        modules=drawn.modules,
        events=tuple(_marked_event(each, happened, waits) for each in drawn.events),
        parts=tuple(_marked_part(each, happened, last, seen.status) for each in drawn.parts),
    )
    return drawing(marked, f"Where {seen.process} of {seen.key} stands")


def _marked_event(event: MapEvent, happened: set[str], waits: set[str]) -> MapEvent:
    if event.type in happened:
        return msgspec.structs.replace(event, note="✓ has come")
    if event.type in waits:
        return msgspec.structs.replace(event, note="◷ waits for its time")
    return event


def _marked_part(part: Part, happened: set[str], last: str | None, status: str) -> Part:
    if last in part.takes:
        return msgspec.structs.replace(part, note=f"▶ here: {status}")
    if happened.intersection(part.takes):
        return msgspec.structs.replace(part, note="✓ done")
    return part


def drawing(map: Map, title: str) -> Markup:
    """Return a drawing that stands in a page: its colours are the page's."""
    return Markup(svg(map, title=title, styled=False))  # noqa: S704 each text in it is escaped
