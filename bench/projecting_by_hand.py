"""What projections are compared with: the bare driver's upserts, and the loop that somebody would write by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any

import msgspec
import psycopg

from bench.events import WIRE_TYPE, SignedUp
from bench.harness import rate
from bench.projector import SET_UP, UPSERT

BATCH = 500
_READ = "select position, data from {log} where position > {mark} and type = {mark} order by position limit {batch}"

Connection = psycopg.Connection[Any] | sqlite3.Connection


def upsert(connection: Connection, rows: Sequence[tuple[str, str]]) -> float:
    """Return upserts per second into a new table, executed one by one, one transaction for each batch.

    The fastest way of either driver for who has one row at a time: psycopg's pipeline, where there is one. The rows are
    in memory: nothing is read or decoded, no checkpoint moves.
    """
    statement = UPSERT.format(table=_anew(connection), mark=_mark(connection))

    def work() -> None:
        for first in range(0, len(rows), BATCH):
            with _pipeline(connection), closing(connection.cursor()) as cursor:
                for row in rows[first : first + BATCH]:
                    cursor.execute(statement, row)
            connection.commit()

    return rate(len(rows), work)


def upsert_many(connection: Connection, rows: Sequence[tuple[str, str]]) -> float:
    """As `upsert`, by `executemany`: for who has all rows of a batch at once, which no handler of one event has."""
    statement = UPSERT.format(table=_anew(connection), mark=_mark(connection))

    def work() -> None:
        for first in range(0, len(rows), BATCH):
            with closing(connection.cursor()) as cursor:
                cursor.executemany(statement, rows[first : first + BATCH])
            connection.commit()

    return rate(len(rows), work)


def project(connection: Connection, log: Connection, events: str, count: int) -> float:
    """Return events per second of a loop that handles one event at a time, and isolates no failing one.

    It reads batches from the log over another connection, decodes each event, upserts, and moves a checkpoint in the
    same transaction: nothing fences it. One process, one thread; the driver's pipeline where there is one.
    """
    statement = UPSERT.format(table=_anew(connection), mark=_mark(connection))
    move = f"update bare_checkpoint set position = {_mark(connection)}"
    _make_checkpoint(connection)
    decode = msgspec.json.Decoder(SignedUp).decode

    def work() -> None:
        for rows in _batches(log, events):
            with _pipeline(connection):
                for _, data in rows:
                    event = decode(data)
                    connection.execute(statement, (str(event.user_id), event.plan))
                connection.execute(move, (rows[-1][0],))
            connection.commit()

    return rate(count, work)


def _batches(log: Connection, events: str) -> Iterator[list[tuple[int, str]]]:
    query: Any = _READ.format(log=events, mark=_mark(log), batch=BATCH)
    if isinstance(log, psycopg.Connection):
        query = query.replace("data", "data::text", 1)
    after = 0
    while rows := log.execute(query, (after, WIRE_TYPE)).fetchall():
        log.commit()
        yield rows
        after = rows[-1][0]


def _pipeline(connection: Connection) -> AbstractContextManager[object]:
    return connection.pipeline() if isinstance(connection, psycopg.Connection) else nullcontext()


def _mark(connection: Connection) -> str:
    return "%s" if isinstance(connection, psycopg.Connection) else "?"


def _anew(connection: Any) -> str:
    connection.execute("drop table if exists bare")
    connection.execute(SET_UP.format(table="bare"))
    connection.commit()
    return "bare"


def _make_checkpoint(connection: Any) -> None:
    connection.execute("create table if not exists bare_checkpoint (position bigint)")
    connection.execute("delete from bare_checkpoint")
    connection.execute("insert into bare_checkpoint values (0)")
    connection.commit()
