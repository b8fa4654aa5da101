"""Aggregates: a stream's events, the state after each, and the difference between any two."""

from __future__ import annotations

from typing import Any

from ensue.app.telling import read_moment
from ensue.console.visits import Page, Visit
from ensue.errors import AggregateNotFound, EnsueError, UnknownName
from ensue.history import Difference, State
from ensue.log import Selection

_ROWS = 25
_BETWEEN = 100
"""Events that are shown between two versions."""
_LATELY = 200
"""Events of an aggregate that are looked at for which streams have moved lately."""


def all(visit: Visit) -> Page:
    """Show the declared aggregates, and which of their streams have moved lately."""
    declared = visit.app.declarations
    types = {owned.name: tuple(each.__type__ for each in owned.events) for owned in declared.repositories}
    chosen = visit.asked("name") or next(iter(types), "")
    if chosen and chosen not in types:
        raise UnknownName(f"no aggregate {chosen!r} is declared; there are: {', '.join(types) or 'none'}")
    return Page(
        "aggregates.html",
        {
            "title": "Aggregates",
            "names": list(types),
            "chosen": chosen,
            "streams": _lately(visit, types.get(chosen, ())),
        },
    )


def _lately(visit: Visit, types: tuple[str, ...]) -> list[Any]:
    """Return the last event of each stream that has moved lately, the latest first."""
    if not types:
        return []
    found = visit.app.operations.search(Selection(types=types), limit=_LATELY).events
    last: dict[str, Any] = {}
    for each in found:
        if each.stream is not None:
            last.setdefault(each.stream, each)
    return list(last.values())


def timeline(visit: Visit) -> Page:
    """Show the events of a stream, the latest first, with the state after each."""
    stream = visit.part("stream")
    asked, moment, wrong = visit.number("version"), visit.asked("as_of"), ""
    then = read_moment(moment) if moment else None
    if moment and then is None:
        wrong = f"{moment!r} is no moment: write 2026-03-01T09:30 (UTC), or how long ago: 15m, 2h, 3d."
    state, difference = None, None
    try:
        newest = visit.app.history.state(stream)
        state = newest
        if asked is not None or then is not None:
            state = visit.app.history.state(stream, at_version=asked, as_of=None if asked is not None else then)
        difference = visit.app.history.diff(stream, max(0, state.version - _ROWS), state.version)
    except UnknownName as error:
        if _is_declared(visit, stream):
            raise
        return _plain(visit, stream, str(error))
    except AggregateNotFound:
        if then is None:
            raise
        wrong, newest = f"The stream had no events at {moment}.", visit.app.history.state(stream)
    except EnsueError as error:  # an event that its class does not take any more: the stream is shown as it is stored
        return _plain(visit, stream, str(error))
    return Page("timeline.html", {"title": stream, **_values(state, difference, newest), "wrong": wrong})


def _values(state: State | None, found: Difference | None, newest: State) -> dict[str, Any]:
    changes = [] if found is None else list(reversed(found.events))
    older = None if found is None or found.first == 0 else found.first
    return {"state": state, "changes": changes, "older": older, "newest": newest}


def _is_declared(visit: Visit, stream: str) -> bool:
    return stream.partition("-")[0] in visit.app.declarations.aggregates()


def _plain(visit: Visit, stream: str, told: str) -> Page:
    """Show a stream whose aggregate nobody declares: its events, without states."""
    found = visit.app.operations.search(Selection(stream=stream), limit=100).events
    if not found:
        raise UnknownName(f"the log has no stream {stream!r}")
    return Page("stream.html", {"title": stream, "events": found, "told": told})


def difference(visit: Visit) -> Page:
    """Show what differs between two versions of an aggregate."""
    stream, first, last = visit.part("stream"), visit.number("first"), visit.number("last")
    if first is None or last is None:
        raise EnsueError("say which two versions: first and last; 0 is before it began")
    found = visit.app.history.diff(stream, *sorted((first, last)))
    values = {"title": f"{stream}, {found.first} to {found.last}", "found": found}
    return Page("difference.html", {**values, "shown": found.events[-_BETWEEN:]})
