"""Integration events made for one test, and the classes that they are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta, Struct

from ensue import IntegrationEvent
from ensue.contracts.shapes import Contract
from ensue.contracts.structures import contract_of
from ensue.events import kinds, upcasting
from ensue.events.kinds import EventMeta

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    DARK_BLUE = "dark blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Money(Struct, frozen=True):
    """How much of what."""

    amount: Decimal
    currency: str = "EUR"


class Card(Struct, frozen=True, tag_field="by", tag="card"):
    number: str


class Cash(Struct, frozen=True, tag_field="by", tag="cash"):
    pass


class Node(Struct, frozen=True):
    value: int
    next: Node | None = None


class Page(Struct, Generic[T], frozen=True):
    items: tuple[T, ...]


class Closed(Struct, frozen=True, forbid_unknown_fields=True):
    a: int


class Pair(Struct, frozen=True, array_like=True):
    a: int
    b: str = "x"


class Place(NamedTuple):
    lat: float
    lon: float


class Notes(TypedDict, total=False):
    text: str


@dataclass(frozen=True)
class Line:
    sku: str
    count: int = 1


FIELDS: dict[str, Any] = {
    "flag": bool,
    "whole": Annotated[int, Meta(ge=0, lt=1000)],
    "real": float,
    "nothing": None,
    "text": Annotated[str, Meta(min_length=1, max_length=10, pattern="^a", description="Some text.")],
    "blob": bytes,
    "id": UUID,
    "price": Decimal,
    "at": datetime,
    "day": date,
    "hour": time,
    "zoned": Annotated[time, Meta(tz=True)],
    "lasts": timedelta,
    "anything": Any,
    "numbers": Annotated[tuple[int, ...], Meta(min_length=1)],
    "words": frozenset[str],
    "mixed": tuple[int, str],
    "table": dict[str, Money],
    "by_id": dict[UUID, int],
    "colour": Colour,
    "level": Level,
    "either": Literal["a", "b", 1] | None,
    "money": Money,
    "paid": Card | Cash,
    "node": Node,
    "page": Page[int],
    "closed": Closed,
    "pair": Pair,
    "place": Place,
    "notes": Notes,
    "line": Line,
    "maybe": int | str | None,
    "paid_maybe": Card | Cash | None,
    "has_default": Money | None,
    "default_colour": Colour,
    "default_list": tuple[int, ...],
    "unset": int | msgspec.UnsetType,
    "default_money": Money,
}
DEFAULTS: dict[str, Any] = {
    "has_default": None,
    "default_colour": Colour.RED,
    "default_list": (1, 2),
    "unset": msgspec.UNSET,
    "default_money": Money(Decimal("1.50")),
}


@pytest.fixture
def fresh_events(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the process know no event but those that the test defines."""
    monkeypatch.setattr(kinds, "_classes", {})
    monkeypatch.setattr(upcasting, "_past", {})
    monkeypatch.setattr(upcasting, "_upcasters", {})
    return iter(())


def event(
    name: str = "Paid", version: int = 1, defaults: dict[str, Any] | None = None, /, **fields: Any
) -> type[IntegrationEvent]:
    """Define an integration event; a field whose name begins with `with_` is a keyword of the class."""
    keywords = {name[5:]: fields.pop(name) for name in tuple(fields) if name.startswith("with_")}
    namespace = {"__annotations__": fields, "__module__": __name__, **(defaults or {})}
    made: Any = EventMeta(name, (IntegrationEvent,), namespace, version=version, **keywords)
    return made  # type: ignore[no-any-return]


def contract(*arguments: Any, **fields: Any) -> Contract:
    """Return the contract of an event made for it."""
    return contract_of(event(*arguments, **fields))
