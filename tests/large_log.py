"""A large log for the console: the bookshop's, with many events, dead letters, processes, timers and an audit."""

from __future__ import annotations

import psycopg

FILL = """
insert into {schema}.events
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
insert into {schema}.parked (subscription, key, slot, position, id, type, next_step, attempt, reason, traceback,
    worker, parked_at, tries_since, failed_at)
select 'send_confirmation', e.key, 7, e.position, e.id::text, e.type, 'wait', 4,
    case e.position %% 3 when 0 then 'MailRefused: ' when 1 then 'TimeoutError: ' else 'OSError: ' end || e.position,
    repeat('File "shop.py", line 7, in send' || chr(10), 40), 'worker-1',
    clock_timestamp() - e.position %% 100000 * interval '1 s', now(), now()
from {schema}.events e where e.type = 'BookOrdered.v2' order by e.position limit %(dead)s
"""
AUDIT = """
insert into {schema}.audit (actor, action, subscription, key, event_id, reason, detail)
select 'ada', 'retry', case n %% 1000 when 0 then 'rare' else 'send_confirmation' end, 'o-' || n,
    gen_random_uuid()::text, 'because', json_build_object('position', n)
from generate_series(1, %(dead)s) as n
"""
PROCESSES = """
insert into {schema}.processes (process, key, version, status, state, timers, late, undo, compensated, steps,
    started_at)
select 'order', 'o-' || n, 1, case n %% 3 when 0 then 'running' else 'done' end, '{"book": "Emma"}', '{}', '[]', '[]',
    false, 2, timestamptz '2026-03-01' + n * interval '1 s' from generate_series(1, %(dead)s) as n
"""
TIMERS = """
insert into {schema}.timers (owner, name, due_at, event)
select 'order/o-' || n, 'payment', now() + n * interval '1 s', json_build_object(
    'id', gen_random_uuid(), 'type', 'PaymentOverdue', 'kind', 'domain', 'key', 'o-' || n,
    'data', json_build_object('order', 'o-' || n)) from generate_series(1, %(dead)s) as n
"""

MARKS = """
insert into {schema}.marks (subscription, first_slot, seconds, place, turn, last_slot, checkpoint, moved_at, moved_by)
select s.name, 0, r, n, n, 65535, n * 10 + r, now() - n * interval '10 s', 'worker-1'
from {schema}.subscriptions s, unnest(array[10, 300, 7200]) r, generate_series(0, 359) n
"""
SETTLED = """
insert into {schema}.settled (subscription, key, position, until, failures, parked_at, worker)
select 'send_confirmation', 'o-' || n, 4 * n, 4 * n, 2, now(), 'worker-1' from generate_series(1, %(dead)s) as n
"""


def fill(url: str, schema: str, events: int, dead: int) -> None:
    """Fill the tables of a log that is migrated; the indexes of the events are made at the end, which is quicker."""
    with psycopg.connect(url, autocommit=True) as connection:
        indexes = connection.execute(
            "select indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index "
            "where indrelid = %s::regclass and not indisprimary",
            (f"{schema}.events",),
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f"drop index {name}".encode())
        values = {"streams": max(1, events // 200), "dead": dead}
        for first in range(1, events + 1, 100_000):
            asked = {**values, "first": first, "last": min(events, first + 99_999)}
            connection.execute(FILL.replace("{schema}", schema).encode(), asked)
        for _, definition in indexes:
            connection.execute(definition.encode())
        connection.execute(f"select setval('{schema}.positions', {events})".encode())
        for each in (PARK, AUDIT, PROCESSES, TIMERS, MARKS, SETTLED):
            connection.execute(each.replace("{schema}", schema).encode(), values)
        connection.execute(
            f"update {schema}.partitions set checkpoint = {events} where subscription <> 'sold'".encode()
        )
        connection.execute("vacuum analyze")


def first_dead(url: str, schema: str) -> int:
    """Return the position of a dead letter."""
    with psycopg.connect(url) as connection:
        (found,) = connection.execute(f"select min(position) from {schema}.parked".encode()).fetchone() or (0,)
    return int(found)


def views(events: int, dead: int) -> list[str]:
    """Return what people look at; `dead` is the position of a dead letter."""
    middle = events // 8 * 4
    return [
        "/", "/events", "/events?type=CopyTaken", "/events?key=o-77", "/events?stream=Shelf-s77",
        "/events?correlation=request-77", "/events?type=Nothing",
        f"/events?since=2026-03-01T00:10&before=2026-03-01T00:{min(59, max(11, events // 3100))}",
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
        "/find?q=o-77", "/aggregates/Shelf-s77/diff?first=0&last=2", "/asyncapi.json",
        "/api/overview", "/api/subscriptions", "/api/subscriptions/sold", "/api/events?limit=500",
        f"/api/events/{middle}", "/api/aggregates/Shelf-s77", "/api/aggregates/Shelf-s77/diff?first=0&last=2",
        "/api/processes/order/o-77", "/api/builds", "/api/map", "/api/audit?limit=500", "/api/jobs",
        "/api/dead-letters?limit=500", "/api/faults",
        f"/api/dead-letters/{dead}/queue?subscription=send_confirmation", "/api/contracts",
        "/api/contracts/BookOrdered",
        "/api/timers?limit=500", f"/api/events/{middle}/trace", "/api/processes?process=order&limit=500",
    ]  # fmt: skip
