"""The console of a large log: every view is quick, and no query reads a whole table.

Small by default. ENSUE_TEST_CONSOLE=10000000,100000 makes it so many events and dead letters.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import psycopg
import pytest
from starlette.routing import compile_path

from ensue.console import Console
from ensue.console.api.queries import QUERIES
from ensue.console.views import VIEWS
from ensue.log import Call, Selection
from tests.bookshop import Bookshop
from tests.console_running import serving
from tests.large_log import fill, first_dead, views
from tests.test_plans import plan

EVENTS, DEAD = map(int, os.environ.get("ENSUE_TEST_CONSOLE", "60000,6000").split(","))
SCHEMA = "console_size"
BIG = ("events", "parked", "audit", "processes", "process_steps", "timers", "marks", "settled")
SLOWEST = 1.0
"""Seconds that a view may take."""


@dataclass
class Large:
    """A large log, and its console."""

    url: str
    shop: Bookshop
    client: httpx.Client
    dead: int
    """The position of a dead letter."""

    def read(self) -> dict[str, int]:
        """Return how many rows of each big table were read without an index so far."""
        self.shop.app.log.own.close()  # what a connection has counted is told when it ends
        with psycopg.connect(self.url) as connection:
            connection.execute("select pg_stat_clear_snapshot()")
            rows = connection.execute(
                "select relname, seq_tup_read from pg_stat_user_tables where schemaname = %s", (SCHEMA,)
            )
            return {name: number for name, number in rows if name in BIG}


@pytest.fixture(scope="module")
def large(installed_postgres_url: str) -> Iterator[Large]:
    url = os.environ.get("ENSUE_TEST_CONSOLE_URL", installed_postgres_url)
    shop = Bookshop(url, schema=SCHEMA)
    shop.app.migrate()
    if not shop.app.operations.horizon():
        fill(url, SCHEMA, EVENTS, DEAD)
    with serving(Console(shop.app)) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield Large(url, shop, client, first_dead(url, SCHEMA))
    shop.app.log.own.close()


def test_every_view_of_a_large_log_is_quick_and_reads_no_whole_table(large: Large) -> None:
    before, took = large.read(), dict[str, float]()
    for path in views(EVENTS, large.dead):
        began = time.perf_counter()
        answer = large.client.get(path, follow_redirects=True)
        took[path] = time.perf_counter() - began
        assert answer.status_code == 200, (path, answer.text[-400:])
    for path, seconds in sorted(took.items(), key=lambda each: -each[1])[:12]:
        print(f"{seconds:.3f} s  {path}")
    after = large.read()

    assert {name: after[name] - before[name] for name in BIG} == dict.fromkeys(BIG, 0)
    assert {path: seconds for path, seconds in took.items() if seconds > SLOWEST} == {}


def test_every_view_and_every_query_is_among_them() -> None:
    """But for jobs, which are in no table."""
    seen = [path.partition("?")[0] for path in views(EVENTS, 1)]
    there = (*VIEWS, *(f"/api{each.path}" for each in QUERIES))
    assert [path for path in there if not any(map(compile_path(path)[0].match, seen))] == [
        "/jobs/{number}",
        "/api/jobs/{number}",
    ]


def test_many_dead_letters_are_retried_as_a_job(large: Large) -> None:
    asked = {"subscription": "send_confirmation", "fault": "OSError", "reason": "the disk is back"}
    answer = large.client.post("/api/actions/retry", json=asked).json()
    deadline = time.monotonic() + 100
    while (job := large.client.get(f"/api/jobs/{answer['job']}").json())["state"] == "working":
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    assert job["state"] == "done", job
    faults = {each["fault"]: each for each in large.client.get("/api/faults").json()}
    assert faults["OSError"]["waiting"] == 0
    assert faults["OSError"]["retrying"] == job["done"] == DEAD // 3
    assert faults["MailRefused"]["retrying"] == 0


@pytest.mark.parametrize(
    ("name", "values", "index"),
    [
        ("parked", {"limit": 50}, "parked_position"),
        ("parked", {"limit": 50, "after": EVENTS // 2}, "parked_position"),
        (
            "parked",
            {"limit": 50, "subscription": "send_confirmation", "type": "BookOrdered.v2", "fault": "nothing like it"},
            "parked_faults",
        ),
        ("faults", {}, "parked_faults"),
        ("parked_counts", {}, "parked_faults"),
        ("last_errors", {}, "parked_failed"),
        ("audit", {"limit": 50, "before": 2**62}, "audit_pkey"),
        ("audit", {"limit": 50, "before": 2**62, "subscription": "rare"}, "audit_subscription"),
        ("audit", {"limit": 50, "before": 2**62, "key": "o-77"}, "audit_key"),
        (
            "processes_begun",
            {"process": "order", "status": "running", "limit": 50, "before": "9999-01-01T00:00:00Z", "behind": ""},
            "processes_status",
        ),
        ("next_timers", {"limit": 50}, "timers_due_at"),
        ("passages", {"type": "BookOrdered.v2", "slot": 7, "key": "o-77", "position": 308}, "marks_checkpoint"),
        ("passages", {"type": "BookOrdered.v2", "slot": 7, "key": "o-77", "position": 308}, "settled_pkey"),
        ("recorded_between", {"after": EVENTS - 1000, "until": EVENTS}, "events_pkey"),
        ("passed", {"rows": '[["a", "BookPaid", 1, 2000]]', "most": 50_000}, "events_type"),
        ("count_type", {"type": "BookPaid", "after": 0, "until": EVENTS, "most": 20_000}, "events_type"),
    ],
)
def test_a_query_of_the_console_is_answered_by_an_index(
    large: Large, name: str, values: dict[str, object], index: str
) -> None:
    query = large.shop.app.log.dialect.sql[name]
    asked = {"after": 0, "behind": "", "waiting": True, **values}
    nodes = list(plan(large, query(**{each: asked.get(each) for each in query.names})))

    assert index in {node.get("Index Name") for node in nodes}
    assert not {node.get("Relation Name") for node in nodes if node["Node Type"] == "Seq Scan"}.intersection(BIG)


@pytest.mark.parametrize(
    ("selection", "index"),
    [
        (Selection(until=EVENTS // 2), "events_pkey"),
        (Selection(types=("Nothing",)), "events_type"),
        (Selection(key="o-77"), "events_key"),
        (Selection(stream="Shelf-s77"), "events_stream"),
        (Selection(correlation_id="request-77"), "events_correlation"),
        (Selection(after=EVENTS - 5000, until=EVENTS, contains="nothing like it"), "events_pkey"),
    ],
)
def test_the_latest_events_of_a_selection_are_found_by_an_index(large: Large, selection: Selection, index: str) -> None:
    call = next(large.shop.app.log.latest(selection, 50))
    assert isinstance(call, Call)
    nodes = list(plan(large, call))

    assert index in {node.get("Index Name") for node in nodes}
    assert "Seq Scan" not in {node["Node Type"] for node in nodes}
