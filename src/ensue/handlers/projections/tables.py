"""Where the tables of a build are, and how a function's plain SQL reaches them.

A function names its tables as readers do. While a build is not live, its tables stand aside: in PostgreSQL in a schema
of their own that comes first in the transaction's search path, in SQLite under names of their own, which the
transaction exchanges for the readers' names and back before it commits, so that nobody else ever sees that.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Protocol

from ensue.errors import DeclarationError, ProjectionInUse
from ensue.log import Call, Log, Postgres, Query, Steps
from ensue.log.sqlite.checksum import NAME as SQLITE_CHECKSUM


class Aside(Protocol):
    """What `Tables` wants to know of a build."""

    @property
    def projection(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def tables(self) -> tuple[str, ...]: ...
    @property
    def home(self) -> str: ...


class Tables(Protocol):
    """What can be done with the tables of builds, in the open transaction."""

    def home(self) -> Steps[str]:
        """Return the schema in which tables are made that are named without one; nothing in SQLite."""
        ...

    def exists(self, table: str) -> Steps[bool]: ...

    def make(self, sql: str | None) -> Steps[None]:
        """Carry SQL out, one statement or several."""
        ...

    def make_aside(
        self, projection: str, number: int, tables: Sequence[str], sql: str | None, home: str
    ) -> Steps[None]:
        """Make tables aside by the SQL; without it, of the structure of those that readers see."""
        ...

    def enter(self, build: Aside) -> Steps[None]:
        """Let the names of tables lead to those aside, in this transaction."""
        ...

    def leave(self, build: Aside) -> Steps[None]:
        """Let them lead again to those that readers see; needed before the transaction commits."""
        ...

    def swap(self, live: Aside, new: Aside) -> Steps[None]:
        """Put the tables of one build where readers see them, and those that were there aside."""
        ...

    def drop_aside(self, build: Aside) -> Steps[None]: ...

    def name(self, build: Aside, table: str, *, live: bool) -> str:
        """Return how SQL reaches a build's table from outside."""
        ...

    def columns(self, name: str) -> Steps[list[str]]:
        """Return the columns of a table that is named so, but for those that the database computes."""
        ...

    def checksum(self, columns: Sequence[str]) -> str:
        """Return the SQL that sums up a hash of these columns of all rows, as text: equal rows, equal checksum."""
        ...


def tables_of(log: Log) -> Tables:
    """Return how it is done in the log's database."""
    return PostgresTables(log.place.schema) if isinstance(log.dialect, Postgres) else SqliteTables()


def _rows(sql: str) -> Call:
    return Call(Query.verbatim(sql))


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _name(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


class PostgresTables:
    """One schema for each build that is aside."""

    def __init__(self, schema: str) -> None:
        self._schema = schema

    def _aside(self, projection: str, number: int) -> str:
        return f"{self._schema}_{projection}_{number}"

    def home(self) -> Steps[str]:
        (found,) = (yield _rows("select current_schema()"))[0]
        if found is None:
            raise DeclarationError(
                "no schema of the search path exists: there is nowhere to make a projection's tables"
            )
        return str(found)

    def exists(self, table: str) -> Steps[bool]:
        rows = yield _rows(f"select to_regclass({_text(_name(table))}) is not null")
        return bool(rows[0][0])

    def make(self, sql: str | None) -> Steps[None]:
        yield _rows(sql or "")

    def make_aside(
        self, projection: str, number: int, tables: Sequence[str], sql: str | None, home: str
    ) -> Steps[None]:
        aside = self._aside(projection, number)
        yield _rows(f"create schema {_name(aside)}")
        if sql is None:
            for table in tables:
                yield _rows(
                    f"create table {_name(aside)}.{_name(table)} (like {_name(home)}.{_name(table)} including all)"
                )
            return
        yield from self._first(aside)
        yield from self.make(sql)
        for table in tables:
            rows = yield _rows(f"select to_regclass({_text(f'{_name(aside)}.{_name(table)}')}) is not null")
            if not rows[0][0]:
                raise DeclarationError(
                    f"projection {projection!r}: its set_up does not make the table {table!r} where the search path "
                    "says: name it without a schema"
                )
        yield from self._back(aside)

    def _first(self, schema: str) -> Steps[None]:
        yield _rows(
            f"select set_config('search_path', {_text(_name(schema))} || ', ' || current_setting('search_path'), true)"
        )

    def _back(self, schema: str) -> Steps[None]:
        prefix = _text(_name(schema) + ", ")
        yield _rows(
            "select set_config('search_path', "
            f"substr(current_setting('search_path'), length({prefix}) + 1), true) "
            f"where starts_with(current_setting('search_path'), {prefix})"
        )

    def enter(self, build: Aside) -> Steps[None]:
        yield from self._first(self._aside(build.projection, build.number))

    def leave(self, build: Aside) -> Steps[None]:
        yield from self._back(self._aside(build.projection, build.number))

    def swap(self, live: Aside, new: Aside) -> Steps[None]:
        yield from self._refuse_dependents(live)
        away, here = self._aside(live.projection, live.number), self._aside(new.projection, new.number)
        home = _name(live.home)
        grants: list[tuple[str, str]] = []
        for table in live.tables:
            rows = yield _rows(
                "select distinct a.privilege_type, case when a.grantee = 0 then 'public' else "
                "quote_ident(pg_get_userbyid(a.grantee)) end "
                "from pg_class c, aclexplode(c.relacl) a "
                f"where c.oid = {_text(f'{home}.{_name(table)}')}::regclass and a.grantee <> c.relowner"
            )
            grants += [(table, f"grant {privilege} on {home}.{_name(table)} to {who}") for privilege, who in rows]
        yield _rows(f"create schema if not exists {_name(away)}")
        for table in live.tables:
            yield _rows(f"alter table {home}.{_name(table)} set schema {_name(away)}")
        for table in new.tables:
            yield _rows(f"alter table {_name(here)}.{_name(table)} set schema {home}")
        for table, grant in grants:
            if table in new.tables:
                yield _rows(grant)

    def _refuse_dependents(self, live: Aside) -> Steps[None]:
        """Refuse if a view or a foreign key would stay with the old tables."""
        listed = ", ".join(_text(f"{_name(live.home)}.{_name(table)}") + "::regclass" for table in live.tables)
        rows = yield _rows(
            "select distinct 'the view ' || r.ev_class::regclass::text from pg_depend d "
            "join pg_rewrite r on r.oid = d.objid and d.classid = 'pg_rewrite'::regclass "
            f"where d.refobjid in ({listed}) and r.ev_class not in ({listed}) "
            "union select 'the foreign key ' || c.conname || ' of ' || c.conrelid::regclass::text from pg_constraint c "
            f"where c.contype = 'f' and c.confrelid in ({listed}) and c.conrelid not in ({listed}) order by 1"
        )
        if rows:
            raise ProjectionInUse(
                f"projection {live.projection!r} cannot be switched: {', '.join(row[0] for row in rows)} would stay "
                "with the old tables. Drop it, switch, and make it again"
            )

    def drop_aside(self, build: Aside) -> Steps[None]:
        yield _rows(f"drop schema if exists {_name(self._aside(build.projection, build.number))} cascade")

    def name(self, build: Aside, table: str, *, live: bool) -> str:
        schema = build.home if live else self._aside(build.projection, build.number)
        return f"{_name(schema)}.{_name(table)}"

    def columns(self, name: str) -> Steps[list[str]]:
        rows = yield _rows(
            f"select attname from pg_attribute where attrelid = {_text(name)}::regclass and attnum > 0 "
            "and not attisdropped and attgenerated = '' order by attnum"
        )
        return [row[0] for row in rows]

    def checksum(self, columns: Sequence[str]) -> str:
        listed = ", ".join(_name(each) for each in columns)
        return f"cast(coalesce(sum(hashtextextended(cast(row({listed}) as text), 0)), 0) as text)"


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
        rows = yield _rows(f"select 1 from sqlite_master where type = 'table' and lower(name) = {_text(table.lower())}")
        return bool(rows)

    def make(self, sql: str | None) -> Steps[None]:
        for statement in _statements(sql or ""):
            yield _rows(statement)

    def make_aside(
        self, projection: str, number: int, tables: Sequence[str], sql: str | None, home: str
    ) -> Steps[None]:
        if sql is None:
            listed = ", ".join(_text(table.lower()) for table in tables)
            rows = yield _rows(
                f"select sql from sqlite_master where lower(tbl_name) in ({listed}) and sql is not null "
                "and type in ('table', 'index') order by type desc"
            )
            statements = [row[0] for row in rows]
        else:
            statements = list(_statements(sql))
        for statement in _renamed(
            projection, statements, {table: self._aside(table, number) for table in tables}, number
        ):
            yield _rows(statement)

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
        yield _rows(_RENAMING[0])
        for old, new in pairs:
            if (yield from self.exists(old)):
                yield _rows(f"alter table {_name(old)} rename to {_name(new)}")
        yield _rows(_RENAMING[1])

    def drop_aside(self, build: Aside) -> Steps[None]:
        for table in build.tables:
            yield _rows(f"drop table if exists {_name(self._aside(table, build.number))}")

    def name(self, build: Aside, table: str, *, live: bool) -> str:
        return _name(table if live else self._aside(table, build.number))

    def columns(self, name: str) -> Steps[list[str]]:
        rows = yield _rows(f"pragma table_info({name})")
        return [row[1] for row in rows]

    def checksum(self, columns: Sequence[str]) -> str:
        return f"{SQLITE_CHECKSUM}({', '.join(_name(each) for each in columns)})"


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
        for statement in statements:
            scratch.execute(statement)
        there = {row[0].lower() for row in scratch.execute("select name from sqlite_master where type = 'table'")}
        for table, name in names.items():
            if table.lower() not in there:
                raise DeclarationError(f"projection {projection!r}: its set_up does not make the table {table!r}")
            scratch.execute(f"alter table {_name(table)} rename to {_name(name)}")
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
            yield _INDEX.sub(rf"create \1index {_name(f'{name}__{number}')}", sql, count=1)
        else:
            yield sql
