"""What an application and its modules declare as read models, and waiting until one has come so far."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import timedelta
from inspect import isclass
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, TypeVar, overload

import msgspec

from ensue.app.declarations import Handler
from ensue.app.declaring import Declares, check_types
from ensue.errors import DeclarationError, DuplicateName, NotReached
from ensue.events import Event, Receipt, Recorded
from ensue.handlers import Function, name_of
from ensue.handlers.projections import (
    Clear,
    Projection,
    SetUp,
    Tables,
    listen,
    live_build,
    set_up_of,
    table_names,
)
from ensue.handlers.projections.classes import Projection as ProjectionClass
from ensue.handlers.projections.classes import as_function
from ensue.log import Log, Postgres, Steps
from ensue.subscriptions import Backoff, seconds
from ensue.subscriptions.parking import PLACE

if TYPE_CHECKING:
    from typing import Unpack

P = TypeVar("P", bound=ProjectionClass)
E = TypeVar("E", bound=Event)
E2 = TypeVar("E2", bound=Event)
E3 = TypeVar("E3", bound=Event)

_json = msgspec.json.Encoder().encode
_FIRST_LOOK = 0.002
_LONGEST_PAUSE = 0.1


Answer = TypeVar("Answer")


class Projecting(Protocol[E]):
    """Takes a function of an event, the connection, and perhaps how the log holds the event, and gives it back."""

    @overload
    def __call__(self, function: Callable[[E, Any], Answer], /) -> Callable[[E, Any], Answer]: ...

    @overload
    def __call__(
        self, function: Callable[[E, Any, Recorded[E]], Answer], /
    ) -> Callable[[E, Any, Recorded[E]], Answer]: ...


class ProjectionOptions(TypedDict, total=False):
    """How a projection is built."""

    version: int
    """Grows with every change of what it makes of the events (1): then it is built anew beside the one that is live."""
    set_up: SetUp
    """Makes the tables, where they are not there yet: SQL, SQLAlchemy's metadata, or a function, which is given what
    the projection's function gets, and is sync or async likewise. Tables of `ensue.tables` need none; others come from
    your migrations without it."""
    clear: Clear
    """Removes the rows of a key, given the key and the connection: what `ensue replay --key` and `--since` need."""
    transaction: Callable[[], AbstractContextManager[Any] | AbstractAsyncContextManager[Any]] | None
    """Opens a transaction of yours on the log's database, such as `sessionmaker.begin`, and lends what the function
    gets; otherwise it is a connection of `app.transaction()`."""
    batch: int
    """How many events are applied in one transaction at most (500)."""
    partitions: int
    """Into how many parts it is cut by key, for several processes (1): then different keys come in any order."""
    retry: Backoff
    """What happens after a failure."""
    timeout: float | timedelta | str | None
    """Seconds after which a call of an async function counts as failed (60)."""


class Projections(Declares):
    """The part of an `App` and of a module that is about projections."""

    @overload
    def projection(self, cls: type[P], /) -> type[P]: ...

    @overload
    def projection(
        self,
        type: type[E],
        /,
        *,
        tables: Tables,
        name: str | None = None,
        **options: Unpack[ProjectionOptions],
    ) -> Projecting[E]: ...

    @overload
    def projection(
        self,
        type: type[E],
        second: type[E2],
        /,
        *,
        tables: Tables,
        name: str | None = None,
        **options: Unpack[ProjectionOptions],
    ) -> Projecting[E | E2]: ...

    @overload
    def projection(
        self,
        type: type[Event],
        /,
        *more: type[Event],
        tables: Tables,
        name: str | None = None,
        **options: Unpack[ProjectionOptions],
    ) -> Projecting[Any]: ...

    def projection(
        self,
        type: type[Event | ProjectionClass],
        /,
        *more: type[Event],
        tables: Tables = (),
        name: str | None = None,
        **options: Unpack[ProjectionOptions],
    ) -> Any:
        """Keep tables that follow from events: each event is applied exactly once, in position order, from the first.

        The function is called with the event, a connection, and, if it takes three arguments, the event's `Recorded`
        (its stream, version, time), in a transaction of the log's database; what it writes and how far it is are
        committed together, for many events at once. One that fails is set aside with its key, and the others are
        committed. `tables` names what it writes (text, `ensue.tables.Table`, SQLAlchemy tables, or models): that is
        what is built anew, beside the live ones, when `version` grows or `ensue replay` says so. The function writes
        its tables and nothing else: what would leave the database, or record an event, raises `LeavesTheDatabase`.

        Above a class derived from `Projection`, it stands alone: the class says all that.

        Raises `DeclarationError` and `DuplicateName`.
        """
        if isclass(type) and issubclass(type, ProjectionClass):
            if more or tables or name or options:
                raise DeclarationError(
                    f"app.projection({type.__qualname__}, …): its attributes say what else there is to say"
                )
            self._project_class(type)
            return type
        types: tuple[Any, ...] = (type, *more)
        check_types("projection", types)

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            self._project(function, types, name or name_of(function), tables, options)
            return function

        return declare

    def _project_class(self, cls: type[ProjectionClass]) -> None:
        projection = cls()
        clear: Clear = getattr(projection, "clear", None)
        options: ProjectionOptions = {
            "version": cls.version,
            "set_up": getattr(projection, "set_up"),  # noqa: B009 pyright would bind it
            "clear": clear,
            "transaction": getattr(cls, "transaction"),  # noqa: B009 pyright would bind it
            "batch": cls.batch,
            "partitions": cls.partitions,
            "retry": cls.retry,
            "timeout": cls.timeout,
        }
        self._project(as_function(projection), tuple(cls.__appliers__), cls.name or cls.__name__, cls.tables, options)

    def _project(
        self,
        function: Callable[..., Any],
        types: tuple[type[Event], ...],
        name: str,
        given: Tables,
        options: ProjectionOptions,
    ) -> None:
        limit = options.get("timeout", 60.0)
        tables = table_names(given)
        set_up = set_up_of(options.get("set_up"), given, postgres=isinstance(self._log.dialect, Postgres))
        made = Projection(
            name=name,
            version=options.get("version", 1),
            types=types,
            function=Function(function, name, "the connection", "how the log holds the event"),
            tables=tables,
            set_up=set_up,
            clear=options.get("clear"),
            transaction=options.get("transaction"),
            batch=options.get("batch", 500),
            partitions=options.get("partitions", 1),
            retry=options.get("retry", Backoff()),
            timeout=None if limit is None else seconds(limit),
        )
        if name in self.declarations.subscriptions or name in self.declarations.projections:
            raise DuplicateName(
                f"two subscriptions are called {name!r}: a checkpoint belongs to a name; "
                "give one of them another with name=…"
            )
        for other in self.declarations.projections.values():
            if shared := set(other.tables).intersection(tables):
                raise DuplicateName(
                    f"projections {other.name!r} and {name!r} both write {', '.join(sorted(shared))}: one would "
                    "overwrite the other when it is built anew; make one projection of both"
                )
        self.declarations.projections[name] = made
        self.declarations.handlers.append(Handler(name, "projection", types, function, self._module))
        listen()

    # --- reading what one has written

    def wait(self, receipt: Receipt, projection: str, *, timeout: float | timedelta | str = 5.0) -> None:
        """Wait until a projection shows what was recorded: then a reader of its tables sees it.

        Raises `NotReached` after so many seconds, or at once if an event of the receipt, or one before it of the same
        key, has failed there; `UnknownName` if there is no such projection. The receipt's transaction must have been
        committed.
        """
        with self._log.own.lend() as connection:
            for pause in self._pauses(receipt, projection, seconds(timeout)):
                if self._log.run(_reached(self._log, receipt, projection), connection):
                    return
                time.sleep(pause)

    async def wait_async(
        self,
        receipt: Receipt,
        projection: str,
        *,
        timeout: float | timedelta | str = 5.0,  # noqa: ASYNC109 as of `wait`
    ) -> None:
        """As `wait`, in an event loop."""
        for pause in self._pauses(receipt, projection, seconds(timeout)):
            if await self._log.own.run_async(_reached(self._log, receipt, projection)):
                return
            await asyncio.sleep(pause)

    @staticmethod
    def _pauses(receipt: Receipt, projection: str, timeout: float) -> Iterator[float]:
        """Return how long to wait between two looks; raise when the time is over."""
        deadline, pause = time.monotonic() + timeout, _FIRST_LOOK
        while True:
            yield max(0.0, min(pause, deadline - time.monotonic()))
            if time.monotonic() >= deadline:
                raise NotReached(
                    f"projection {projection!r} has not come to position {receipt.position} within {timeout:g} s: "
                    "does a worker run? `ensue lag` says how far it is"
                )
            pause = min(_LONGEST_PAUSE, pause * 1.5)


def _reached(log: Log, receipt: Receipt, projection: str) -> Steps[bool]:
    build = yield from live_build(log, projection)
    sql = log.dialect.sql
    rows = yield sql["slowest_partition"](subscription=build.cursor)
    if not rows or rows[0][0] < receipt.position:
        return False
    ids = _json(receipt.id_texts).decode()
    for key, position, reason in (yield sql["parked_before"](subscription=build.cursor, ids=ids)):
        why = (yield from log.personal.tell({key: (reason, PLACE)}))[key]
        raise NotReached(
            f"projection {projection!r} has set key {key!r} aside at position {position}: {why}; "
            "`ensue dead show` tells more"
        )
    return True
