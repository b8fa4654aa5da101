"""The map: who emits and who handles what, as declared and as it really flows."""

from __future__ import annotations

import builtins
from collections.abc import Mapping

import msgspec

from ensue.console.pulse import Beat
from ensue.console.rendering import rate
from ensue.console.views.processes import drawing
from ensue.console.visits import Page, Visit
from ensue.drawing import WORDS, Map, MapEvent, Part
from ensue.events import Kind

_UNDECLARED = "flows, but nobody declares it"
_NEVER = "never recorded"


def map(visit: Visit) -> Page:
    """Draw the service with its live rates, and mark what is declared and never flows, and the other way round."""
    beat = visit.pulse.beat()
    stored = visit.app.operations.stored_types()
    declared = visit.app.map()
    marked = mark(declared, stored, beat)
    types = {each.type for each in declared.events}
    known = {each.subscription for each in beat.facts.seen if each.state != "vanished"}
    return Page(
        "map.html",
        {
            "title": "Map",
            "drawing": drawing(marked, f"{visit.app.name}: who emits and who handles which event")
            if marked.parts or marked.events
            else None,
            "never": sorted(types.difference(stored)),
            "undeclared": sorted(builtins.set(stored).difference(types)),
            "vanished": [each.subscription for each in beat.facts.seen if each.subscription not in known],
            "rates": sorted(beat.types.items(), key=lambda each: -each[1]),
            "brokers": _brokers(visit),
        },
    )


def mark(declared: Map, stored: list[str], beat: Beat) -> Map:
    """Put what really flows on a map."""
    there = builtins.set(stored)
    passed: Mapping[str, float] = {name: each.handled for name, each in beat.rates.items()}
    states = {each.subscription: each.state for each in beat.facts.seen}
    events = [_event(each, there, beat.types) for each in declared.events]
    known = {each.type for each in declared.events}
    events += [
        MapEvent(type=each, kind=Kind.DOMAIN, module=None, note=f"⚠ {_UNDECLARED}")
        for each in stored
        if each not in known
    ]
    return Map(
        app=declared.app,
        modules=declared.modules,
        events=tuple(events),
        parts=tuple(_part(each, passed, states) for each in declared.parts),
    )


def _event(event: MapEvent, stored: builtins.set[str], rates: Mapping[str, float]) -> MapEvent:
    if event.type not in stored:
        return msgspec.structs.replace(event, note=f"⚠ {_NEVER}")
    if (found := rates.get(event.type)) is not None:
        return msgspec.structs.replace(event, note=f"{rate(found)}/s")
    return event


def _part(part: Part, passed: Mapping[str, float], states: Mapping[str, str]) -> Part:
    state = states.get(part.name)
    if state in ("paused", "held", "idle", "not registered"):
        return msgspec.structs.replace(part, note=f"⚠ {WORDS[part.how]}, {state}")
    if found := passed.get(part.name):
        return msgspec.structs.replace(part, note=f"{WORDS[part.how]}, {rate(found)}/s")
    return part


def _brokers(visit: Visit) -> list[tuple[str, str, str]]:
    """Return through which brokers events go out and come in: broker, channel, wire type."""
    service = visit.app.service()
    out = [
        (f"{each.protocol}://{each.address}", f"→ {each.channel}", each.event.__type__)
        for each in service.publishes
        if each.channel is not None
    ]
    into = [
        (each.source or "", f"← {each.channel or ''}", each.event.__type__) for each in service.reads if each.source
    ]
    return sorted(out + into)
