"""A wallet's homes in one database: ensue, the peer in two styles, and the bare driver on an open connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from bench.events import MOMENT
from bench.harness import Room
from bench.stores import files, open_file, pair
from bench.wallets import Wallet
from bench.wallets_peer import PeerWallets, settings_for, settings_of, with_msgspec
from bench.wallets_peer_default import TutorialWallets
from ensue.aggregates import Repository


@dataclass(frozen=True)
class Place:
    """One database with all in it."""

    database: str
    wallets: Repository[Wallet]
    peer: PeerWallets
    tutorial: TutorialWallets
    read: Callable[[str], list[tuple[Any, ...]]]
    """The bare driver's rows of version, type and data of a stream in ensue's log."""
    insert: Callable[[list[tuple[Any, ...]]], None]
    """The bare driver's insert of rows of id, type, stream, version and data into the twin, and its commit."""
    insert_bare: Callable[[list[tuple[Any, ...]]], None]
    """The same into a table that has no index: nothing that writes them can be faster."""


SOURCED = "sourced"


@contextmanager
def in_file(room: Room) -> Generator[Place]:
    """Make them in SQLite files, in WAL mode with synchronous FULL."""
    made = files(room.folder)
    settings = settings_for(made.log.with_suffix(".peer.db"))
    with (
        closing(open_file(made.log, "FULL")) as reader,
        closing(open_file(made.twin, "FULL")) as writer,
        closing(open_file(made.twin.with_suffix(".bare.db"), "FULL")) as bare,
        with_msgspec(settings) as peer,
        TutorialWallets(settings) as tutorial,
    ):
        ((table,),) = writer.execute("select sql from sqlite_master where type = 'table' and name = 'ensue_events'")
        bare.execute(table)
        repository = made.app().repository(Wallet)
        yield Place("SQLite", repository, peer, tutorial, _reading(reader), _inserting(writer), _inserting(bare))


def _reading(connection: sqlite3.Connection) -> Callable[[str], list[tuple[Any, ...]]]:
    query = "select version, type, data from ensue_events where stream = ? order by version"
    return lambda stream: connection.execute(query, (stream,)).fetchall()


def _inserting(connection: sqlite3.Connection) -> Callable[[list[tuple[Any, ...]]], None]:
    statement = (
        "insert into ensue_events (id, type, stream, version, data, kind, key, recorded_at) "
        f"values (?1, ?2, ?3, ?4, ?5, '{SOURCED}', ?3, '{MOMENT.isoformat()}')"
    )

    def insert(rows: list[tuple[Any, ...]]) -> None:
        if len(rows) == 1:
            connection.execute(statement, rows[0])
        else:
            connection.executemany(statement, rows)
        connection.commit()

    return insert


@contextmanager
def in_server(room: Room) -> Generator[Place]:
    """Make them in PostgreSQL, in schemas of their own."""
    with (
        pair(room.postgres) as made,
        psycopg.connect(made.url, autocommit=True) as bare,
        with_msgspec(settings_of(made, made.twin)) as peer,
        TutorialWallets(settings_of(made, made.schema)) as tutorial,
    ):
        query = f"select version, type, data::text from {made.schema}.events where stream = %s order by version"
        bare.execute(f"create table {made.twin}.unindexed (like {made.twin}.events including defaults)".encode())

        def read(stream: str) -> list[tuple[Any, ...]]:
            return bare.execute(query.encode(), (stream,), prepare=True).fetchall()

        def inserting(table: str) -> Callable[[list[tuple[Any, ...]]], None]:
            statement = (
                f"insert into {made.twin}.{table} (position, id, type, kind, stream, version, key, data, recorded_at) "
                f"select nextval('{made.twin}.positions'), id, type, '{SOURCED}', stream, version, stream, data::json, "
                "clock_timestamp() from unnest(%s::uuid[], %s::text[], %s::text[], %s::bigint[], %s::text[]) "
                "as given(id, type, stream, version, data)"
            ).encode()

            def insert(rows: list[tuple[Any, ...]]) -> None:
                bare.execute(statement, [list(column) for column in zip(*rows, strict=True)], prepare=True)

            return insert

        repository = made.app().repository(Wallet)
        yield Place("PostgreSQL", repository, peer, tutorial, read, inserting("events"), inserting("unindexed"))
