"""The tables of builds in PostgreSQL: those of a build that is not live stand in a schema of their own."""

from __future__ import annotations

from collections.abc import Sequence

from ensue.errors import DeclarationError, ProjectionInUse
from ensue.handlers.projections.placing import Aside, named, quoted, rows_of, statement
from ensue.log import Steps


class PostgresTables:
    """One schema for each build that is aside."""

    def __init__(self, schema: str) -> None:
        self._schema = schema

    def _aside(self, projection: str, number: int) -> str:
        return f"{self._schema}_{projection}_{number}"

    def home(self) -> Steps[str]:
        (found,) = (yield statement("select current_schema()"))[0]
        if found is None:
            raise DeclarationError(
                "no schema of the search path exists: there is nowhere to make a projection's tables"
            )
        return str(found)

    def exists(self, table: str) -> Steps[bool]:
        rows = yield statement(f"select to_regclass({quoted(named(table))}) is not null")
        return bool(rows[0][0])

    def make(self, sql: str | None) -> Steps[None]:
        yield statement(sql or "")

    def make_aside(
        self, projection: str, number: int, tables: Sequence[str], sql: str | None, home: str
    ) -> Steps[None]:
        aside = self._aside(projection, number)
        yield statement(f"create schema {named(aside)}")
        if sql is None:
            for table in tables:
                yield statement(
                    f"create table {named(aside)}.{named(table)} (like {named(home)}.{named(table)} including all)"
                )
            return
        yield from self._first(aside)
        yield from self.make(sql)
        for table in tables:
            if not (yield from self._stands(aside, table)):
                raise DeclarationError(
                    f"projection {projection!r}: its set_up does not make the table {table!r} where the search path "
                    "says: name it without a schema"
                )
        yield from self._back(aside)

    def open_aside(self, projection: str, number: int, home: str) -> Steps[str]:
        """Make the schema of a build, and let tables be made there; return the search path as it was.

        What readers see is out of sight: who looks whether a table is there does not find it.
        """
        aside = self._aside(projection, number)
        yield statement(f"create schema {named(aside)}")
        before = (yield statement("select current_setting('search_path')"))[0][0]
        schemas = [name for (name,) in (yield statement("select unnest(current_schemas(false))::text"))]
        path = ", ".join(named(each) for each in (aside, *(each for each in schemas if each != home)))
        yield statement(f"select set_config('search_path', {quoted(path)}, true)")
        return str(before)

    def close_aside(self, projection: str, number: int, tables: Sequence[str], path: str) -> Steps[None]:
        """Check what was made there, and give the search path back.

        Raises `DeclarationError` if it is not just the tables, or if the transaction has been ended.
        """
        aside = self._aside(projection, number)
        where = f"projection {projection!r}: its set_up"
        now = (yield statement("select current_setting('search_path')"))[0][0]
        if not str(now).startswith(named(aside)):
            raise DeclarationError(
                f"{where} has ended the transaction, or changed its search path: leave both to ensue"
            )
        for table in tables:
            if not (yield from self._stands(aside, table)):
                raise DeclarationError(
                    f"{where} does not make the table {table!r} where the search path says: name it without a schema"
                )
            if (yield from rows_of(f"{named(aside)}.{named(table)}")):
                raise DeclarationError(f"{where} puts rows into {table!r}: it makes tables, rows come from events")
        found = yield statement(
            f"select relname::text from pg_class where relnamespace = {quoted(named(aside))}::regnamespace "
            "and relkind in ('r', 'p', 'v', 'm') order by 1"
        )
        if more := sorted({name for (name,) in found}.difference(tables)):
            raise DeclarationError(f"{where} also makes {', '.join(more)}: name it in tables=, or leave it out")
        yield statement(f"select set_config('search_path', {quoted(path)}, true)")

    def _stands(self, schema: str, table: str) -> Steps[bool]:
        place = quoted(f"{named(schema)}.{named(table)}")
        rows = yield statement(f"select to_regclass({place}) is not null")
        return bool(rows[0][0])

    def _first(self, schema: str) -> Steps[None]:
        yield statement(
            f"select set_config('search_path', {quoted(named(schema))} || ', ' || current_setting('search_path'), true)"
        )

    def _back(self, schema: str) -> Steps[None]:
        prefix = quoted(named(schema) + ", ")
        yield statement(
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
        home = named(live.home)
        grants: list[tuple[str, str]] = []
        for table in live.tables:
            rows = yield statement(
                "select distinct a.privilege_type, case when a.grantee = 0 then 'public' else "
                "quote_ident(pg_get_userbyid(a.grantee)) end "
                "from pg_class c, aclexplode(c.relacl) a "
                f"where c.oid = {quoted(f'{home}.{named(table)}')}::regclass and a.grantee <> c.relowner"
            )
            grants += [(table, f"grant {privilege} on {home}.{named(table)} to {who}") for privilege, who in rows]
        yield statement(f"create schema if not exists {named(away)}")
        for table in live.tables:
            yield statement(f"alter table {home}.{named(table)} set schema {named(away)}")
        for table in new.tables:
            yield statement(f"alter table {named(here)}.{named(table)} set schema {home}")
        for table, grant in grants:
            if table in new.tables:
                yield statement(grant)

    def _refuse_dependents(self, live: Aside) -> Steps[None]:
        """Refuse if a view or a foreign key would stay with the old tables."""
        listed = ", ".join(quoted(f"{named(live.home)}.{named(table)}") + "::regclass" for table in live.tables)
        rows = yield statement(
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
        yield statement(f"drop schema if exists {named(self._aside(build.projection, build.number))} cascade")

    def name(self, build: Aside, table: str, *, live: bool) -> str:
        schema = build.home if live else self._aside(build.projection, build.number)
        return f"{named(schema)}.{named(table)}"

    def columns(self, name: str) -> Steps[list[str]]:
        rows = yield statement(
            f"select attname from pg_attribute where attrelid = {quoted(name)}::regclass and attnum > 0 "
            "and not attisdropped and attgenerated = '' order by attnum"
        )
        return [row[0] for row in rows]

    def checksum(self, columns: Sequence[str]) -> str:
        listed = ", ".join(named(each) for each in columns)
        return f"cast(coalesce(sum(hashtextextended(cast(row({listed}) as text), 0)), 0) as text)"
