"""Workers are killed while two hundred processes run, with timers, and every message comes twice and in any order."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.fulfilment import Fulfilling, Placed, check
from tests.managing import idle, record
from tests.patience import until_sync
from tests.processes import crew

SECONDS = 8.0
KILLS = 20


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_process_ends_as_declared(kind: str, request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> None:
    url = f"sqlite:///{tmp_path}/log.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    storm = Fulfilling(url, schema, tmp_path / "journal")
    rng = random.Random(2026)
    app = storm.app()
    app.migrate()
    placed = [order for order in range(storm.orders) for _ in range(2)]
    rng.shuffle(placed)
    things = [(rng.uniform(0, SECONDS), order) for order in placed]
    things += [(rng.uniform(0.3, SECONDS), -1) for _ in range(KILLS)]
    with crew() as hired:
        workers = [hired.start(storm.work) for _ in range(2)]
        began = time.monotonic()
        for moment, order in sorted(things):
            time.sleep(max(0.0, began + moment - time.monotonic()))
            if order >= 0:
                record(app, Placed(order=order))
            else:
                victim = rng.randrange(len(workers))
                hired.kill(workers[victim])
                workers[victim] = hired.start(storm.work)
        until_sync(
            lambda: (
                len(app.processes.list(limit=1000)) == storm.orders
                and not any(app.processes.list(status=status) for status in ("running", "compensating"))
            ),
            "every process has ended",
            seconds=60,
        )
        until_sync(lambda: idle(app), seconds=30)
        for worker in workers:
            assert hired.stop(worker) == 0
    ended = check(app, storm)
    print(dict(ended), "of", storm.orders)
    assert sum(ended.values()) == storm.orders
