"""Writers that race, and readers that must not notice: nothing missed, nothing doubled, everything in position order.

`ENSUE_TEST_RACE_SECONDS` says how long the race lasts: 60 unless it is set.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from ensue import App, Backoff, Delivery, DomainEvent, errors
from ensue.subscriptions.operating import Filter
from tests.patience import until
from tests.servers import OwnPostgres, in_database

SECONDS = float(os.environ.get("ENSUE_TEST_RACE_SECONDS", "60"))
WRITERS = 24
STREAMS = 15


class Raced(DomainEvent, name="test.races.raced"):
    label: str


Connection = psycopg.AsyncConnection[Any]
Seen = tuple[int, str, str | None, int | None]
"""Position, label, stream, version."""


class Writer:
    """Records for ever, in every awkward way: knows in the end what it has committed."""

    def __init__(self, number: int, app: App, connection: Connection, seed: int) -> None:
        self.random = random.Random(seed * 1000 + number)
        self.app = app
        self.connection = connection
        self.by_api = number % 2 == 0
        self.committed: list[str] = []
        self.rolled_back = 0

    async def pause(self) -> None:
        await asyncio.sleep(self.random.choice([0, 0, 0.002, 0.01, 0.04, self.random.expovariate(20)]))

    async def run(self, end: float) -> None:
        while time.monotonic() < end:
            await self.pause()
            labels: list[str] = []
            try:
                await self.transaction(labels)
            except (errors.VersionConflict, psycopg.errors.UniqueViolation, psycopg.errors.SerializationFailure):
                await self.connection.rollback()
                self.rolled_back += 1
                continue
            if self.random.random() < 0.2:
                await self.connection.rollback()
                self.rolled_back += 1
            else:
                await self.connection.commit()
                self.committed += labels

    async def transaction(self, labels: list[str]) -> None:
        rng, connection = self.random, self.connection
        await connection.execute("begin isolation level repeatable read" if rng.random() < 0.1 else "begin")
        if rng.random() < 0.3:  # an early transaction id
            await connection.execute("select txid_current()")
            await self.pause()
        stream = f"stream {rng.randrange(STREAMS)}" if rng.random() < 0.5 else None
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            if rng.random() < 0.25:
                await connection.execute("savepoint here")
                await self.record(stream)
                await self.pause()
                await connection.execute("rollback to savepoint here")
            if rng.random() < 0.2:
                await connection.execute("savepoint there")
                labels += await self.record(stream)
                await connection.execute("release savepoint there")
            labels += await self.record(stream)
            await self.pause()

    async def record(self, stream: str | None) -> list[str]:
        labels = [uuid4().hex for _ in range(self.random.choice([1, 1, 3]))]
        if self.by_api:
            await self.app.record(*(Raced(label=label) for label in labels), via=self.connection, stream=stream)
        else:
            events = json.dumps([{"type": Raced.__type__, "data": {"label": label}} for label in labels])
            named = f", stream => '{stream}'" if stream else ""
            await self.connection.execute(f"select {self.app.log.place.schema}.record('{events}'{named})".encode())
        return labels


class Reader:
    """Follows the log in some way, good or bad."""

    def __init__(self, app: App, connection: Connection) -> None:
        self.app = app
        self.schema = app.log.place.schema
        self.connection = connection
        self.checkpoint = 0
        self.seen: list[Seen] = []

    async def run(self, finished: asyncio.Event) -> None:
        rng = random.Random(id(self))
        while not finished.is_set():
            await self.step()
            await asyncio.sleep(rng.choice([0, 0.001, 0.01, 0.03]))
        await self.step()

    async def step(self) -> None:
        raise NotImplementedError

    async def fetch(self, sql: str) -> list[tuple[Any, ...]]:
        cursor = await self.connection.execute(sql.encode())
        return await cursor.fetchall()

    def select(self, condition: str) -> str:
        return (
            f"select position, data ->> 'label', stream, version from {self.schema}.events "
            f"where position > {self.checkpoint} {condition} order by position"
        )


class BySql(Reader):
    """The protocol, as any language can follow it: the horizon, then the events in another statement."""

    async def step(self) -> None:
        ((horizon,),) = await self.fetch(f"select {self.schema}.horizon()")
        self.seen += await self.fetch(self.select(f"and position <= {horizon}"))
        self.checkpoint = horizon


class ByApi(Reader):
    """`app.read`."""

    async def step(self) -> None:
        async for recorded in self.app.read(after=self.checkpoint, via=self.connection):
            self.checkpoint = recorded.position
            self.seen.append((recorded.position, recorded.event.label, recorded.stream, recorded.version))


class Naive(Reader):
    """A cursor without a horizon: it passes positions whose transactions are still open."""

    async def step(self) -> None:
        rows = await self.fetch(self.select(""))
        self.seen += rows
        self.checkpoint = rows[-1][0] if rows else self.checkpoint


class Hasty(Reader):
    """Asks for the horizon and the events in one statement: its snapshot is older than the horizon."""

    async def step(self) -> None:
        rows = await self.fetch(
            f"select h.h, e.position, e.data ->> 'label', e.stream, e.version from pg_sleep(0.005) as s, "
            f"lateral {self.schema}.horizon() as h (h) left join {self.schema}.events e "
            f"on e.position > {self.checkpoint} and e.position <= h.h order by e.position"
        )
        self.seen += [row[1:] for row in rows if row[1] is not None]
        self.checkpoint = rows[0][0]


@asynccontextmanager
async def connections(url: str, count: int, *, autocommit: bool) -> AsyncGenerator[list[Connection]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(await psycopg.AsyncConnection.connect(url, autocommit=autocommit))
            for _ in range(count)
        ]


async def race(
    app: App,
    url: str,
    readers: list[type[Reader]],
    seconds: float,
    *,
    enough: Callable[[list[Reader]], Awaitable[bool]] | None = None,
) -> tuple[list[Seen], list[Reader], list[Writer]]:
    """Let writers and readers loose on each other; return what is in the log in the end, and all of them."""
    finished = asyncio.Event()
    async with (
        connections(url, WRITERS, autocommit=True) as writing,
        connections(url, len(readers), autocommit=True) as reading,
    ):
        writers = [Writer(number, app, connection, 1) for number, connection in enumerate(writing)]
        following = [reader(app, connection) for reader, connection in zip(readers, reading, strict=True)]
        async with asyncio.TaskGroup() as group:
            for each in following:
                group.create_task(each.run(finished))
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                part = min(end, time.monotonic() + 2.0) if enough else end
                await asyncio.gather(*(writer.run(part) for writer in writers))
                if enough and await enough(following):
                    break
            finished.set()
        all_of_it = BySql(app, reading[0])
        await all_of_it.step()
    return all_of_it.seen, following, writers


def missed(truth: list[Seen], reader: Reader) -> int:
    return len(set(truth) - set(reader.seen))


def check_versions(seen: list[Seen]) -> None:
    versions: dict[str, list[int | None]] = defaultdict(list)
    for _, _, stream, version in seen:
        if stream is not None:
            versions[stream].append(version)
    assert versions
    for numbers in versions.values():
        assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 120)
async def test_readers_miss_and_double_nothing(installed_postgres_url: str, schema: str) -> None:
    app = App("races", installed_postgres_url, schema=schema)
    delivered: list[Seen] = []

    @app.on(Raced, start="beginning")
    async def deliver(event: Raced, delivery: Delivery) -> None:
        recorded = delivery.recorded
        delivered.append((recorded.position, event.label, recorded.stream, recorded.version))

    app.migrate()
    async with app.running():
        truth, (by_sql, by_api, naive, hasty), writers = await race(
            app, installed_postgres_url, [BySql, ByApi, Naive, Hasty], SECONDS
        )
        await until(lambda: len(delivered) >= len(truth))

    committed = Counter(label for writer in writers for label in writer.committed)
    rolled_back = sum(writer.rolled_back for writer in writers)
    print(
        f"{len(truth)} events, {rolled_back} transactions rolled back; "
        f"missed without a horizon {missed(truth, naive)}, in one statement {missed(truth, hasty)}"
    )
    assert len(truth) > 20 * SECONDS
    assert rolled_back > SECONDS
    assert committed == Counter(label for _, label, _, _ in truth)
    assert truth == sorted(truth)
    assert by_sql.seen == truth
    assert by_api.seen == truth
    assert sorted(delivered) == truth
    for seen in (truth, delivered):  # keys are side by side, but each in its order
        check_versions(seen)
    assert missed(truth, naive) > 0, "a cursor without a horizon misses nothing: this race proves nothing"
    assert missed(truth, hasty) > 0, (
        "horizon and events in one statement miss nothing: the second statement would be for nothing"
    )


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 120)
async def test_without_the_lock_readers_do_miss_events(installed_postgres_url: str, schema: str) -> None:
    """The same race against a recording function that takes no lock: so it is the lock that it depends on."""
    app = App("races", installed_postgres_url, schema=schema)
    app.migrate()
    lock, harmless = "pg_catalog.pg_advisory_xact_lock_shared(", "pg_catalog.int4larger("
    with psycopg.connect(installed_postgres_url) as connection:
        row = connection.execute(f"select pg_get_functiondef('{schema}.record'::regproc)".encode()).fetchone()
        assert row
        assert row[0].count(lock) == 1
        connection.execute(row[0].replace(lock, harmless).encode())

    async def enough(readers: list[Reader]) -> bool:
        cursor = await readers[0].connection.execute(f"select count(*) from {schema}.events".encode())
        (count,) = await cursor.fetchone() or (0,)
        return all(len(reader.seen) < count for reader in readers)

    truth, readers, _ = await race(app, installed_postgres_url, [BySql, ByApi, BySql], SECONDS, enough=enough)
    for reader in readers:
        assert missed(truth, reader) > 0


async def test_a_transaction_that_is_open_elsewhere_delays_nothing(installed_postgres_url: str, schema: str) -> None:
    """It has an id and a snapshot, has written, and stays open: what others record is delivered at once."""
    app = App("races", installed_postgres_url, schema=schema)
    seen: list[str] = []

    @app.on(Raced)
    async def deliver(event: Raced) -> None:
        seen.append(event.label)

    app.migrate()
    with psycopg.connect(installed_postgres_url) as elsewhere, psycopg.connect(installed_postgres_url) as ours:
        elsewhere.execute("set transaction isolation level repeatable read")
        elsewhere.execute("select txid_current(), count(*) from pg_class")
        elsewhere.execute("create temporary table something (number integer)")
        elsewhere.execute("insert into something values (1)")
        app.record(Raced(label="before it"), via=ours)
        ours.commit()
        async with app.running() as worker:
            for number in range(20):
                await until(lambda: worker._tail.attached)
                app.record(Raced(label=str(number)), via=ours)
                ours.commit()
                waited = await until(lambda: len(seen) > number)
                assert waited < 1.0
            ((horizon,),) = ours.execute(f"select {schema}.horizon()".encode()).fetchall()
            assert horizon == ours.execute(f"select max(position) from {schema}.events".encode()).fetchall()[0][0]
        (row,) = elsewhere.execute("select txid_current_if_assigned() is not null").fetchall()
        assert row == (True,), "it was open all the time"


# -------------------------------------------------------------------------------------------------- dump, restore


async def test_dump_and_restore_leaves_every_subscription_where_it_was(own_postgres: OwnPostgres) -> None:
    """Half done, one key parked: the restored database goes on with exactly the rest, and with new events."""
    url, schema = own_postgres.url, "events_of_accounts"
    restored_url = in_database(url, "restored")
    seen: dict[str, list[str]] = defaultdict(list)
    refusing = True

    def declare(url: str) -> App:
        app = App("races", url, schema=schema)

        @app.on(Raced, start="beginning", concurrency=1)
        async def far(event: Raced) -> None:
            seen["far"].append(event.label)

        @app.on(Raced, start="beginning", retry=Backoff(attempts=1), partitions=3)
        async def choosy(event: Raced) -> None:
            if refusing and event.label.startswith("bad"):
                raise ValueError("no")
            seen["choosy"].append(event.label)

        return app

    app = declare(url)
    app.migrate()
    with psycopg.connect(url) as connection:
        for _ in range(50):  # transaction ids and positions that a restore does not keep in step
            connection.execute("select txid_current()")
            connection.commit()
            app.record(Raced(label="rolled back"), via=connection)
            connection.rollback()
        labels = ["good 1", "bad 2", "good 3"]
        app.record(*(Raced(label=label) for label in labels), via=connection, stream="one")
        app.record(Raced(label="good 4"), via=connection)
        connection.commit()
        async with app.running():
            await until(lambda: len(seen["far"]) == 4)
            await until(lambda: len(app.operations.dead_letters()) == 1)
            await until(lambda: len(seen["choosy"]) == 2)
            await until(lambda: all(each.behind == 0 for each in app.operations.standings()))
        app.record(Raced(label="undelivered 5"), via=connection, stream="one")
        app.record(Raced(label="undelivered 6"), via=connection, dedupe="six")
        connection.commit()
    standings, letters = app.operations.standings(), app.operations.dead_letters()
    last = [recorded.position for recorded in app.read()][-1]

    dump = await asyncio.to_thread(own_postgres.command, "pg_dump", "--format=custom", url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create database restored")
    await asyncio.to_thread(own_postgres.command, "pg_restore", "--exit-on-error", "--dbname", restored_url, input=dump)

    restored = declare(restored_url)
    assert [(each.subscription, each.checkpoint, each.dead) for each in restored.operations.standings()] == [
        (each.subscription, each.checkpoint, each.dead) for each in standings
    ]
    assert [each.partitions for each in restored.operations.standings()] == [each.partitions for each in standings]
    assert restored.operations.dead_letters() == letters
    assert [(r.position, r.id, r.data) for r in restored.read()] == [(r.position, r.id, r.data) for r in app.read()]
    assert restored.migrate() == []

    seen.clear()
    async with restored.running():
        await until(lambda: seen["far"] == ["undelivered 5", "undelivered 6"])
        with psycopg.connect(restored_url) as connection:
            again = restored.record(Raced(label="undelivered 6"), via=connection, dedupe="six")
            assert again.duplicate
            receipt = restored.record(Raced(label="new 7"), via=connection, stream="one")
            connection.commit()
        assert receipt.position > last
        assert receipt.version == 5
        await until(lambda: seen["far"] == ["undelivered 5", "undelivered 6", "new 7"])
        await until(lambda: seen["choosy"] == ["undelivered 6"])
        refusing = False
        restored.operations.decide(Filter(), "retry", actor="ann", reason="mended")
        await until(lambda: len(seen["choosy"]) == 5)
    assert seen["choosy"] == ["undelivered 6", "bad 2", "good 3", "undelivered 5", "new 7"]
    assert len(list(app.read())) == 6, "the first database is as it was"


# ------------------------------------------------------------------------------------------ the horizon, by hand


def horizon_of(app: App) -> int:
    return app.operations.horizon()


def test_a_recording_transaction_holds_the_horizon_of_its_own_log_only(
    installed_postgres_url: str, schema: str
) -> None:
    app = App("races", installed_postgres_url, schema=schema)
    other = App("races too", installed_postgres_url, schema=schema + "_2")
    app.migrate()
    other.migrate()
    with psycopg.connect(installed_postgres_url) as slow, psycopg.connect(installed_postgres_url) as quick:
        held = app.record(Raced(label="slow"), via=slow)
        app.record(Raced(label="quick"), via=quick)
        other.record(Raced(label="other"), via=quick)
        quick.commit()
        assert horizon_of(app) < held.position
        assert [event.event.label for event in app.read()] == []
        assert [event.event.label for event in other.read()] == ["other"]
        (holder,) = app.operations.holders()
        assert holder.pid == slow.info.backend_pid
        assert other.operations.holders() == []
        slow.commit()
        assert [event.event.label for event in app.read()] == ["slow", "quick"]
        assert app.operations.holders() == []
