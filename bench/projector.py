"""A process whose worker brings a projection up to date: its task comes in as JSON, what it took goes out as JSON."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

import msgspec

from bench.delivering import PATIENCE
from bench.events import SignedUp
from bench.reader import Found, peak
from ensue import App, Receipt

UPSERT = (
    "insert into {table} (user_id, plan, changes) values ({mark}, {mark}, 1) "
    "on conflict (user_id) do update set plan = excluded.plan, changes = {table}.changes + 1"
)
SET_UP = "create table {table} (user_id text primary key, plan text not null, changes bigint not null)"

LEASE = 3.0
"""Seconds; a third of it passes until two workers have shared the partitions."""


class Task(msgspec.Struct, frozen=True):
    """What to bring up to date."""

    url: str
    schema: str
    name: str
    """Of the projection, and of its table."""
    partitions: int
    last: Receipt
    """Of the last event in the log."""
    toil: int = 0
    """Microseconds of the processor that the function takes beside its upsert."""


def mark(url: str) -> str:
    """Return how a parameter is written in the SQL of a database's own driver."""
    return "?" if url.startswith("sqlite") else "%s"


def declare(task: Task) -> App:
    """Return an app with the projection: one upsert per event."""
    app = App("bench", task.url, schema=task.schema)
    upsert = UPSERT.format(table=task.name, mark=mark(task.url))

    @app.projection(
        SignedUp,
        tables=task.name,
        name=task.name,
        set_up=SET_UP.format(table=task.name),
        partitions=task.partitions,
    )
    def plans(event: SignedUp, db: Any) -> None:
        if task.toil:
            _toil(task.toil)
        db.execute(upsert, (str(event.user_id), event.plan))

    return app


def _toil(microseconds: int) -> None:
    """Keep the processor busy for so long, whoever else wants it: the time of this thread is what counts."""
    end = time.thread_time_ns() + microseconds * 1000
    while time.thread_time_ns() < end:
        pass


async def catch_up(task: Task) -> Found:
    """Work until all partitions have come to the last event, whoever has brought them there."""
    app = declare(task)
    before, start = peak(), time.perf_counter()
    async with app.running(lease=LEASE):
        await app.wait_async(task.last, task.name, timeout=PATIENCE)
        return Found(time.perf_counter() - start, peak() - before)


if __name__ == "__main__":
    given = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(catch_up(given))))
