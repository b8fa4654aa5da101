"""The columns of a row type: their names, what they hold, and how each database keeps that."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Union, cast, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec

from ensue.errors import DeclarationError

_SQLITE: dict[type, str] = {
    str: "text",
    int: "integer",
    float: "real",
    bool: "integer",
    bytes: "blob",
    UUID: "text",
    datetime: "text",
    date: "text",
}
_POSTGRES: dict[type, str] = {
    str: "text",
    int: "bigint",
    float: "double precision",
    bool: "boolean",
    bytes: "bytea",
    UUID: "uuid",
    datetime: "timestamptz",
    date: "date",
    Decimal: "numeric",
}
_NUMBERS = (int, float, Decimal)


@dataclass(frozen=True, slots=True)
class Column:
    """One field of a row type."""

    name: str
    holds: type
    nullable: bool

    @property
    def counts(self) -> bool:
        """Whether it can be added to."""
        return self.holds in _NUMBERS and not self.nullable

    def ddl(self, *, postgres: bool) -> str:
        """Return how a table is made with it. Raises `DeclarationError` for what the database cannot keep exactly."""
        found = (_POSTGRES if postgres else _SQLITE).get(self.holds)
        if found is None:
            raise DeclarationError(
                f"column {self.name!r}: SQLite keeps no exact decimals; count in the smallest unit, as an int"
            )
        return f'"{self.name}" {found}' + ("" if self.nullable else " not null")


def columns_of(row: type, table: str) -> tuple[Column, ...]:
    """Return the columns of a row type. Raises `DeclarationError` for what is none, or holds what no column does."""
    if not (isinstance(row, type) and (dataclasses.is_dataclass(row) or issubclass(row, msgspec.Struct))):
        raise DeclarationError(f"table {table!r}: {row!r} is no row type: use a dataclass or a msgspec.Struct")
    hints = get_type_hints(row)
    names = (
        row.__struct_fields__ if issubclass(row, msgspec.Struct) else [each.name for each in dataclasses.fields(row)]
    )
    return tuple(_column(name, hints[name], table) for name in names)


def _column(name: str, hint: Any, table: str) -> Column:
    parts: list[Any] = [*get_args(hint)] if get_origin(hint) in (Union, types.UnionType) else [hint]
    kinds = [each for each in parts if each is not type(None)]
    if len(kinds) != 1 or kinds[0] not in _POSTGRES:
        known = ", ".join(each.__name__ for each in _POSTGRES)
        raise DeclarationError(f"table {table!r}: column {name!r} is {hint}; a column holds {known}, or None besides")
    return Column(name, kinds[0], len(kinds) < len(parts))


def kept(value: object, *, postgres: bool) -> object:
    """Return a value as the driver takes it."""
    if postgres or value is None:
        return value
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise DeclarationError(f"{value!r} has no time zone: make it aware")
        return value.astimezone(UTC).isoformat(timespec="microseconds")  # as text, it sorts by time
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Decimal):
        raise DeclarationError(f"{value!r}: SQLite keeps no exact decimals; count in the smallest unit, as an int")
    return value


class _Names:
    """Stands for a row, to find out which fields make its key."""

    def __init__(self, known: Sequence[str]) -> None:
        self._known = known

    def __getattr__(self, name: str) -> _Name:
        if name not in self._known:
            raise AttributeError(name)
        return _Name(name)


@dataclass(frozen=True)
class _Name:
    name: str


def key_of(key: Callable[[Any], object], columns: Sequence[Column], table: str) -> tuple[str, ...]:
    """Return the columns that make a key, given as `lambda row: row.account` or `lambda row: (row.group, row.user)`."""
    wrong = DeclarationError(
        f"table {table!r}: key= names one field or several, as in key=lambda row: row.account or "
        "key=lambda row: (row.group, row.user)"
    )
    try:
        found = key(_Names([each.name for each in columns]))
    except Exception as error:
        raise wrong from error
    parts: list[object] = [*cast("tuple[object, ...]", found)] if isinstance(found, tuple) else [found]
    names = tuple(each.name for each in parts if isinstance(each, _Name))
    if not names or len(names) != len(parts) or len(set(names)) != len(names):
        raise wrong
    if nullable := [each.name for each in columns if each.name in names and each.nullable]:
        raise DeclarationError(f"table {table!r}: {', '.join(nullable)} may be None and cannot be part of the key")
    return names
