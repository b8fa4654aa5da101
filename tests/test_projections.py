"""Projections: tables that follow from events, each applied exactly once, many to a transaction."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from psycopg.types.string import StrDumper
from sqlalchemy.orm import Session, sessionmaker

from ensue import App, Backoff, DomainEvent, Park, errors
from ensue.subscriptions.applying import Applier
from ensue.subscriptions.operating import Filter
from tests.patience import until

SOON = Backoff(first=0.01, most=0.02)


class Paid(DomainEvent, key="owner", name="test.projections.paid"):
    owner: str
    amount: int


class Closed(DomainEvent, key="owner", name="test.projections.closed"):
    owner: str


TABLE = "balances"
SET_UP = """
create table balances (owner text primary key, amount bigint not null, changes bigint not null);
create index balances_amount on balances (amount);
"""
ADD = """insert into balances (owner, amount, changes) values ({0}, {0}, 1)
on conflict (owner) do update set amount = balances.amount + excluded.amount, changes = balances.changes + 1"""


@pytest.fixture(params=["sqlite", "memory", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> str:
    match request.param:
        case "sqlite":
            return f"sqlite:///{tmp_path / 'log.db'}"
        case "memory":
            return f"memory://{schema}"
        case _:
            found: str = request.getfixturevalue("postgres_url")
            return found


@pytest.fixture
def app(url: str, schema: str) -> Generator[App]:
    """In PostgreSQL the tables of readers live in a schema of the test's own."""
    if url.startswith("postgresql"):
        readers = f"{schema}_readers"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"create schema {readers}")
        joint = "&" if "?" in url else "?"
        yield App("projections", f"{url}{joint}options=-csearch_path%3D{readers}", schema=schema)
        with psycopg.connect(url, autocommit=True) as connection:
            for (name,) in connection.execute(
                "select nspname from pg_namespace where nspname like %s", [f"{schema}_%"]
            ).fetchall():
                connection.execute(f"drop schema {name} cascade")
    else:
        yield App("projections", url, schema=schema)


def mark(app: App) -> str:
    return "%s" if app.log.place.url.startswith("postgres") else "?"


def declare(app: App, **options: Any) -> None:
    """Declare the usual projection."""
    add = ADD.format(mark(app))

    @app.projection(Paid, tables=TABLE, set_up=SET_UP, retry=SOON, **options)
    def balances(event: Paid, db: Any) -> None:
        if event.amount < 0:
            raise ValueError("less than nothing")
        db.execute(add, (event.owner, event.amount))


def record(app: App, *events: DomainEvent) -> Any:
    with app.transaction() as connection:
        return app.record(*events, via=connection)


def rows(app: App, sql: str = "select owner, amount, changes from balances order by owner") -> list[tuple[Any, ...]]:
    with app.transaction() as connection:
        found: list[tuple[Any, ...]] = connection.execute(sql).fetchall()
        return found


async def test_each_event_is_applied_once_and_a_reader_can_wait_for_its_own(app: App) -> None:
    declare(app)
    app.migrate()
    record(app, *(Paid(owner=f"o{n % 7}", amount=n) for n in range(2000)))
    async with app.running():
        receipt = record(app, Paid(owner="me", amount=3))
        await app.wait_async(receipt, "balances", timeout=20)
        assert ("me", 3, 1) in rows(app)
    expected = [(f"o{n}", sum(range(n, 2000, 7)), len(range(n, 2000, 7))) for n in range(7)]
    assert rows(app) == [("me", 3, 1), *expected]
    app.wait(receipt, "balances", timeout=0)


async def test_waiting_says_when_nobody_comes(app: App) -> None:
    declare(app)
    app.migrate()
    receipt = record(app, Paid(owner="a", amount=1))
    with pytest.raises(errors.NotReached, match="ensue lag"):
        app.wait(receipt, "balances", timeout=0.05)
    with pytest.raises(errors.NotReached):
        await app.wait_async(receipt, "balances", timeout=0.05)
    with pytest.raises(errors.UnknownName):
        app.wait(receipt, "nothing")


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)  # in SQLite nobody looks for it during a transaction
async def test_what_queues_behind_a_key_is_kept_when_its_batch_is_cut_short_and_the_key_goes_on(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key goes on while its next event is in a batch in which another one before it fails."""
    add = ADD.format(mark(app))
    failing, due = {"a", "b"}, threading.Event()
    resume = Applier.resume

    def resumed(applier: Applier, found: Any) -> None:
        resume(applier, found)
        due.set()

    @app.projection(Paid, tables=TABLE, set_up=SET_UP, retry=SOON)
    def balances(event: Paid, db: Any) -> None:
        if event.owner in failing:
            failing.remove(event.owner)
            if event.owner == "b":
                assert due.wait(20)
            raise ValueError("the first time")
        db.execute(add, (event.owner, event.amount))

    app.migrate()
    monkeypatch.setattr(Applier, "resume", resumed)
    record(app, Paid(owner="a", amount=1), Paid(owner="b", amount=2), Paid(owner="a", amount=4))
    async with app.running():
        await until(lambda: len(rows(app)) == 2 and all(not each.retrying for each in app.operations.standings()))
        await app.wait_async(record(app, Paid(owner="c", amount=1)), "balances", timeout=20)
    assert rows(app) == [("a", 5, 2), ("b", 2, 1), ("c", 1, 1)]


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)  # in SQLite nobody looks for it during a transaction
async def test_a_key_that_is_found_due_again_while_it_goes_on_applies_nothing_twice(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on, is found due a second time, and fails at a later event: what was found is old by then."""
    add = ADD.format(mark(app))
    failing, again = {1, 3}, threading.Event()
    resume = Applier.resume

    def resumed(applier: Applier, found: Any) -> None:
        resume(applier, found)
        if not failing:
            again.set()

    @app.projection(Paid, tables=TABLE, set_up=SET_UP, retry=SOON)
    def balances(event: Paid, db: Any) -> None:
        if event.amount in failing:
            failing.remove(event.amount)
            if event.amount == 3:
                assert again.wait(20)
            raise ValueError("the first time")
        db.execute(add, (event.owner, event.amount))

    app.migrate()
    monkeypatch.setattr(Applier, "resume", resumed)
    record(app, *(Paid(owner="a", amount=n) for n in (1, 2, 3, 4)))
    async with app.running():
        await until(lambda: bool(rows(app)) and rows(app)[0][2] >= 4)
        await app.wait_async(record(app, Paid(owner="c", amount=1)), "balances", timeout=20)
        await until(lambda: all(not each.retrying for each in app.operations.standings()))
    assert rows(app) == [("a", 10, 4), ("c", 1, 1)]


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)  # in SQLite a person cannot write during a transaction
async def test_what_a_person_says_of_a_key_that_goes_on_applies_nothing_twice(app: App) -> None:
    """Its event has been handled, and those behind it come next: to retry it would be to apply it again."""
    add = ADD.format(mark(app))
    failing, reached, released = {1}, threading.Event(), threading.Event()

    @app.projection(Paid, tables=TABLE, set_up=SET_UP, retry=SOON, batch=1)
    def balances(event: Paid, db: Any) -> None:
        if event.amount in failing:
            failing.remove(event.amount)
            raise ValueError("the first time")
        db.execute(add, (event.owner, event.amount))
        if event.amount == 4:
            reached.set()
            assert released.wait(20)

    app.migrate()
    with app.transaction() as connection:
        app.record(*(Paid(owner="a", amount=n) for n in (1, 2, 4, 8, 16)), via=connection)
    async with app.running():
        await until(reached.is_set)
        everything = Filter(waiting_only=False)
        (letter,) = await asyncio.to_thread(app.operations.dead_letters, everything)
        assert letter.on_its_way
        assert app.operations.decide(everything, "retry", actor="me", reason="all of them") == []
        with pytest.raises(errors.UnknownName, match="has been handled"):
            app.operations.edit("balances", letter.id, '{"owner": "a", "amount": 99}', actor="me", reason="so")
        released.set()
        await until(lambda: rows(app)[0][2] >= 5)
        await app.wait_async(record(app, Paid(owner="c", amount=1)), "balances", timeout=20)
    assert rows(app) == [("a", 31, 5), ("c", 1, 1)]


async def test_one_that_fails_waits_with_its_key_and_the_rest_is_committed(app: App) -> None:
    declare(app, batch=50)
    app.migrate()
    record(app, *(Paid(owner=f"o{n % 10}", amount=1) for n in range(100)))
    bad = record(app, Paid(owner="o3", amount=-1))
    record(app, *(Paid(owner=f"o{n % 10}", amount=1) for n in range(100)))
    async with app.running(lease=1.0):
        await until(lambda: rows(app) == [(f"o{n}", 20 - 10 * (n == 3), 20 - 10 * (n == 3)) for n in range(10)])
        await until(lambda: len(app.operations.dead_letters(Filter(waiting_only=False))) == 1)
        with pytest.raises(errors.NotReached, match=r"'o3' aside .* less than nothing"):
            app.wait(bad, "balances", timeout=10)
        app.operations.decide(Filter(waiting_only=False), "skip", actor="me", reason="never mind")
        await until(lambda: rows(app)[3] == ("o3", 20, 20))
        record(app, Paid(owner="o3", amount=1))
        await until(lambda: rows(app)[3] == ("o3", 21, 21))


async def test_an_event_that_fails_at_first_is_applied_once(app: App) -> None:
    """It writes and then fails, twice: what it wrote then is rolled back."""
    add, failures = ADD.format(mark(app)), {"a": 2}

    @app.projection(Paid, tables=TABLE, set_up=SET_UP, retry=SOON)
    def balances(event: Paid, db: Any) -> None:
        db.execute(add, (event.owner, event.amount))
        if failures.get(event.owner, 0) > 0:
            failures[event.owner] -= 1
            raise OSError("not today")

    app.migrate()
    record(app, *(Paid(owner=owner, amount=n) for n in range(30) for owner in "abc"))
    async with app.running(lease=1.0):
        await until(lambda: rows(app) == [(owner, sum(range(30)), 30) for owner in "abc"])
        assert failures == {"a": 0}


async def test_a_statement_that_the_database_refuses_is_found_among_many(app: App) -> None:
    """Statements of a batch may be sent together: which of them was refused shows when they are sent alone."""
    add = ADD.format(mark(app))

    @app.projection(Paid, tables=TABLE, set_up=SET_UP, retry=Backoff(attempts=1))
    def balances(event: Paid, db: Any) -> None:
        db.execute(add, (event.owner, None if event.amount == 77 else event.amount))

    app.migrate()
    record(app, *(Paid(owner=f"o{n}", amount=n) for n in range(200)))
    async with app.running():
        await until(lambda: len(rows(app)) == 199)
        await until(lambda: [each.key for each in app.operations.dead_letters()] == ["o77"])


async def test_an_async_function_applies_too(app: App) -> None:
    add = ADD.format(mark(app))

    @app.projection(Paid, Closed, tables=TABLE, set_up=SET_UP)
    async def balances(event: Paid | Closed, db: Any) -> None:
        if isinstance(event, Closed):
            await db.execute(f"delete from balances where owner = {mark(app)}", (event.owner,))
        else:
            await db.execute(add, (event.owner, event.amount))

    app.migrate()
    record(app, *(Paid(owner=f"o{n % 3}", amount=1) for n in range(30)), Closed(owner="o1"))
    async with app.running():
        receipt = record(app, Paid(owner="o2", amount=5))
        await app.wait_async(receipt, "balances", timeout=20)
    assert rows(app) == [("o0", 10, 10), ("o2", 15, 11)]


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
async def test_a_session_of_sqlalchemy_carries_it(app: App) -> None:
    place = app.log.place.url
    engine = sqlalchemy.create_engine(
        place.replace("postgresql://", "postgresql+psycopg://"), pool_size=2, max_overflow=0
    )
    sessions = sessionmaker(engine)

    def transaction() -> AbstractContextManager[Session]:
        return sessions.begin()

    statement = sqlalchemy.text(ADD.format("{0}").replace("({0}, {0}, 1)", "(:owner, :amount, 1)"))

    @app.projection(Paid, tables=TABLE, set_up=SET_UP, retry=SOON, transaction=transaction)
    def balances(event: Paid, session: Session) -> None:
        if event.amount < 0:
            raise ValueError("less than nothing")
        session.execute(statement, {"owner": event.owner, "amount": event.amount})

    app.migrate()
    record(app, *(Paid(owner=f"o{n % 3}", amount=1) for n in range(300)), Paid(owner="o1", amount=-1))
    try:
        async with app.running():
            await until(lambda: rows(app) == [(f"o{n}", 100, 100) for n in range(3)])
            await until(lambda: len(app.operations.dead_letters(Filter(waiting_only=False))) == 1)
    finally:
        engine.dispose()


REACHING_OUT: dict[str, Callable[[], object]] = {
    "connect": lambda: socket.create_connection(("127.0.0.1", 9)),
    "look up": lambda: socket.getaddrinfo("localhost", 80),
    "process": lambda: subprocess.run([sys.executable, "-c", "0"], check=True),
}


@pytest.mark.parametrize("how", REACHING_OUT)
async def test_what_would_leave_the_database_is_refused(app: App, how: str) -> None:
    @app.projection(Paid, tables=TABLE, set_up=SET_UP, retry=Backoff(attempts=1))
    def balances(event: Paid, db: Any) -> None:
        db.execute(ADD.format(mark(app)), (event.owner, event.amount))
        REACHING_OUT[how]()

    app.migrate()
    record(app, Paid(owner="a", amount=1))
    async with app.running():
        await until(lambda: len(app.operations.dead_letters()) == 1)
    assert "is about to leave the database" in app.operations.dead_letters()[0].reason
    assert rows(app) == []
    with contextlib.suppress(OSError):
        REACHING_OUT[how]()  # outside it is nobody's business


async def test_a_projection_records_nothing(app: App) -> None:
    @app.projection(Paid, tables=TABLE, set_up=SET_UP, retry=Backoff(attempts=1))
    def balances(event: Paid, db: Any) -> None:
        app.record(Closed(owner=event.owner), via=db)

    app.migrate()
    record(app, Paid(owner="a", amount=1))
    async with app.running():
        await until(lambda: len(app.operations.dead_letters()) == 1)
    assert "is about to record an event" in app.operations.dead_letters()[0].reason
    assert [each.type for each in app.read()] == ["test.projections.paid"]


async def test_parking_is_asked_for(app: App) -> None:
    @app.projection(Paid, tables=TABLE, set_up=SET_UP)
    def balances(event: Paid, db: Any) -> Park | None:
        db.execute(ADD.format(mark(app)), (event.owner, event.amount))
        return Park("not this one") if event.owner == "b" else None

    app.migrate()
    record(app, *(Paid(owner=owner, amount=1) for owner in "abc"))
    async with app.running():
        await until(lambda: [(e.key, e.reason) for e in app.operations.dead_letters()] == [("b", "not this one")])
        await until(lambda: rows(app) == [("a", 1, 1), ("c", 1, 1)])


def test_declarations_are_checked(app: App) -> None:
    declare(app)
    with pytest.raises(errors.DuplicateName, match="'balances'"):
        declare(app)
    with pytest.raises(errors.DuplicateName, match="both write balances"):
        app.projection(Paid, tables=TABLE, name="other")(lambda event, db: None)
    with pytest.raises(errors.DeclarationError, match="identifier"):
        app.projection(Paid, tables="x", name="two words")(lambda event, db: None)
    with pytest.raises(errors.DeclarationError, match="which tables"):
        app.projection(Paid, tables=(), name="none")(lambda event, db: None)
    with pytest.raises(errors.DeclarationError, match="plain name"):
        app.projection(Paid, tables="a.b", name="dotted")(lambda event, db: None)


def test_tables_that_are_missing_are_told(app: App) -> None:
    app.projection(Paid, tables="nowhere", name="lost")(lambda event, db: None)
    with pytest.raises(errors.DeclarationError, match="there is no table nowhere"):
        app.migrate()


def test_set_up_must_make_the_tables(app: App) -> None:
    app.projection(Paid, tables=("a", "b"), name="half", set_up="create table a (x integer)")(lambda event, db: None)
    with pytest.raises(errors.DeclarationError, match="does not make the table 'b'"):
        app.migrate()


def test_set_up_runs_once(app: App) -> None:
    declare(app)
    app.migrate()
    app.migrate()
    assert rows(app) == []
    assert sqlite3.complete_statement(SET_UP)


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_what_is_refused_late_is_not_blamed_on_the_next_event(app: App) -> None:
    """The statement of o77 is answered while the function is called with the event behind it."""
    add = ADD.format(mark(app))

    @app.projection(Paid, tables=TABLE, set_up=SET_UP, retry=Backoff(attempts=1))
    def balances(event: Paid, db: Any) -> None:
        if event.amount == 78:
            db.execute("select 1").fetchone()
        db.execute(add, (event.owner, None if event.amount == 77 else event.amount))

    app.migrate()
    record(app, *(Paid(owner=f"o{n}", amount=n) for n in range(200)))
    async with app.running():
        await until(lambda: len(rows(app)) == 199)
        assert [each.key for each in app.operations.dead_letters()] == ["o77"]


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_answers_are_those_of_their_statements_while_statements_are_sent_together(app: App) -> None:
    """Of the statement before, of one before others, of one whose answer was thrown away; with other rows, too."""
    add = ADD.format(mark(app))
    seen: list[Any] = []

    @app.projection(Paid, tables=TABLE, set_up=SET_UP, retry=SOON)
    def balances(event: Paid, db: Any) -> None:
        db.execute("select 0, %s::bigint", (event.amount,))
        kept = db.execute("select 1, %s::bigint", (event.amount,))
        db.execute(add, (event.owner, event.amount))
        returned = db.execute(add + " returning changes", (event.owner, event.amount))
        with db.execute("select 2, generate_series(1, 2)") as cursor:
            rows = cursor.fetchall()
        one = db.execute("select 3, %s::bigint", (event.amount,))
        many = [*db.execute("select 4, generate_series(1, 2)")]
        seen.append((event.amount, kept.fetchone(), returned.rowcount, returned.fetchone(), rows, one.fetchall(), many))

    app.migrate()
    record(app, *(Paid(owner=f"o{n}", amount=n) for n in range(100)))
    async with app.running():
        await until(lambda: len(rows(app)) == 100)
    expected = [(n, (1, n), 1, (2,), [(2, 1), (2, 2)], [(3, n)], [(4, 1), (4, 2)]) for n in range(100)]
    assert seen == expected


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_what_is_registered_for_values_holds_at_once_while_statements_are_sent_together(app: App) -> None:
    add = ADD.format(mark(app))

    class Owner(str):
        __slots__ = ()

    class Shout(StrDumper):
        def dump(self, obj: str) -> bytes:
            return obj.upper().encode()

    @app.projection(Paid, tables=TABLE, set_up=SET_UP, retry=SOON)
    def balances(event: Paid, db: Any) -> None:
        db.execute(add, (Owner(event.owner), 0))
        db.adapters.register_dumper(Owner, Shout)
        db.execute(add, (Owner(event.owner), event.amount))

    app.migrate()
    record(app, Paid(owner="a", amount=1), Paid(owner="a", amount=2))
    async with app.running():
        await until(lambda: ("A", 3, 3) in rows(app))
