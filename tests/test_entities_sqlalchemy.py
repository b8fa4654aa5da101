"""Entities of SQLAlchemy: what they raise is recorded with their rows, or not at all."""

from __future__ import annotations

import gc
import pickle
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import ForeignKey, orm
from sqlalchemy.ext import asyncio as async_sqlalchemy
from sqlalchemy.orm import Mapped, mapped_column

from ensue import App, DomainEvent, IntegrationEvent, SourcedEvent, context
from ensue.errors import (
    DeclarationError,
    EventValueError,
    NotInTransaction,
    NotMigrated,
    SecondAggregate,
    WrongDatabase,
)
from ensue.integrations.sqlalchemy import Entity, entities
from tests.connections import Wanted, engine_for


class Placed(DomainEvent, name="test.entities.placed"):
    number: int


class Shipped(IntegrationEvent, version=1, name="test.entities.shipped", key="customer"):
    customer: str
    number: int


class Deposited(SourcedEvent, name="test.entities.deposited"):
    number: int


class Base(orm.DeclarativeBase):
    pass


class Order(Entity, Base):
    __tablename__ = "entities_orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    total: Mapped[int] = mapped_column(default=0)
    kind: Mapped[str] = mapped_column(default="plain")
    lines: Mapped[list[Line]] = orm.relationship(back_populates="order", cascade="all, delete-orphan")
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {  # noqa: RUF012
        "polymorphic_on": "kind",
        "polymorphic_identity": "plain",
        "version_id_col": version,
    }

    def place(self, number: int) -> None:
        self.total = number
        self.raise_event(Placed(number=number))

    def note(self, number: int) -> None:
        """Raise an event, and change nothing."""
        self.raise_event(Placed(number=number))


class UrgentOrder(Order):
    __mapper_args__ = {"polymorphic_identity": "urgent"}  # noqa: RUF012


class Line(Entity, Base):
    __tablename__ = "entities_lines"
    __aggregate__ = "line"
    order_id: Mapped[int] = mapped_column(ForeignKey("entities_orders.id"), primary_key=True)
    article: Mapped[str] = mapped_column(primary_key=True)
    order: Mapped[Order] = orm.relationship(back_populates="lines")


class Plain(Base):
    """No entity."""

    __tablename__ = "entities_plain"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, schema: str, tmp_path: Path) -> App:
    url = f"sqlite:///{tmp_path}/log.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    app = App("entities", url, schema=schema)
    app.migrate()
    entities(app, Base)
    return app


def driver(app: App, *, asynchronous: bool = False) -> str:
    if app.log.dialect.label == "SQLite":
        return "aiosqlite" if asynchronous else "pysqlite"
    return "asyncpg" if asynchronous else "psycopg"


@pytest.fixture
def engine(app: App) -> Iterator[sqlalchemy.Engine]:
    engine: sqlalchemy.Engine = engine_for(Wanted(app.log.place.url), driver(app))
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: sqlalchemy.Engine) -> Iterator[orm.Session]:
    with orm.Session(engine) as session:
        yield session


@pytest.fixture
def several(app: App) -> Iterator[None]:
    """Let transactions of the test change several aggregates."""
    with app.several_aggregates("the test looks at how they are kept apart"):
        yield


@pytest.fixture
async def async_session(app: App, engine: sqlalchemy.Engine) -> AsyncIterator[async_sqlalchemy.AsyncSession]:
    source = engine_for(Wanted(app.log.place.url), driver(app, asynchronous=True))
    async with async_sqlalchemy.AsyncSession(source, expire_on_commit=False) as session:
        yield session
    await source.dispose()


def seen(app: App) -> list[tuple[str | None, int]]:
    return [(each.stream, each.event.number) for each in app.read()]


def numbers(app: App) -> list[int]:
    return [number for _, number in seen(app)]


def saved(session: orm.Session) -> Order:
    """Return an order that is committed."""
    order = Order(id=1)
    session.add(order)
    session.commit()
    return order


# -------------------------------------------------------------------------------------------------- when it is recorded


def test_a_new_entity_is_recorded_under_the_key_that_the_database_has_given(app: App, session: orm.Session) -> None:
    order = Order()
    session.add(order)
    order.place(1)
    assert seen(app) == []
    session.commit()
    assert seen(app) == [(f"Order-{order.id}", 1)]


def test_an_entity_may_raise_before_it_is_added(app: App, session: orm.Session) -> None:
    order = Order(id=7)
    order.place(1)
    session.add(order)
    order.place(2)
    session.commit()
    assert seen(app) == [("Order-7", 1), ("Order-7", 2)]


@pytest.mark.usefixtures("several")
def test_an_entity_that_is_added_by_a_cascade(app: App, session: orm.Session) -> None:
    order, line = Order(id=1), Line(article="pen")
    order.note(1)
    line.raise_event(Placed(number=2))
    order.lines.append(line)
    session.add(order)
    session.commit()
    assert seen(app) == [("Order-1", 1), ("line-1:pen", 2)]


def test_an_entity_of_which_no_column_has_changed(app: App, session: orm.Session) -> None:
    order = saved(session)
    order.note(1)
    session.commit()
    assert seen(app) == [("Order-1", 1)]
    assert order.version == 1, "no row is written for an event"


def test_a_flush_records_even_if_no_column_has_changed(app: App, session: orm.Session) -> None:
    order = saved(session)
    order.note(1)
    session.flush()
    recorded = [each.event for each in app.read(via=session)]
    assert recorded == ([Placed(number=1)] if app.log.dialect.label == "SQLite" else [])
    session.rollback()
    assert seen(app) == []


def test_an_entity_that_nobody_else_holds(app: App, session: orm.Session) -> None:
    saved(session)
    session.expunge_all()
    loaded = session.get_one(Order, 1)
    loaded.note(1)
    del loaded
    gc.collect()
    session.commit()
    assert seen(app) == [("Order-1", 1)]


def test_several_flushes_record_each_event_once(app: App, session: orm.Session) -> None:
    order = Order(id=1)
    session.add(order)
    for number in range(1, 4):
        order.place(number)
        session.flush()
        session.flush()
    order.note(4)
    session.commit()
    session.commit()
    assert seen(app) == [("Order-1", number) for number in range(1, 5)]
    assert [each.version for each in app.read()] == [1, 2, 3, 4]


@pytest.mark.usefixtures("several")
def test_the_order_is_that_in_which_events_were_raised(app: App, session: orm.Session) -> None:
    one, two = Order(id=1), Order(id=2)
    for number, order in enumerate((two, one, one, two, one), 1):
        order.note(number)
    session.add_all([one, two])
    for number, order in enumerate((two, one), 6):
        order.note(number)
    session.commit()
    assert seen(app) == [
        ("Order-2", 1),
        ("Order-1", 2),
        ("Order-1", 3),
        ("Order-2", 4),
        ("Order-1", 5),
        ("Order-2", 6),
        ("Order-1", 7),
    ]


@pytest.mark.usefixtures("several")
def test_many_entities_in_one_flush(app: App, session: orm.Session) -> None:
    orders = [Order() for _ in range(50)]
    for number, order in enumerate(orders):
        order.place(number)
    session.add_all(orders)
    session.commit()
    assert seen(app) == [(f"Order-{order.id}", number) for number, order in enumerate(orders)]


def test_a_deleted_entity(app: App, session: orm.Session) -> None:
    order = saved(session)
    order.note(1)
    session.delete(order)
    order.note(2)
    session.flush()
    order.note(3)
    session.commit()
    assert seen(app) == [("Order-1", number) for number in (1, 2, 3)]
    assert session.get(Order, 1) is None


def test_an_entity_that_raises_again_in_a_flush(app: App, session: orm.Session) -> None:
    order = Order(id=1)

    def after_insert(mapper: object, connection: object, inserted: Order) -> None:
        inserted.note(2)

    def after_flush(*_: object) -> None:
        if order.total == 1:
            order.note(3)

    def after_flush_postexec(*_: object) -> None:
        if order.total == 1:
            order.place(4)

    sqlalchemy.event.listen(Order, "after_insert", after_insert)
    sqlalchemy.event.listen(session, "after_flush", after_flush)
    sqlalchemy.event.listen(session, "after_flush_postexec", after_flush_postexec)
    try:
        order.place(1)
        session.add(order)
        session.commit()
    finally:
        sqlalchemy.event.remove(Order, "after_insert", after_insert)
    assert numbers(app) == [1, 2, 3, 4]


def test_an_entity_that_is_expired_after_it_has_raised(app: App, session: orm.Session) -> None:
    order = saved(session)
    order.note(1)
    session.expire(order)
    session.commit()
    assert seen(app) == [("Order-1", 1)]


def test_a_scoped_session(app: App, engine: sqlalchemy.Engine) -> None:
    registry = orm.scoped_session(orm.sessionmaker(engine))
    order = Order(id=1)
    registry.add(order)
    order.place(1)
    registry.commit()
    order.note(2)
    registry.rollback()
    registry.remove()
    assert seen(app) == [("Order-1", 1)]


def test_a_session_with_a_bind_for_each_class(app: App, engine: sqlalchemy.Engine) -> None:
    with orm.Session(binds={Order: engine}) as session:
        order = Order(id=1)
        order.place(1)
        session.add(order)
        session.commit()
    assert seen(app) == [("Order-1", 1)]


# ----------------------------------------------------------------------------------------------- when it is taken back


def test_a_rollback_takes_back_what_was_recorded_and_what_was_not(app: App, session: orm.Session) -> None:
    order = saved(session)
    order.place(1)
    session.flush()
    order.note(2)
    session.rollback()
    order.note(3)
    session.commit()
    assert seen(app) == [("Order-1", 3)]


def test_a_rollback_of_an_event_without_a_change(app: App, session: orm.Session) -> None:
    order = saved(session)
    order.note(1)
    session.rollback()
    session.commit()
    assert seen(app) == []


def test_a_new_entity_that_is_added_again_after_a_rollback_brings_its_events(
    app: App, engine: sqlalchemy.Engine
) -> None:
    """SQLAlchemy inserts it again, with the attributes that it had."""
    order = Order(id=1)
    order.place(1)
    for flushes in (0, 1, 2):
        with orm.Session(engine) as session, pytest.raises(LookupError), session.begin():
            session.add(order)
            for _ in range(flushes):
                session.flush()
            raise LookupError
    assert seen(app) == []
    with orm.Session(engine) as session, session.begin():
        session.add(order)
        session.flush()
        order.place(2)
    with orm.Session(engine) as session, session.begin():
        session.add(order)
        order.place(3)
    assert numbers(app) == [1, 2, 3]


def test_what_was_committed_is_not_recorded_again_with_a_copy(app: App, session: orm.Session) -> None:
    order = Order(id=1)
    order.note(1)
    session.add(order)
    session.commit()
    session.refresh(order)
    orm.make_transient(order)
    order.id = 2
    session.add(order)
    session.flush()
    session.rollback()
    session.add(order)
    session.commit()
    assert seen(app) == [("Order-1", 1)]


def test_a_savepoint_that_is_rolled_back_takes_its_events_back(app: App, session: orm.Session) -> None:
    order = saved(session)
    order.place(1)
    with session.begin_nested():
        order.place(2)
    with pytest.raises(LookupError), session.begin_nested():
        order.place(3)
        session.flush()
        order.note(4)
        raise LookupError
    order.place(5)
    session.commit()
    assert numbers(app) == [1, 2, 5]


@pytest.mark.usefixtures("several")
def test_what_was_raised_before_a_savepoint_is_not_taken_back_with_it(app: App, session: orm.Session) -> None:
    order, new = saved(session), Order(id=2)
    order.note(1)
    new.note(2)
    session.add(new)
    with pytest.raises(LookupError), session.begin_nested():
        order.place(3)
        session.flush()
        raise LookupError
    session.commit()
    assert numbers(app) == [1, 2]


def test_savepoints_in_savepoints(app: App, session: orm.Session) -> None:
    order = saved(session)
    order.place(1)
    with session.begin_nested():
        order.place(2)
        with pytest.raises(LookupError), session.begin_nested():
            order.place(3)
            with session.begin_nested():
                order.place(4)
            raise LookupError
        order.place(5)
    session.commit()
    assert numbers(app) == [1, 2, 5]


def test_a_new_entity_of_a_savepoint_is_added_again(app: App, session: orm.Session) -> None:
    order = Order(id=2)
    order.note(1)
    session.add(Plain(id=1))
    session.flush()  # without it pysqlite commits at the end of an outermost savepoint
    with pytest.raises(LookupError), session.begin_nested():
        session.add(order)
        session.flush()
        order.note(2)
        raise LookupError
    with session.begin_nested():
        session.add(order)
        order.note(3)
    session.rollback()
    assert seen(app) == []
    session.add(order)
    session.commit()
    assert numbers(app) == [1, 2, 3]


def test_what_a_savepoint_has_taken_back_does_not_come_again(app: App, session: orm.Session) -> None:
    order = Order(id=1)
    order.note(1)
    session.add(order)
    with pytest.raises(LookupError), session.begin_nested():
        order.place(2)
        raise LookupError
    with session.begin_nested():
        order.place(3)
    with pytest.raises(LookupError), session.begin_nested():
        order.place(4)
        session.flush()
        raise LookupError
    assert order.total == 3
    session.rollback()
    assert seen(app) == []
    session.add(order)
    session.commit()
    assert numbers(app) == [1, 3]


def test_a_flush_that_fails_takes_its_events_back(app: App, session: orm.Session) -> None:
    order = saved(session)
    session.expunge_all()
    order = Order(id=1)
    order.place(1)
    with pytest.raises(sqlalchemy.exc.IntegrityError), session.begin_nested():
        session.add(order)
        session.flush()
    session.commit()
    assert seen(app) == []
    order.id = 2
    session.add(order)
    session.commit()
    assert seen(app) == [("Order-2", 1)]


def test_an_entity_that_is_never_added(app: App, session: orm.Session) -> None:
    Order(id=1).place(1)
    session.commit()
    assert seen(app) == []


@pytest.mark.usefixtures("several")
def test_an_entity_that_leaves_its_session_takes_its_events_along(app: App, engine: sqlalchemy.Engine) -> None:
    with orm.Session(engine) as session:
        order = saved(session)
        session.refresh(order)
        order.place(1)
        session.expunge(order)
        session.commit()
        new = Order(id=2)
        session.add(new)
        new.place(2)
        session.expunge(new)
        session.commit()
    assert seen(app) == []
    with orm.Session(engine) as other:
        other.add_all([order, new])
        other.commit()
    assert seen(app) == [("Order-1", 1), ("Order-2", 2)]


def test_an_entity_may_raise_while_it_is_detached(app: App, engine: sqlalchemy.Engine) -> None:
    with orm.Session(engine) as session:
        order = saved(session)
    order.note(1)
    copy: Order = pickle.loads(pickle.dumps(order))
    with orm.Session(engine) as session:
        session.add(copy)
        session.commit()
    assert seen(app) == [("Order-1", 1)]


# ------------------------------------------------------------------------------------------------------ what it is like


def test_the_stream_is_that_of_the_class_which_the_key_belongs_to(app: App, session: orm.Session) -> None:
    order = UrgentOrder(id=1)
    order.note(1)
    session.add(order)
    session.commit()
    assert seen(app) == [("Order-1", 1)]


def test_an_event_keeps_its_own_key_and_goes_to_the_stream(app: App, session: orm.Session) -> None:
    order = saved(session)
    order.raise_event(Shipped(customer="anna", number=1))
    session.commit()
    (recorded,) = app.read()
    assert (recorded.stream, recorded.version, recorded.key) == ("Order-1", 1, "anna")


def test_an_event_has_the_metadata_of_where_it_was_raised(app: App, session: orm.Session) -> None:
    order = saved(session)
    with context(actor="anna", correlation_id="request-1"):
        order.note(1)
    with context(actor="otto"):
        order.note(2)
        session.commit()
    found = [(each.metadata.actor, each.own_correlation_id) for each in app.read()]
    assert found == [("anna", "request-1"), ("otto", None)]


def test_a_dataclass_may_be_an_entity(app: App, engine: sqlalchemy.Engine) -> None:
    class Data(orm.MappedAsDataclass, orm.DeclarativeBase):
        pass

    class Basket(Entity, Data):
        __tablename__ = "entities_baskets"
        id: Mapped[int] = mapped_column(primary_key=True)

    entities(app, Data)
    Data.metadata.drop_all(engine)
    Data.metadata.create_all(engine)
    with orm.Session(engine) as session, session.begin():
        basket = Basket(id=1)
        basket.raise_event(Placed(number=1))
        session.add(basket)
        assert repr(basket).endswith("Basket(id=1)")
    assert seen(app) == [("Basket-1", 1)]


# ----------------------------------------------------------------------------------------------------------- what fails


def test_what_is_no_event_is_refused(app: App, session: orm.Session) -> None:
    order = saved(session)
    for wrong in ("placed", Placed, object()):
        with pytest.raises(EventValueError, match=r"Order\.raise_event: .* is not an event"):
            order.raise_event(wrong)  # type: ignore[arg-type]
    session.commit()
    assert seen(app) == []


def test_an_event_sourced_event_is_refused(app: App) -> None:
    with pytest.raises(EventValueError, match=r"Deposited is an event-sourced event.*its row"):
        Order().raise_event(Deposited(number=1))


def test_an_entity_without_an_application_says_what_to_do() -> None:
    class Lonely(orm.DeclarativeBase):
        pass

    class Thing(Entity, Lonely):
        __tablename__ = "entities_things"
        id: Mapped[int] = mapped_column(primary_key=True)

    with pytest.raises(DeclarationError, match=r"Thing raises events, .* call entities\(app, …\) once"):
        Thing(id=1).raise_event(Placed(number=1))


def test_entities_wants_an_application() -> None:
    with pytest.raises(DeclarationError, match="the first argument is the App"):
        entities(Base, Base)  # type: ignore[arg-type]


def test_what_cannot_be_recorded_makes_the_commit_fail(app: App, session: orm.Session, schema: str) -> None:
    order = saved(session)
    entities(App("entities", app.log.place.url, schema=f"{schema}_none"), Base)
    order.place(1)
    with pytest.raises(NotMigrated):
        session.commit()
    session.rollback()
    assert order.total == 0
    session.delete(order)
    session.flush()
    order.note(2)  # nothing is left to flush
    with pytest.raises(NotMigrated):
        session.commit()
    session.rollback()
    assert session.get(Order, 1) is not None
    assert seen(app) == []


def test_a_second_aggregate_makes_the_commit_fail(app: App, session: orm.Session) -> None:
    for order in (Order(id=1), Order(id=2)):
        order.place(1)
        session.add(order)
    with pytest.raises(SecondAggregate, match=r"'Order-1'.*'Order-2'"):
        session.commit()
    session.rollback()
    assert session.scalars(sqlalchemy.select(Order)).all() == []
    assert seen(app) == []


def test_a_handler_within_recording_may_refuse(app: App, session: orm.Session) -> None:
    order = saved(session)

    @app.within(Placed)
    def refuse(event: Placed, connection: sqlalchemy.Connection) -> None:
        connection.execute(sqlalchemy.insert(Plain).values(id=event.number))
        if event.number > 1:
            raise ValueError(event.number)

    order.place(1)
    session.commit()
    order.place(2)
    with pytest.raises(ValueError, match="2"):
        session.commit()
    session.rollback()
    assert (order.total, numbers(app)) == (1, [1])
    assert [*session.scalars(sqlalchemy.select(Plain.id))] == [1]


async def test_a_handler_within_recording_serves_async_sessions(
    app: App, async_session: async_sqlalchemy.AsyncSession
) -> None:
    @app.within(Placed)
    def follow(event: Placed, connection: sqlalchemy.Connection) -> None:
        connection.execute(sqlalchemy.insert(Plain).values(id=event.number))

    order = Order(id=1)
    order.place(5)
    async_session.add(order)
    await async_session.commit()
    assert [*await async_session.scalars(sqlalchemy.select(Plain.id))] == [5]


def test_another_database_makes_the_commit_fail(app: App, session: orm.Session) -> None:
    order = saved(session)
    entities(App("elsewhere", "memory://elsewhere", migrate=True), Base)
    order.place(1)
    with pytest.raises(WrongDatabase):
        session.commit()
    session.rollback()
    assert order.total == 0


def test_autocommit_makes_the_flush_fail(app: App, engine: sqlalchemy.Engine) -> None:
    with orm.Session(engine.execution_options(isolation_level="AUTOCOMMIT")) as session:
        order = Order(id=1)
        order.place(1)
        session.add(order)
        with pytest.raises(NotInTransaction):
            session.flush()
    assert seen(app) == []


def test_sessions_without_entities_are_left_alone(app: App, session: orm.Session) -> None:
    session.add(Plain(id=1))
    with session.begin_nested():
        session.add(Plain(id=2))
    session.commit()
    assert not session.info
    assert seen(app) == []


# --------------------------------------------------------------------------------------------------------------- async


async def test_async_new_changed_and_untouched_entities(app: App, async_session: async_sqlalchemy.AsyncSession) -> None:
    order = Order()
    order.place(1)
    async_session.add(order)
    await async_session.flush()
    order.place(2)
    await async_session.commit()
    order.note(3)
    await async_session.commit()
    assert seen(app) == [(f"Order-{order.id}", number) for number in (1, 2, 3)]


async def test_async_rollback_and_savepoint(app: App, async_session: async_sqlalchemy.AsyncSession) -> None:
    order = Order(id=1)
    async_session.add(order)
    order.place(1)
    with pytest.raises(LookupError):
        async with async_session.begin_nested():
            order.place(2)
            await async_session.flush()
            raise LookupError
    async with async_session.begin_nested():
        order.place(3)
    await async_session.commit()
    order.place(4)
    await async_session.flush()
    await async_session.rollback()
    await async_session.refresh(order)
    await async_session.delete(order)
    order.note(5)
    await async_session.commit()
    assert numbers(app) == [1, 3, 5]


async def test_async_in_a_scoped_session_with_its_context(
    app: App, async_session: async_sqlalchemy.AsyncSession
) -> None:
    maker = async_sqlalchemy.async_sessionmaker(async_session.bind)
    registry = async_sqlalchemy.async_scoped_session(maker, scopefunc=lambda: None)
    with context(actor="anna"):
        order = Order(id=1)
        order.place(1)
        registry.add(order)
    await registry.commit()
    await registry.remove()
    assert [each.metadata.actor for each in app.read()] == ["anna"]


async def test_async_what_cannot_be_recorded_makes_the_commit_fail(
    app: App, schema: str, async_session: async_sqlalchemy.AsyncSession
) -> None:
    entities(App("entities", app.log.place.url, schema=f"{schema}_none"), Base)
    order = Order(id=1)
    order.place(1)
    async_session.add(order)
    with pytest.raises(NotMigrated):
        await async_session.commit()
    await async_session.rollback()
    assert await async_session.get(Order, 1) is None
