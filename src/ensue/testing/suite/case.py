# pyright: basic
"""What a behaviour is checked against: a log, and connections of one kind to its database."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import Flag, auto
from inspect import isawaitable
from typing import Any, Protocol, TypeVar, cast

from ensue.app import App
from ensue.events import Event, Receipt, Recorded
from ensue.log import Postgres

T = TypeVar("T")


class Ability(Flag):
    """What not every kind of connection, or not every database, can do."""

    AUTOCOMMIT = auto()
    """The connection can be without a transaction: `connect(autocommit=True)`."""
    DICT_ROWS = auto()
    """The user can have rows as dictionaries: `connect(dict_rows=True)`."""
    CLOSED = auto()
    """A connection that was closed does not open again by itself."""
    FAILED = auto()
    """After a statement that failed, a transaction takes nothing more until it is rolled back."""
    READS_BESIDE = auto()
    """Others can read while a transaction is writing."""
    OWNER_KNOWN = auto()
    """Recording checks whose log it is."""
    ENTITIES = auto()
    """An ORM is above the connection, which keeps entities: it is an `EntityConnection`."""


NOTHING = Ability(0)
"""No ability beyond what all have."""


class Connection(Protocol):
    """A user's connection as its kind is used. What is sync never waits for anything in here."""

    @property
    def via(self) -> Any:
        """What `record` is given."""
        ...

    async def begin(self) -> None:
        """Begin a transaction, the way that is usual; for many kinds there is nothing to do."""
        ...

    async def commit(self) -> None: ...

    async def rollback(self) -> None: ...

    async def execute(self, sql: str) -> Sequence[Any]:
        """Execute SQL without parameters; return the rows, if it has any."""
        ...

    def savepoint(self) -> AbstractAsyncContextManager[object]:
        """Open a savepoint that is released when the block ends and rolled back when it raises."""
        ...

    async def close(self) -> None: ...


class Kept(Protocol):
    """An entity of the ORM's, of the aggregate `ensue.suite.order`, with a row in the `ENTITY_TABLE`."""

    id: Any
    number: Any

    def raise_event(self, event: Event) -> None: ...


class Keeper(Protocol):
    """Keeps entities over one connection, the way that is usual for the ORM."""

    def new(self, id: str, number: int) -> Kept:
        """Make one, which has no row yet."""
        ...

    async def find(self, id: str) -> Kept: ...

    async def keep(self, entity: Kept, /) -> None:
        """Write its row, within the open transaction."""
        ...

    async def remove(self, entity: Kept, /) -> None:
        """Delete its row."""
        ...


class EntityConnection(Connection, Protocol):
    """A connection with an ORM above it."""

    def keeper(self, app: App) -> Keeper:
        """Return what keeps entities whose events are recorded in the log of an application."""
        ...


class Connect(Protocol):
    """Opens a connection to the log's database and closes it behind the block, also if it is closed by then."""

    def __call__(
        self, *, autocommit: bool = False, dict_rows: bool = False, elsewhere: bool = False
    ) -> AbstractAsyncContextManager[Connection]:
        """`elsewhere` leads to another database of the same kind, in which another log of the same name lies."""
        ...


USER_TABLE = "create table ensue_suite_rows (mark text, word text)"
"""Makes the table that stands for the user's own data."""
ENTITY_TABLE = "create table ensue_suite_orders (id varchar(100) primary key, number integer not null)"
"""Makes the table of the entities."""


class Case:
    """One kind of connection to one log, which has been migrated, and to the `USER_TABLE` beside it (and the
    `ENTITY_TABLE`, for those that have `Ability.ENTITIES`).

    Every behaviour gets a case of its own; any number of them may share the log.
    """

    def __init__(self, app: App, connect: Connect, observer: Any, *, asynchronous: bool) -> None:
        """Take an `observer` of `sqlite3` or psycopg, in autocommit mode: it sees what others see."""
        self.app = app
        self.connect = connect
        self.asynchronous = asynchronous
        self._observer = observer
        self.mark = secrets.token_hex(6)
        """What tells this case's names from those of others that share the log."""
        self.start = app.operations.horizon(observer)
        """Where the log was before."""

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run to the end: in an event loop if the connection is async, without any if it is sync."""
        if self.asynchronous:
            return asyncio.run(coroutine)
        try:
            coroutine.send(None)
        except StopIteration as done:
            result: T = done.value
            return result
        coroutine.close()
        raise AssertionError("a sync connection waited for an event loop")

    # --- recording

    async def record(self, connection: Connection, *events: Event, app: App | None = None, **how: Any) -> Receipt:
        """Record over the connection, in whichever colour it has."""
        first, *more = events
        made = (app or self.app).record(first, *more, via=connection.via, **how)
        assert isawaitable(made) is self.asynchronous, "async connections give an awaitable, sync ones a receipt"
        receipt: Receipt = await made if isawaitable(made) else made
        return receipt

    @asynccontextmanager
    async def several(self) -> AsyncGenerator[None]:
        """Let a transaction record in several streams."""
        with self.app.several_aggregates("the suite looks at streams"):
            yield

    async def outcome(self, result: Any) -> Any:
        """Return what a call over the connection gives, in whichever colour it has."""
        assert isawaitable(result) is self.asynchronous, "async connections give an awaitable, sync ones the result"
        return await result if isawaitable(result) else result

    @asynccontextmanager
    async def transaction(self, **options: bool) -> AsyncGenerator[Connection]:
        """Open a connection with a transaction that commits, and rolls back on an error."""
        async with self.connect(**options) as connection:
            await connection.begin()
            try:
                yield connection
            except BaseException:
                await connection.rollback()
                raise
            await connection.commit()

    def keeper(self, connection: Connection) -> Keeper:
        """Return what keeps entities over the connection; `Ability.ENTITIES` says that it can."""
        return cast("EntityConnection", connection).keeper(self.app)

    # --- what is there

    def recorded(self, app: App | None = None, **conditions: Any) -> list[Recorded[Any]]:
        """Return what others see of what was recorded since the case began."""
        after = self.start if app is None else 0
        return list((app or self.app).read(**{"after": after, **conditions}, via=self._observer))

    async def read(self, connection: Connection, app: App | None = None, **conditions: Any) -> list[Recorded[Any]]:
        """As `recorded`, over the user's connection."""
        reading = (app or self.app).read(**{"after": self.start, **conditions}, via=connection.via)
        return [each async for each in reading] if self.asynchronous else list(reading)

    async def write(self, connection: Connection, word: str) -> None:
        """Insert a row into a table of the user's."""
        await connection.execute(f"insert into ensue_suite_rows (mark, word) values ('{self.mark}', '{word}')")

    def written(self) -> list[str]:
        """Return what others see of the user's rows."""
        return [
            word for (word,) in self.seen(f"select word from ensue_suite_rows where mark = '{self.mark}' order by word")
        ]

    def execute(self, sql: str) -> None:
        """Do something in a transaction of its own."""
        self._observer.execute(sql)

    def seen(self, sql: str) -> list[tuple[Any, ...]]:
        """Return what others see of a table."""
        return [tuple(row) for row in self._observer.execute(sql).fetchall()]

    # --- names

    def name(self, word: str) -> str:
        """Return a name that no other case uses: for a stream or a key."""
        return f"{word}-{self.mark}"

    def table(self, name: str, app: App | None = None) -> str:
        """Return the full name of one of the log's tables."""
        place = (app or self.app).log.place
        return f"{place.schema}{'.' if isinstance(place.dialect, Postgres) else '_'}{name}"

    def same_app(self, **options: Any) -> App:
        """Return another application object on the same log, which nobody else declares anything on."""
        place = self.app.log.place
        return App(place.app, place.url, schema=place.schema, **options)

    def new_app(self, *, migrate: bool = False) -> App:
        """Return an application whose log, in the same database, does not exist yet."""
        place = self.app.log.place
        return App(place.app, place.url, schema=f"t_{secrets.token_hex(6)}", migrate=migrate)


@dataclass(frozen=True)
class Behaviour:
    """One thing that must hold, checked as often as there are cases."""

    about: str
    steps: Callable[[Case], Awaitable[None]]
    needs: Ability = NOTHING

    def __str__(self) -> str:
        return self.about

    def check(self, case: Case) -> None:
        """Raise `AssertionError` if it does not hold."""

        async def steps() -> None:
            await self.steps(case)

        case.run(steps())


_NEEDS = "__ensue_needs__"


def needs(ability: Ability) -> Callable[[T], T]:
    """Mark a behaviour that says nothing about kinds without these abilities."""

    def mark(function: T) -> T:
        setattr(function, _NEEDS, ability)
        return function

    return mark


def behaviours_of(room: Mapping[str, Any]) -> Iterator[Behaviour]:
    """Yield the behaviours of a module: its coroutine functions, which it names as sentences."""
    for name, found in room.items():
        if asyncio.iscoroutinefunction(found) and not name.startswith("_") and found.__module__ == room["__name__"]:
            yield Behaviour(name, found, getattr(found, _NEEDS, Ability(0)))
