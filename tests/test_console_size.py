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

from ensue.console import Console
from ensue.log import Call, Selection
from tests.bookshop import Bookshop
from tests.console_running import serving
from tests.test_plans import plan

EVENTS, DEAD = map(int, os.environ.get("ENSUE_TEST_CONSOLE", "60000,6000").split(","))
SCHEMA = "console_size"
BIG = ("events", "parked", "audit", "processes", "process_steps", "timers")
SLOWEST = 1.0
"""Seconds that a view may take."""

FILL = """
insert into console_size.events
    (position, id, type, kind, stream, version, key, data, metadata, correlation_id, causation_id, recorded_at)
select p, encode(overlay(uuid_send(gen_random_uuid()) placing substring(int8send(1772000000000 + p) from 3)
        from 1 for 6), 'hex')::uuid,
    case p %% 4 when 0 then 'BookOrdered.v2' when 1 then 'BookPaid' when 2 then 'CopyTaken' else 'BookSent.v1' end,
    case p %% 4 when 2 then 'sourced' when 1 then 'domain' else 'integration' end,
    case p %% 4 when 2 then 'Shelf-s' || p / 4 %% %(streams)s end,
    case p %% 4 when 2 then p / 4 / %(streams)s + 1 end,
    case p %% 4 when 2 then null else 'o-' || p / 4 end,
    case p %% 4
        when 0 then json_build_object('order', 'o-' || p / 4, 'book', 'Emma', 'email', 'nowhere', 'gift', false)
        when 1 then json_build_object('order', 'o-' || p / 4, 'cents', p %% 5000)
        else json_build_object('order', 'o-' || p / 4) end,
    json_build_object('actor', 'ada'), 'request-' || p / 8, null, timestamptz '2026-03-01' + p * interval '20 ms'
from generate_series(%(first)s::bigint, %(last)s::bigint) as p
"""
PARK = """
insert into console_size.parked (subscription, key, slot, position, id, type, next_step, attempt, reason, traceback,
    worker, parked_at, tries_since, failed_at)
select 'send_confirmation', e.key, 7, e.position, e.id::text, e.type, 'wait', 4,
    case e.position %% 3 when 0 then 'MailRefused: ' when 1 then 'TimeoutError: ' else 'OSError: ' end || e.position,
    repeat('File "shop.py", line 7, in send' || chr(10), 40), 'worker-1',
    clock_timestamp() - e.position %% 100000 * interval '1 s', now(), now()
from console_size.events e where e.type = 'BookOrdered.v2' order by e.position limit %(dead)s
"""
AUDIT = """
insert into console_size.audit (actor, action, subscription, key, event_id, reason, detail)
select 'ada', 'retry', case n %% 1000 when 0 then 'rare' else 'send_confirmation' end, 'o-' || n,
    gen_random_uuid()::text, 'because', json_build_object('position', n)
from generate_series(1, %(dead)s) as n
"""
PROCESSES = """
insert into console_size.processes (process, key, version, status, state, timers, late, undo, compensated, steps,
    started_at)
select 'order', 'o-' || n, 1, case n %% 3 when 0 then 'running' else 'done' end, '{"book": "Emma"}', '{}', '[]', '[]',
    false, 2, timestamptz '2026-03-01' + n * interval '1 s' from generate_series(1, %(dead)s) as n
"""
TIMERS = """
insert into console_size.timers (owner, name, due_at, event)
select 'order/o-' || n, 'payment', now() + n * interval '1 s', json_build_object(
    'id', gen_random_uuid(), 'type', 'PaymentOverdue', 'kind', 'domain', 'key', 'o-' || n,
    'data', json_build_object('order', 'o-' || n)) from generate_series(1, %(dead)s) as n
"""


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
def large(postgres_url: str) -> Iterator[Large]:
    url = os.environ.get("ENSUE_TEST_CONSOLE_URL", postgres_url)
    shop = Bookshop(url, schema=SCHEMA)
    shop.app.migrate()
    with psycopg.connect(url, autocommit=True) as connection:
        (there,) = (
            connection.execute(f"select count(*) from (select 1 from {SCHEMA}.events limit 1) x").fetchone() or ()
        )
        if not there:
            fill(connection)
        (dead,) = connection.execute(f"select min(position) from {SCHEMA}.parked").fetchone() or (0,)
    with serving(Console(shop.app)) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield Large(url, shop, client, dead)
    shop.app.log.own.close()


def fill(connection: psycopg.Connection) -> None:
    """Fill the tables; the indexes of the events are made at the end, which is quicker."""
    indexes = connection.execute(
        "select indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index "
        f"where indrelid = '{SCHEMA}.events'::regclass and not indisprimary"
    ).fetchall()
    for name, _ in indexes:
        connection.execute(f"drop index {name}".encode())
    for first in range(1, EVENTS + 1, 100_000):
        last = min(EVENTS, first + 99_999)
        connection.execute(FILL, {"first": first, "last": last, "streams": EVENTS // 200})
    for _, definition in indexes:
        connection.execute(definition.encode())
    connection.execute(f"select setval('{SCHEMA}.positions', {EVENTS})".encode())
    for each in (PARK, AUDIT, PROCESSES, TIMERS):
        connection.execute(each, {"dead": DEAD})
    connection.execute(f"update {SCHEMA}.partitions set checkpoint = {EVENTS} where subscription <> 'sold'".encode())
    connection.execute("vacuum analyze")


def views(large: Large) -> list[str]:
    dead, middle = large.dead, EVENTS // 8 * 4
    return [
        "/", "/events", "/events?type=CopyTaken", "/events?key=o-77", "/events?stream=Shelf-s77",
        "/events?correlation=request-77", "/events?type=Nothing",
        f"/events?since=2026-03-01T00:10&before=2026-03-01T00:{min(59, EVENTS // 3100)}",
        "/events?text=no%20such%20text", f"/events?until={middle}", f"/events/{middle}", "/events?key=nobody",
        "/subscriptions", "/subscriptions/sold", "/subscriptions/send_confirmation",
        "/dead", "/dead?subscription=send_confirmation", "/dead/list", "/dead/list?contains=no%20such%20reason",
        "/dead/list?subscription=send_confirmation&type=BookOrdered.v2&fault=TimeoutError",
        f"/dead/list?after={middle}", f"/dead/{dead}?subscription=send_confirmation",
        f"/dead/{dead}/edit?subscription=send_confirmation",
        "/dead/decide?decision=retry&subscription=send_confirmation&fault=MailRefused",
        "/dead/decide?decision=discard&subscription=send_confirmation",
        "/aggregates?name=Shelf", "/aggregates/Shelf-s77", "/processes", "/processes?status=done",
        "/processes?key=o-77",
        "/processes/order/o-77", "/map", "/contracts", "/contracts/BookOrdered", "/audit", "/audit?subscription=rare",
        "/audit?key=o-77", "/audit?subscription=nobody",
        "/api/overview", "/api/subscriptions", "/api/events?limit=500", "/api/dead-letters?limit=500", "/api/faults",
        "/api/timers?limit=500", f"/api/events/{middle}/trace", "/api/processes?process=order&limit=500",
    ]  # fmt: skip


def test_every_view_of_a_large_log_is_quick_and_reads_no_whole_table(large: Large) -> None:
    before, took = large.read(), dict[str, float]()
    for path in views(large):
        began = time.perf_counter()
        answer = large.client.get(path)
        took[path] = time.perf_counter() - began
        assert answer.status_code == 200, (path, answer.text[-400:])
    for path, seconds in sorted(took.items(), key=lambda each: -each[1])[:12]:
        print(f"{seconds:.3f} s  {path}")
    after = large.read()

    assert {name: after[name] - before[name] for name in BIG} == dict.fromkeys(BIG, 0)
    assert {path: seconds for path, seconds in took.items() if seconds > SLOWEST} == {}


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
