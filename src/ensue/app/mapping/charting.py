"""Drawing up the map of a service from its declarations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ensue.aggregates import Decider
from ensue.app.boundaries import trespasses, usurps
from ensue.app.declarations import Declarations
from ensue.app.modules import evolved
from ensue.app.ownership import Ownership, raises, stream_name
from ensue.drawing import Map, MapEvent, Part
from ensue.events import Event


def chart(app: str, declarations: Declarations, ownership: Ownership) -> Map:
    """Draw up the map of what an application and its modules have declared."""
    found = list(_parts(declarations, ownership))
    classes: dict[str, type[Event]] = {}
    for module in ownership.modules:
        classes.update((each.__type__, each) for each in ownership.events(module))
    for _, its_events in found:
        classes.update((each.__type__, each) for each in its_events)
    parts = tuple(part for part, _ in found)
    return Map(
        app=app,
        modules=ownership.modules,
        events=tuple(
            MapEvent(type=name, kind=each.__kind__, module=ownership.owner(each) or _only_emitter(name, parts))
            for name, each in classes.items()
        ),
        parts=parts,
    )


_Found = tuple[Part, tuple[type[Event], ...]]
"""A part, and the events that it has to do with."""


def _parts(declarations: Declarations, ownership: Ownership) -> Iterator[_Found]:
    for owned in declarations.repositories:
        yield _aggregate(owned.name, owned.module, owned.events, ownership)
    with_repository = {id(owned.aggregate) for owned in declarations.repositories}
    for module, thing in ownership.claimed():
        if id(thing) not in with_repository and (events := evolved(thing)):
            name: Any = thing.name if isinstance(thing, Decider) else getattr(thing, "__aggregate__", "")
            yield _aggregate(name, module, events, ownership)
    for owner, entity in ownership.entities(declarations.entities):
        made = raises(entity)
        crosses = _types(each for each in made if usurps(owner, each, ownership))
        yield Part(name=stream_name(entity), how="entity", module=owner, emits=_types(made), crosses=crosses), made
    for handler in declarations.handlers:
        emitted = handler.emits
        part = Part(
            name=handler.name,
            how=handler.how,
            module=handler.module,
            takes=_types(handler.types),
            emits=_types(emitted),
            crosses=(
                *_crossed(handler.module, handler.types, ownership),
                *_types(each for each in emitted if usurps(handler.module, each, ownership)),
            ),
        )
        yield part, (*handler.types, *emitted)


def _aggregate(name: str, module: str | None, events: tuple[type[Event], ...], ownership: Ownership) -> _Found:
    crosses = _crossed(module, events, ownership)
    return Part(name=name, how="aggregate", module=module, emits=_types(events), crosses=crosses), events


def _types(events: Iterable[type[Event]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.__type__ for each in events))


def _crossed(module: str | None, events: Iterable[type[Event]], ownership: Ownership) -> tuple[str, ...]:
    return _types(each for each in events if trespasses(module, each, ownership))


def _only_emitter(type: str, parts: Iterable[Part]) -> str | None:
    modules = {part.module for part in parts if type in part.emits}
    return modules.pop() if len(modules) == 1 else None
