"""What a worker costs that has nothing to do, while a million timers wait and while none does."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg

from bench.events import SignedUp
from bench.harness import Figure, Room, Side, Target
from bench.stores import files, pair
from ensue import App

MANY = {
    "SQLite": """
        with recursive n (i) as (select 1 union all select i + 1 from n where i < {count})
        insert into ensue_timers (owner, name, due_at, event)
        select '', 'n' || i, strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+1 day', i || ' seconds'), '{{}}' from n""",
    "PostgreSQL": """
        insert into {schema}.timers (owner, name, due_at, event)
        select '', 'n' || i, now() + interval '1 day' + i * interval '1 second', '{{}}'
        from generate_series(1, {count}) i""",
}
NOTE = "processor time of the worker, and of its backends where the server runs here; SQLite works inside the worker"


def figures(room: Room) -> Iterator[Figure]:
    """Compare an idle worker whose log has a million pending timers with one whose log has none."""
    count = room.sized(1_000_000, 1_000)
    few, many = files(room.folder), files(room.folder)
    with closing(sqlite3.connect(many.log)) as file:
        file.execute(MANY["SQLite"].format(count=count))
        file.commit()
        file.execute("analyze")
    yield _figure(room, "SQLite", count, many.app, few.app, lambda: 0.0)
    with (
        pair(room.postgres) as one,
        pair(room.postgres) as other,
        psycopg.connect(one.url, autocommit=True) as connection,
    ):
        connection.execute(MANY["PostgreSQL"].format(schema=one.schema, count=count).encode())
        connection.execute(f"vacuum analyze {one.schema}.timers".encode())
        yield _figure(room, "PostgreSQL", count, one.app, other.app, lambda: _backends(connection))


def _figure(
    room: Room,
    database: str,
    count: int,
    many: Callable[[], App],
    few: Callable[[], App],
    others: Callable[[], float],
) -> Figure:
    seconds = 0.5 if room.quick else 10.0

    def side(name: str, make: Callable[[], App]) -> Side:
        return Side(name, lambda: asyncio.run(_idle(make(), seconds, others)))

    return room.compare(
        f"{database}, an idle worker while {count:,} timers wait: processor time",
        "ms/s",
        side(f"{count:,} timers", many),
        side("none", few),
        target=Target(1.1, most=True),
        note=NOTE,
        runs=3,
    )


async def _idle(app: App, seconds: float, others: Callable[[], float]) -> float:
    """Return the milliseconds of the processor for each second in which nothing happens."""

    @app.on(SignedUp, name="waits")
    async def waits(_: SignedUp) -> None: ...

    app.migrate()
    async with app.running():
        await asyncio.sleep(2.0)  # what it does at the start, and the first looks
        before, start = time.process_time() + others(), time.perf_counter()
        await asyncio.sleep(seconds)
        used, took = time.process_time() + others() - before, time.perf_counter() - start
    return used / took * 1000


def _backends(connection: psycopg.Connection[tuple[object, ...]]) -> float:
    """Return the seconds of the processor that the backends of the worker have had so far; 0 for a server elsewhere."""
    found = connection.execute("select pid from pg_stat_activity where application_name = 'ensue bench'").fetchall()
    return sum(_on_processor(Path(f"/proc/{pid}/schedstat")) for (pid,) in found)


def _on_processor(stat: Path) -> float:
    return int(stat.read_text().split()[0]) / 1e9 if stat.exists() else 0.0
