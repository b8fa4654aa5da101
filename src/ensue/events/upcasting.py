"""Upcasters: how events that were stored in an older structure become today's.

No version is asked of the user. A stored event is recognised by its shape, the names of its members: by the structure
that has exactly these, else by one that they fit. Two structures that cannot be told apart are refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from types import UnionType
from typing import Any, ClassVar, TypeVar, Union, cast, dataclass_transform, get_args, get_origin, get_type_hints

import msgspec

from ensue.errors import EventDefinitionError, UnknownName
from ensue.events.kinds import Event, event_class, find_class
from ensue.events.structure import Structure
from ensue.events.unknown import unknown_paths

P = TypeVar("P", bound="PastEvent")
Answer = TypeVar("Answer", bound="Event | PastEvent | Iterable[Event | PastEvent]")

_Stored = type["Event | PastEvent"]
_SEQUENCES = (tuple, list)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class PastMeta(msgspec.StructMeta):
    """Makes past structures frozen and keyword-only, and files them under their wire type."""

    def __new__(  # noqa: PYI034 a metaclass cannot say Self
        mcls, class_name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, name: str = "", **options: Any
    ) -> PastMeta:
        derived = any(isinstance(base, PastMeta) for base in bases)
        refused = {"frozen", "kw_only", "array_like", "tag", "tag_field"} & options.keys()
        if derived and refused:
            raise EventDefinitionError(f"past event {class_name}: leave {', '.join(sorted(refused))} out")
        options |= {"frozen": True, "kw_only": True}
        cls = super().__new__(mcls, class_name, bases, namespace, **options)
        if derived:
            if not name or not isinstance(name, str):
                raise EventDefinitionError(
                    f"past event {class_name}: say under which wire type it was stored, name='…' "
                    "(of an integration event with its version: name='….v1')"
                )
            _declare(cast("type[PastEvent]", cls), name)
        return cls


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class PastEvent(msgspec.Struct, metaclass=PastMeta, frozen=True, kw_only=True):
    """A structure in which events were stored once: `class EuroDeposit(PastEvent, name="Deposited")`.

    `name` is the wire type under which they are stored, which may be that of a class of today. It cannot be recorded.
    A function under `upcast` makes today's events of it. Raises `EventDefinitionError` for a structure that cannot be
    told from another one of the same wire type.
    """

    __type__: ClassVar[str]
    __structure__: ClassVar[Structure]


_past: dict[str, list[type[PastEvent]]] = {}
"""By wire type, the newest first."""
_upcasters: dict[tuple[str, str], _Upcaster] = {}
"""By the module and name of the past structure: a reload replaces it."""


def upcast(function: Callable[[P], Answer]) -> Callable[[P], Answer]:
    """Let a pure function make today's events of what was stored.

    Its parameter is annotated with a `PastEvent`; what it returns with an event class, with another `PastEvent` (then
    that one's upcaster goes on), or with a tuple or list of them: one event becomes several. Raises
    `EventDefinitionError` if there is one for this structure already.
    """
    frame = inspect.currentframe()
    around = frame.f_back.f_locals if frame is not None and frame.f_back is not None else {}
    upcaster = _Upcaster(function, around)
    key = (upcaster.source.__module__, upcaster.source.__qualname__)
    known = _upcasters.get(key)
    if known is not None and not known.is_same(upcaster):
        raise EventDefinitionError(f"{upcaster}: {known} upcasts {upcaster.source.__qualname__} already")
    _upcasters[key] = upcaster
    return function


class _Upcaster:
    """A function with what its annotations say."""

    def __init__(self, function: Callable[[Any], Any], around: Mapping[str, Any]) -> None:
        self.function = function
        try:
            hints = get_type_hints(function, localns=dict(around))
        except NameError as error:
            raise EventDefinitionError(f"{self}: {error}: define or import what its annotations name first") from error
        answer = hints.pop("return", None)
        source = next(iter(hints.values()), None)
        if not (isinstance(source, type) and issubclass(source, PastEvent) and len(hints) == 1):
            raise EventDefinitionError(f"{self}: annotate its one parameter with a PastEvent")
        self.source: type[PastEvent] = source
        self.targets = tuple(_targets(answer))
        if not self.targets or not all(_is_target(each) for each in self.targets):
            raise EventDefinitionError(f"{self}: annotate what it returns with events, or with a PastEvent")

    def __str__(self) -> str:
        return f"upcaster {self.function.__qualname__}"

    def is_same(self, other: _Upcaster) -> bool:
        return self._place() == other._place()

    def _place(self) -> tuple[str, str, int]:
        code = getattr(self.function, "__code__", None)
        return self.function.__module__, self.function.__qualname__, 0 if code is None else code.co_firstlineno

    def __call__(self, old: PastEvent) -> Iterable[Event | PastEvent]:
        made: Any = self.function(old)
        several = cast("Iterable[Any]", made if isinstance(made, _SEQUENCES) else (made,))
        for each in several:
            if not isinstance(each, self.targets):
                raise TypeError(f"{self} returned {each!r}, which is not what it is annotated with")
            yield each


def _targets(hint: Any) -> Iterator[Any]:
    origin = get_origin(hint)
    if origin in (Union, UnionType, *_SEQUENCES):
        for part in get_args(hint):
            if part is not Ellipsis:
                yield from _targets(part)
    else:
        yield hint


def _is_target(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, (Event, PastEvent)) and hasattr(hint, "__type__")


# ------------------------------------------------------------------------------------------------ declaring


def _declare(cls: type[PastEvent], name: str) -> None:
    cls.__type__ = name
    cls.__structure__ = Structure(cls)
    others = [each for each in _past.get(name, []) if not _same_place(each, cls)]
    for other in others:
        if _all(other) == _all(cls):
            raise _undecidable(cls, other)
    current = find_class(name)
    if current is not None:
        _check_current(current, cls)
    _past[name] = [cls, *others]


def _same_place(one: type, other: type) -> bool:
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def _check_current(current: type[Event], past: type[PastEvent]) -> None:
    may_omit = current.__struct_config__.omit_defaults
    if _all(past) == _all(current) or (may_omit and _fits(current, _all(past))):
        raise _undecidable(current, past)


def _undecidable(one: type, other: type) -> EventDefinitionError:
    return EventDefinitionError(
        f"{one.__qualname__} and {other.__qualname__} are both stored as {getattr(one, '__type__', '')!r} and have the "
        "same members: stored events could not be told apart. Give the class of today another wire name with name=…"
    )


@cache
def _all(cls: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(cls.__struct_encode_fields__)


@cache
def _required(cls: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(each.encode_name for each in msgspec.structs.fields(cls) if each.required)


def _fits(cls: type[msgspec.Struct], members: frozenset[str]) -> bool:
    return _required(cls) <= members <= _all(cls)


@cache
def _check(current: type[Event], past: tuple[type[PastEvent], ...]) -> None:
    """Check once what may have been defined in any order."""
    for each in past:
        _check_current(current, each)


# ------------------------------------------------------------------------------------------------ upcasting


def has_past(type: str) -> bool:
    """Tell whether events of a wire type may have been stored in an older structure."""
    return type in _past


def look_at(types: Iterable[str]) -> None:
    """Look at all structures of these wire types, so that their personal fields are known, and the masks."""
    for type in set(types):
        current = find_class(type)
        for each in (*_past.get(type, ()), *(() if current is None else (current,))):
            each.__structure__.look()


def decode(type: str, data: str) -> tuple[Event, ...]:
    """Return the events of today that a stored event is, one unless an upcaster makes several of it.

    Raises `UnknownName` if no class has its type, `EventDefinitionError` for an upcaster that is missing, and what
    decoding and the upcasters raise.
    """
    if type not in _past:
        event: Event = event_class(type).__structure__.decode(data)
        return (event,)
    return tuple(_modern(_class_for(type, data).__structure__.decode(data), ()))


def _modern(old: Event | PastEvent, seen: tuple[type, ...]) -> Iterator[Event]:
    if isinstance(old, Event):
        yield old
        return
    cls = type(old)
    if cls in seen:
        raise EventDefinitionError(f"the upcasters of {cls.__qualname__} go round in a circle")
    for new in _upcaster_of(cls)(old):
        yield from _modern(new, (*seen, cls))


def _upcaster_of(cls: type[PastEvent]) -> _Upcaster:
    found = _upcasters.get((cls.__module__, cls.__qualname__))
    if found is None:
        raise EventDefinitionError(
            f"past event {cls.__qualname__} has no upcaster: write @upcast def _(old: {cls.__qualname__}) -> …"
        )
    return found


def _class_for(type: str, data: str) -> _Stored:
    """Return the class of the structure that a stored event has, by its shape."""
    current, past = find_class(type), _past[type]
    members = frozenset(_members(data))
    if current is not None:
        _check(current, tuple(past))
    candidates: list[_Stored] = [*((current,) if current is not None else ()), *past]
    for cls in candidates:
        if members == _all(cls):
            return cls
    for cls in candidates:
        if _fits(cls, members):
            return cls
    if current is not None:  # what it does not know stays in the log, and is reported
        return current
    shapes = "; ".join(f"{cls.__qualname__}: {', '.join(sorted(_all(cls)))}" for cls in past)
    raise UnknownName(
        f"an event of type {type!r} has the members {', '.join(sorted(members))}, and fits none of {shapes}"
    )


def unknown_members(type: str, data: str) -> frozenset[str]:
    """Return the paths of what is stored with an event and its structure does not take; none if it has no structure."""
    try:
        cls = _class_for(type, data) if type in _past else event_class(type)
    except UnknownName:
        return frozenset()
    return unknown_paths(cls, data)


def stored_types(cls: type[Event]) -> tuple[str, ...]:
    """Return the wire types under which events may be stored that are of a class today.

    Raises `EventDefinitionError` if a past structure cannot be told from the class of its wire type.
    """
    found = dict.fromkeys([cls.__type__])
    for name, structures in _past.items():
        if name == cls.__type__ or any(_reaches(each, cls, set()) for each in structures):
            found[name] = None
            if (current := find_class(name)) is not None:  # it may have been defined later
                _check(current, tuple(structures))
    return tuple(found)


def upcasters_to(classes: Iterable[type[Event]]) -> list[tuple[type[PastEvent], Callable[[Any], Any]]]:
    """Return the functions that lead to events of these classes, each with the structure that it takes."""
    wanted = tuple(classes)
    return [
        (each.source, each.function)
        for _, each in sorted(_upcasters.items())
        if any(_reaches(each.source, cls, set()) for cls in wanted)
    ]


def _reaches(past: type[PastEvent], cls: type[Event], seen: set[type]) -> bool:
    upcaster = _upcasters.get((past.__module__, past.__qualname__))
    if upcaster is None or past in seen:
        return False
    seen.add(past)
    return any(
        issubclass(each, cls) if issubclass(each, Event) else _reaches(each, cls, seen) for each in upcaster.targets
    )
