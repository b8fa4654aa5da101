"""Any number of workers share the work: leases, partitions, takeover, rebalancing, fencing, repartitioning."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ensue import App, Backoff, DomainEvent
from ensue.subscriptions import Worker
from ensue.subscriptions.declared import slot_of
from ensue.subscriptions.operating import Filter
from tests.patience import until, until_sync
from tests.processes import Crew, Job, Worked, crew

LEASE = 1.0


class Shared(DomainEvent, key="key", name="test.sharing.shared"):
    key: str
    n: int


@pytest.fixture
def app(url: str, schema: str) -> App:
    app = App("sharing", url, schema=schema)
    app.migrate()
    return app


def record(app: App, keys: int, numbers: range) -> None:
    with app.transaction() as connection:
        app.record(*(Shared(key=f"k{key}", n=n) for n in numbers for key in range(keys)), via=connection)


def run_sql(app: App, sql: str) -> list[Any]:
    """Run SQL that is written for the tables of the log."""
    table = f"{app.log.place.schema}." if app.log.place.url.startswith("postgres") else f"{app.log.place.schema}_"
    with app.transaction() as connection:
        cursor = connection.execute(sql.replace("ensue_", table))
        return list(cursor.fetchall()) if cursor.description else []


def places(worker: Worker) -> set[tuple[str, int]]:
    return {lease.place for lease in worker._crew.runners}


class Book:
    """What handlers of several workers did."""

    def __init__(self) -> None:
        self.by_key: dict[str, list[int]] = defaultdict(list)
        self.total = 0

    async def handle(self, event: Shared) -> None:
        await asyncio.sleep(0)
        self.by_key[event.key].append(event.n)
        self.total += 1

    def check(self, keys: int, count: int) -> None:
        expected = list(range(count))
        assert len(self.by_key) == keys
        for key, numbers in self.by_key.items():
            missed = sorted(set(expected) - set(numbers))
            doubled = sorted(n for n, times in Counter(numbers).items() if times > 1)
            assert numbers == expected, f"{key}: missed {missed}, doubled {doubled}"


async def test_two_workers_share_the_partitions(app: App) -> None:
    book = Book()
    app.on(Shared, start="beginning", partitions=4, name="shared")(book.handle)
    record(app, 40, range(5))
    async with app.running(lease=LEASE) as first, app.running(lease=LEASE) as second:
        await until(lambda: len(places(first)) == len(places(second)) == 2)
        assert not places(first) & places(second)
        await until(lambda: book.total == 200)
        record(app, 40, range(5, 10))
        await until(lambda: book.total == 400)
    book.check(40, 10)


async def test_subscriptions_are_shared_as_well_as_partitions(app: App) -> None:
    book = Book()
    for number in range(6):
        app.on(Shared, start="beginning", name=f"s{number}")(book.handle)
    async with app.running(lease=LEASE) as first, app.running(lease=LEASE) as second:
        await until(lambda: len(places(first)) == len(places(second)) == 3)
        record(app, 5, range(1))
        await until(lambda: book.total == 30)


async def test_a_worker_takes_only_what_it_declares(app: App, url: str, schema: str) -> None:
    """The first knows all, the second only one of four: shares are fair among those who can."""
    for number in range(4):
        app.on(Shared, name=f"s{number}")(Book().handle)
    smaller = App("sharing", url, schema=schema)
    book = Book()
    app.migrate()
    smaller.on(Shared, name="s3")(book.handle)
    async with smaller.running(lease=LEASE) as second:
        await until(lambda: places(second) == {("s3", 0)})
        async with app.running(lease=LEASE) as first:
            await until(lambda: places(first) == {("s0", 0), ("s1", 0), ("s2", 0)})
            record(app, 1, range(1))
            await until(lambda: book.total == 1)
            assert places(second) == {("s3", 0)}


async def test_a_worker_that_joins_gets_its_share_under_load(app: App) -> None:
    book = Book()
    app.on(Shared, start="beginning", partitions=6, name="shared")(book.handle)
    recorded = 0
    recording = True

    async def load() -> None:
        nonlocal recorded
        while recording:
            await asyncio.to_thread(record, app, 30, range(recorded, recorded + 2))
            await asyncio.sleep(0.005)  # a machine that is only busy must not look like a dead worker
            recorded += 2

    app.migrate()
    loading = asyncio.create_task(load())
    async with app.running(lease=2.0) as first:
        await until(lambda: len(places(first)) == 6 and book.total > 100)
        async with app.running(lease=2.0) as second:
            await until(lambda: len(places(first)) == len(places(second)) == 3)
            async with app.running(lease=2.0) as third:
                await until(lambda: len(places(first)) == len(places(second)) == len(places(third)) == 2)
            await until(lambda: len(places(first)) == len(places(second)) == 3)
        await until(lambda: len(places(first)) == 6)
        recording = False
        await loading
        await until(lambda: book.total >= 30 * recorded)
    book.check(30, recorded)


async def test_giving_back_does_not_break_off_long_handlers(app: App) -> None:
    """A second worker joins while handlers take longer than the lease: they end where they began, once."""
    begun: list[int] = []
    done: list[int] = []
    gate = asyncio.Event()

    @app.on(Shared, start="beginning", partitions=4, name="long")
    async def long(event: Shared) -> None:
        begun.append(event.n)
        await gate.wait()
        done.append(event.n)

    with app.transaction() as connection:
        app.record(*(Shared(key=f"k{n}", n=n) for n in range(40)), via=connection)
    async with app.running(lease=0.6) as first:
        await until(lambda: len(begun) >= 35)
        began = time.monotonic()
        async with app.running(lease=0.6) as second:
            await until(lambda: time.monotonic() > began + 2.0)  # longer than a lease, and than its rounds
            gate.set()
            await until(lambda: len(done) == 40)
            await until(lambda: len(places(first)) == len(places(second)) == 2)
    assert sorted(begun) == sorted(done) == list(range(40))


async def test_what_a_worker_leaves_is_taken_at_once(app: App) -> None:
    """A graceful stop releases: nobody waits until a lease has run out."""
    book = Book()
    app.on(Shared, name="shared")(book.handle)
    async with app.running(lease=3.0):
        pass
    began = time.monotonic()
    async with app.running(lease=3.0):
        record(app, 1, range(1))
        await until(lambda: book.total == 1)
    assert time.monotonic() - began < 1.5
    assert app.operations.workers() == []


async def test_who_has_lost_the_lease_writes_nothing(app: App) -> None:
    """The fence: what a worker still does after another has taken its partition leaves no trace in the log."""
    gate, begun = asyncio.Event(), asyncio.Event()
    seen: list[int] = []

    @app.on(Shared, start="beginning", name="fenced", retry=Backoff(first=100))
    async def handle(event: Shared) -> None:
        begun.set()
        await gate.wait()
        seen.append(event.n)
        if event.n == 1:
            raise ValueError("no")

    with app.transaction() as connection:
        app.record(*(Shared(key=f"k{n}", n=n) for n in range(3)), via=connection)
    async with app.running(lease=30) as worker:
        await begun.wait()
        run_sql(app, "update ensue_partitions set owner = 'other:1:x', epoch = epoch + 1")
        gate.set()
        await until(lambda: len(seen) == 3)
        await until(lambda: not worker._crew.runners, "it should find out when it saves")
        assert app.operations.dead_letters(Filter(waiting_only=False)) == []
        (standing,) = app.operations.standings()
        assert standing.checkpoint == 0
        assert standing.partitions[0].owner == "other:1:x"
    (standing,) = app.operations.standings()
    assert (standing.checkpoint, standing.partitions[0].owner) == (0, "other:1:x"), "it released what it has not"


async def test_a_lease_that_was_lost_is_found_by_the_next_round(app: App) -> None:
    book = Book()
    app.on(Shared, name="idle")(book.handle)
    async with app.running(lease=0.6) as worker:
        run_sql(app, "update ensue_partitions set owner = 'other:1:x', epoch = epoch + 1")
        await until(lambda: not worker._crew.runners)
        record(app, 1, range(1))
        await until(lambda: worker._crew.runners, "the other one's lease has run out")
        await until(lambda: book.total == 1)


# --------------------------------------------------------------------------------------------------- repartition


@pytest.mark.parametrize("steps", [(1, 4), (4, 1), (3, 8, 5, 2)], ids=str)
async def test_repartitioning_in_quiet_doubles_and_loses_nothing(app: App, steps: tuple[int, ...]) -> None:
    book = Book()
    app.on(Shared, start="beginning", partitions=steps[0], name="cut", concurrency=2)(book.handle)
    record(app, 50, range(2))
    count = 2
    async with app.running(lease=0.6) as worker:
        for parts in steps[1:]:
            await until(lambda: book.total == 50 * count)
            await until(lambda: app.operations.standings()[0].behind == 0)
            old = set(worker._crew.runners)
            await asyncio.to_thread(app.operations.repartition, "cut", parts, actor="ann", reason="more machines")
            await until(lambda: len(worker._crew.runners) == parts and not old & worker._crew.runners.keys())
            record(app, 50, range(count, count + 1))
            count += 1
        await until(lambda: book.total >= 50 * count)
        await until(lambda: app.operations.standings()[0].behind == 0)
    book.check(50, count)
    async with app.running(lease=0.6):
        record(app, 50, range(count, count + 1))
        await until(lambda: book.total >= 50 * (count + 1))
    book.check(50, count + 1)


async def test_repartitioning_remembers_which_part_was_further(app: App) -> None:
    """Three parts at different checkpoints become one: it begins at the lowest, the others' events are not repeated."""
    book = Book()
    gate = asyncio.Event()

    async def handle(event: Shared) -> None:
        if event.key == "k0":
            await gate.wait()
        await book.handle(event)

    app.on(Shared, start="beginning", partitions=3, name="uneven")(handle)
    record(app, 30, range(3))
    async with app.running(lease=30, grace=0.1):
        await until(lambda: book.total == 29 * 3)
        last = [recorded.position for recorded in app.read()][-1]
        await until(lambda: sorted(p.checkpoint for p in app.operations.standings()[0].partitions)[1:] == [last] * 2)
        run_sql(app, "update ensue_partitions set owner = null, epoch = epoch + 1")  # as if it had been killed
        gate.set()
        await until(lambda: book.total == 90)
    parts = app.operations.standings()[0].partitions
    assert sorted(part.checkpoint for part in parts) == [0, last, last]
    slow = next(part for part in parts if part.checkpoint == 0)
    repeated = {f"k{n}" for n in range(30) if slow.first_slot <= slot_of(f"k{n}") <= slow.last_slot}
    await asyncio.to_thread(app.operations.repartition, "uneven", 1, actor="ann", reason="fewer machines")
    async with app.running(lease=30):
        await until(lambda: app.operations.standings()[0].checkpoint == last)
        await asyncio.to_thread(app.operations.repartition, "uneven", 2, actor="ann", reason="more machines")
    record(app, 30, range(3, 4))
    async with app.running(lease=30):
        await until(lambda: app.operations.standings()[0].behind == 0)
    assert {key for key, numbers in book.by_key.items() if numbers == [0, 1, 2, 0, 1, 2, 3]} == repeated
    assert {key for key, numbers in book.by_key.items() if numbers == [0, 1, 2, 3]} == {
        f"k{n}" for n in range(30)
    } - repeated


async def test_repartitioning_under_load_loses_nothing_and_keeps_the_order(app: App) -> None:
    first: dict[str, list[int]] = defaultdict(list)
    calls = 0

    @app.on(Shared, start="beginning", partitions=2, name="busy", retry=Backoff(first=0.05))
    async def handle(event: Shared) -> None:
        nonlocal calls
        await asyncio.sleep(0.001)
        calls += 1
        if calls % 50 == 7:
            raise ValueError("now and then")
        if event.n not in first[event.key]:
            first[event.key].append(event.n)

    app.migrate()
    recording, recorded = True, 0

    def load() -> None:
        nonlocal recorded
        while recording:
            record(app, 25, range(recorded, recorded + 1))
            recorded += 1
            until_sync(lambda: not recording or 25 * recorded < calls + 500)  # it is load, not a backlog

    thread = threading.Thread(target=load)
    thread.start()
    try:
        async with app.running(lease=0.6) as worker:
            for parts in (5, 1, 3):
                mark = calls
                await until(lambda mark=mark: calls > mark + 200)  # type: ignore[misc]
                await asyncio.to_thread(app.operations.repartition, "busy", parts, actor="ann", reason="a test")
                await until(lambda parts=parts: len(worker._crew.runners) == parts)  # type: ignore[misc]
            recording = False
            await asyncio.to_thread(thread.join)
            await until(lambda: sum(map(len, first.values())) == 25 * recorded, seconds=40)
    finally:
        recording = False
        thread.join()
    assert dict(first) == {f"k{key}": list(range(recorded)) for key in range(25)}


# ---------------------------------------------------------------------------------------------------- processes


@pytest.fixture
def hired() -> Iterator[Crew]:
    with crew() as found:
        yield found


def record_work(job: Job, keys: int, numbers: range) -> None:
    app = job.app()
    with app.transaction() as connection:
        app.record(*(Worked(key=f"k{key}", n=n) for n in numbers for key in range(keys)), via=connection)


def test_processes_share_take_over_and_stop(url: str, schema: str, tmp_path: Path, hired: Crew) -> None:
    """Three processes; one is killed, one is stopped: what they leave is taken over, at once or when the lease ends."""
    job = Job(url, schema, tmp_path / "effects", partitions=6, seconds=0.002, lease=LEASE)
    job.app().migrate()
    processes = [hired.start(job.work) for _ in range(3)]
    app = job.app()

    def owners() -> Counter[str | None]:
        return Counter(part.owner for part in app.operations.standings()[0].partitions)

    until_sync(lambda: sorted(owners().values()) == [2, 2, 2] and None not in owners(), "three equal shares")
    record_work(job, 30, range(20))
    until_sync(lambda: len(job.lines()) == 600)
    assert {line.pid for line in job.lines()} == {process.pid for process in processes}
    assert len(set(job.lines())) == 600, "without a crash nothing is done twice"

    record_work(job, 30, range(20, 60))
    until_sync(lambda: len(job.lines()) > 800)
    hired.kill(processes[0])
    killed_at = time.monotonic()
    until_sync(lambda: len(done(job)) == 1800)
    taken_over = time.monotonic() - killed_at
    until_sync(lambda: sorted(owners().values()) == [3, 3] and None not in owners())
    assert taken_over < LEASE * 1.5 + 5, "the dead one's share waits for its lease, not for more"

    record_work(job, 30, range(60, 100))
    until_sync(lambda: len(done(job)) > 2000)
    before = len(job.lines())
    assert hired.stop(processes[1]) == 0
    until_sync(lambda: len(done(job)) == 3000)
    after_stop = [(line.key, line.n) for line in job.lines()]
    assert max(Counter(after_stop).values()) <= 2
    assert not [pair for pair, times in Counter(after_stop).items() if times > 1 and pair[1] >= 60], (
        "a graceful stop does nothing twice"
    )
    assert before
    assert hired.stop(processes[2]) == 0
    order = defaultdict(list)
    for key, n in dict.fromkeys(after_stop):
        order[key].append(n)
    assert all(numbers == list(range(100)) for numbers in order.values())
    assert owners() == {None: 6}


def done(job: Job) -> set[tuple[str, int]]:
    return {(line.key, line.n) for line in job.lines()}


def test_a_worker_that_is_frozen_while_it_renews_its_leases_keeps_nobody_from_them(
    postgres_url: str, schema: str, tmp_path: Path, hired: Crew
) -> None:
    """Its transaction is open, and has locked the rows of its partitions: it must not stay so for ever."""
    job = Job(postgres_url, schema, tmp_path / "effects", lease=LEASE)
    job.app().migrate()
    victim = hired.start(job.work)
    record_work(job, 1, range(1))
    until_sync(lambda: len(job.lines()) == 1)
    assert victim.pid is not None
    freeze_while_it_renews(postgres_url, schema, victim.pid)
    record_work(job, 1, range(1, 2))
    other = hired.start(job.work)
    until_sync(lambda: len(job.lines()) == 2, "the other takes over", seconds=20)
    os.kill(victim.pid, signal.SIGCONT)
    until_sync(lambda: len(job.app().operations.workers()) == 2, "it comes back", seconds=20)
    record_work(job, 1, range(2, 3))
    until_sync(lambda: len(job.lines()) == 3)
    assert hired.stop(victim) == hired.stop(other) == 0
    assert [line.n for line in job.lines()] == [0, 1, 2]


async def test_a_worker_that_is_frozen_before_it_commits_keeps_nobody_from_its_partition(
    postgres_url: str, schema: str
) -> None:
    """PostgreSQL ends a transaction that has moved a checkpoint and says nothing more; only that transaction."""
    app = App("sharing", postgres_url, schema=schema)
    limits: list[str] = []

    @contextmanager
    def transaction() -> Iterator[Any]:
        with psycopg.connect(postgres_url) as connection:
            yield connection
            for _ in range(2):
                (limit,) = connection.execute("show idle_in_transaction_session_timeout").fetchone() or ("none",)
                limits.append(limit)
                connection.commit()

    @app.projection(Shared, tables="seen", set_up="create table seen (n bigint)", transaction=transaction)
    def seen(event: Shared, db: Any) -> None:
        db.execute("insert into seen values (%s)", (event.n,))

    app.migrate()
    record(app, 1, range(1))
    async with app.running(lease=LEASE):
        await until(lambda: len(limits) >= 2)
    assert limits[:2] == ["10s", "0"]
    assert run_sql(app, "select n from seen") == [(0,)]


def freeze_while_it_renews(url: str, schema: str, pid: int) -> None:
    """Stop a worker whose lease round waits for a lock, then let the lock go: its transaction stays open."""
    with psycopg.connect(url) as connection, psycopg.connect(url, autocommit=True) as watching:
        connection.execute(f"select from {schema}.partitions for update".encode())

        def state(of: str) -> list[tuple[object]]:
            return watching.execute(
                f"select pid from pg_stat_activity where query like '%leased_until%' and {of}".encode()
            ).fetchall()

        until_sync(lambda: state("datname = current_database() and wait_event_type = 'Lock'"))
        os.kill(pid, signal.SIGSTOP)
        connection.rollback()
        until_sync(lambda: state("datname = current_database() and state = 'idle in transaction'"))


def test_sigterm_finishes_what_is_in_hand(url: str, schema: str, tmp_path: Path, hired: Crew) -> None:
    job = Job(url, schema, tmp_path / "effects", concurrency=4, seconds=0.5)
    job.app().migrate()
    record_work(job, 20, range(1))
    process = hired.start(job.work)
    until_sync(lambda: len(job.lines()) >= 4)
    assert hired.stop(process) == 0
    assert 4 <= len(job.lines()) <= 12
    (standing,) = job.app().operations.standings()
    assert standing.partitions[0].owner is None
    assert job.app().operations.workers() == []
    again = hired.start(job.work)
    until_sync(lambda: len(job.lines()) >= 20)
    assert hired.stop(again) == 0
    assert len(done(job)) == len(job.lines()) == 20


def test_sigterm_stops_a_worker_that_cannot_reach_its_database(tmp_path: Path, hired: Crew) -> None:
    job = Job("postgresql://nobody@127.0.0.1:9/nothing", "ensue", tmp_path / "effects")
    ready = tmp_path / "ready"
    process = hired.start(_work_loudly, job, ready)
    until_sync(lambda: ready.exists() and "starting" in ready.read_text())
    assert hired.stop(process, 10) == 0


def _work_loudly(job: Job, out: Path) -> None:
    import logging

    logging.basicConfig(filename=out, level=logging.WARNING)
    job.work()


def test_sigint_stops_as_sigterm_does(tmp_path: Path, hired: Crew) -> None:
    job = Job(f"sqlite:///{tmp_path / 'log.db'}", "ensue", tmp_path / "effects")
    job.app().migrate()
    record_work(job, 1, range(1))
    process = hired.start(job.work)
    until_sync(lambda: job.lines())
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join(20)
    assert process.exitcode == 0
