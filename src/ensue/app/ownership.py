"""Which module of a service owns which event and which aggregate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard, cast

from ensue.aggregates import Aggregate, Decider
from ensue.aggregates.decider import behind
from ensue.errors import DeclarationError
from ensue.events import Event, Kind, event_class, known_types


class Raising(Protocol):
    """An entity: an aggregate whose state is a row, and which may say in `__raises__` what events it raises."""

    def raise_event(self, event: Event) -> None: ...


Ownable = type[Event] | type[Aggregate] | type[Raising] | Decider[Any, Any, Any]


def label_of(thing: Ownable) -> str:
    """Return what people call it."""
    return thing.name if isinstance(thing, Decider) else thing.__name__


def place_of(thing: Ownable) -> str:
    """Return the Python module where it is defined; a decider is where its `evolve` is."""
    return str(behind(thing.evolve).__module__ if isinstance(thing, Decider) else thing.__module__)


def is_entity(thing: object) -> TypeGuard[type[Raising]]:
    """Tell whether it is a class of entities."""
    return isinstance(thing, type) and hasattr(thing, "__raises__") and hasattr(thing, "raise_event")


def stream_name(entity: type[Raising]) -> str:
    """Return what an entity's streams begin with."""
    return str(getattr(entity, "__aggregate__", entity.__name__))


def raises(entity: type[Raising]) -> tuple[type[Event], ...]:
    """Return the events that an entity says it raises; raise `DeclarationError` for what it cannot."""
    said: object = getattr(entity, "__raises__", ())
    if not isinstance(said, tuple) or not all(map(_can_be_raised, cast("tuple[object, ...]", said))):
        raise DeclarationError(
            f"{entity.__qualname__}.__raises__ is {said!r}: a tuple of domain and integration events, which others may "
            "take; an event-sourced event is the state of another kind of aggregate"
        )
    return cast("tuple[type[Event], ...]", said)


def _can_be_raised(event: Any) -> bool:
    if not isinstance(event, type) or not issubclass(event, Event) or not hasattr(event, "__type__"):
        return False
    return event.__kind__ is not Kind.SOURCED


@dataclass(frozen=True, slots=True)
class _Claim:
    """A module's right to something, and what gave it."""

    thing: Ownable
    module: str
    because: str


class Ownership:
    """The modules of a service, with the packages and the classes that are theirs. Nothing has two owners."""

    def __init__(self) -> None:
        self._packages: dict[str, str | None] = {}
        self._claims: dict[int, _Claim] = {}
        """By identity: a decider may hold what cannot be hashed."""

    @property
    def modules(self) -> tuple[str, ...]:
        """The names of the modules, in the order of their declaration."""
        return tuple(self._packages)

    def owner(self, thing: Ownable) -> str | None:
        """Return the module that owns it; None if it is nobody's."""
        claim = self._claims.get(id(thing))
        return claim.module if claim is not None else self._by_place(place_of(thing))

    def events(self, module: str) -> Iterator[type[Event]]:
        """Yield the event classes of a module, of all that have been imported."""
        for name in sorted(known_types()):
            cls = event_class(name)
            if self.owner(cls) == module:
                yield cls

    def entities(self, declared: Iterable[type]) -> Iterator[tuple[str | None, type[Raising]]]:
        """Yield the entities that say what they raise, of the declared classes and of what modules own by name."""
        families = [each for cls in declared for each in _family(cls) if "__raises__" in vars(each)]
        owned = [claim.thing for claim in self._claims.values() if is_entity(claim.thing)]
        for each in dict.fromkeys([*families, *owned]):
            if is_entity(each) and raises(each):
                yield self.owner(each), each

    def claimed(self) -> Iterator[tuple[str, Ownable]]:
        """Yield what modules own by name, not by package."""
        for claim in self._claims.values():
            yield claim.module, claim.thing

    def add(self, module: str, package: str | None) -> None:
        """Add a module, or give one that is there its package; raise `DeclarationError` if that is another's."""
        known = self._packages.get(module)
        if package is not None and package != known:
            if known is not None:
                raise DeclarationError(f"module {module!r} has the package {known!r} already, and not {package!r}")
            self._check_package(module, package)
        self._packages[module] = package or known

    def claim(self, module: str, thing: Ownable, because: str) -> None:
        """Give something to a module; raise `DeclarationError` if it belongs to another one."""
        owner = self.owner(thing)
        if owner is not None and owner != module:
            raise DeclarationError(
                f"{because}: {label_of(thing)} has two owners, it belongs to module {owner!r} already "
                f"({self._reason(thing)}); leave one of the two out"
            )
        self._claims.setdefault(id(thing), _Claim(thing, module, because))

    def claim_if_free(self, module: str, thing: Ownable, because: str) -> None:
        """Give something to a module, unless it has an owner."""
        if self.owner(thing) is None:
            self._claims[id(thing)] = _Claim(thing, module, because)

    def _reason(self, thing: Ownable) -> str:
        claim = self._claims.get(id(thing))
        return f"its package is {place_of(thing)!r}" if claim is None else claim.because

    def _by_place(self, place: str) -> str | None:
        for module, package in self._packages.items():
            if package is not None and _is_in(place, package):
                return module
        return None

    def _check_package(self, module: str, package: str) -> None:
        for other, theirs in self._packages.items():
            if other != module and theirs is not None and (_is_in(package, theirs) or _is_in(theirs, package)):
                raise DeclarationError(
                    f"module {module!r}, package {package!r}: what is in there would have two owners, module {other!r} "
                    f"has the package {theirs!r}; give each module a package that is its alone"
                )
        for claim in self._claims.values():
            if claim.module != module and _is_in(place_of(claim.thing), package):
                raise DeclarationError(
                    f"module {module!r}, package {package!r}: {label_of(claim.thing)} has two owners, it is in there "
                    f"and belongs to module {claim.module!r} ({claim.because})"
                )


def _family(cls: type[Any]) -> Iterator[type[Any]]:
    """Yield a class and all that are derived from it."""
    yield cls
    for each in cls.__subclasses__():
        yield from _family(each)


def _is_in(place: str, package: str) -> bool:
    return place == package or place.startswith(package + ".")
