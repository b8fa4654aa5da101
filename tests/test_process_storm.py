"""Workers are killed while two hundred processes run, with timers, and every message comes twice and in any order."""

from __future__ import annotations

import json
import random
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from ensue import App
from tests.fulfilment import (
    Charge,
    Expired,
    Fulfilling,
    Placed,
    Refund,
    Release,
    Reminded,
    Reserve,
    is_never_paid,
    is_patient,
)
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
                with app.transaction() as connection:
                    app.record(Placed(order=order), via=connection)
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
        until_sync(lambda: all(each.behind == each.retrying == 0 for each in app.operations.standings()), seconds=30)
        for worker in workers:
            assert hired.stop(worker) == 0
    check(app, storm)


def check(app: App, storm: Fulfilling) -> None:
    log: dict[int, list[str]] = defaultdict(list)
    for each in app.read():
        log[each.event.order].append(each.type)
    ended: Counter[str] = Counter()
    noted = storm.noted()
    for seen in app.processes.list(limit=1000):
        order = int(seen.key)
        counts = Counter(log[order])
        ended[seen.status] += 1
        state = json.loads(seen.state)
        undone = [type for type in log[order] if type in (Refund.__type__, Release.__type__)]
        if seen.status == "done":
            assert (seen.outcome, undone) == ("done", [])
            assert state["reserved"]
            assert state["charged"]
        else:
            assert (seen.status, seen.outcome) == ("compensated", "expired")
            assert undone == [Refund.__type__, Release.__type__], "each once, the last first"
            begun = noted[order].index("release begins")
            assert "refund is done" in noted[order][:begun], "one begins when the one before it is done"
            assert "refund begins" not in noted[order][begun:], "which is not called again"
            assert counts[Expired.__type__] == 1
        if is_never_paid(order):
            assert seen.status == "compensated"
        if is_patient(order):
            assert seen.status == "done"
        assert counts[Reserve.__type__] == counts[Charge.__type__] == 1, "it has begun once"
        assert counts[Expired.__type__] <= 1
        assert counts[Reminded.__type__] <= 1
        assert state["reminders"] <= counts[Reminded.__type__]
        shown = app.processes.show("fulfilment", seen.key)
        assert shown.timers == ()
        assert len({each.event_id for each in shown.steps}) == len(shown.steps) == seen.steps
        if seen.status == "compensated":  # two workers may fire two timers in any order
            before = log[order][: log[order].index(Expired.__type__)]
            assert state["reminders"] == before.count(Reminded.__type__), "it saw every timer that fired before its end"
    assert app.operations.dead_letters() == []
    print(dict(ended), "of", storm.orders)
    assert sum(ended.values()) == storm.orders
