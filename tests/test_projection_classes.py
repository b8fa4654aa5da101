"""Projections as classes, with tables whose rows are typed, and tables that SQLAlchemy's metadata makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import BigInteger, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ensue import App, Backoff, DomainEvent, Park, Projection, Recorded, applies, errors
from ensue.tables import Table
from tests.patience import until
from tests.test_projections import SOON, app, mark, record, rows, url

__all__ = ["app", "url"]


class Earned(DomainEvent, key="user", name="test.projection-classes.earned"):
    user: str
    points: int


class Joined(DomainEvent, key="user", name="test.projection-classes.joined"):
    user: str
    group: str


class Left(DomainEvent, key="user", name="test.projection-classes.left"):
    user: str


@dataclass
class Score:
    user: str
    points: int = 0
    changes: int = 0


@dataclass
class Member:
    group: str
    user: str
    since: int


scores = Table("scores", Score, key=lambda row: row.user)
members = Table("members", Member, key=lambda row: (row.group, row.user))


class Ranking(Projection):
    tables = (scores, members)
    name = "ranking"
    retry = SOON

    @applies
    def _(self, event: Earned, connection: Any) -> Park | None:
        if event.points < 0:
            return Park("less than nothing")
        scores.add(Score(event.user, event.points, 1), via=connection)
        return None

    @applies
    def _(self, event: Joined, connection: Any, recorded: Recorded[Joined]) -> None:
        members.include(Member(event.group, event.user, recorded.position), via=connection)

    @applies
    def _(self, event: Left, connection: Any) -> None:
        members.remove(("all", event.user), via=connection)

    def clear(self, key: str, connection: Any) -> None:
        scores.remove(key, via=connection)


class AsyncRanking(Projection):
    tables = scores
    name = "ranking"
    version = 2

    @applies
    async def _(self, event: Earned, connection: Any) -> None:
        await scores.add(Score(event.user, event.points, 1), via=connection)
        found = await scores.get(event.user, via=connection)
        assert found is not None
        assert found.changes >= 1


async def test_a_class_applies_each_event_by_its_method(app: App) -> None:
    assert app.projection(Ranking) is Ranking
    app.migrate()
    first = record(app, Joined(user="ada", group="all"))
    record(app, Joined(user="ada", group="all"), Joined(user="bob", group="all"), Left(user="bob"))
    record(app, *(Earned(user="ada", points=n) for n in range(50)), Earned(user="bob", points=-1))
    async with app.running(lease=1.0):
        await until(lambda: rows(app, "select * from scores") == [("ada", 1225, 50)])
        await until(lambda: rows(app, "select * from members") == [("all", "ada", first.position)])
        await until(lambda: [each.reason for each in app.operations.dead_letters()] == ["less than nothing"])
    (standing,) = app.replays.builds("ranking")
    with app.transaction() as connection:
        connection.execute("update scores set points = -1")
    await app.replays.repair(standing.build, ["ada"])
    assert rows(app, "select * from scores") == [("ada", 1225, 50)]


async def test_a_changed_class_is_built_beside_and_its_methods_may_be_async(app: App) -> None:
    app.projection(Ranking)
    app.migrate()
    record(app, *(Earned(user="ada", points=n) for n in range(50)))
    after = App(app.log.place.app, app.log.place.url, schema=app.log.place.schema)
    after.projection(AsyncRanking)
    build = after.replays.begin("ranking")
    await after.replays.build(build)
    async with app.running(lease=1.0):
        await until(lambda: rows(app, "select * from scores") == [("ada", 1225, 50)])
    assert after.replays.compare("ranking").same


async def test_modules_declare_them_too(app: App) -> None:
    app.module("points").projection(Ranking)
    app.migrate()
    record(app, Earned(user="ada", points=1))
    async with app.running(lease=1.0):
        await until(lambda: rows(app, "select * from scores") == [("ada", 1, 1)])


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "entries"
    owner: Mapped[str] = mapped_column(String(40), primary_key=True)
    amount: Mapped[int] = mapped_column(BigInteger, index=True)


class Elsewhere(Base):
    __tablename__ = "elsewhere"
    id: Mapped[int] = mapped_column(primary_key=True)


async def test_metadata_makes_the_tables(app: App) -> None:
    """Those of the projection and no others, with their indexes; beside the live ones too."""

    @app.projection(Earned, tables=(Row,), set_up=Base.metadata)
    def entries(event: Earned, db: Any) -> None:
        db.execute(f"insert into entries values ({mark(app)}, {mark(app)})", (event.user, event.points))

    app.migrate()
    record(app, Earned(user="ada", points=1))
    build = app.replays.begin("entries")
    await app.replays.build(build)
    async with app.running(lease=1.0):
        await until(lambda: rows(app, "select * from entries") == [("ada", 1)])
    assert app.replays.compare("entries").same
    app.replays.switch("entries", build.number, actor="me", reason="anew")
    assert rows(app, "select * from entries") == [("ada", 1)]
    with pytest.raises(Exception, match="elsewhere"):
        rows(app, "select * from elsewhere")


def test_what_is_no_projection_class_is_told(app: App) -> None:
    class Nothing(Projection):
        tables = scores

    with pytest.raises(errors.DeclarationError, match="no method is under @applies"):
        app.projection(Nothing)
    with pytest.raises(errors.DeclarationError, match="its attributes say"):
        app.projection(Ranking, tables=scores)  # type: ignore[type-var]
    with pytest.raises(errors.DeclarationError, match="belongs on a method"):
        applies(lambda self, event, connection: None)
    with pytest.raises(errors.DeclarationError, match="two methods apply Earned"):

        class Twice(Projection):
            @applies
            def _(self, event: Earned, connection: Any) -> None: ...

            @applies
            def _(self, event: Earned | Left, connection: Any) -> None: ...

    with pytest.raises(errors.DeclarationError, match="some of its methods are async"):

        class Mixed(Projection):
            @applies
            def _(self, event: Earned, connection: Any) -> None: ...

            @applies
            async def _(self, event: Left, connection: Any) -> None: ...

    with pytest.raises(errors.DeclarationError, match="is not an event class"):

        class Wrong(Projection):
            @applies  # type: ignore[type-var]
            def _(self, event: Score, connection: Any) -> None: ...

    with pytest.raises(errors.DeclarationError, match="write it as def"):

        class Bare(Projection):
            @applies  # type: ignore[arg-type]
            def _(self, event: Earned) -> None: ...

    class Needs(Projection):
        tables = scores
        retry = Backoff(attempts=1)

        def __init__(self, what: str) -> None: ...

        @applies
        def _(self, event: Earned, connection: Any) -> None: ...

    with pytest.raises(TypeError, match="what"):
        app.projection(Needs)


def test_what_is_no_table_is_told() -> None:
    with pytest.raises(errors.DeclarationError, match="a plain name"):
        Table("a.b", Score, key=lambda row: row.user)
    with pytest.raises(errors.DeclarationError, match="is no row type"):
        Table("a", int, key=lambda row: row)
    with pytest.raises(errors.DeclarationError, match="key= names one field"):
        Table("a", Score, key=lambda row: row.nothing)  # type: ignore[attr-defined]
    with pytest.raises(errors.DeclarationError, match="key= names one field"):
        Table("a", Score, key=lambda row: (row.user, row.user))
    with pytest.raises(errors.DeclarationError, match="key= names one field"):
        Table("a", Score, key=lambda row: 7)

    @dataclass
    class Odd:
        id: int
        tags: list[str]

    with pytest.raises(errors.DeclarationError, match="column 'tags' is list"):
        Table("a", Odd, key=lambda row: row.id)

    @dataclass
    class Half:
        id: int | None

    with pytest.raises(errors.DeclarationError, match="cannot be part of the key"):
        Table("a", Half, key=lambda row: row.id)
