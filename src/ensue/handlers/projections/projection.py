"""A projection as an application declares it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ensue.errors import DeclarationError
from ensue.events import Event, Recorded, stored_types
from ensue.handlers.carrying import MakeTransaction
from ensue.handlers.functions import Function
from ensue.log import is_awaited
from ensue.subscriptions import Backoff
from ensue.tables import Table

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")

Clear = Callable[[str, Any], object] | None
"""Removes the rows of a key, given the key and the connection."""


MakeTables = Callable[[Any], object]
"""Makes tables, given the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """A read model: tables that follow from events, and the function by which they do."""

    name: str
    version: int
    """Grows with every change of what it makes of the events."""
    types: tuple[type[Event], ...]
    function: Function
    """Called with the event, the connection, and how the log holds the event."""
    tables: tuple[str, ...]
    set_up: str | MakeTables | None
    """Makes the tables: SQL, or a function of the connection."""
    clear: Clear
    transaction: MakeTransaction | None
    batch: int
    partitions: int
    retry: Backoff
    timeout: float | None

    def __post_init__(self) -> None:
        where = f"projection {self.name!r}"
        if not _NAME.fullmatch(self.name):
            raise DeclarationError(f"{where}: its name is an identifier of at most 40 characters: tables get it too")
        if not isinstance(self.version, int) or isinstance(self.version, bool) or self.version < 1:
            raise DeclarationError(f"{where}: version={self.version!r}: 1, 2, …")
        if not self.tables:
            raise DeclarationError(f"{where}: say which tables it writes, tables='…': they are what is built anew")
        for table in self.tables:
            if not isinstance(table, str) or not _NAME.fullmatch(table):
                raise DeclarationError(
                    f"{where}: table {table!r}: a plain name of at most 40 characters, without a schema: the search "
                    "path says where it is"
                )
        if isinstance(self.set_up, str):
            if not self.set_up.strip():
                raise DeclarationError(f"{where}: set_up is empty; leave it out if the tables come from elsewhere")
        elif self.set_up is not None and is_awaited(self.set_up) != self.function.is_async:
            how = ("async", "sync") if self.function.is_async else ("sync", "async")
            raise DeclarationError(
                f"{where}: it is {how[0]}, and its set_up is {how[1]}: they get the same kind of connection"
            )

    @property
    def stored(self) -> tuple[str, ...]:
        """Every wire type under which its events may be stored."""
        return tuple(dict.fromkeys(name for each in self.types for name in stored_types(each)))

    def call(self, item: tuple[Event, Recorded[Any]], via: object) -> Any:
        """Call the function with an event, the connection, and how the log holds the event if it asks for that."""
        event, recorded = item
        if self.function.takes_three:
            return self.function.function(event, via, recorded)
        return self.function.directly(event, via)


Tables = str | Table[Any, Any] | Iterable[Any]
"""Names, tables with typed rows, SQLAlchemy tables, or models of SQLAlchemy or Django."""


class Schema(Protocol):
    """SQLAlchemy's `MetaData`."""

    @property
    def sorted_tables(self) -> Sequence[Any]: ...


SetUp = str | Schema | MakeTables | None
"""What makes tables: SQL, SQLAlchemy's metadata, or a function of the connection, sync or async as the projection is;
None: nothing, or what tables with typed rows say themselves."""


def table_names(tables: Tables) -> tuple[str, ...]:
    """Return the names of tables."""
    return tuple(dict.fromkeys(_table_name(each) for each in _several(tables)))


def set_up_of(set_up: SetUp, tables: Tables, *, postgres: bool) -> str | MakeTables | None:
    """Return the SQL or the function that makes tables; None if they come from elsewhere."""
    if isinstance(set_up, str):
        return set_up
    if callable(set_up):
        return set_up
    if set_up is not None:
        return _sql_of(set_up, frozenset(table_names(tables)), postgres=postgres)
    given = _several(tables)
    typed: list[Table[Any, Any]] = [each for each in given if isinstance(each, Table)]
    if not typed or len(typed) < len(given):
        return None
    return "".join(f"{each.ddl(postgres=postgres)};\n" for each in typed)


def _sql_of(schema: Schema, names: frozenset[str], *, postgres: bool) -> str:
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.schema import CreateIndex, CreateTable

    dialect = postgresql.dialect() if postgres else sqlite.dialect()  # type: ignore[no-untyped-call]
    statements: list[Any] = []
    for table in schema.sorted_tables:
        if table.name in names:
            statements += [CreateTable(table), *map(CreateIndex, sorted(table.indexes, key=lambda each: each.name))]
    return "".join(f"{str(each.compile(dialect=dialect)).strip()};\n" for each in statements)


def _several(tables: Tables) -> tuple[Any, ...]:
    return (tables,) if isinstance(tables, (str, Table)) else tuple(tables)


def _table_name(table: Any) -> str:
    if isinstance(table, str):
        return table
    for found in (
        getattr(table, "__tablename__", None),
        getattr(getattr(table, "_meta", None), "db_table", None),
        getattr(table, "name", None),
    ):
        if isinstance(found, str):
            return found
    raise DeclarationError(f"tables={table!r}: give names, SQLAlchemy tables, or models")
