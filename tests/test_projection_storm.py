"""Workers of a projection are killed, stopped and overtaken, it is built anew meanwhile: each event is applied once."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ensue import App, Backoff, DomainEvent, errors
from tests.patience import until_sync
from tests.processes import Crew, crew
from tests.servers import OwnPostgres, Stop

EVENTS = 10_000
KEYS = 200
TOGETHER = 5
"""Events that are recorded in one transaction."""
KILLS = 15
SECONDS = 12.0
"""How long the storm lasts, more or less: events and kills are spread over it."""

SET_UP = """create table balances (
    owner text primary key, amount bigint not null, changes bigint not null, trace bigint not null
)"""
ADD = """insert into balances (owner, amount, changes, trace) values ({0}, {0}, 1, {0})
on conflict (owner) do update set amount = balances.amount + excluded.amount, changes = balances.changes + 1,
trace = (balances.trace * 31 + excluded.amount) % 1000003"""
"""The trace says in which order they were applied."""

Rows = list[tuple[str, int, int, int]]


class Moved(DomainEvent, key="owner", name="test.projection-storm.moved"):
    owner: str
    amount: int


@dataclass(frozen=True)
class Storm:
    """What all processes have to know."""

    url: str
    folder: Path
    schema: str = "ensue"
    partitions: int = 4
    lease: float = 1.0
    fails: float = 0.002
    """Which part of the calls fails."""
    stops_at: int = -1
    """The amount at which the first who comes there waits, in its transaction, until it may go on."""

    def app(self) -> App:
        app = App("storm", self.url, schema=self.schema)
        postgres = self.url.startswith("postgres")
        add = ADD.replace("%", "%%").format("%s") if postgres else ADD.format("?")

        @app.projection(
            Moved, tables="balances", set_up=SET_UP, partitions=self.partitions, retry=Backoff(first=0.02, most=0.1)
        )
        def balances(event: Moved, db: Any) -> None:
            if event.amount == self.stops_at and not self.reached.exists():
                self.reached.write_text(str(os.getpid()))
                until_sync(self.released.exists, seconds=60)
            if random.random() < self.fails:
                raise ValueError("it fails now and then")
            db.execute(add, (event.owner, event.amount, event.amount))

        return app

    @property
    def reached(self) -> Path:
        return self.folder / "reached"

    @property
    def released(self) -> Path:
        return self.folder / "released"

    @property
    def told(self) -> Path:
        return self.folder / "told"

    def work(self) -> None:
        logging.basicConfig(filename=self.told)
        self.app().run(lease=self.lease)

    def write(self, seed: int) -> None:
        """Record events; after a failure, others: what the log holds is what counts."""
        rng, app, began = random.Random(seed), App("storm", self.url, schema=self.schema), time.monotonic()
        for number in range(EVENTS // 2 // TOGETHER):
            time.sleep(max(0.0, began + number * TOGETHER * 2 / EVENTS * SECONDS - time.monotonic()))
            events = [Moved(owner=f"o{rng.randrange(KEYS)}", amount=rng.randrange(1000)) for _ in range(TOGETHER)]
            patiently(lambda events=events: record(app, *events))  # type: ignore[misc]


def record(app: App, *events: Moved) -> None:
    with app.transaction() as connection:
        app.record(*events, via=connection)


def patiently(work: Callable[[], Any]) -> Any:
    """Do it again while the database is away or locked, or a build is not yet where it has to be."""
    while True:
        try:
            return work()
        except (psycopg.OperationalError, sqlite3.OperationalError, errors.DatabaseUnavailable, errors.ProjectionError):
            time.sleep(0.05)  # the server starts again


def folded(app: App) -> Rows:
    """Return what the table has to hold, by the log alone."""
    found: dict[str, tuple[int, int, int]] = {}
    for each in app.read():
        owner, added = each.event.owner, each.event.amount
        amount, changes, trace = found.get(owner, (0, 0, 0))
        found[owner] = (amount + added, changes + 1, (trace * 31 + added) % 1000003)
    return sorted((owner, *values) for owner, values in found.items())


def shown(app: App) -> Rows:
    with app.transaction() as connection:
        return sorted(connection.execute("select owner, amount, changes, trace from balances").fetchall())


def caught_up(app: App) -> bool:
    """Tell whether the live build is done with everything; raise nothing while the database is away."""
    build = next(each.build for each in patiently(lambda: app.replays.builds("balances")) if each.build.state == "live")
    (standing,) = [each for each in patiently(app.operations.standings) if each.subscription == build.cursor]
    return bool(standing.behind == standing.retrying == 0)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_postgres(own_postgres: OwnPostgres, tmp_path: Path) -> None:
    """The server breaks down twice as well, in the middle of everything."""
    rage(Storm(own_postgres.url, tmp_path), lambda: own_postgres.restart(Stop.IMMEDIATE))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_sqlite(tmp_path: Path) -> None:
    rage(Storm(f"sqlite:///{tmp_path / 'log.db'}", tmp_path), None)


def rage(storm: Storm, break_down: Callable[[], None] | None) -> None:
    app = storm.app()
    app.migrate()
    with crew() as hired:
        writers = [hired.start(storm.write, seed) for seed in (1, 2)]
        workers = [hired.start(storm.work) for _ in range(2)]
        switches: list[int] = []
        switching = threading.Thread(target=there_and_back, args=(app, switches), daemon=True)
        switching.start()
        kill(hired, storm, workers, break_down)
        for writer in writers:
            until_sync(lambda writer=writer: not writer.is_alive(), seconds=60)  # type: ignore[misc]
            assert writer.exitcode == 0
        until_sync(lambda: not switching.is_alive(), seconds=60)
        assert switches == [1, 2], "switched, and switched back"
        until_sync(lambda: caught_up(app), seconds=60)
        for worker in workers:
            assert hired.stop(worker) == 0
    expected = folded(app)
    assert sum(changes for _, _, changes, _ in expected) >= EVENTS
    assert shown(app) == expected
    assert app.operations.dead_letters() == []


def kill(hired: Crew, storm: Storm, workers: list[Any], break_down: Callable[[], None] | None) -> None:
    rng, began = random.Random(2026), time.monotonic()
    for number, moment in enumerate(sorted(rng.uniform(0, SECONDS) for _ in range(KILLS))):
        time.sleep(max(0.0, began + moment - time.monotonic()))
        victim = rng.randrange(len(workers))
        hired.kill(workers[victim])
        workers[victim] = hired.start(storm.work)
        if break_down and number in (KILLS // 3, KILLS * 2 // 3):
            break_down()


def there_and_back(app: App, switches: list[int]) -> None:
    """Build the projection anew, switch to that, and back, whatever the database does meanwhile."""
    build = patiently(lambda: app.replays.begin("balances"))
    patiently(lambda: asyncio.run(app.replays.build(build)))

    def switch(goal: Any) -> Any:
        return asyncio.run(app.replays.follow_and_switch(goal, actor="storm", reason="it rages"))

    before = patiently(lambda: switch(build))
    switches.append(before.number)
    switches.append(patiently(lambda: switch(before)).number)


def freeze(pid: int, url: str) -> bool:
    """Stop a worker that applies events, unless it renews its leases at that moment: then let it go on."""
    os.kill(pid, signal.SIGSTOP)
    with psycopg.connect(url) as connection:
        sessions = connection.execute(
            "select state from pg_stat_activity where datname is not null and state <> 'idle' and pid <> "
            "pg_backend_pid()"
        ).fetchall()
    if sessions == [("idle in transaction",)]:
        return True
    os.kill(pid, signal.SIGCONT)
    return False


def test_a_worker_that_was_stopped_in_its_transaction_and_overtaken_applies_nothing(
    own_postgres: OwnPostgres, tmp_path: Path
) -> None:
    """It is stopped for longer than its lease, another takes over and applies the same events; then it goes on."""
    storm = Storm(own_postgres.url, tmp_path, partitions=1, lease=0.5, fails=0.0, stops_at=0)
    app = storm.app()
    app.migrate()
    record(app, *(Moved(owner=f"o{n % 10}", amount=n) for n in range(100)))
    with crew() as hired:
        victim = hired.start(storm.work)
        until_sync(storm.reached.exists)
        pid = victim.pid
        assert pid is not None
        until_sync(lambda: freeze(pid, storm.url), "it is stopped in this transaction alone")
        other = hired.start(storm.work)
        until_sync(lambda: shown(app) == folded(app), "the other takes over")
        storm.released.touch()
        os.kill(pid, signal.SIGCONT)
        until_sync(lambda: "no longer ours" in storm.told.read_text(), "its transaction is refused")
        record(app, *(Moved(owner=f"o{n % 10}", amount=n) for n in range(100, 200)))
        until_sync(lambda: caught_up(app))
        assert hired.stop(victim) == 0
        assert hired.stop(other) == 0
        assert shown(app) == folded(app)
