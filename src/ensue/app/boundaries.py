"""The boundaries of modules: who uses what is private to another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeGuard

from ensue.app.declarations import Declarations, Handler
from ensue.app.modules import evolved
from ensue.app.ownership import Ownable, Ownership, label_of, raises, stream_name
from ensue.errors import BoundaryCrossed
from ensue.events import Command, Event, Kind

_KINDS = {
    Kind.SOURCED: "event-sourced event",
    Kind.DOMAIN: "domain event",
    Kind.INTEGRATION: "integration event",
}


@dataclass(frozen=True, slots=True)
class _Crossing:
    """A use of what is private to a module, by another one or by the application itself."""

    user: str
    """Who does what, in words."""
    module: str | None
    """Of the user."""
    thing: Ownable
    owner: str
    """The module to which the thing is private."""
    makes: bool = False
    """It is an event of the owner that somebody else makes."""

    def __str__(self) -> str:
        kind = _KINDS[self.thing.__kind__] if _is_event(self.thing) else "aggregate"
        return f"{self.user} the {kind} {label_of(self.thing)} of module {self.owner!r}"


def check_boundaries(declarations: Declarations, ownership: Ownership) -> None:
    """Raise `BoundaryCrossed`, with all that is wrong, if something uses what is private to a module not its own."""
    crossings = list(_crossings(declarations, ownership))
    if crossings:
        told = tuple(dict.fromkeys(map(str, crossings)))
        raise BoundaryCrossed(_message(told, crossings, declarations, ownership), told)


def is_private(thing: Ownable) -> bool:
    """Tell whether only the module that owns it may use it: an aggregate, or an event-sourced event."""
    return not _is_event(thing) or thing.__kind__ is Kind.SOURCED


def trespasses(module: str | None, thing: Ownable, ownership: Ownership) -> bool:
    """Tell whether a module, or the application itself, has no right to use it."""
    return is_private(thing) and ownership.owner(thing) not in (None, module)


def usurps(module: str | None, event: type[Event], ownership: Ownership) -> bool:
    """Tell whether a module, or the application itself, makes an event that is another one's to make.

    A command is its owner's to carry out, and anybody's to send.
    """
    return not issubclass(event, Command) and ownership.owner(event) not in (None, module)


def _is_event(thing: Ownable) -> TypeGuard[type[Event]]:
    return isinstance(thing, type) and issubclass(thing, Event)


# --- finding


def _crossings(declarations: Declarations, ownership: Ownership) -> Iterator[_Crossing]:
    for user, module, thing in _uses(declarations, ownership):
        owner = ownership.owner(thing)
        if owner is not None and trespasses(module, thing, ownership):
            yield _Crossing(user, module, thing, owner)
    for handler in declarations.handlers:
        yield from _made(_handler(handler), handler.module, handler.emits, ownership)
    for module, entity in ownership.entities(declarations.entities):
        yield from _made(f"entity {stream_name(entity)!r} of {_of(module)}", module, raises(entity), ownership)


def _made(user: str, module: str | None, events: Iterable[type[Event]], ownership: Ownership) -> Iterator[_Crossing]:
    for event in events:
        owner = ownership.owner(event)
        if owner is not None and usurps(module, event, ownership):
            yield _Crossing(f"{user} makes", module, event, owner, makes=True)


def _uses(declarations: Declarations, ownership: Ownership) -> Iterator[tuple[str, str | None, Ownable]]:
    """Yield who uses what, in the order of declaration."""
    for handler in declarations.handlers:
        for type in handler.types:
            yield f"{_handler(handler)} takes", handler.module, type
    for owned in declarations.repositories:
        yield f"{_of(owned.module)} has a repository of", owned.module, owned.aggregate
        if not trespasses(owned.module, owned.aggregate, ownership):  # else its events are no news
            for type in owned.events:
                yield f"aggregate {owned.name!r} of {_of(owned.module)} evolves", owned.module, type
    with_repository = {id(owned.aggregate) for owned in declarations.repositories}
    for module, thing in ownership.claimed():
        for type in () if id(thing) in with_repository else evolved(thing):
            yield f"aggregate {label_of(thing)!r} of {_of(module)} evolves", module, type


def _handler(handler: Handler) -> str:
    return f"handler {handler.name!r} ({handler.how}) of {_of(handler.module)}"


def _of(module: str | None) -> str:
    return "the application itself" if module is None else f"module {module!r}"


# --- telling


def _message(
    told: tuple[str, ...], crossings: list[_Crossing], declarations: Declarations, ownership: Ownership
) -> str:
    times = "" if len(told) == 1 else f" {len(told)} times"
    lines = [
        f"the boundary of a module is crossed{times}; nothing was registered:",
        *(f"  - {each}" for each in told),
    ]
    if used := [each for each in crossings if not each.makes]:
        owners = dict.fromkeys(each.owner for each in used)
        tells = "; ".join(f"module {owner!r} has {_public(owner, declarations, ownership)}" for owner in owners)
        lines += [
            "Event-sourced events are private to the module that owns them, as the aggregate is whose state they are.",
            "Two ways out:",
            f"  1. use a domain event or an integration event of the owner: {tells}",
            f"  2. let the owner translate: {_example(used)}; handle the integration event that it returns",
        ]
    if made := [each for each in crossings if each.makes]:
        places = " or ".join(f"in module {owner!r}" for owner in dict.fromkeys(each.owner for each in made))
        lines += [
            "An event is its owner's word to others: only the module that owns it makes it.",
            "Two ways out:",
            "  1. make an event that is the module's own",
            f"  2. record a domain event, and let the owner translate it: {places}, a function under .translate(…)",
        ]
    if homeless := list(dict.fromkeys(each.owner for each in crossings if each.module is None)):
        places = " or ".join(f"app.module({name!r})" for name in homeless)
        lines.append(
            f"What is declared on the application itself is in no module: if it is a part, declare it on {places}"
        )
    return "\n".join(lines)


def _public(owner: str, declarations: Declarations, ownership: Ownership) -> str:
    """Name what everybody may use of a module: what it owns, and what it translates to."""
    found = dict.fromkeys(each for each in ownership.events(owner) if not is_private(each))
    for handler in declarations.handlers:
        if handler.module == owner:
            found.update(dict.fromkeys(handler.emits))
    return ", ".join(f"{label_of(each)} ({each.__kind__} event)" for each in found) or "none yet"


def _example(crossings: list[_Crossing]) -> str:
    for each in crossings:
        for event in (each.thing, *evolved(each.thing)):
            if _is_event(event):
                return f"in module {each.owner!r}, a function under .translate({label_of(event)})"
    return f"in module {crossings[0].owner!r}, a function under .translate(…)"
