"""What an application and its modules declare as read models, and waiting until one has come so far."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, TypeVar, overload

import msgspec

from ensue.app.declaring import Declares, Handler, check_types
from ensue.errors import DuplicateName, NotReached
from ensue.events import Event, Receipt, Recorded
from ensue.handlers import Function, name_of
from ensue.handlers.projections import Clear, Projection, listen, live_build, table_names
from ensue.log import Log, Steps
from ensue.subscriptions import Backoff, seconds
from ensue.subscriptions.parking import PLACE

if TYPE_CHECKING:
    from typing import Unpack

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
    set_up: str | None
    """SQL that makes the tables, where they are not there yet. Without it they come from your migrations."""
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
    def projection(
        self,
        type: type[E],
        /,
        *,
        tables: str | Iterable[Any],
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
        tables: str | Iterable[Any],
        name: str | None = None,
        **options: Unpack[ProjectionOptions],
    ) -> Projecting[E | E2]: ...

    @overload
    def projection(
        self,
        type: type[Event],
        /,
        *more: type[Event],
        tables: str | Iterable[Any],
        name: str | None = None,
        **options: Unpack[ProjectionOptions],
    ) -> Projecting[Any]: ...

    def projection(
        self,
        type: type[Event],
        /,
        *more: type[Event],
        tables: str | Iterable[Any],
        name: str | None = None,
        **options: Unpack[ProjectionOptions],
    ) -> Any:
        """Keep tables that follow from events: each event is applied exactly once, in position order, from the first.

        The function is called with the event, a connection, and, if it takes three arguments, the event's `Recorded`
        (its stream, version, time), in a transaction of the log's database; what it writes and how far it is are
        committed together, for many events at once. One that fails is set aside with its key, and the others are
        committed. `tables` names what it writes (text, SQLAlchemy tables, or models): that is what is built anew,
        beside the live ones, when `version` grows or `ensue replay` says so. The function writes its tables and nothing
        else: what would leave the database, or record an event, raises `LeavesTheDatabase`.

        Raises `DeclarationError` and `DuplicateName`.
        """
        check_types("projection", (type, *more))

        def declare(function: Callable[..., Any]) -> Callable[..., Any]:
            label = name or name_of(function)
            self._project(function, (type, *more), label, table_names(tables), options)
            return function

        return declare

    def _project(
        self,
        function: Callable[..., Any],
        types: tuple[type[Event], ...],
        name: str,
        tables: tuple[str, ...],
        options: ProjectionOptions,
    ) -> None:
        limit = options.get("timeout", 60.0)
        made = Projection(
            name=name,
            version=options.get("version", 1),
            types=types,
            function=Function(function, name, "the connection", "how the log holds the event"),
            tables=tables,
            set_up=options.get("set_up"),
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
