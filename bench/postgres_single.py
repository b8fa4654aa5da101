"""One event per transaction in PostgreSQL, one writer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg

from bench.events import rows, sign_ups
from bench.harness import Figure, Room, Side, Target, rate
from bench.stores import Pair, pair


def figures(room: Room) -> Iterator[Figure]:
    """Compare `record` and commit with the bare insert and commit, with and without waiting for the disk."""
    for setting in ("as set", "off"):
        with pair(room.postgres) as made:
            yield _figure(room, made, setting)


def _figure(room: Room, made: Pair, setting: str) -> Figure:
    count = room.sized(1000, 50)
    app, insert = made.app(), made.insert().encode()
    with closing(psycopg.connect(made.url)) as ours, closing(psycopg.connect(made.url)) as bare:
        if setting == "off":
            for connection in (ours, bare):
                connection.execute("set synchronous_commit = off")
                connection.commit()

        def record() -> float:
            events = sign_ups(count)

            def work() -> None:
                for event in events:
                    app.record(event, via=ours)
                    ours.commit()

            return rate(count, work)

        def execute() -> float:
            ready = rows(count)

            def work() -> None:
                for row in ready:
                    bare.execute(insert, row)
                    bare.commit()

            return rate(count, work)

        return room.compare(
            "PostgreSQL, one event per transaction" + ("" if setting == "as set" else ", synchronous_commit off"),
            "/s",
            Side("record", record),
            Side("bare psycopg", execute),
            target=Target(0.85) if setting == "as set" else None,
        )
