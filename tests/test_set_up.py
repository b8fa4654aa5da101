"""A function of the user's makes a projection's tables: where readers see them, and beside the live ones."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from ensue import App, Projection, applies, errors
from ensue.handlers.projections.drafting import draft
from tests.patience import PATIENCE
from tests.test_projections import Paid, app, mark, record, rows, url

__all__ = ["app", "url"]

ADD = "insert into dues (owner, amount) values ({0}, {0})"
BY_NAME = "insert into dues (owner, amount) values (:owner, :amount)"


class Base(DeclarativeBase):
    pass


class Due(Base):
    __tablename__ = "dues"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(index=True)
    amount: Mapped[int]


def make_dues(db: Any, more: str = "") -> None:
    db.execute(f"create table if not exists dues (owner text, amount bigint{more})")
    db.execute("create index if not exists dues_owner on dues (owner)")


def engine_url(app: App, driver: str) -> str:
    """Return the log's address as SQLAlchemy takes it."""
    kind, _, rest = app.log.place.url.partition(":")
    return f"{'sqlite' if kind in ('sqlite', 'memory') else 'postgresql'}+{driver}:{rest}"


def release(app: App) -> App:
    """Return the application as the next release declares it."""
    return App(app.log.place.app, app.log.place.url, schema=app.log.place.schema)


async def lives(app: App, after: App) -> None:
    """Let one release fill its tables and the next one build its own, and switch to them and back."""
    app.migrate()
    record(app, Paid(owner="ada", amount=1), Paid(owner="bert", amount=2))
    dues = "select owner, amount from dues order by owner"

    async def see(condition: Callable[[], bool]) -> None:
        """Wait, and keep the loop free meanwhile: what is async works in it."""
        async with asyncio.timeout(PATIENCE):
            while not await asyncio.to_thread(condition):  # noqa: ASYNC110 nothing tells it
                await asyncio.sleep(0.005)

    async with app.running():
        await see(lambda: rows(app, dues) == [("ada", 1), ("bert", 2)])
    await asyncio.to_thread(after.migrate)
    assert [(each.build.number, each.build.state) for each in after.replays.builds()] == [(1, "live"), (2, "building")]
    async with after.running():
        await see(lambda: (c := after.replays.compare("dues")).new_reach == c.live_reach)
        await see(lambda: rows(app, dues) == [("ada", 1), ("bert", 2)])  # readers see nothing of it
        assert [each.new_rows for each in (await asyncio.to_thread(after.replays.compare, "dues")).tables] == [2]
        await asyncio.to_thread(after.replays.switch, "dues", actor="me", reason="")
        await asyncio.to_thread(record, app, Paid(owner="carla", amount=3))
        await see(lambda: len(rows(app, dues)) == 3)
        build = await asyncio.to_thread(after.replays.begin, "dues")
        await after.replays.build(build)
        assert build.number == 3
        assert (await asyncio.to_thread(after.replays.compare, "dues", 3)).same
    await asyncio.to_thread(after.replays.switch, "dues", 1, actor="me", reason="", force=True)
    assert rows(app, dues) == [("ada", 1), ("bert", 2)]


async def test_a_sync_function_on_its_own_connection(app: App) -> None:
    after = release(app)
    for each, more in ((app, ""), (after, ", note text default 'new'")):

        def set_up(db: Any, more: str = more) -> None:
            make_dues(db, more)

        @each.projection(Paid, tables="dues", set_up=set_up, version=1 + bool(more))
        def dues(event: Paid, db: Any) -> None:
            db.execute(ADD.format(mark(app)), (event.owner, event.amount))

    await lives(app, after)


async def test_an_async_function_on_its_own_connection(app: App) -> None:
    after = release(app)
    for version, each in enumerate((app, after), 1):

        async def set_up(db: Any) -> None:
            await db.execute("create table dues (owner text, amount bigint)")
            await db.execute("create index dues_owner on dues (owner)")

        @each.projection(Paid, tables="dues", set_up=set_up, version=version)
        async def dues(event: Paid, db: Any) -> None:
            await db.execute(ADD.format(mark(app)), (event.owner, event.amount))

    await asyncio.to_thread(app.migrate)
    assert [each.build.number for each in app.replays.builds()] == [1]
    await lives(app, after)


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
async def test_metadata_creates_all_in_a_session(app: App) -> None:
    engine = create_engine(engine_url(app, "pysqlite" if mark(app) == "?" else "psycopg"))
    after = release(app)

    def set_up(session: Session) -> None:
        Base.metadata.create_all(session.connection())

    for version, each in enumerate((app, after), 1):

        @each.projection(Paid, tables=(Due,), set_up=set_up, version=version, transaction=sessionmaker(engine).begin)
        def dues(event: Paid, session: Session) -> None:
            session.add(Due(owner=event.owner, amount=event.amount))
            session.flush()

    await lives(app, after)
    engine.dispose()


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
async def test_metadata_creates_all_in_an_async_session_and_a_class_sets_itself_up(app: App) -> None:
    engine = create_async_engine(engine_url(app, "aiosqlite" if mark(app) == "?" else "psycopg"))

    class Dues(Projection):
        name = "dues"
        tables = (Due,)
        transaction = async_sessionmaker(engine).begin

        async def set_up(self, session: AsyncSession) -> None:
            await session.run_sync(lambda plain: Base.metadata.create_all(plain.connection()))

        @applies
        async def _(self, event: Paid, session: AsyncSession) -> None:
            await session.execute(text(BY_NAME), {"owner": event.owner, "amount": event.amount})

    class Later(Dues):
        version = 2

    after = release(app)
    app.projection(Dues)
    after.projection(Later)
    app.migrate()
    assert app.replays.builds() == [], "an event loop runs here: it is left to the worker"
    with pytest.raises(errors.ProjectionError, match="has never been built"):
        await asyncio.to_thread(app.replays.begin, "dues")
    async with app.running():
        assert [each.build.state for each in app.replays.builds()] == ["live"]
        with pytest.raises(errors.DeclarationError, match="call it in a thread"):
            app.replays.begin("dues")
    await engine.dispose()
    await lives(app, after)
    await engine.dispose()


def test_a_function_may_run_scripts_and_commit_in_sqlite(app: App) -> None:
    if mark(app) == "%s":
        with pytest.raises(errors.DeclarationError, match="has ended the transaction"):
            _with_two_builds(app, _commits)
        assert [each.build.number for each in app.replays.builds()] == [1]
    else:

        def script(db: sqlite3.Connection) -> None:
            db.executescript("create table dues (owner text, amount integer); create index d on dues (owner);")

        _with_two_builds(app, script)
        assert [each.build.number for each in app.replays.builds()] == [1, 2]


def _commits(db: Any) -> None:
    make_dues(db)
    db.execute("commit")


def _with_two_builds(app: App, second: Callable[[Any], None]) -> None:
    after = release(app)
    for version, (each, set_up) in enumerate(((app, make_dues), (after, second)), 1):

        @each.projection(Paid, tables="dues", set_up=set_up, version=version)
        def dues(event: Paid, db: Any) -> None: ...

    app.migrate()
    after.migrate()


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize(
    ("sql", "says"),
    [
        (["create table other (a text)"], "does not make the table 'dues'"),
        (["create table dues (a text)", "create table other (a text)"], "also makes other"),
        (["create table dues (a text)", "insert into dues values ('x')"], "puts rows into 'dues'"),
    ],
)
def test_what_a_function_must_not_do(app: App, sql: list[str], says: str, beside: bool) -> None:
    def set_up(db: Any) -> None:
        for each in sql:
            db.execute(each)

    if not beside and "also" in says and mark(app) == "%s":  # where readers see it, nobody is misled
        _only(app, set_up)
        assert rows(app, "select * from other") == []
    elif not beside:
        with pytest.raises(errors.DeclarationError, match=says):
            _only(app, set_up)
        assert app.replays.builds() == []
    else:
        with pytest.raises(errors.DeclarationError, match=says):
            _with_two_builds(app, set_up)
        assert [each.build.number for each in app.replays.builds()] == [1]


def _only(app: App, set_up: Callable[[Any], object]) -> None:
    @app.projection(Paid, tables="dues", set_up=set_up)
    def dues(event: Paid, db: Any) -> None: ...

    app.migrate()


def test_one_that_is_awaited_needs_a_projection_that_is(app: App) -> None:
    async def set_up(db: Any) -> None: ...

    with pytest.raises(errors.DeclarationError, match="it is sync, and its set_up is async"):
        _only(app, set_up)


def test_a_connection_that_has_no_database_in_memory_is_told(app: App) -> None:
    _only(app, make_dues)
    with pytest.raises(errors.DeclarationError, match="sqlite3, aiosqlite and SQLAlchemy, not with builtins"):
        draft(app.declarations.projections["dues"], make_dues, object())
