"""The tables of builds in SQLite: those of a build that is not live have names of their own."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence

from ensue.errors import DeclarationError
from ensue.handlers.projections.placing import Aside, named, quoted, statement
from ensue.log import Steps
from ensue.log.sqlite.checksum import NAME as SQLITE_CHECKSUM

_RENAMING = ("pragma legacy_alter_table = on", "pragma legacy_alter_table = off")
"""Views and triggers name what readers see: they are not to follow a table to where it is put."""
_INDEX = re.compile(r"\s*create\s+(unique\s+)?index\s+(?:if\s+not\s+exists\s+)?(\"[^\"]+\"|\w+)", re.IGNORECASE)


class SqliteTables:
    """One set of names for each build that is aside."""

    @staticmethod
    def _aside(table: str, number: int) -> str:
        return f"{table}__{number}"

    def home(self) -> Steps[str]:
        yield from ()
        return ""

    def exists(self, table: str) -> Steps[bool]:
        rows = yield statement(
            f"select 1 from sqlite_master where type = 'table' and lower(name) = {quoted(table.lower())}"
        )
        return bool(rows)

    def make(self, sql: str | None) -> Steps[None]:
        for each in _statements(sql or ""):
            yield statement(each)

    def make_aside(
        self, projection: str, number: int, tables: Sequence[str], sql: str | None, home: str
    ) -> Steps[None]:
        if sql is None:
            listed = ", ".join(quoted(table.lower()) for table in tables)
            rows = yield statement(
                f"select sql from sqlite_master where lower(tbl_name) in ({listed}) and sql is not null "
                "and type in ('table', 'index') order by type desc"
            )
            statements = [row[0] for row in rows]
        else:
            statements = list(_statements(sql))
        for each in _renamed(projection, statements, {table: self._aside(table, number) for table in tables}, number):
            yield statement(each)

    def enter(self, build: Aside) -> Steps[None]:
        yield from self._rename((table, self._aside(table, 0)) for table in build.tables)
        yield from self._rename((self._aside(table, build.number), table) for table in build.tables)

    def leave(self, build: Aside) -> Steps[None]:
        yield from self._rename((table, self._aside(table, build.number)) for table in build.tables)
        yield from self._rename((self._aside(table, 0), table) for table in build.tables)

    def swap(self, live: Aside, new: Aside) -> Steps[None]:
        yield from self._rename((table, self._aside(table, live.number)) for table in live.tables)
        yield from self._rename((self._aside(table, new.number), table) for table in new.tables)

    def _rename(self, pairs: Iterator[tuple[str, str]]) -> Steps[None]:
        """Rename tables that are there: a build may have some that another one lacks."""
        yield statement(_RENAMING[0])
        for old, new in pairs:
            if (yield from self.exists(old)):
                yield statement(f"alter table {named(old)} rename to {named(new)}")
        yield statement(_RENAMING[1])

    def drop_aside(self, build: Aside) -> Steps[None]:
        for table in build.tables:
            yield statement(f"drop table if exists {named(self._aside(table, build.number))}")

    def name(self, build: Aside, table: str, *, live: bool) -> str:
        return named(table if live else self._aside(table, build.number))

    def columns(self, name: str) -> Steps[list[str]]:
        rows = yield statement(f"pragma table_info({name})")
        return [row[1] for row in rows]

    def checksum(self, columns: Sequence[str]) -> str:
        return f"{SQLITE_CHECKSUM}({', '.join(named(each) for each in columns)})"


def _statements(sql: str) -> Iterator[str]:
    """Cut SQL into statements."""
    begun = ""
    for line in sql.splitlines(keepends=True):
        for part in re.split(r"(?<=;)", line):
            begun += part
            if sqlite3.complete_statement(begun):
                yield begun
                begun = ""
    if begun.strip():
        yield begun


def _renamed(projection: str, statements: Sequence[str], names: dict[str, str], number: int) -> Iterator[str]:
    """Return what makes the tables under other names: SQLite itself rewrites them, in a database in memory."""
    scratch = sqlite3.connect(":memory:")
    try:
        for each in statements:
            scratch.execute(each)
        there = {row[0].lower() for row in scratch.execute("select name from sqlite_master where type = 'table'")}
        for table, name in names.items():
            if table.lower() not in there:
                raise DeclarationError(f"projection {projection!r}: its set_up does not make the table {table!r}")
            scratch.execute(f"alter table {named(table)} rename to {named(name)}")
        rows = scratch.execute(
            "select type, name, sql from sqlite_master where sql is not null and name not like 'sqlite!_%' escape '!' "
            "order by rowid"
        ).fetchall()
    except sqlite3.Error as error:
        raise DeclarationError(f"projection {projection!r}: its tables cannot be made aside: {error}") from error
    finally:
        scratch.close()
    for kind, name, sql in rows:
        if kind == "index":  # an index's name is the database's, not the table's
            yield _INDEX.sub(rf"create \1index {named(f'{name}__{number}')}", sql, count=1)
        else:
            yield sql
