"""`App`: the one object that ties the log, the subscriptions and the handlers together."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, overload

from ensue.app.between import Between
from ensue.app.building import make_missing
from ensue.app.collecting import Collecting
from ensue.app.declarations import Declarations
from ensue.app.forgetting import Forgetting
from ensue.app.mapping import Map, chart
from ensue.app.migrating import Migration
from ensue.app.modules import Module
from ensue.app.operations import Operations
from ensue.app.ownership import Ownership
from ensue.app.processes import Processes
from ensue.app.processing import Timing, chores
from ensue.app.projecting import Projections
from ensue.app.reading import Reading
from ensue.app.recording import Recording
from ensue.app.replaying import Replays
from ensue.app.sealing import Sealing
from ensue.app.serving import describe
from ensue.app.startup import check_declarations
from ensue.app.working import at_work, until_told
from ensue.brokers.preparing import prepare
from ensue.contracts import Service
from ensue.errors import DeclarationError
from ensue.events import Event, Observer, Receipt, stored_types
from ensue.handlers.projections import first_build
from ensue.history import History
from ensue.keys import MasterKeys
from ensue.log import (
    ANY,
    AggregateRule,
    AsyncConnection,
    Expected,
    Log,
    Place,
    Selection,
    SyncConnection,
    Transaction,
    open_sqlite,
)
from ensue.seals import Seals
from ensue.subscriptions import Subscription, Worker

if TYPE_CHECKING:
    from ensue.app.lakes import LakeReplays

logger = logging.getLogger("ensue")


class App(Timing, Between, Projections, Sealing, Forgetting, Collecting):
    """An application: its log, its subscriptions, its worker.

    `url` says where the log is: `sqlite:///file.db`, `postgresql://user@host/database`, or `memory://name` (in this
    process only, for tests). `schema` is the PostgreSQL schema, or the prefix of the SQLite tables, in which the log
    lives. With `migrate=True` the schema is made, and upgraded, on first use; otherwise `ensue migrate` does it.

    `aggregate_rule` says what happens when one transaction records in two streams, which are two aggregates: it is
    refused ("enforce"), an `AggregateRuleWarning` is given ("warn"), or nothing ("off").

    `contracts` is the folder of the contract files: at start-up every integration event that the service publishes must
    be as its file says. Without it nothing is checked then.

    `master_keys` wraps the keys of persons whose `Personal` fields are encrypted, where a key service does that;
    otherwise the environment variable `ENSUE_MASTER_KEY` holds the master key.

    Nothing is opened before it is needed. An `App` may be used by any number of threads and event loops.
    Raises `DeclarationError` for a URL or a schema that cannot be used.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        schema: str = "ensue",
        migrate: bool = False,
        aggregate_rule: AggregateRule = "enforce",
        contracts: str | Path | None = None,
        master_keys: MasterKeys | None = None,
    ) -> None:
        if not name or not name.isprintable():
            raise DeclarationError(f"App name {name!r}: printable text, please; the log will belong to it")
        if aggregate_rule not in get_args(AggregateRule):
            raise DeclarationError(f"aggregate_rule={aggregate_rule!r}: use 'enforce', 'warn' or 'off'")
        self.name = name
        """The folder of the contract files, against which the integration events are checked at start-up."""
        self.log = Log(Place(name, url, schema), master_keys)
        self.declarations = Declarations()
        self.ownership = Ownership()
        self._modules: dict[str, Module] = {}
        self._module = None
        self._log = self.log
        self.declarations.contracts = None if contracts is None else Path(contracts)
        check = partial(check_declarations, name, self.declarations, self.ownership)
        self._migration = Migration(self.log, self.declarations, check, on_first_use=migrate)
        first = self._migration.first if migrate else None
        self._recording = Recording(self.log, self.declarations.guards, aggregate_rule, first)
        self.operations = Operations(self.log, self.declarations, self._recording)
        """What operators do: look, retry, skip, discard, pause."""
        self.replays = Replays(self.log, self.declarations)
        """Reading the log again: projections are built anew, compared, switched and repaired."""
        self.history = History(
            self.log, self._recording, self.declarations.aggregates, partial(self.declarations.names_of, "relay")
        )
        """Looking back: what caused what, what was at a moment, how much of the past is kept."""
        declarations = self.declarations
        self.seals = Seals(self.log, lambda: declarations.sealer)
        """Sealing the log against falsification, verifying it, proving what is in it."""
        self.processes = Processes(self.log, self.declarations, self._recording)
        """What operators do with processes: list, show, cancel, draw."""
        self._anchor: sqlite3.Connection | None = None
        if self.log.place.in_memory:  # a log in memory lives as long as somebody is connected
            self._anchor = open_sqlite(self.log.place)

    def __repr__(self) -> str:
        return f"App({self.name!r})"

    def observe(self, observer: Observer) -> None:
        """Tell somebody what happens, as it happens: `ensue.integrations` has observers that trace and count.

        Workers that are started from then on tell it, too. Several observers are all told.
        """
        self.log.observe(observer)

    def replays_from(self, lake: str | Path, *, source: str | None = None) -> LakeReplays:
        """Return `replays` that read the log's past from a lake; `LakeError` if it has collected nothing of it.

        With `source`, another service as `ensue lake sources` shows it, they read what that one has published: into
        projections of this service, up to where what its own log has received of them begins.
        """
        from ensue.app.elsewhere import Elsewhere
        from ensue.app.lakes import LakeReplays
        from ensue.lake import Lake, LakeLog, Published, source_of

        if source is None or source == source_of(self.name):
            return LakeReplays(LakeLog(self.log, Lake(lake)), self.declarations)
        return Elsewhere(Published(self.log, Lake(lake), source), self.log, self.declarations)

    # --- modules

    def module(self, name: str, *, package: str | None = None) -> Module:
        """Return the module of this name, a part of the service that declares for itself; the same for the same name.

        It owns the events and aggregates that are defined in `package` or below it. Raises `DeclarationError` for a
        name or a package that cannot be used, and if it would own what another module owns.
        """
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise DeclarationError(f"module {name!r}: its name is printable text")
        if package is not None and not all(part.isidentifier() for part in str(package).split(".")):
            raise DeclarationError(
                f"module {name!r}: {package!r} is no package; write it as in an import, 'shop.billing'"
            )
        self.ownership.add(name, package)
        if name not in self._modules:
            self._modules[name] = Module(name, self.declarations, self.ownership, self.log, self._recording)
        return self._modules[name]

    def map(self) -> Map:
        """Draw up who emits and who handles which event, from what has been declared so far."""
        return chart(self.name, self.declarations, self.ownership)

    # --- contracts

    @property
    def contracts(self) -> Path | None:
        """The folder of the contract files, None if none are kept."""
        return self.declarations.contracts

    @contracts.setter
    def contracts(self, folder: Path | None) -> None:
        self.declarations.contracts = folder

    def service(self) -> Service:
        """Describe what the application is to other services: what it publishes and what it reads.

        It publishes the integration events that have been imported, but for those of which the class says, with
        `service=`, that another service publishes them, and those that it receives.
        """
        return describe(self.name, self.declarations)

    def check(self) -> None:
        """Check what has been declared, as `running`, `run` and `migrate` do first; no database is needed.

        Raises `BoundaryCrossed` if something uses what is private to a module, `DeclarationError` if a process sends a
        command that has no handler, and, where `contracts` names a folder, `ContractBroken` if an integration event is
        not as its contract file says or has none.
        """
        check_declarations(self.name, self.declarations, self.ownership)

    # --- recording

    @overload
    def record(
        self,
        event: Event,
        *more: Event,
        via: SyncConnection,
        stream: str | None = None,
        expected: Expected = ANY,
        dedupe: str | None = None,
    ) -> Receipt: ...

    @overload
    def record(
        self,
        event: Event,
        *more: Event,
        via: AsyncConnection,
        stream: str | None = None,
        expected: Expected = ANY,
        dedupe: str | None = None,
    ) -> Coroutine[Any, Any, Receipt]: ...

    def record(
        self,
        event: Event,
        *more: Event,
        via: SyncConnection | AsyncConnection,
        stream: str | None = None,
        expected: Expected = ANY,
        dedupe: str | None = None,
    ) -> Receipt | Coroutine[Any, Any, Receipt]:
        """Record events in the open transaction of the user's own connection, which it never ends.

        On a sync connection it returns the receipt, on an async one an awaitable of it. The events are the next
        versions of `stream` if one is given; `expected` is the version at which the stream must be (`NO_STREAM`: it
        must not exist; `ANY`: whatever). Under a `dedupe` key the log records once and for ever; recording again
        returns the first receipt.

        Raises `EventValueError` for an event that cannot be recorded, `NotInTransaction`, `UnusableConnection` or
        `WrongDatabase` for a connection that cannot carry it, `VersionConflict` if the stream is elsewhere,
        `SecondAggregate` if this transaction has recorded in another stream, and `NotMigrated` if there is no log.
        Whatever is raised, nothing is recorded.
        """
        recorded: Receipt | Coroutine[Any, Any, Receipt] = self._recording.record(
            (event, *more), via, stream=stream, expected=expected, dedupe=dedupe
        )
        return recorded

    def several_aggregates(self, why: str) -> AbstractContextManager[None]:
        """Let transactions inside the block change more than one aggregate; `why` is for those who read the code.

        It follows `contextvars`: tasks started inside inherit it, threads do not. Raises `DeclarationError` for an
        empty `why`.
        """
        return self._recording.several_aggregates(why)

    def transaction(self) -> Transaction:
        """Lend a connection in a transaction of its own, to those who have none: `with` or `async with`.

        It commits when the block ends and rolls back when the block raises.
        """
        return Transaction(self.log)

    # --- reading

    def read(
        self,
        *,
        after: int = 0,
        until: int | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
        types: Sequence[type[Event] | str] = (),
        stream: str | None = None,
        key: str | None = None,
        correlation_id: str | None = None,
        id: str | None = None,
        limit: int | None = None,
        via: SyncConnection | AsyncConnection | None = None,
    ) -> Reading:
        """Read events in position order, with `for` or `async for`; all conditions must hold.

        `after` and `until` are positions, `since` and `before` moments; `key` finds events by what their order is
        kept by, `correlation_id` everything that belongs to one request. Without `via` it opens a connection of its
        own while it runs. It reads in batches and stops where the log was complete when it began.
        """
        selection = Selection(
            after=after,
            until=until,
            since=since,
            before=before,
            types=tuple(name for each in types for name in ((each,) if isinstance(each, str) else stored_types(each))),
            stream=stream,
            key=key,
            correlation_id=correlation_id,
            id=id,
        )
        return Reading(self.log, selection, limit, via)

    @property
    def subscriptions(self) -> dict[str, Subscription]:
        """The declared subscriptions by name; they want events in every structure that has an upcaster by now.

        A projection stands here with the first of its builds: which one this code works on is in the log.
        """
        first = {
            name: self.declarations.cursor(self.log, first_build(each))
            for name, each in self.declarations.projections.items()
        }
        return self.declarations.current() | first

    # --- working

    @asynccontextmanager
    async def running(self, *, lease: float = 5.0, grace: float = 30.0) -> AsyncGenerator[Worker]:
        """Run the worker inside another asyncio program; on leaving it finishes, checkpoints and releases.

        `lease` is how many seconds a partition stays with a worker that is not heard of; `grace` how many seconds
        the events in hand may take when it stops. What stops the worker is raised in the block's task. Raises
        `BoundaryCrossed` and `ContractBroken` at once if the declarations are wrong, see `check`; `MasterKeyMissing` if
        personal events are handled and no master key is here; `NotMigrated` and `WrongDatabase` for a log that is not
        as it has to be, or another application's.
        """
        self.check()
        self._check_keys()
        cursors = partial(self.declarations.cursors, self.log)
        worker = Worker(
            self.log,
            cursors,
            lease=lease,
            grace=grace,
            chores=chores(self.log, self.declarations),
            prepare=partial(make_missing, self.log, self.declarations),
        )
        if self._migration.on_first_use:
            self.migrate()
        async with at_work(worker):
            yield worker

    def run(
        self, *, lease: float = 5.0, grace: float = 30.0, started: Callable[[Worker], object] = lambda _: None
    ) -> None:
        """Run the worker until SIGTERM or SIGINT, then finish, checkpoint, release and return.

        `started` is called with it in its event loop, once it works: `Pulse.watch`, for example.
        """

        async def work() -> None:
            async with self.running(lease=lease, grace=grace) as worker:
                started(worker)
                logger.info("worker %s runs %d subscriptions", worker.id, len(self.subscriptions))
                await asyncio.Event().wait()

        until_told(work)

    # --- the schema

    def migrate(self) -> list[str]:
        """Make or upgrade the schema, register the declared subscriptions; return the migrations that were applied.

        Idempotent, and safe to call from several processes at once. Raises `WrongDatabase` if the log there belongs
        to another application, `RenamedSubscription` if a subscription seems to have been renamed, `BoundaryCrossed`
        and `ContractBroken` if the declarations are wrong, see `check`; then nothing is made or registered. It goes to
        no broker: that is `prepare_receivers`.
        """
        return self._migration.run()

    async def prepare_receivers(self) -> dict[str, list[str]]:
        """Make at the brokers what keeps messages for the declared receivers, as a step of a deployment.

        That is a queue with its bindings, a durable consumer, or a group. Without it a worker makes it when it starts
        for the first time, and what was published before may be lost to it. Return what was made, by receiver.
        Idempotent; receivers that are at work do not notice. Raises `NotPrepared` in the end, when all others are
        prepared, if a broker is away or refuses.
        """
        return await prepare(self.declarations.receivers)
