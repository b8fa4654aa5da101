"""Recording and delivering in a large log and in a small one."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial

import psycopg

from bench.delivering import deliver
from bench.events import sign_ups
from bench.harness import Figure, Room, Side, Target, rate
from bench.stores import Pair, fill, pair


def figures(room: Room) -> Iterator[Figure]:
    """Compare a log of five million events with one of ten thousand."""
    backlog, numbers = room.sized(20_000, 500), itertools.count()
    with ExitStack() as stack:
        logs: dict[str, Pair] = {}
        for count in (room.sized(5_000_000, 20_000), room.sized(10_000, 1_000)):
            made = stack.enter_context(pair(room.postgres))
            with room.steps(f"filling a log with {count:,} events", count) as step:
                fill(made, count, step)
            logs[f"in a log of {count:,}"] = made

        def compare(what: str, measure: Callable[[Pair], float]) -> Figure:
            large, small = (Side(name, partial(measure, made)) for name, made in logs.items())
            return room.compare(f"PostgreSQL, {what}", "/s", large, small, target=Target(0.85))

        yield compare("record one per commit", lambda made: _record(made, 1, room.sized(2000, 50)))
        yield compare("record 1,000 per commit", lambda made: _record(made, 1000, room.sized(10, 1)))
        yield compare(
            f"deliver {backlog:,} events to an empty handler",
            lambda made: _deliver(made, backlog, f"growth-{next(numbers)}"),
        )


def _record(made: Pair, size: int, count: int) -> float:
    app, batches = made.app(), [sign_ups(size) for _ in range(count)]
    with closing(psycopg.connect(made.url)) as connection:

        def work() -> None:
            for batch in batches:
                app.record(*batch, via=connection)
                connection.commit()

        return rate(size * count, work)


def _deliver(made: Pair, backlog: int, name: str) -> float:
    with closing(psycopg.connect(made.url)) as connection:
        receipt = made.app().record(*sign_ups(backlog), via=connection)
        connection.commit()
    return asyncio.run(deliver(made.app(), backlog, name=name, start=receipt.positions[0] - 1))
