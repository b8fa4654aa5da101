"""Connections that the user has set up in ways of their own, and what only looks like a connection."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite
import asyncpg
import psycopg
import psycopg_pool
import pytest
import sqlalchemy
from django.db import transaction
from psycopg.types.json import set_json_dumps, set_json_loads
from sqlalchemy import orm
from sqlalchemy.ext import asyncio as async_sqlalchemy

from ensue import App, DomainEvent, SourcedEvent
from ensue.errors import NotInTransaction, UnusableConnection, WrongDatabase
from ensue.subscriptions import Cursors, register
from tests.connections import Wanted, engine_for
from tests.django_settings import connection_to
from tests.naming import named


class Noted(DomainEvent, name="test.peculiar.noted"):
    text: str


class Counted(SourcedEvent, name="test.peculiar.counted"):
    number: int


@pytest.fixture
def lite(tmp_path: Path) -> App:
    """A log in a file."""
    app = App("peculiar", f"sqlite:///{tmp_path / 'log.db'}")
    app.migrate()
    return app


@pytest.fixture
def app(postgres_url: str, schema: str) -> App:
    """A log in PostgreSQL."""
    app = App("peculiar", postgres_url, schema=schema)
    app.migrate()
    return app


@pytest.fixture
async def asyncpg_connection(postgres_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


@pytest.fixture
def file(lite: App) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(lite.log.place.database)) as connection:
        yield connection


def texts(app: App) -> list[str]:
    return [each.event.text for each in app.read()]


# ---------------------------------------------------------------------------------------------------------- PostgreSQL


async def test_asyncpg_with_codecs_of_the_users(app: App, asyncpg_connection: asyncpg.Connection[Any]) -> None:
    connection = asyncpg_connection
    for type in ("json", "jsonb"):
        await connection.set_type_codec(type, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    await connection.set_type_codec("uuid", encoder=str, decoder=lambda text: text, schema="pg_catalog")
    async with connection.transaction():
        receipt = await app.record(Counted(number=1), via=connection, stream="s", expected=0, dedupe="k")
        again = await app.record(Counted(number=1), via=connection, stream="s", expected=0, dedupe="k")
        assert again.ids == receipt.ids
    (found,) = [each async for each in app.read(via=connection)]
    assert (found.event, found.id) == (Counted(number=1), receipt.id)


async def test_asyncpg_makes_a_schema_with_codecs_of_the_users(
    postgres_url: str, schema: str, asyncpg_connection: asyncpg.Connection[Any]
) -> None:
    app = App("peculiar", postgres_url, schema=schema, migrate=True)

    @app.on(Noted)
    def listen(event: DomainEvent) -> None: ...

    await asyncpg_connection.set_type_codec("json", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    async with asyncpg_connection.transaction():
        await app.record(Noted(text="one"), via=asyncpg_connection)
        widened = App("peculiar", postgres_url, schema=schema)
        widened.on(Noted, Counted, name="listen")(listen)  # type: ignore[arg-type]
        await widened.log.run(register(widened.log, Cursors(widened.subscriptions)), asyncpg_connection)
    assert texts(app) == ["one"]
    assert [(each.subscription, set(each.types)) for each in app.operations.standings()] == [
        ("listen", {Noted.__type__, Counted.__type__})
    ]


async def test_asyncpg_without_a_statement_cache(app: App) -> None:
    """As behind a pooler that deals connections out by transaction."""
    connection = await asyncpg.connect(app.log.place.url, statement_cache_size=0)
    async with connection.transaction():
        await app.record(Noted(text="one"), via=connection)
    await connection.close()
    assert texts(app) == ["one"]


def test_psycopg_with_factories_and_adapters_of_the_users(app: App) -> None:
    with psycopg.connect(
        app.log.place.url,
        cursor_factory=psycopg.ClientCursor,
        row_factory=psycopg.rows.namedtuple_row,
        prepare_threshold=None,
    ) as connection:
        set_json_loads(lambda text: ["mine", text], connection)
        set_json_dumps(lambda value: '"mine"', connection)
        connection.adapters.register_loader("text", psycopg.types.string.TextBinaryLoader)
        app.record(Counted(number=1), via=connection, stream="s", expected=0, dedupe="k")
        connection.commit()
        assert [each.event for each in app.read(via=connection)] == [Counted(number=1)]


def test_psycopg_in_pipeline_mode(app: App) -> None:
    with psycopg.connect(app.log.place.url) as connection, connection.pipeline():
        connection.execute("create temporary table mine (n integer)")
        receipt = app.record(Noted(text="one"), via=connection)
        connection.execute("insert into mine values (1)")
        app.record(Noted(text="two"), via=connection)
    assert receipt.position == 1
    assert texts(app) == ["one", "two"]


async def test_async_psycopg_in_pipeline_mode(postgres_url: str, schema: str) -> None:
    app = App("peculiar", postgres_url, schema=schema, migrate=True)
    async with await psycopg.AsyncConnection.connect(postgres_url) as connection, connection.pipeline():
        await app.record(Noted(text="one"), via=connection)
    assert texts(app) == ["one"]


def test_an_open_cursor_of_the_users_goes_on(app: App) -> None:
    with psycopg.connect(app.log.place.url) as connection, connection.cursor("mine") as cursor:
        cursor.itersize = 2
        cursor.execute("select generate_series(1, 7)")
        seen = []
        for (number,) in cursor:
            app.record(Noted(text=str(number)), via=connection)
            seen.append(number)
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert len(texts(app)) == 7


def test_a_pool_lends_what_can_be_ridden_on(app: App) -> None:
    with psycopg_pool.ConnectionPool(app.log.place.url, min_size=1, max_size=1, open=True) as pool:
        with pool.connection() as connection:
            app.record(Noted(text="one"), via=connection)
        with pytest.raises(UnusableConnection, match="it makes connections"):
            app.record(Noted(text="two"), via=pool)  # type: ignore[call-overload]
    assert texts(app) == ["one"]


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_an_engine_that_leaves_the_database_to_its_creator(postgres_url: str, schema: str, driver: str) -> None:
    here = App("peculiar", postgres_url, schema=schema, migrate=True)
    elsewhere = App("peculiar", postgres_url.rpartition("/")[0] + "/elsewhere", schema=schema)
    engine: Any
    if driver == "psycopg":
        engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(postgres_url))
        with engine.begin() as connection:
            here.record(Noted(text="one"), via=connection)
            with pytest.raises(WrongDatabase, match="elsewhere"):
                elsewhere.record(Noted(text="two"), via=connection)
        engine.dispose()
    else:
        engine = async_sqlalchemy.create_async_engine(
            "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(postgres_url)
        )
        async with engine.begin() as connection:
            await here.record(Noted(text="one"), via=connection)
            with pytest.raises(WrongDatabase, match="elsewhere"):
                await elsewhere.record(Noted(text="two"), via=connection)
        await engine.dispose()
    assert texts(here) == ["one"]


def test_a_log_whose_url_names_no_database_trusts_the_connection(postgres_url: str, schema: str) -> None:
    app = App("peculiar", postgres_url.rpartition("/")[0], schema=schema, migrate=True)
    with psycopg.connect(postgres_url) as connection:
        app.record(Noted(text="one"), via=connection)
        connection.commit()
        assert [each.event.text for each in app.read(via=connection)] == ["one"]


# -------------------------------------------------------------------------------------------------- SQLAlchemy, Django


class Base(orm.DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "peculiar_rows"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)


@pytest.fixture(params=["pysqlite", "psycopg"])
def engine(request: pytest.FixtureRequest) -> Iterator[tuple[App, sqlalchemy.Engine]]:
    app: App = request.getfixturevalue("lite" if request.param == "pysqlite" else "app")
    engine = engine_for(Wanted(app.log.place.url), request.param)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield app, engine
    engine.dispose()


def test_a_session_whose_flush_has_failed_is_refused(engine: tuple[App, sqlalchemy.Engine]) -> None:
    app, source = engine
    with orm.Session(source) as session:
        session.add(Row(id=1))
        app.record(Noted(text="lost"), via=session)
        session.flush()
        session.execute(sqlalchemy.insert(Row).values(id=2))
        session.add(Row(id=2))
        with pytest.raises(sqlalchemy.exc.IntegrityError):
            session.flush()
        with pytest.raises(UnusableConnection, match="failed earlier"):
            app.record(Noted(text="one"), via=session)
        session.rollback()
        session.add(Row(id=3))
        app.record(Noted(text="after the rollback"), via=session)
        session.commit()
    assert texts(app) == ["after the rollback"]


def test_a_session_and_its_own_connection_are_one_transaction(engine: tuple[App, sqlalchemy.Engine]) -> None:
    app, source = engine
    with orm.Session(source) as session:
        app.record(Noted(text="one"), via=session)
        app.record(Noted(text="two"), via=session.connection())
        session.rollback()
        app.record(Noted(text="three"), via=session.connection())
        app.record(Noted(text="four"), via=session)
        session.commit()
    assert texts(app) == ["three", "four"]


def test_a_session_that_joins_a_transaction_from_outside(engine: tuple[App, sqlalchemy.Engine]) -> None:
    """As test suites do it, to roll back whatever the code under test has committed."""
    app, source = engine
    with source.connect() as connection, connection.begin() as outer:
        with orm.Session(connection, join_transaction_mode="create_savepoint") as session:
            session.add(Row(id=1))
            app.record(Noted(text="one"), via=session)
            session.commit()
        outer.rollback()
    with orm.Session(source) as session:
        rows = session.execute(sqlalchemy.select(sqlalchemy.func.count()).select_from(Row)).scalar_one()
    assert len(texts(app)) == rows, "one fate"
    assert rows == (1 if source.dialect.name == "sqlite" else 0), "pysqlite commits an outermost savepoint"


def test_a_session_in_its_begin_block(engine: tuple[App, sqlalchemy.Engine]) -> None:
    app, source = engine
    with orm.sessionmaker(source).begin() as session:
        session.add(Row(id=1))
        app.record(Noted(text="one"), via=session)
    with pytest.raises(LookupError), orm.sessionmaker(source).begin() as session:
        app.record(Noted(text="lost"), via=session)
        raise LookupError
    with source.begin() as connection:
        app.record(Noted(text="two"), via=connection)
    assert texts(app) == ["one", "two"]


def test_a_session_without_a_bind_is_refused(lite: App) -> None:
    with pytest.raises(UnusableConnection):
        lite.record(Noted(text="one"), via=orm.Session())


def test_another_sqlalchemy_dialect_is_refused(lite: App) -> None:
    engine = sqlalchemy.create_mock_engine("mysql+pymysql://", lambda *_: None)
    with pytest.raises(UnusableConnection, match="MockConnection"):
        lite.record(Noted(text="one"), via=engine)  # type: ignore[call-overload]


@pytest.mark.parametrize("place", ["lite", "app"])
def test_an_atomic_block_that_has_failed_is_refused(request: pytest.FixtureRequest, place: str) -> None:
    app: App = request.getfixturevalue(place)
    with connection_to(app.log.place.url) as (connection, atomic):
        with atomic():
            with pytest.raises(LookupError), atomic(savepoint=False):
                raise LookupError
            with pytest.raises(UnusableConnection, match="atomic block has failed"):
                app.record(Noted(text="one"), via=connection)
            transaction.set_rollback(True, using=connection.alias)
        with atomic():
            app.record(Noted(text="two"), via=connection)
    assert texts(app) == ["two"]


# ------------------------------------------------------------------------------------------------------------- SQLite


def test_a_file_may_be_reached_by_another_path(lite: App, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with closing(sqlite3.connect(tmp_path / "link" / "log.db")) as connection:
        lite.record(Noted(text="one"), via=connection)
        connection.commit()
    linked = App("peculiar", f"sqlite:///{tmp_path}/link/log.db")
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        linked.record(Noted(text="two"), via=connection)
        connection.commit()
    assert texts(lite) == texts(linked) == ["one", "two"]


def test_a_relative_path_is_relative_to_where_the_app_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    app = App("peculiar", "sqlite:///a%20 #b.db", migrate=True)
    with closing(sqlite3.connect("a%20 #b.db")) as connection:
        monkeypatch.chdir("/")
        app.record(Noted(text="one"), via=connection)
        connection.commit()
    assert texts(app) == ["one"]


@pytest.mark.parametrize("source", [":memory:", "", "file:/somewhere_else?vfs=memdb"])
def test_a_private_database_is_not_the_log(lite: App, source: str) -> None:
    with closing(sqlite3.connect(source, uri=source.startswith("file:"))) as connection:
        App("peculiar", "memory://unused", migrate=True)
        with pytest.raises(WrongDatabase, match="leads to"):
            lite.record(Noted(text="one"), via=connection)
        assert not connection.in_transaction


def test_an_attached_database_changes_nothing(lite: App, file: sqlite3.Connection, tmp_path: Path) -> None:
    file.execute(f"attach '{tmp_path}/other.db' as other")
    file.execute("create table other.mine (n integer)")
    file.execute("insert into other.mine values (1)")
    lite.record(Noted(text="one"), via=file)
    file.commit()
    assert texts(lite) == ["one"]


def test_a_cursor_of_the_users_goes_on(lite: App, file: sqlite3.Connection) -> None:
    seen = []
    for (number,) in file.execute(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 7) select i from n"
    ):
        lite.record(Noted(text=str(number)), via=file)
        seen.append(number)
    file.commit()
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert len(texts(lite)) == 7


def test_a_subclass_is_a_connection(lite: App) -> None:
    class Connection(sqlite3.Connection):
        pass

    with closing(sqlite3.connect(lite.log.place.database, factory=Connection)) as connection:
        lite.record(Noted(text="one"), via=connection)
        connection.commit()
    assert texts(lite) == ["one"]


def test_a_connection_of_another_thread_is_refused(lite: App, file: sqlite3.Connection) -> None:
    with pytest.raises(UnusableConnection, match="thread"):
        asyncio.run(asyncio.to_thread(lambda: lite.record(Noted(text="one"), via=file)))
    assert texts(lite) == []


async def test_a_connection_that_gives_text_as_bytes_is_refused(lite: App) -> None:
    path = lite.log.place.database
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        with pytest.raises(UnusableConnection, match="set its text_factory to str"):
            lite.record(Noted(text="x"), via=connection)
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        lite.record(Noted(text="x"), via=connection)
    async with aiosqlite.connect(path) as other:
        other.text_factory = bytes
        with pytest.raises(UnusableConnection, match="set its text_factory to str"):
            await lite.record(Noted(text="x"), via=other)


async def test_aiosqlite_that_was_never_opened_is_refused(lite: App) -> None:
    connection = aiosqlite.connect(lite.log.place.database)
    with pytest.raises(UnusableConnection):
        await lite.record(Noted(text="one"), via=connection)


def test_a_file_that_may_only_be_read_is_refused(lite: App) -> None:
    with (
        closing(sqlite3.connect(f"file:{lite.log.place.database}?mode=ro", uri=True)) as connection,
        pytest.raises(UnusableConnection, match="may write"),
    ):
        lite.record(Noted(text="one"), via=connection)


# ---------------------------------------------------------------------------------------- what is no connection at all


async def test_what_makes_connections_is_refused_with_a_hint(lite: App, app: App) -> None:
    engine = engine_for(Wanted(app.log.place.url), "psycopg")
    async_engine = engine_for(Wanted(app.log.place.url), "asyncpg")
    pool = await asyncpg.create_pool(app.log.place.url, min_size=0)
    makers: list[Any] = [
        engine,
        engine.pool,
        async_engine,
        pool,
        orm.sessionmaker(engine),
        async_sqlalchemy.async_sessionmaker(async_engine),
    ]
    for maker in makers:
        with pytest.raises(
            UnusableConnection, match=f"{type(maker).__name__}: it makes connections, pass one of those"
        ):
            app.record(Noted(text="one"), via=maker)
    await pool.close()
    await async_engine.dispose()
    engine.dispose()


@pytest.mark.parametrize("thing", [None, "sqlite:///log.db", 7, object(), sqlite3, App], ids=named)
def test_what_is_no_connection_is_refused(lite: App, thing: Any) -> None:
    with pytest.raises(
        UnusableConnection, match="record rides on a connection of sqlite3, aiosqlite, psycopg, asyncpg"
    ):
        lite.record(Noted(text="one"), via=thing)
    assert texts(lite) == []


def test_a_cursor_is_no_connection(lite: App, file: sqlite3.Connection) -> None:
    with pytest.raises(UnusableConnection, match=r"sqlite3\.Cursor"):
        lite.record(Noted(text="one"), via=file.cursor())  # type: ignore[call-overload]


def test_a_connection_to_another_kind_of_database_is_refused(lite: App, app: App, file: sqlite3.Connection) -> None:
    with pytest.raises(WrongDatabase, match=r"speaks to SQLite, but the log of 'peculiar' is in PostgreSQL"):
        app.record(Noted(text="one"), via=file)
    with (
        psycopg.connect(app.log.place.url) as connection,
        pytest.raises(WrongDatabase, match=r"speaks to PostgreSQL, but .* SQLite"),
    ):
        lite.record(Noted(text="one"), via=connection)
    assert texts(lite) == texts(app) == []


async def test_an_async_connection_to_another_kind_of_database_is_refused(lite: App, app: App) -> None:
    engine = engine_for(Wanted(app.log.place.url), "asyncpg")
    async with async_sqlalchemy.AsyncSession(engine) as session:
        with pytest.raises(WrongDatabase):
            await lite.record(Noted(text="one"), via=session)
    async with engine.connect() as connection:
        with pytest.raises(WrongDatabase):
            await lite.record(Noted(text="one"), via=connection)
    await engine.dispose()


def test_a_transaction_may_be_begun_by_hand(app: App) -> None:
    with psycopg.connect(app.log.place.url, autocommit=True) as connection:
        connection.execute("begin")
        app.record(Noted(text="one"), via=connection)
        connection.execute("commit")
        with pytest.raises(NotInTransaction, match=r"connection\.transaction\(\)"):
            app.record(Noted(text="two"), via=connection)
    assert texts(app) == ["one"]


def test_the_clock_of_a_receipt_is_the_databases(app: App) -> None:
    with app.transaction() as connection:
        receipt = app.record(Noted(text="one"), via=connection)
        ((now,),) = connection.execute("select clock_timestamp()").fetchall()
        ((began,),) = connection.execute("select now()").fetchall()
    assert began <= receipt.recorded_at <= now
