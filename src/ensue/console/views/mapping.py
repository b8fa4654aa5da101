"""The map: who emits and who handles what, through which brokers, as declared and as it really flows."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

import msgspec

from ensue.console.pulse import Beat
from ensue.console.rendering import rate
from ensue.console.views.processes import drawing
from ensue.console.visits import Page, Visit
from ensue.contracts import Service
from ensue.drawing import WORDS, Map, MapEvent, Part
from ensue.events import Kind

_UNDECLARED = "flows, but nobody declares it"
_NEVER = "never recorded"


def map(visit: Visit) -> Page:
    """Draw the service with its live rates, and mark what is declared and never flows, and the other way round.

    htmx asks for the drawing again and again.
    """
    beat = visit.pulse.beat()
    stored = visit.app.operations.stored_types()
    declared = visit.app.map()
    service, others = visit.app.service(), [each.service() for each in visit.also]
    around = (*_brokers(service), *_services(service, others))
    types = {each.type for each in declared.events}
    marked = mark(msgspec.structs.replace(declared, parts=(*declared.parts, *around)), stored, beat)
    known = {each.subscription for each in beat.facts.seen if each.state != "vanished"}
    return Page(
        "map_part.html" if visit.partial else "map.html",
        {
            "title": "Map",
            "drawing": drawing(marked, f"{visit.app.name}: who emits and who handles which event")
            if marked.parts or marked.events
            else None,
            "never": sorted(types.difference(stored)),
            "undeclared": sorted(builtins.set(stored).difference(types)),
            "vanished": [each.subscription for each in beat.facts.seen if each.subscription not in known],
            "rates": sorted(beat.types.items(), key=lambda each: -each[1]),
            "channels": _channels(service),
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


# --- what stands around the service


def _places(service: Service) -> Iterator[tuple[str, bool, str, str]]:
    """Yield a broker, whether an event goes out to it, the channel, and the event's type."""
    for out in service.publishes:
        if out.channel is not None:
            yield f"{out.protocol}://{out.address}", True, out.channel, out.event.__type__
    for into in service.reads:
        if into.source is not None:
            yield f"{into.protocol}://{urlsplit(into.source).netloc}", False, into.channel or "", into.event.__type__


def _brokers(service: Service) -> Iterator[Part]:
    places = list(_places(service))
    for broker in dict.fromkeys(place for place, *_ in places):
        yield Part(
            name=broker,
            how="broker",
            module=None,
            takes=_types(type for place, out, _, type in places if place == broker and out),
            emits=_types(type for place, out, _, type in places if place == broker and not out),
        )


def _services(service: Service, others: Iterable[Service]) -> Iterator[Part]:
    """Yield the other services that are looked at too: what they read of this one, and what this one reads of them."""
    for other in others:
        read = {each.event.__type__ for each in other.reads}
        published = {each.event.__type__ for each in other.publishes if each.channel is not None}
        part = Part(
            name=other.name,
            how="service",
            module=None,
            takes=_types(each.event.__type__ for each in service.publishes if each.event.__type__ in read),
            emits=_types(each.event.__type__ for each in service.reads if each.event.__type__ in published),
        )
        if part.takes or part.emits:
            yield part


def _types(types: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(types))


def _channels(service: Service) -> list[tuple[str, str, str]]:
    """Return through which brokers events go out and come in: broker, channel, wire type."""
    return sorted((place, f"{'→' if out else '←'} {channel}", type) for place, out, channel, type in _places(service))
