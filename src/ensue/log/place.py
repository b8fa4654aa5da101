"""Where a log is: which database, which schema, whose."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from ensue.errors import DeclarationError, WrongDatabase
from ensue.log.dialect import Dialect
from ensue.log.postgres import Postgres
from ensue.log.sqlite import Sqlite

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,39}")
# What PostgreSQL up to 18 takes as no name of a schema (pg_get_keywords(), categories R and T).
_KEYWORDS = frozenset(
    (  # noqa: SIM905 as a list it fills a page
        "all analyse analyze and any array as asc asymmetric authorization binary both case cast check "
        "collate collation column concurrently constraint create cross current_catalog current_date "
        "current_role current_schema current_time current_timestamp current_user default deferrable desc "
        "distinct do else end except false fetch for foreign freeze from full grant group having ilike in "
        "initially inner intersect into is isnull join lateral leading left like limit localtime "
        "localtimestamp natural not notnull null offset on only or order outer overlaps placing primary "
        "references returning right select session_user similar some symmetric system_user table tablesample "
        "then to trailing true union unique user using variadic verbose when where window with "
    ).split()
)
_SCHEMES = "sqlite:///file.db, postgresql://user@host/database or memory://name"


def _same_file(one: str, other: str) -> bool:
    return Path(one).exists() and Path(other).exists() and Path(one).samefile(other)


@dataclass(frozen=True)
class Place:
    """A log's address. Raises `DeclarationError` for a URL or a schema name that cannot be used."""

    app: str
    url: str
    schema: str = "ensue"
    dialect: Dialect = field(init=False)
    database: str = field(init=False)
    """The file's path for SQLite (`/name` in memory), the database's name for PostgreSQL ('' if the URL has none)."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.schema):
            raise DeclarationError(
                f"schema={self.schema!r}: use lower-case letters, digits and underscores, at most 40 of them"
            )
        scheme, _, rest = self.url.partition("://")
        scheme = scheme.partition("+")[0]
        dialect: Dialect
        if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
            dialect, database = Sqlite(self.schema), os.path.realpath(rest[1:].partition("?")[0])
        elif scheme == "memory" and rest:
            dialect, database = Sqlite(self.schema), f"/{rest}"
        elif scheme in ("postgresql", "postgres"):
            dialect, database = Postgres(self.schema), unquote(urlsplit(self.url).path.removeprefix("/"))
        else:
            raise DeclarationError(f"{self.url!r} is not the URL of a log: use {_SCHEMES}")
        if isinstance(dialect, Postgres):
            reserved = self.schema in _KEYWORDS or self.schema.startswith("pg_")
        else:
            reserved = f"{self.schema}_".startswith("sqlite_")
        if reserved:
            raise DeclarationError(f"schema={self.schema!r}: {dialect.label} keeps that name for itself")
        object.__setattr__(self, "dialect", dialect)
        object.__setattr__(self, "database", database)

    @property
    def in_memory(self) -> bool:
        """True if the log lives in this process only."""
        return self.url.startswith("memory://")

    @property
    def conninfo(self) -> str:
        """The URL as PostgreSQL's own library takes it."""
        return re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", self.url)

    @property
    def shown(self) -> str:
        """Where the log is, for people: without the password, with the schema if it is not the usual one."""
        parts = urlsplit(self.url)
        where = self.url
        if parts.password is not None:
            user, _, host = parts.netloc.rpartition("@")
            where = urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}"))
        if "password=" in parts.query:
            hidden = "&".join(
                f"{pair.partition('=')[0]}=***" if "password=" in pair else pair for pair in parts.query.split("&")
            )
            where = urlunsplit(urlsplit(where)._replace(query=hidden))
        return where if self.schema == "ensue" else f"{where} ({self.schema})"

    def confirm(self, database: str | None) -> None:
        """Raise `WrongDatabase` unless a connection to this database, where that is known, leads to the log."""
        if not database or not self.database or database == self.database:
            return
        if isinstance(self.dialect, Sqlite) and _same_file(database, self.database):
            return
        raise WrongDatabase(
            f"the connection leads to {database!r}, but the log of {self.app!r} is in {self.database!r}: "
            "an event is recorded in the transaction of the data it is about, in one database; nothing was recorded"
        )
