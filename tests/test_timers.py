"""Timers: rows that become events when their time has come, each once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ensue import App, Backoff, Delivery, DomainEvent, IntegrationEvent, SourcedEvent, Timer, context
from ensue.errors import DeclarationError, EventValueError, NotInTransaction
from ensue.handlers.timers import firing, timers_of
from ensue.handlers.timers.firing import fire_due, next_due
from ensue.log import Call, Steps
from ensue.log.statements import Style, T
from tests.patience import until


class Rang(DomainEvent, key="who", name="test.timers.rang"):
    who: str


class Kept(SourcedEvent, name="test.timers.kept"):
    who: str


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> App:
    url = f"sqlite:///{tmp_path}/log.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    return App("timers", url, schema=schema, migrate=True)


def rung(app: App) -> list[str]:
    return [each.event.who for each in app.read(types=[Rang])]


def waiting(app: App) -> list[Timer]:
    with app.transaction() as connection:
        found: list[Timer] = app.log.run(timers_of(app.log, ""), connection)
    return found


def fire(app: App) -> int:
    with app.transaction() as connection:
        fired: int = app.log.run(fire_due(app.log), connection)
    return fired


async def test_a_timer_becomes_an_event_when_it_is_due(app: App) -> None:
    heard: list[tuple[str, str | None]] = []

    @app.on(Rang)
    def hear(event: Rang, delivery: Delivery) -> None:
        heard.append((event.who, delivery.recorded.metadata.actor))

    async with app.running():
        with context(actor="ada", correlation_id="request-7"), app.transaction() as connection:
            timer = app.after(timedelta(milliseconds=200), Rang(who="soon"), via=connection)
            app.after("3d", Rang(who="later"), via=connection)
        took = await until(lambda: heard)
    assert heard == [("soon", "ada")]
    assert took < 5
    (recorded,) = app.read(types=[Rang])
    assert (recorded.id_text, recorded.correlation_id) == (timer.event_id, "request-7")
    assert recorded.recorded_at >= timer.due_at
    assert [each.type for each in waiting(app)] == ["test.timers.rang"]


async def test_on_an_async_connection(app: App) -> None:
    app.migrate()
    async with app.transaction() as connection:
        timer = await app.after(datetime.now(UTC) - timedelta(hours=1), Rang(who="past"), via=connection, name="one")
        await app.after("1h", Rang(who="never"), via=connection, name="two")
        assert await app.cancel_timer("two", via=connection)
        assert not await app.cancel_timer("two", via=connection)
    assert timer.name == "one"
    assert await asyncio.to_thread(fire, app) == 1
    assert rung(app) == ["past"]


def test_what_is_rolled_back_was_never_set(app: App) -> None:
    app.migrate()
    with pytest.raises(ZeroDivisionError), app.transaction() as connection:
        app.after(0, Rang(who="nobody"), via=connection)
        raise ZeroDivisionError
    assert fire(app) == 0
    with app.transaction() as connection:
        app.after(0, Rang(who="ada"), via=connection, name="call")
    with pytest.raises(ZeroDivisionError), app.transaction() as connection:
        assert app.cancel_timer("call", via=connection)
        raise ZeroDivisionError
    assert (fire(app), fire(app)) == (1, 0)
    assert rung(app) == ["ada"]


def test_a_timer_of_the_same_name_is_replaced(app: App) -> None:
    app.migrate()
    with app.transaction() as connection:
        app.after(0, Rang(who="first"), via=connection, name="call")
        second = app.after("1h", Rang(who="second"), via=connection, name="call")
    assert fire(app) == 0
    (left,) = waiting(app)
    assert (left.name, left.event_id) == ("call", second.event_id)
    assert 3500 < (left.due_at - datetime.now(UTC)).total_seconds() < 3700


def test_they_fire_in_the_order_of_their_time(app: App) -> None:
    app.migrate()
    now = datetime.now(UTC)
    with app.transaction() as connection:
        for seconds in (1, 3, 2):
            app.after(now - timedelta(seconds=seconds), Rang(who=str(seconds)), via=connection)
    assert fire(app) == 3
    assert rung(app) == ["3", "2", "1"]


@pytest.mark.parametrize(
    "when, event, name, problem",
    [
        ("soon", Rang(who="a"), None, "not a duration"),
        (datetime(2030, 1, 1), Rang(who="a"), None, "no time zone"),  # noqa: DTZ001
        ("99999d", Rang(who="a"), None, "a hundred years"),
        (1, Rang(who="a"), "", "a name is text"),
        (1, Kept(who="a"), None, "belongs to a stream"),
    ],
)
def test_what_cannot_be_set(app: App, when: Any, event: DomainEvent, name: str | None, problem: str) -> None:
    app.migrate()
    with app.transaction() as connection, pytest.raises((DeclarationError, EventValueError), match=problem):
        app.after(when, event, via=connection, name=name)


def test_an_event_with_a_handler_within_is_refused(app: App) -> None:
    @app.within(Rang)
    def guard(event: Rang) -> None: ...

    with app.transaction() as connection, pytest.raises(DeclarationError, match="'guard'"):
        app.after(1, Rang(who="a"), via=connection)


def test_it_needs_a_transaction(postgres_url: str, schema: str) -> None:
    app = App("timers", postgres_url, schema=schema, migrate=True)
    app.migrate()
    with psycopg.connect(postgres_url, autocommit=True) as connection, pytest.raises(NotInTransaction):
        app.after(1, Rang(who="a"), via=connection)


def test_two_workers_do_not_fire_the_same(postgres_url: str, schema: str) -> None:
    app = App("timers", postgres_url, schema=schema, migrate=True)
    app.migrate()
    with app.transaction() as connection:
        for number in range(700):
            app.after(0, Rang(who=str(number)), via=connection)
    with app.transaction() as one, app.transaction() as other:
        assert app.log.run(fire_due(app.log), one) == 500
        assert app.log.run(fire_due(app.log), other) == 200
    assert sorted(map(int, rung(app))) == list(range(700))


MILLION = {
    "sqlite": """
        with recursive n (i) as (select 1 union all select i + 1 from n where i < 1000000)
        insert into {}timers (owner, name, due_at, event)
        select '', 'n' || i, strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '+1 day', (i % 86400) || ' seconds'),
            '{{}}' from n""",
    "postgresql": """
        insert into {}timers (owner, name, due_at, event)
        select '', 'n' || i, now() + interval '1 day' + i * interval '1 second', '{{}}'
        from generate_series(1, 1000000) i""",
}


@pytest.mark.slow
async def test_a_million_that_wait_cost_nothing(app: App) -> None:
    """One statement a second, which looks at one entry of an index."""
    app.migrate()
    dot = "." if app.log.dialect.label == "PostgreSQL" else "_"
    kind = "postgresql" if dot == "." else "sqlite"
    with app.transaction() as connection:
        connection.execute(MILLION[kind].format(f"{app.log.place.schema}{dot}"))
    sent: list[float] = []
    looked = asyncio.Event()

    with app.log.own.lend() as connection:

        async def carry(steps: Steps[T], /) -> T:
            began = asyncio.get_running_loop().time()
            result: T = app.log.run(steps, connection)
            sent.append(asyncio.get_running_loop().time() - began)
            if len(sent) == 4:
                looked.set()
            return result

        chore = asyncio.ensure_future(firing(app.log, app.declarations.alarm).work(carry))
        began = asyncio.get_running_loop().time()
        await looked.wait()
        took = asyncio.get_running_loop().time() - began
        chore.cancel()
        await asyncio.wait([chore])
        assert took > 2.9, "four looks, a second apart"
        print(f"a look takes {min(sent) * 1000:.2f} ms")
        assert min(sent) < 0.05
        for name, values in (("next_due", {}), ("take_due", {"limit": 500})):
            plan = explain(app, connection, app.log.dialect.sql[name](**values))
            assert "timers_due_at" in plan, plan
            assert "Seq Scan" not in plan, plan
            assert not [line for line in plan.splitlines() if line.startswith("SCAN") and "due_at" not in line], plan
        assert app.log.run(next_due(app.log), connection) > 80_000


def explain(app: App, connection: Any, call: Call) -> str:
    if app.log.dialect.label == "PostgreSQL":
        query = psycopg.ClientCursor(connection).mogrify(
            call.query.text(Style.FORMAT), call.query.arrange(Style.FORMAT, call.values)
        )
        return "\n".join(row[0] for row in connection.execute(f"explain {query}".encode()))
    rows = connection.execute(f"explain query plan {call.query.text(Style.NUMBERED)}", call.values).fetchall()
    return "\n".join(row[3] for row in rows)


Wait = Callable[[], Awaitable[object]]


async def test_a_timer_set_by_another_process_is_found(app: App) -> None:
    """Nobody tells the worker; it looks once a second."""
    other = App("timers", app.log.place.url, schema=app.log.place.schema)
    async with app.running():
        with other.transaction() as connection:
            other.after(0, Rang(who="ada"), via=connection)
        await until(lambda: rung(app))
    assert rung(app) == ["ada"]


class Ordered(DomainEvent, key="order", name="test.timers.ordered"):
    order: str


class Reminded(IntegrationEvent, version=1, key="order", name="test.timers.reminded"):
    order: str


@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_a_handler_sets_a_timer_by_its_delivery(app: App, colour: str) -> None:
    """It is called three times: it fails at first, then it is called again although it has succeeded."""
    calls: list[int] = []

    def remind(event: Ordered, delivery: Delivery) -> None:
        calls.append(delivery.attempt)
        delivery.after(0.0, Rang(who=f"{event.order} {len(calls)}"))
        delivery.after("3d", Rang(who="later"))
        if len(calls) == 1:
            raise OSError("not today")

    async def remind_async(event: Ordered, delivery: Delivery) -> None:
        remind(event, delivery)

    handler = remind if colour == "sync" else remind_async
    app.on(Ordered, name="remind", start="beginning", retry=Backoff(first=0.01))(handler)
    app.migrate()
    with app.transaction() as connection:
        app.record(Ordered(order="o-7"), via=connection)
    async with app.running(lease=1.0):
        await until(lambda: rung(app) == ["o-7 2"])
        await until(lambda: not app.operations.standings()[0].behind)
    assert await app.replays.again("remind", since=0, actor="me", reason="as if its worker had died") == 1
    assert len(calls) == 3
    with app.transaction() as connection:
        waits = app.log.run(timers_of(app.log, "delivery"), connection)
    fire(app)
    assert rung(app) == ["o-7 2"]
    assert len({each.name for each in waits}) == len(waits)
    assert [each.due_at > datetime.now(UTC) + timedelta(days=2) for each in waits].count(True) == 1
    (recorded,) = app.read(types=[Rang])
    (cause,) = app.read(types=[Ordered])
    assert recorded.metadata.causation_id == cause.id_text


async def test_a_translation_sets_a_timer_too(app: App) -> None:
    @app.translate(Ordered, start="beginning")
    def remind(event: Ordered, delivery: Delivery) -> None:
        delivery.after(0.0, Reminded(order=event.order))

    app.migrate()
    with app.transaction() as connection:
        app.record(Ordered(order="o-7"), via=connection)
    async with app.running(lease=1.0):
        await until(lambda: [each.event.order for each in app.read(types=[Reminded])] == ["o-7"])


async def test_a_timer_that_cannot_be_set_fails_its_handler(app: App) -> None:
    @app.on(Ordered, start="beginning", retry=Backoff(attempts=1))
    def remind(event: Ordered, delivery: Delivery) -> None:
        delivery.after("3d", Kept(who="nobody"))

    app.migrate()
    with app.transaction() as connection:
        app.record(Ordered(order="o-7"), via=connection)
    async with app.running(lease=1.0):
        await until(lambda: app.operations.dead_letters())
    assert "belongs to a stream" in app.operations.dead_letters()[0].reason


def test_a_delivery_of_nobody_sets_no_timer(app: App) -> None:
    app.migrate()
    with app.transaction() as connection:
        app.record(Ordered(order="o-7"), via=connection)
    (recorded,) = app.read()
    with pytest.raises(DeclarationError, match=r"app\.after"):
        Delivery("nobody", recorded, 1).after("3d", Rang(who="nobody"))
