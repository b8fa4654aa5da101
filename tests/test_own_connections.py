"""Connections that ensue opens itself: to lend a transaction, and to read."""

from __future__ import annotations

import asyncio
import builtins
import gc
import re
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ensue import (
    Aggregate,
    App,
    Command,
    Delivery,
    DomainEvent,
    IntegrationEvent,
    Process,
    SourcedEvent,
    evolves,
    starts,
)
from ensue.errors import (
    DatabaseUnavailable,
    DeclarationError,
    NotInTransaction,
    NotMigrated,
    UnusableConnection,
    VersionConflict,
)
from tests.patience import until, until_sync


class Noted(DomainEvent, name="test.own.noted"):
    text: str


class Counted(SourcedEvent, name="test.own.counted"):
    number: int


class Announced(IntegrationEvent, version=1, key="place", name="test.own.announced"):
    place: str


class Note(Command, name="test.own.note"):
    text: str


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
def app(url: str, schema: str) -> App:
    app = App("own", url, schema=schema)
    app.migrate()
    return app


def texts(app: App) -> list[str]:
    return [each.event.text for each in app.read()]


# ---------------------------------------------------------------------------------------------- lending a transaction


def test_a_lent_transaction_commits_when_its_block_ends(app: App, schema: str) -> None:
    with app.transaction() as connection:
        connection.execute(f"create table rows_{schema} (n integer)")
        connection.execute(f"insert into rows_{schema} values (1)")
        app.record(Noted(text="one"), via=connection)
    with app.transaction() as connection:
        assert connection.execute(f"select n from rows_{schema}").fetchall() == [(1,)]
    assert texts(app) == ["one"]


def test_a_lent_transaction_rolls_back_when_its_block_raises(app: App) -> None:
    with pytest.raises(LookupError, match="mine"), app.transaction() as connection:
        app.record(Noted(text="lost"), via=connection)
        raise LookupError("mine")
    with pytest.raises(VersionConflict), app.transaction() as connection:
        app.record(Noted(text="lost"), via=connection)
        app.record(Counted(number=1), via=connection, stream="s", expected=9)
    assert texts(app) == []


def test_a_transaction_that_has_failed_is_not_said_to_be_committed(postgres_url: str, schema: str) -> None:
    app = App("own", postgres_url, schema=schema)
    app.migrate()
    with pytest.raises(UnusableConnection, match="rolled back"), app.transaction() as connection:
        app.record(Noted(text="lost"), via=connection)
        with suppress(psycopg.Error):
            connection.execute("select 1 / 0")
    with app.transaction() as connection:
        app.record(Noted(text="kept"), via=connection)
        with suppress(psycopg.Error), connection.transaction():  # type: ignore[attr-defined]
            connection.execute("select 1 / 0")
    assert texts(app) == ["kept"]


async def test_nor_is_an_async_one(postgres_url: str, schema: str) -> None:
    app = App("own", postgres_url, schema=schema)
    app.migrate()
    with pytest.raises(UnusableConnection, match="rolled back"):
        async with app.transaction() as connection:
            await app.record(Noted(text="lost"), via=connection)
            with suppress(psycopg.Error):
                await connection.execute("select 1 / 0")
    assert [each async for each in app.read()] == []


def test_a_lent_connection_is_taken_back_behind_its_block_and_lent_again(app: App) -> None:
    with app.transaction() as connection:
        pass
    with pytest.raises(NotInTransaction):
        app.record(Noted(text="late"), via=connection)
    with app.transaction() as again:
        assert again is connection
        with app.log.own.lend() as other:
            assert other is not connection
    app.log.own.close()
    with pytest.raises((sqlite3.ProgrammingError, psycopg.OperationalError), match="closed"):
        connection.execute("select 1")
    with app.transaction() as fresh:
        app.record(Noted(text="fresh"), via=fresh)
    assert texts(app) == ["fresh"]


def test_a_lent_connection_that_was_changed_is_not_kept(app: App) -> None:
    with app.transaction() as connection:
        connection.row_factory = psycopg.rows.dict_row if hasattr(connection, "pgconn") else sqlite3.Row  # type: ignore[attr-defined]
    with app.transaction() as other:
        assert other is not connection


def test_a_lent_connection_that_the_server_has_closed_is_not_lent_again(postgres_url: str, schema: str) -> None:
    app = App("own", postgres_url, schema=schema, migrate=True)
    with app.transaction() as connection:
        process = connection.execute("select pg_backend_pid()").fetchone()[0]
    with psycopg.connect(postgres_url, autocommit=True) as killer:
        killer.execute("select pg_terminate_backend(%s)", (process,))
        until_sync(lambda: not killer.execute("select 1 from pg_stat_activity where pid = %s", (process,)).fetchall())
    with app.transaction() as other:
        app.record(Noted(text="on another"), via=other)
    assert texts(app) == ["on another"]


def test_a_file_that_was_put_in_the_place_of_another_is_another(tmp_path: Path) -> None:
    app = App("own", f"sqlite:///{tmp_path}/log.db", migrate=True)
    with app.transaction() as connection:
        app.record(Noted(text="old"), via=connection)
    for file in tmp_path.iterdir():
        file.unlink()
    app.migrate()
    with app.transaction() as connection:
        app.record(Noted(text="new"), via=connection)
    assert texts(App("own", f"sqlite:///{tmp_path}/log.db")) == ["new"]


async def test_a_lent_async_connection_is_lent_again_in_its_event_loop(postgres_url: str, schema: str) -> None:
    app = App("own", postgres_url, schema=schema, migrate=True)
    async with app.transaction() as connection:
        await app.record(Noted(text="one"), via=connection)
    async with app.transaction() as again:
        assert again is connection

    async def elsewhere() -> object:
        async with app.transaction() as other:
            return other

    assert await asyncio.to_thread(asyncio.run, elsewhere()) is not connection
    async with app.transaction() as again:
        assert again is connection
    app.log.own.close()
    assert connection.closed  # type: ignore[attr-defined]


def test_a_transaction_can_be_lent_again(app: App) -> None:
    lend = app.transaction()
    for text in ("one", "two"):
        with lend as connection:
            app.record(Noted(text=text), via=connection)
    assert texts(app) == ["one", "two"]


async def test_an_async_transaction_does_the_same(app: App, schema: str) -> None:
    async with app.transaction() as connection:
        await connection.execute(f"create table rows_{schema} (n integer)")
        await app.record(Noted(text="one"), via=connection)
    with pytest.raises(LookupError):
        async with app.transaction() as connection:
            await connection.execute(f"insert into rows_{schema} values (1)")
            await app.record(Noted(text="lost"), via=connection)
            raise LookupError
    with pytest.raises((UnusableConnection, NotInTransaction)):
        await app.record(Noted(text="late"), via=connection)
    with app.transaction() as own:
        assert own.execute(f"select n from rows_{schema}").fetchall() == []
    assert [each.event.text async for each in app.read()] == ["one"]


async def test_an_async_connection_to_sqlite_needs_aiosqlite(monkeypatch: pytest.MonkeyPatch, schema: str) -> None:
    app = App("own", f"memory://{schema}", migrate=True)
    found = builtins.__import__

    def find(name: str, *rest: Any) -> Any:
        if name in ("aiosqlite", "psycopg"):
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", find)
    with pytest.raises(UnusableConnection, match=r"ensue\[aiosqlite\]"):
        async with app.transaction():
            pass
    with pytest.raises(UnusableConnection, match=r"ensue\[postgres\]"):
        App("own", "postgresql://localhost/nowhere").migrate()


# ---------------------------------------------------------------------------------------------- a log that is not there


def test_a_server_that_does_not_answer_is_told(schema: str) -> None:
    app = App("own", "postgresql://nobody:secret@127.0.0.1:1/nowhere", schema=schema)
    says = r"^PostgreSQL cannot be reached: .*; the log of 'own' is postgresql://nobody:\*\*\*@127\.0\.0\.1:1/nowhere "
    for use in (app.migrate, lambda: list(app.read()), lambda: app.transaction().__enter__()):
        with pytest.raises(DatabaseUnavailable, match=says):
            use()


async def test_a_server_that_does_not_answer_is_told_in_async_code(schema: str) -> None:
    app = App("own", "postgresql://nobody@127.0.0.1:1/nowhere", schema=schema)
    with pytest.raises(DatabaseUnavailable):
        async with app.transaction():
            pass
    with pytest.raises(DatabaseUnavailable):
        _ = [each async for each in app.read()]


def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    app = App("own", f"sqlite:///{tmp_path}/no/such/folder/log.db")
    with pytest.raises(
        DatabaseUnavailable, match=f"SQLite cannot open .*: there is no folder {tmp_path}/no/such/folder$"
    ):
        app.migrate()
    (tmp_path / "text.db").write_text("This is not a database. " * 100)
    with pytest.raises(DatabaseUnavailable, match="SQLite cannot open"):
        App("own", f"sqlite:///{tmp_path}/text.db").migrate()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sqlite://",
        "sqlite:///",
        "sqlite://relative.db",
        "memory://",
        "mysql://localhost/db",
        "log.db",
        "://",
        "postgresql:/x",
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(DeclarationError, match="is not the URL of a log"):
        App("own", url)


@pytest.mark.parametrize("name", ["", "a\nb", "\0"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(DeclarationError, match="printable"):
        App(name, "memory://names")


async def test_reading_where_no_log_is_says_so(url: str, schema: str) -> None:
    app = App("own", url, schema=f"{schema}_none")
    says = f"^there is no log in {re.escape(app.log.place.shown)} yet.*: run `ensue migrate`"
    with pytest.raises(NotMigrated, match=says):
        list(app.read())
    with pytest.raises(NotMigrated, match=says):
        _ = [each async for each in app.read()]
    with pytest.raises(NotMigrated, match=says):
        async with app.running():
            pass


# ------------------------------------------------------------------------------------------------------------ reading


def test_where_nothing_is_nothing_is_read(app: App) -> None:
    assert list(app.read()) == []
    assert app.operations.horizon() == 0


def test_reading_needs_no_connection(app: App) -> None:
    with app.transaction() as connection:
        receipt = app.record(Noted(text="one"), Announced(place="x"), via=connection)
    reading = app.read(types=(Announced,))
    assert [each.event for each in reading] == [Announced(place="x")]
    assert [each.position for each in reading] == [receipt.position], "it can be iterated again"
    assert [each.event.text for each in app.read(until=receipt.positions[0])] == ["one"]


async def test_async_reading_needs_no_connection(app: App) -> None:
    with app.transaction() as connection:
        app.record(*(Noted(text=str(number)) for number in range(1_200)), via=connection)
    reading = app.read()
    assert [each.event.text async for each in reading] == [str(number) for number in range(1_200)]
    assert [each.event.text async for each in app.read(limit=1)] == ["0"]
    assert len([each async for each in reading]) == 1_200


def test_reading_may_be_given_up(app: App) -> None:
    with app.transaction() as connection:
        app.record(*(Noted(text=str(number)) for number in range(5)), via=connection)
    for each in app.read():
        assert each.event.text == "0"
        break
    with app.transaction() as connection:
        app.record(Noted(text="nobody is in the way"), via=connection)


def test_reading_stops_where_the_log_was_complete_when_it_began(app: App) -> None:
    with app.transaction() as connection:
        app.record(*(Noted(text=str(number)) for number in range(3)), via=connection)
    seen = []
    reading = iter(app.read())
    seen.append(next(reading).event.text)
    if not app.log.place.in_memory:  # there a reader keeps writers out
        with app.transaction() as connection:
            app.record(Noted(text="later"), via=connection)
    seen += [each.event.text for each in reading]
    assert seen == ["0", "1", "2"]


def test_reading_does_not_pass_a_position_that_may_still_be_filled(postgres_url: str, schema: str) -> None:
    app = App("own", postgres_url, schema=schema)
    app.migrate()
    with psycopg.connect(postgres_url) as slow:
        app.record(Noted(text="slow"), via=slow)
        with app.transaction() as connection:
            app.record(Noted(text="fast"), via=connection)
        assert texts(app) == []
    assert texts(app) == ["slow", "fast"]


def test_reading_notices_a_lost_connection(postgres_url: str, schema: str) -> None:
    app = App("own", postgres_url, schema=schema)
    app.migrate()
    with app.transaction() as connection:
        app.record(*(Noted(text="x") for _ in range(1_001)), via=connection)
    with (
        psycopg.connect(postgres_url, autocommit=True) as victim,
        psycopg.connect(postgres_url, autocommit=True) as other,
    ):
        reading = iter(app.read(via=victim))
        next(reading)
        pid = victim.info.backend_pid
        other.execute("select pg_terminate_backend(%s)", (pid,))
        until_sync(
            lambda: other.execute("select count(*) from pg_stat_activity where pid = %s", (pid,)).fetchone() == (0,),
            "the connection is still there",
        )
        with pytest.raises(DatabaseUnavailable, match="broke off"):
            list(reading)


def test_a_moment_is_read_in_utc_whatever_the_session_says(postgres_url: str, schema: str) -> None:
    app = App("own", postgres_url, schema=schema)
    app.migrate()
    with psycopg.connect(postgres_url, options="-c TimeZone=America/St_Johns") as connection:
        receipt = app.record(Noted(text="one"), via=connection)
        connection.commit()
        (found,) = app.read(via=connection, since=receipt.recorded_at)
    assert found.recorded_at == receipt.recorded_at
    assert found.recorded_at.utcoffset() == receipt.recorded_at.utcoffset() == timedelta(0)


# ------------------------------------------------------------------------------------ of an application that is no more


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Let nothing be freed but what nobody refers to, not even itself."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def declare_much(app: App) -> None:
    """Declare everything that holds something of its application; functions at the top of a module do not."""
    app.on(Noted)(react)
    app.translate(Noted, name="announce")(announce)
    app.within(Counted)(guard)
    made = "create table texts_of_own (text text)"
    app.projection(Noted, tables="texts_of_own", set_up=made, name="texts")(project)
    app.projection(Noted, tables="more_texts_of_own", set_up=make, name="more_texts")(project)
    app.handle(Note)(carry_out)
    app.process(key="text")(Waiting)
    app.schedule("* * * * *", name="tick")(tick)
    app.inbox("nats://localhost/none", Announced)
    app.relay("nats://localhost/none", Announced, name="announced", partitions=2)
    app.module("part").on(Noted, name="part")(react)
    app.repository(Number)


def react(event: Noted, delivery: Delivery) -> None: ...


def announce(event: Noted) -> Announced:
    return Announced(place=event.text)


def guard(event: Counted) -> None: ...


def project(event: Noted, connection: Any) -> None: ...


def make(connection: Any) -> None:
    connection.execute("create table more_texts_of_own (text text)")


def carry_out(command: Note) -> None: ...


def tick(moment: datetime) -> None: ...


class Number(Aggregate):
    count: int = 0

    @evolves
    def _(self, event: Counted) -> None:
        self.count = event.number


class Waiting(Process, name="test.own.waiting"):
    @starts
    def begin(self, event: Noted) -> None: ...


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("declare", [lambda _: None, declare_much], ids=["plain", "much"])
def test_an_application_that_nobody_has_any_more_closes_its_connections(
    url: str, schema: str, declare: Callable[[App], None]
) -> None:
    app = App("own", url, schema=schema, migrate=True)
    declare(app)
    with app.transaction() as connection:
        app.record(Noted(text="recorded"), via=connection)
    assert texts(app) == ["recorded"]
    with app.log.own.lend() as other:
        assert other is connection
    app.operations.standings()
    own = weakref.ref(app.log.own)
    del app
    assert own() is None
    with pytest.raises((sqlite3.ProgrammingError, psycopg.OperationalError), match="closed"):
        connection.execute("select 1")


@pytest.mark.usefixtures("uncollected")
def test_a_repository_outlives_its_application(url: str, schema: str) -> None:
    app = App("own", url, schema=schema, migrate=True)
    numbers, own = app.repository(Number), weakref.ref(app.log.own)
    anchor = app if url.startswith("memory:") else None  # what is in memory is gone with the application
    del app
    with numbers.edit("1", create=True) as number:
        number.apply(Counted(number=7))
    assert numbers.get("1").count == 7
    del numbers, number, anchor
    assert own() is None


@pytest.mark.usefixtures("uncollected")
def test_neither_does_a_worker_that_has_ended_keep_them(url: str, schema: str) -> None:
    app = App("own", url, schema=schema, migrate=True)
    seen: list[str] = []

    @app.on(Noted)
    async def note(event: Noted) -> None:
        seen.append(event.text)

    async def work(app: App) -> None:
        async with app.running():
            with app.transaction() as connection:
                app.record(Noted(text="handled"), via=connection)
            await until(lambda: seen == ["handled"])

    asyncio.run(work(app))
    own = weakref.ref(app.log.own)
    del app
    assert own() is None


# ------------------------------------------------------------------------------------------------ in many event loops


class Nosy(asyncio.SelectorEventLoop):
    """An event loop during whose question whether it is closed, another one comes and reads."""

    meanwhile: Callable[[], object] | None = None

    def is_closed(self) -> bool:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return super().is_closed()


def test_event_loops_come_while_another_looks_for_those_that_have_ended(postgres_url: str, schema: str) -> None:
    app = App("own", postgres_url, schema=schema)
    app.migrate()

    async def read() -> list[str]:
        return [each.event.text async for each in app.read()]

    with closing(Nosy()) as loop:
        assert loop.run_until_complete(read()) == []
        with ThreadPoolExecutor() as threads:
            loop.meanwhile = lambda: threads.submit(asyncio.run, read()).result()
            assert asyncio.run(read()) == []
        assert loop.meanwhile is None


# --------------------------------------------------------------------------------------------- how many a worker holds


async def test_a_worker_holds_three_connections_and_one_for_each_transaction_in_hand(
    postgres_url: str, schema: str
) -> None:
    app = App(schema, postgres_url, schema=schema)
    begun: list[str] = []
    go_on = threading.Event()

    def react(event: Announced) -> None:
        begun.append("reaction")
        go_on.wait()

    def show(event: Announced, connection: Any) -> None:
        begun.append("projection")
        go_on.wait()

    for number in range(12):
        app.on(Announced, name=f"react_{number}", concurrency=4, start="beginning")(react)
    for name in ("first", "second", "third"):
        app.projection(Announced, name=name, tables=name, set_up=f"create table {name} (n integer)")(show)
    app.migrate()
    with psycopg.connect(postgres_url, autocommit=True) as other:

        def held() -> int:
            asked = "select count(*) from pg_stat_activity where application_name = %s"
            (found,) = other.execute(asked, (f"ensue {schema}",)).fetchone() or (0,)
            return int(found)

        with app.transaction() as connection:
            for place in "abcd":
                app.record(Announced(place=place), via=connection)
        app.log.own.close()
        await until(lambda: held() == 0)
        async with app.running():
            try:
                await until(lambda: (begun.count("reaction"), begun.count("projection")) == (48, 3))
                assert held() == 3 + 3 + 1, "its own, those in hand, and one that it was lent when it began"
            finally:
                go_on.set()
        app.log.own.close()
        await until(lambda: held() == 0)
