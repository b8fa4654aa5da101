"""What the structure of an event is made of, the same whether it comes from a class or from a contract file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ensue.events import Changes

Limits: TypeAlias = tuple[tuple[str, Any], ...]
"""Keywords of JSON Schema that narrow a shape, such as minimum and maxLength, sorted by name."""


class Missing:
    """There is no default."""

    def __repr__(self) -> str:
        return "no default"


MISSING = Missing()


@dataclass(frozen=True, slots=True)
class Plain:
    """A single value: null, boolean, integer, number, string, or text that stands for something else."""

    kind: str
    """One of `PLAIN`."""
    limits: Limits = ()


PLAIN = {
    "any": {},
    "null": {"type": "null"},
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "string": {"type": "string"},
    "bytes": {"type": "string", "contentEncoding": "base64"},
    "uuid": {"type": "string", "format": "uuid"},
    "decimal": {"type": "string", "format": "decimal"},
    "date-time": {"type": "string", "format": "date-time"},
    "date": {"type": "string", "format": "date"},
    "time": {"type": "string", "format": "time"},
    "time-local": {"type": "string", "format": "time-local"},
    "duration": {"type": "string", "format": "duration"},
}
"""What each plain shape is in JSON Schema."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values: an enum, or a literal, which has no name."""

    values: tuple[Any, ...]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Many:
    """A list, a set, or a tuple of any length."""

    item: Shape
    unique: bool = False
    limits: Limits = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A tuple whose items have a shape each."""

    items: tuple[Shape, ...]
    least: int
    """How many must be there."""
    closed: bool = True
    """No more may be there."""
    name: str | None = None
    defaults: tuple[Any, ...] = ()
    """Of each item; MISSING where there is none."""


@dataclass(frozen=True, slots=True)
class Table:
    """A dict."""

    value: Shape
    key: Shape = Plain("string")
    limits: Limits = ()


@dataclass(frozen=True, slots=True)
class Field:
    """A member of a record."""

    name: str
    """As it is written in JSON."""
    shape: Shape
    required: bool = True
    default: Any = MISSING
    """As JSON."""
    about: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """An object with named members."""

    name: str
    fields: tuple[Field, ...]
    closed: bool = False
    """No other members may be there."""
    about: str | None = None

    def field(self, name: str) -> Field | None:
        """Return the member of this name."""
        return next((each for each in self.fields if each.name == name), None)


@dataclass(frozen=True, slots=True)
class Either:
    """One of several shapes."""

    options: tuple[Shape, ...]
    tag: str | None = None
    """The member by which records among them are told apart."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A named shape, which may contain itself."""

    name: str


Named: TypeAlias = Record | Choice | Row
Shape: TypeAlias = Plain | Choice | Many | Row | Table | Record | Either | Ref


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """An integration event in one version, as others see it."""

    name: str
    version: int
    key: str | None = None
    """The member whose value order is kept by, as it is written in JSON."""
    changes: Changes = "none"
    service: str | None = None
    """The service that publishes it."""
    root: Record
    definitions: Mapping[str, Named] = field(default_factory=dict[str, Named])
    """The named shapes that it is made of; the root may be referred to by its own name."""

    @property
    def type(self) -> str:
        """The wire type."""
        return f"{self.name}.v{self.version}"

    def resolve(self, shape: Shape) -> Shape:
        """Return what a reference stands for, and anything else as it is."""
        while isinstance(shape, Ref):
            shape = self.root if shape.name == self.root.name else self.definitions[shape.name]
        return shape


def same_tag(one: Record, other: Record) -> bool:
    """Tell whether both have a member that can only be this one value: the tag by which they are told apart."""
    tags = {
        each.name: each.shape for each in one.fields if isinstance(each.shape, Choice) and len(each.shape.values) == 1
    }
    return any(tags.get(each.name) == each.shape for each in other.fields)


def words(shape: Shape) -> str:
    """Say in few words what a shape is."""
    match shape:
        case Plain(kind, limits):
            return kind + _limited(limits)
        case Choice(values, name):
            found = " | ".join(repr(each) for each in values)
            return f"{name} ({found})" if name else found
        case Many(item, unique, limits):
            return f"{'set' if unique else 'list'} of {_grouped(item)}{_limited(limits)}"
        case Row(items, _, _, name):
            return f"{name or ''}[{', '.join(words(each) for each in items)}]"
        case Table(value, key, limits):
            return f"map from {words(key)} to {_grouped(value)}{_limited(limits)}"
        case Record(name):
            return name
        case Either(options):
            return " or ".join(words(each) for each in options)
        case Ref(name):
            return name


def _grouped(shape: Shape) -> str:
    return f"({words(shape)})" if isinstance(shape, Either) else words(shape)


def _limited(limits: Limits) -> str:
    return f" ({', '.join(f'{name} {value}' for name, value in limits)})" if limits else ""


def parts(shape: Shape) -> Iterator[Shape]:
    """Yield what a shape is made of directly."""
    match shape:
        case Many(item):
            yield item
        case Row(items) | Either(items):
            yield from items
        case Table(value, key):
            yield key
            yield value
        case Record(_, fields):
            for each in fields:
                yield each.shape
        case _:
            return
