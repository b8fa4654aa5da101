"""A thousand events per transaction in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg

from bench.events import rows, sign_ups
from bench.harness import Figure, Room, Side, Target, rate
from bench.stores import pair

SIZE = 1000


def figures(room: Room) -> Iterator[Figure]:
    """Compare one `record` of a thousand events with `executemany`, which psycopg sends as a pipeline."""
    turns = room.sized(10, 1)
    with (
        pair(room.postgres) as made,
        closing(psycopg.connect(made.url)) as ours,
        closing(psycopg.connect(made.url)) as bare,
    ):
        app, insert = made.app(), made.insert().encode()

        def record() -> float:
            batches = [sign_ups(SIZE) for _ in range(turns)]

            def work() -> None:
                for first, *more in batches:
                    app.record(first, *more, via=ours)
                    ours.commit()

            return rate(turns * SIZE, work)

        def execute() -> float:
            batches = [rows(SIZE) for _ in range(turns)]

            def work() -> None:
                for batch in batches:
                    bare.cursor().executemany(insert, batch)
                    bare.commit()

            return rate(turns * SIZE, work)

        yield room.compare(
            "PostgreSQL, 1,000 events per transaction",
            "/s",
            Side("record", record),
            Side("bare executemany", execute),
            target=Target(0.8),
        )
