"""The three kinds of event, and the wire names by which the log knows their classes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, ClassVar, Literal, dataclass_transform, get_args

import msgspec

from ensue.errors import EventDefinitionError, UnknownName
from ensue.events.structure import Structure


class Kind(StrEnum):
    """What an event is for, and with that who may see it and how long it is kept."""

    DOMAIN = "domain"
    SOURCED = "sourced"
    INTEGRATION = "integration"


Changes = Literal["none", "additive"]
"""What may change within a version: nothing, or fields may be added that need not be there."""

_classes: dict[str, type[Event]] = {}


class EventMeta(msgspec.StructMeta):
    """Makes event classes frozen and keyword-only, and gives each its wire name."""

    def __new__(  # noqa: PYI034 a metaclass cannot say Self
        mcls,
        class_name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        name: str | None = None,
        version: int | None = None,
        key: str | None = None,
        subject: str | None = None,
        changes: Changes | None = None,
        service: str | None = None,
        **options: Any,
    ) -> EventMeta:
        for option in ("frozen", "kw_only"):
            if options.setdefault(option, True) is not True:
                raise EventDefinitionError(
                    f"event {class_name}: {option}=False: events are immutable facts with named fields; "
                    f"leave {option} out"
                )
        if refused := {"tag", "tag_field", "array_like"} & options.keys():
            raise EventDefinitionError(
                f"event {class_name}: {', '.join(sorted(refused))} would change how events are stored; leave it out"
            )
        try:
            cls = super().__new__(mcls, class_name, bases, namespace, **options)
        except TypeError as error:
            raise EventDefinitionError(f"event {class_name}: {error}") from error
        if namespace.get("__module__") != __name__:  # what stands here is a base, and no event
            _declare(cls, name=name, version=version, key=key, subject=subject)  # type: ignore[arg-type]
            _declare_contract(cls, changes=changes, service=service)  # type: ignore[arg-type]
            _register(cls)  # type: ignore[arg-type]
        return cls


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Event(msgspec.Struct, metaclass=EventMeta, frozen=True, kw_only=True):
    """What the three kinds share. Define events as `DomainEvent`, `SourcedEvent` or `IntegrationEvent`."""

    __kind__: ClassVar[Kind]
    __type__: ClassVar[str]
    __key__: ClassVar[str | None]
    __subject__: ClassVar[str | None]
    __version__: ClassVar[int | None]
    __structure__: ClassVar[Structure]
    __changes__: ClassVar[Changes]
    __service__: ClassVar[str | None]


class DomainEvent(Event):
    """A fact for the other modules of the same service. It never leaves the service and needs no version.

    Class keywords: `name=` pins the wire name (the class's name otherwise), `key=` names the field by whose value
    order is kept, `subject=` the field that says whose the `Personal` fields are.
    """

    __kind__ = Kind.DOMAIN


class Command(DomainEvent):
    """A wish: what the one handler that it has in this service is to do. It is recorded and carried as a domain event.

    Class keywords are those of `DomainEvent`.
    """


class SourcedEvent(Event):
    """A fact that is the state of an aggregate. It is kept for ever in its stream and never leaves the service.

    Class keywords: `name=` pins the wire name (the class's name otherwise), `subject=` names the field that says whose
    the `Personal` fields are.
    """

    __kind__ = Kind.SOURCED


class IntegrationEvent(Event):
    """A fact published to other services: a contract whose structure never changes within its version.

    Class keywords: `version=` (required), `name=` pins the wire name (the class's name otherwise), `key=` names the
    field by whose value order is kept. In the log its type is `<name>.v<version>`. `changes="additive"` lets fields be
    added within the version that need not be there; `service=` names the service that publishes it, if that is another
    one; `subject=` the field that says whose the `Personal` fields are.
    """

    __kind__ = Kind.INTEGRATION


def _declare(cls: type[Event], *, name: str | None, version: int | None, key: str | None, subject: str | None) -> None:
    where = f"event {cls.__qualname__}"
    if name is not None and (not isinstance(name, str) or not name or name != name.strip() or not name.isprintable()):
        raise EventDefinitionError(f"{where}: name={name!r} is not a usable wire name")
    if cls.__kind__ is Kind.INTEGRATION:
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise EventDefinitionError(
                f"{where}: an integration event is a contract and needs version=1, 2, …, not {version!r}"
            )
    elif version is not None:
        raise EventDefinitionError(f"{where}: only integration events have a version; leave version= out")
    if key is not None:
        if cls.__kind__ is Kind.SOURCED:
            raise EventDefinitionError(f"{where}: the key of an event-sourced event is its stream; leave key= out")
        if key not in cls.__struct_fields__:
            fields = ", ".join(cls.__struct_fields__) or "none"
            raise EventDefinitionError(f"{where}: key={key!r} is not one of its fields ({fields})")
    cls.__key__ = key
    cls.__subject__ = subject
    cls.__version__ = version
    cls.__type__ = (name or cls.__name__) + (f".v{version}" if version else "")
    cls.__structure__ = Structure(cls)


def _declare_contract(cls: type[Event], *, changes: Changes | None, service: str | None) -> None:
    where = f"event {cls.__qualname__}"
    if cls.__kind__ is not Kind.INTEGRATION and (changes, service) != (None, None):
        raise EventDefinitionError(f"{where}: only integration events are contracts; leave changes= and service= out")
    if changes is not None and changes not in get_args(Changes):
        raise EventDefinitionError(f"{where}: changes={changes!r}: use 'none', the default, or 'additive'")
    if service is not None and (not isinstance(service, str) or not service or not service.isprintable()):
        raise EventDefinitionError(f"{where}: service={service!r} is no name of a service")
    cls.__changes__ = changes or "none"
    cls.__service__ = service


def _register(cls: type[Event]) -> None:
    other = _classes.get(cls.__type__)
    same_place = other is not None and (other.__module__, other.__qualname__) == (cls.__module__, cls.__qualname__)
    if other is not None and not same_place:  # the same place again is a reload, or a function that runs twice
        raise EventDefinitionError(
            f"event {cls.__module__}.{cls.__qualname__}: the wire name {cls.__type__!r} belongs to "
            f"{other.__module__}.{other.__qualname__}; give one of them another name=…"
        )
    _classes[sys.intern(cls.__type__)] = cls


def find_class(type: str) -> type[Event] | None:
    """Return the class with this wire type, None when no imported class has it."""
    return _classes.get(type)


def event_class(type: str) -> type[Event]:
    """Return the class with this wire type; raise `UnknownName` when no imported class has it."""
    try:
        return _classes[type]
    except KeyError:
        raise UnknownName(
            f"no event class has the wire type {type!r}: import the module that defines it, "
            "or pin the old name with name=… if the class was renamed"
        ) from None


def known_types() -> Iterator[str]:
    """Yield the wire types of all event classes that have been imported."""
    return iter(tuple(_classes))
