"""Workers are killed fifty times while users sign up: each of them is subscribed once and gets one mail."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path

import pytest

from ensue import App
from tests.patience import until_sync
from tests.processes import Crew, crew
from tests.servers import OwnPostgres, Stop
from tests.storm import SERVICES, Storm, book, serve

SIGN_UPS = 5000
KILLS = 50
SECONDS = 25.0
"""How long the storm lasts, more or less: sign-ups and kills are spread over it."""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_postgres(own_postgres: OwnPostgres) -> None:
    """The server breaks down twice as well, in the middle of everything."""
    rage(Storm(own_postgres.url, "ensue", SIGN_UPS, SIGN_UPS / SECONDS), lambda: own_postgres.restart(Stop.IMMEDIATE))


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_sqlite(tmp_path: Path) -> None:
    rage(Storm(f"sqlite:///{tmp_path / 'log.db'}", "ensue", SIGN_UPS, SIGN_UPS / SECONDS), None)


def rage(storm: Storm, break_down: Callable[[], None] | None) -> None:
    rng = random.Random(2026)
    storm.app(0).migrate()
    connection = storm.connect()
    connection.execute("create table accounts (account integer primary key)")
    connection.commit()
    connection.close()
    with crew() as hired:
        ours, theirs = Pipe()
        hired.start(serve, theirs)
        port: int = ours.recv()
        workers = [hired.start(storm.work, port) for _ in range(2)]
        writer = hired.start(storm.write)
        began = time.monotonic()
        moments = sorted(rng.uniform(0, SECONDS) for _ in range(KILLS))
        for number, moment in enumerate(moments):
            time.sleep(max(0.0, began + moment - time.monotonic()))
            victim = rng.randrange(len(workers))
            hired.kill(workers[victim])
            workers[victim] = hired.start(storm.work, port)
            if break_down and number in (KILLS // 3, KILLS * 2 // 3):
                break_down()
        settle(hired, storm, port)
        until_sync(lambda: not writer.is_alive())
        assert writer.exitcode == 0
        for worker in workers:
            assert hired.stop(worker) == 0
        check(storm, port)


def settle(hired: Crew, storm: Storm, port: int) -> None:
    until_sync(
        lambda: all(len(done) >= storm.sign_ups for done in book(port)[1].values()),
        "everybody is subscribed and has a mail",
        seconds=90,
    )
    operations = App(
        "storm", storm.url, schema=storm.schema
    ).operations  # a call that broke off after its effect goes on
    until_sync(lambda: all(each.behind == each.retrying == 0 for each in operations.standings()), seconds=30)


def check(storm: Storm, port: int) -> None:
    connection = storm.connect()
    accounts = {account for (account,) in connection.execute("select account from accounts").fetchall()}
    connection.close()
    app = App("storm", storm.url, schema=storm.schema)
    recorded = [event.event.account for event in app.read()]
    calls, effects = book(port)
    print(f"{calls} calls for {len(accounts)} accounts")
    assert accounts == set(range(storm.sign_ups))
    assert recorded == list(range(storm.sign_ups)), "recorded once each, whatever became of the answers"
    for service in SERVICES:
        counts = Counter(account for _, account in effects[service])
        assert not counts.keys() - accounts, "a ghost"
        assert not accounts - counts.keys(), "somebody was forgotten"
        assert max(counts.values()) == 1
        assert calls[service] >= len(accounts)
        order: dict[str, list[int]] = defaultdict(list)
        for tenant, account in effects[service]:
            order[tenant].append(account)
        for tenant, done in order.items():
            assert done == sorted(done), f"{tenant} out of order at the {service}"
    assert app.operations.dead_letters() == []
    assert all(each.behind == 0 for each in app.operations.standings())
    assert all(part.owner is None for each in app.operations.standings() for part in each.partitions)
