"""A process manager as an application declares it: a name, the versions of its code, and the keys of its events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ensue.errors import DeclarationError, DuplicateName, Permanent
from ensue.events import Event, fault_in
from ensue.handlers.processes.process import Process

Keys = str | Mapping[type[Event], str]
"""The field that tells which process an event is about: the same for all of them, or for each its own."""


@dataclass(frozen=True, slots=True)
class Version:
    """The code of one version."""

    cls: type[Process]
    keys: Mapping[type[Event], str]


class ProcessManager:
    """All versions of a process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.versions: dict[int, Version] = {}

    @property
    def newest(self) -> Version:
        """The version on which a process starts."""
        return self.versions[max(self.versions)]

    @property
    def types(self) -> tuple[type[Event], ...]:
        """The events that any version takes."""
        return tuple(dict.fromkeys(each for version in self.versions.values() for each in version.cls.__steps__))

    def add(self, cls: type[Process], key: Keys) -> None:
        """Add a version; raise `DuplicateName` if it is there, `DeclarationError` if it contradicts itself."""
        number = cls.__version__
        other = self.versions.get(number)
        if other is not None:
            raise DuplicateName(
                f"process {self.name!r}: {other.cls.__qualname__} and {cls.__qualname__} are both version {number}: "
                "give the newer one the next number"
            )
        where = f"process {cls.__qualname__}"
        if not any(step.how == "starts" for step in cls.__steps__.values()):
            raise DeclarationError(
                f"{where}: nothing begins it; put @starts above the method that takes its first event"
            )
        keys = {event: _field(where, event, key) for event in cls.__steps__}
        self.versions[number] = Version(cls, keys)

    def key_of(self, event: Event) -> str:
        """Return which process an event is about; raise `Permanent` if it does not say so."""
        for number in sorted(self.versions, reverse=True):
            field = self.versions[number].keys.get(type(event))
            if field is not None:
                return _text(self.name, event, field)
        raise Permanent(f"process {self.name!r} does not take {type(event).__qualname__}")


def _field(where: str, event: type[Event], key: Keys) -> str:
    if isinstance(key, str):
        field: Any = key
    else:
        field = key.get(event)
        if field is None:
            raise DeclarationError(f"{where}: key= does not say which field of {event.__qualname__} names the process")
    if field not in event.__struct_fields__:
        fields = ", ".join(event.__struct_fields__) or "none"
        raise DeclarationError(f"{where}: key={field!r} is not one of the fields of {event.__qualname__} ({fields})")
    return str(field)


def _text(name: str, event: Event, field: str) -> str:
    value = getattr(event, field)
    text = str(value.value if isinstance(value, Enum) else value)
    if value is None or not text or fault_in(text):
        raise Permanent(
            f"process {name!r}: {type(event).__qualname__}.{field} is {value!r}, which names no process: text of at "
            "most 400 characters that is not empty"
        )
    return text
