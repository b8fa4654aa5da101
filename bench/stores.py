"""Where the measurements write: a log of its own for each group, and a twin, the same table without ensue."""

from __future__ import annotations

import os
import secrets
import sqlite3
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from bench.events import KIND, WIRE_TYPE, json_in_sql, rows
from ensue import App

COLUMNS = "position, id, type, kind, stream, version, key, data, metadata, correlation_id, causation_id, recorded_at"


@contextmanager
def server(asked: str | None) -> Generator[str]:
    """Yield the URL of a PostgreSQL: the one asked for, ENSUE_TEST_POSTGRES, localhost, or one from the wheel."""
    if url := asked or os.environ.get("ENSUE_TEST_POSTGRES"):
        yield url
        return
    url = "postgresql://postgres@localhost:5432/postgres"
    try:
        psycopg.connect(url, connect_timeout=3).close()
    except psycopg.OperationalError:
        from tests.servers import OwnPostgres

        with OwnPostgres({"fsync": "on"}) as own:
            yield own.url
    else:
        yield url


@contextmanager
def folder() -> Generator[Path]:
    """Yield a folder for SQLite files: below the project's build folder, which is more likely on a disk than /tmp."""
    place = Path("build/bench")
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as name:
        yield Path(name).resolve()


# ---------------------------------------------------------------------------------------------------- PostgreSQL


@dataclass(frozen=True)
class Pair:
    """A log in PostgreSQL and its twin: the same table with the same indexes, in another schema."""

    url: str
    schema: str
    twin: str

    def app(self) -> App:
        """Return a new `App` on the log."""
        return App("bench", self.url, schema=self.schema)

    def insert(self, *, numbered: bool = False) -> str:
        """Return the insert with which a bare driver puts a row of `bench.events.Row` into the twin."""
        given = ", ".join(f"${number}" if numbered else "%s" for number in range(1, 6))
        return (
            f"insert into {self.twin}.events (position, id, type, kind, key, data, recorded_at) "
            f"values (nextval('{self.twin}.positions'), {given}, clock_timestamp())"
        )


@contextmanager
def pair(url: str) -> Generator[Pair]:
    """Make a log and its twin in schemas of their own, and drop them afterwards."""
    schema = f"bench_{secrets.token_hex(4)}"
    made = Pair(url, schema, f"{schema}_twin")
    with psycopg.connect(url, autocommit=True) as connection:
        try:
            made.app().migrate()
            connection.execute(f"create schema {made.twin}".encode())
            connection.execute(f"create table {made.twin}.events (like {schema}.events including all)".encode())
            connection.execute(f"create sequence {made.twin}.positions as bigint cache 1".encode())
            yield made
        finally:
            connection.execute("set client_min_messages = warning")
            for name in (made.twin, schema):
                connection.execute(f"drop schema if exists {name} cascade".encode())


def fill(pair: Pair, count: int, done: Callable[[int], None], chunk: int = 50_000, *, users: int = 0) -> None:
    """Write many events into the log quickly: without its indexes, which are made again at the end.

    Each is of a user of its own, or of any of so many.
    """
    user = f"lpad(to_hex(floor(random() * {users})::int), 32, '0')::uuid" if users else "gen_random_uuid()"
    table = f"{pair.schema}.events"
    event = json_in_sql("u.user_id")
    insert = f"""
        insert into {table} (position, id, type, kind, key, data, recorded_at)
        select nextval('{pair.schema}.positions'),
            encode(overlay(uuid_send(u.id) placing substring(int8send(
                (extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6), 'hex')::uuid,
            '{WIRE_TYPE}', '{KIND}', u.user_id, ({event})::json, clock_timestamp()
        from (select gen_random_uuid() as id, {user}::text as user_id
            from generate_series(1, %(chunk)s)) as u"""
    with psycopg.connect(pair.url, autocommit=True) as connection:
        indexes = connection.execute(
            "select indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index "
            "where indrelid = %s::regclass and not indisprimary",
            (table,),
        ).fetchall()
        if count > chunk:
            for name, _ in indexes:
                connection.execute(f"drop index {name}".encode())
        while count > 0:
            connection.execute(insert.encode(), {"chunk": min(chunk, count)})
            count -= chunk
            done(min(chunk, count + chunk))
        for _, definition in indexes:
            connection.execute(definition.replace("INDEX ", "INDEX IF NOT EXISTS ", 1).encode())
        connection.execute(f"vacuum analyze {table}".encode())
        connection.execute("checkpoint")


# -------------------------------------------------------------------------------------------------------- SQLite


@dataclass(frozen=True)
class Files:
    """A log in an SQLite file and its twin: the same table with the same indexes, in another file."""

    log: Path
    twin: Path

    INSERT = "insert into ensue_events (id, type, kind, key, data, recorded_at) values (?, ?, ?, ?, ?, ?)"

    def app(self) -> App:
        """Return a new `App` on the log."""
        return App("bench", f"sqlite:///{self.log}")


def files(folder: Path) -> Files:
    """Make a log and its twin."""
    name = secrets.token_hex(4)
    made = Files(folder / f"{name}.db", folder / f"{name}-twin.db")
    made.app().migrate()
    source, twin = sqlite3.connect(made.log), sqlite3.connect(made.twin)
    twin.execute("pragma journal_mode = wal")
    for (definition,) in source.execute(
        "select sql from sqlite_master where tbl_name = 'ensue_events' and sql is not null order by type desc"
    ):
        twin.execute(definition)
    source.close()
    twin.close()
    return made


def open_file(path: Path, synchronous: str) -> sqlite3.Connection:
    """Open a file as an application would; `synchronous` is FULL or NORMAL."""
    connection = sqlite3.connect(path)
    connection.execute("pragma journal_mode = wal")
    connection.execute(f"pragma synchronous = {synchronous}")
    return connection


def fill_file(path: Path, count: int, done: Callable[[int], None], chunk: int = 10_000, *, users: int = 0) -> None:
    """Write many events into a log's file, each of a user of its own, or of any of so many."""
    connection = open_file(path, "off")
    moment = "2026-03-01T12:30:15.123456Z"
    while count > 0:
        size = min(chunk, count)
        ready: list[tuple[Any, ...]] = [(*row, moment) for row in rows(size, users=users)]
        connection.executemany(Files.INSERT, ready)
        connection.commit()
        count -= size
        done(size)
    connection.close()
