"""The database goes away, connections break, calls are missed: the worker waits, comes back and loses nothing."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import statistics
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ensue import App, Backoff, DomainEvent, errors
from ensue.log import Place, opening
from ensue.log.opening import open_postgres
from ensue.subscriptions import wakers
from ensue.subscriptions import worker as worker_module
from ensue.subscriptions.operating import Filter
from ensue.subscriptions.runner import Runner
from tests.patience import until
from tests.proxy import Proxy
from tests.servers import OwnPostgres, Stop


class Noted(DomainEvent, key="key", name="test.outages.noted"):
    key: str
    n: int


class Book:
    """What handlers did, by key."""

    def __init__(self) -> None:
        self.by_key: dict[str, list[int]] = defaultdict(list)
        self.total = 0

    async def handle(self, event: Noted) -> None:
        await asyncio.sleep(0)
        self.by_key[event.key].append(event.n)
        self.total += 1

    def check(self, keys: int, count: int) -> None:
        assert dict(self.by_key) == {f"k{key}": list(range(count)) for key in range(keys)}


def record(app: App, keys: int, numbers: range) -> None:
    with app.transaction() as connection:
        app.record(*(Noted(key=f"k{key}", n=n) for n in numbers for key in range(keys)), via=connection)


@pytest.fixture
def app(postgres_url: str, schema: str) -> App:
    app = App("outages", postgres_url, schema=schema)
    app.migrate()
    return app


# ------------------------------------------------------------------------------------------ the server goes away


@pytest.mark.parametrize("how", [Stop.FAST, Stop.IMMEDIATE])
async def test_a_worker_outlives_its_server(own_postgres: OwnPostgres, how: Stop) -> None:
    app = App("outages", own_postgres.url)
    book = Book()
    app.on(Noted, start="beginning", partitions=2)(book.handle)
    app.migrate()
    async with app.running(lease=1.0):
        for round in range(2):
            record(app, 5, range(3 * round, 3 * round + 2))
            await until(lambda: book.total >= 5 * (3 * round + 2))
            await asyncio.to_thread(own_postgres.restart, how)
            record(app, 5, range(3 * round + 2, 3 * round + 3))
            await until(lambda: book.total >= 5 * (3 * round + 3))
    assert {key: list(dict.fromkeys(numbers)) for key, numbers in book.by_key.items()} == {
        f"k{key}": list(range(6)) for key in range(5)
    }


async def test_a_worker_waits_for_its_server_to_start(own_postgres: OwnPostgres) -> None:
    app = App("outages", own_postgres.url)
    book = Book()
    app.on(Noted, start="beginning")(book.handle)
    app.migrate()
    record(app, 1, range(1))
    own_postgres.stop()

    async def run() -> None:
        async with app.running():
            await until(lambda: book.total == 1)

    running = asyncio.create_task(run())
    await asyncio.to_thread(own_postgres.start)
    await running
    book.check(1, 1)


async def test_a_worker_can_be_stopped_while_its_server_is_away(own_postgres: OwnPostgres) -> None:
    app = App("outages", own_postgres.url)
    book = Book()
    app.on(Noted, start="beginning")(book.handle)
    app.migrate()
    record(app, 1, range(1))
    async with app.running(lease=1.0):
        await until(lambda: book.total == 1)
        await asyncio.to_thread(own_postgres.stop, Stop.IMMEDIATE)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    await asyncio.to_thread(own_postgres.start)
    async with app.running(lease=1.0):
        record(app, 1, range(1, 2))
        await until(lambda: 1 in book.by_key["k0"])


async def test_positions_that_a_crash_takes_back_are_not_skipped(
    own_postgres: OwnPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rolled-back transactions take positions; a crash forgets the last of them, and they are given out once more.

    A worker that has seen them pass, and lives on, must not take the new events there for old ones.
    """
    monkeypatch.setattr(wakers, "POLL", 0.05)
    monkeypatch.setattr(worker_module, "_DRIFT_EVERY", 600.0)  # what it commits would be written out, and with it all
    app = App("outages", own_postgres.url)
    book = Book()
    app.on(Noted, start="beginning")(book.handle)
    app.migrate()
    record(app, 1, range(1))
    with closing(psycopg.connect(own_postgres.url)) as connection:
        found = connection.execute("select pid from pg_stat_activity where backend_type = 'walwriter'").fetchone()
        assert found
        async with app.running(lease=600) as worker:
            await until(lambda: book.total == 1)
            await until(lambda: all(isinstance(r, Runner) and r.settled for r in worker._crew.runners.values()))
            os.kill(found[0], signal.SIGSTOP)  # so that only commits are written out
            for _ in range(100):
                app.record(Noted(key="k0", n=-1), via=connection)
                connection.rollback()
            seen = app.operations.horizon(via=connection)
            await until(lambda: worker._tail.position >= seen)
            restarting = asyncio.create_task(asyncio.to_thread(own_postgres.restart, Stop.IMMEDIATE))
            await until(lambda: worker._tail.position < seen)
            os.kill(found[0], signal.SIGCONT)
            await restarting
            with app.transaction() as again:
                receipt = app.record(Noted(key="k0", n=1), via=again)
            assert receipt.position <= seen, "nothing was taken back: this test shows nothing"
            await until(lambda: book.total == 2)
    book.check(1, 2)


async def test_broken_connections_lose_and_double_nothing(app: App, postgres_url: str) -> None:
    """Somebody terminates the worker's connections again and again, while events fail, park and flow."""
    book = Book()
    failed: set[tuple[str, int]] = set()

    async def sometimes(event: Noted) -> None:
        if event.n % 10 == 3 and (event.key, event.n) not in failed:
            failed.add((event.key, event.n))
            raise ValueError("not at first")
        await book.handle(event)

    app.on(Noted, start="beginning", name="steady", partitions=3)(book.handle)
    other = Book()
    app.on(Noted, start="beginning", name="failing", retry=Backoff(first=0.05, most=0.1))(sometimes)
    book, steady = other, book
    app.migrate()
    rng = random.Random(11)
    rounds = 40
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        async with app.running(lease=2.0):
            for round in range(rounds):
                with (
                    connection.transaction()
                ):  # the test's own connection is spared: who records must know of a failure
                    app.record(*(Noted(key=f"k{key}", n=round) for key in range(10)), via=connection)
                connection.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity "
                    "where application_name = 'ensue outages' and pid <> pg_backend_pid() and datname = "
                    "current_database() and random() < 0.6"
                )
                mark = time.monotonic() + rng.uniform(0, 0.15)
                await until(lambda: time.monotonic() > mark)
            await until(lambda: steady.total >= 10 * rounds)
            await until(lambda: other.total >= 10 * rounds)
            await until(lambda: not app.operations.dead_letters(Filter(waiting_only=False)))
    steady.check(10, rounds)
    other.check(10, rounds)


async def test_a_worker_whose_connections_fall_silent_yields_and_comes_back(
    app: App, postgres_url: str, schema: str
) -> None:
    """Nothing is refused or closed, there is just no answer: another worker takes over, with nobody beside it."""
    began: dict[str, list[float]] = {"cut off": [], "other": []}
    seen: set[int] = set()

    def declare(app: App, who: str) -> None:
        @app.on(Noted, start="beginning", name="handle")
        async def handle(event: Noted) -> None:
            began[who].append(time.monotonic())
            await asyncio.sleep(0.01)
            seen.add(event.n)

    async with Proxy(postgres_url) as proxy:
        cut_off = App("outages", proxy.url, schema=schema)
        declare(cut_off, "cut off")
        declare(app, "other")
        record(app, 1, range(200))
        async with cut_off.running(lease=1.0):
            await until(lambda: len(began["cut off"]) > 5)
            proxy.silence()
            async with app.running(lease=1.0):
                await until(lambda: len(began["other"]) > 20)
            assert began["cut off"][-1] < began["other"][0]
            assert len(seen) < 200
            await until(lambda: len(seen) == 200)
            assert began["cut off"][-1] > began["other"][-1]
            record(app, 1, range(200, 201))
            await until(lambda: len(seen) == 201)
            assert proxy.connections == 6


async def test_connections_notice_a_silent_network_unless_the_url_says_when(postgres_url: str, schema: str) -> None:
    def options(url: str) -> dict[str, str]:
        with closing(open_postgres(Place("outages", url, schema))) as connection:
            return {each.keyword.decode(): (each.val or b"").decode() for each in connection.pgconn.info}

    usual = options(postgres_url)
    assert (usual["keepalives_idle"], usual["tcp_user_timeout"], usual["connect_timeout"]) == ("10", "30000", "10")
    own = options(f"{postgres_url}?keepalives_idle=7&connect_timeout=3")
    assert (own["keepalives_idle"], own["tcp_user_timeout"], own["connect_timeout"]) == ("7", "30000", "3")


async def test_an_sqlite_file_that_is_locked_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(opening, "BUSY_SECONDS", 0.1)
    app = App("outages", f"sqlite:///{tmp_path / 'log.db'}")
    book = Book()
    app.on(Noted, start="beginning")(book.handle)
    app.migrate()
    async with app.running(lease=1.0):
        record(app, 1, range(3))
        await until(lambda: book.total == 3)
        with sqlite3.connect(tmp_path / "log.db", isolation_level=None) as connection:
            connection.execute("begin immediate")
            app_record = app.record(Noted(key="k0", n=3), via=connection)
            await until(lambda: "database is locked" in caplog.text)
            assert app_record.position
            connection.execute("commit")
        connection.close()
        await until(lambda: book.total == 4)
        record(app, 1, range(4, 5))
        await until(lambda: book.total == 5)
    book.check(1, 5)


# -------------------------------------------------------------------------------------------------- waking up


async def idle(worker: Any) -> None:
    """Wait until the worker's tail sleeps."""
    await until(lambda: worker._waker._asked_until and worker._tailing._busy.locked())


async def test_an_idle_worker_is_woken_at_once(app: App) -> None:
    book = Book()
    app.on(Noted)(book.handle)
    latencies: list[float] = []
    async with app.running() as worker:
        for n in range(20):
            await idle(worker)
            await asyncio.to_thread(record, app, 1, range(n, n + 1))
            latencies.append(await until(lambda: book.total > n))
    assert statistics.median(latencies) < 0.1 < wakers.POLL / 10, latencies


async def test_an_idle_worker_on_sqlite_is_woken_soon(tmp_path: Path) -> None:
    app = App("outages", f"sqlite:///{tmp_path / 'log.db'}")
    book = Book()
    app.on(Noted)(book.handle)
    app.migrate()
    latencies: list[float] = []
    async with app.running():
        for n in range(20):
            pause = time.monotonic() + 0.05
            await until(lambda: time.monotonic() > pause)
            await asyncio.to_thread(record, app, 1, range(n, n + 1))
            latencies.append(await until(lambda: book.total > n))
    assert statistics.median(latencies) < 0.1 < wakers.POLL / 10, latencies


async def test_a_missed_call_is_made_good_by_the_poll(app: App, schema: str, postgres_url: str) -> None:
    book = Book()
    app.on(Noted)(book.handle)
    async with app.running() as worker, await psycopg.AsyncConnection.connect(postgres_url) as connection:
        await idle(worker)
        await connection.execute(f"select setval('{schema}.sleeping', 0)")  # so that nobody calls
        await app.record(Noted(key="k0", n=0), via=connection)
        await connection.commit()
        waited = await until(lambda: book.total == 1)
        assert waited < wakers.POLL * 2


async def test_an_event_of_a_long_transaction_is_not_missed_by_a_worker_that_falls_asleep(
    app: App, postgres_url: str
) -> None:
    """Recorded while the worker is awake and nobody needs a call, committed long after it fell asleep."""
    book = Book()
    app.on(Noted)(book.handle)
    async with app.running() as worker:
        with psycopg.connect(postgres_url) as connection:
            for n in range(10):  # keep it busy, so that it asks for no call
                record(app, 1, range(n, n + 1))
                await until(lambda: book.total > n)
            app.record(Noted(key="k0", n=10), via=connection)
            await idle(worker)
            connection.commit()
            waited = await until(lambda: book.total == 11)
        assert waited < wakers.POLL / 2, "a lock tells the tail that somebody is recording: it polls quickly"


async def test_calls_are_sent_only_if_somebody_sleeps(app: App, schema: str, postgres_url: str) -> None:
    book = Book()
    app.on(Noted, name="any")(book.handle)
    app.migrate()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"listen {schema}")

        def calls() -> int:
            return sum(1 for _ in connection.notifies(timeout=0.2, stop_after=1000))

        record(app, 1, range(5))
        assert calls() == 0, "no worker, no call"
        async with app.running() as worker:
            await idle(worker)
            record(app, 1, range(5, 6))
            assert await asyncio.to_thread(calls) == 1
            await until(lambda: book.total == 6)

            stop = time.monotonic() + 1.0
            transactions = 0

            def load() -> None:
                nonlocal transactions
                with psycopg.connect(postgres_url) as own:
                    while time.monotonic() < stop:
                        app.record(Noted(key="k0", n=0), via=own)
                        own.commit()
                        transactions += 1

            await asyncio.gather(*(asyncio.to_thread(load) for _ in range(3)))
            called = await asyncio.to_thread(calls)
            await until(lambda: book.total == 6 + transactions)
            assert called < transactions / 2, f"{called} calls for {transactions} transactions of a busy system"
        asked = f"select last_value > extract(epoch from clock_timestamp()) from {schema}.sleeping"
        await until(lambda: connection.execute(asked).fetchone() == (False,))
        record(app, 1, range(1))
        assert calls() == 0, "it has gone and is not called"


# ------------------------------------------------------------------------------------------------------ idling


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_an_idle_subscription_costs_no_query(
    kind: str, tmp_path: Path, schema: str, request: pytest.FixtureRequest
) -> None:
    """Two hundred subscriptions ask the database as often as one does."""
    url = f"sqlite:///{tmp_path / 'log.db'}" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    statements = []
    for count in (1, 200):
        app = App("outages", url, schema=f"{schema}_{count}")
        book = Book()
        for number in range(count):
            app.on(Noted, name=f"s{number}")(book.handle)
        app.migrate()
        async with app.running(lease=3.0) as worker:
            await until(lambda: len(worker._tail.attached) == count)
            record(app, 1, range(1))
            await until(lambda: book.total == count)
            await until(lambda: all(isinstance(r, Runner) and r.settled for r in worker._crew.runners.values()))
            before, end = worker.statements, time.monotonic() + 3.0
            await until(lambda: time.monotonic() > end)
            statements.append(worker.statements - before)
    few, many = statements
    assert abs(few - many) <= 8, statements
    assert few < 60


async def test_what_was_never_migrated_is_said(postgres_url: str, schema: str) -> None:
    app = App("outages", postgres_url, schema=schema)
    app.on(Noted)(Book().handle)
    with pytest.raises(errors.NotMigrated):
        async with app.running():
            raise AssertionError("it runs")
