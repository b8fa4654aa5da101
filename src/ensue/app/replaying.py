"""Replay: projections are built anew beside the live ones, repaired key by key, compared and switched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec

from ensue.app.building import carried, carrier_of
from ensue.app.calling_again import asking, call_again
from ensue.app.declarations import Declarations
from ensue.errors import DeclarationError, ProjectionError, UnknownName
from ensue.handlers.carrying import Work
from ensue.handlers.projections import (
    Build,
    NotThere,
    Projection,
    Reach,
    Repair,
    TableDifference,
    all_builds,
    compare,
    copy,
    create_build,
    drop,
    keys_of,
    pick,
    reach,
    refuse_if_pruned,
    switch,
)
from ensue.log import Log, Steps
from ensue.subscriptions import Cursors, Subscription, Worker, register, seconds

Progress = Callable[[int, int], None]
"""Is told how much is done, and of how much."""

_LOOK_EVERY = 0.1
_json = msgspec.json.Encoder().encode


class BuildStanding(msgspec.Struct, frozen=True, kw_only=True):
    """A build, and how far it is."""

    build: Build
    reach: Reach | None
    head: int
    """The position up to which the log is complete."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What the live build holds, and what another one does."""

    live: Build
    new: Build
    live_reach: Reach | None
    new_reach: Reach | None
    tables: tuple[TableDifference, ...]

    @property
    def same(self) -> bool:
        """Whether both hold the same rows."""
        return all(each.same for each in self.tables)


class Replays:
    """What is done to read the log again: `app.replays`.

    Its methods are sync, but for those that say otherwise; they open connections of their own. Nothing but tables is
    written by replaying a projection: no mail goes out, nothing is published. What changes which tables readers see is
    written to the audit.
    """

    def __init__(self, log: Log, declarations: Declarations) -> None:
        self._log = log
        self._declarations = declarations

    def _read(self, steps: Steps[Any]) -> Any:
        with self._log.own.lend() as connection:
            return self._log.run(steps, connection)

    def _change(self, steps: Steps[Any]) -> Any:
        return self._read(self._log.transaction(steps))

    async def _change_async(self, steps: Steps[Any]) -> Any:
        """As `_change`, without holding up the event loop: who has the lock of SQLite's file may need it to go on."""
        return await self._log.own.run_async(self._log.transaction(steps))

    def _projection(self, name: str) -> Projection:
        found = self._declarations.projections.get(name)
        if found is None:
            known = ", ".join(self._declarations.projections) or "none"
            raise UnknownName(f"no projection {name!r} is declared here; there are: {known}")
        return found

    # --- looking

    def position_at(self, moment: datetime) -> int:
        """Return the first position of what was recorded at a moment or later."""
        found: int = self._read(self._log.position_at(moment))
        return found

    def builds(self, projection: str | None = None) -> list[BuildStanding]:
        """Return the builds of one projection, or of all, and how far each is."""

        def look() -> Steps[list[BuildStanding]]:
            head = yield from self._log.horizon()
            found: list[BuildStanding] = []
            for build in (yield from all_builds(self._log, projection)):
                found.append(BuildStanding(build=build, reach=(yield from reach(self._log, build)), head=head))  # noqa: PERF401 yields
            return found

        standings: list[BuildStanding] = self._read(look())
        return standings

    def compare(self, projection: str, number: int | None = None) -> Comparison:
        """Compare the tables of the live build with those of another: by its number, or the newest that is built.

        Both are seen as they are at one moment. While events come in, one may be a little ahead: the comparison says
        how far each is. Raises `UnknownName` and `ProjectionError`.
        """

        def look() -> Steps[Comparison]:
            yield from self._log.still()
            live, new = pick((yield from all_builds(self._log, projection)), projection, number)
            differences: list[TableDifference] = []
            for table in live.tables:
                if table in new.tables:
                    differences.append((yield from compare(self._log, live, new, table)))  # noqa: PERF401 yields
            return Comparison(
                live=live,
                new=new,
                live_reach=(yield from reach(self._log, live)),
                new_reach=(yield from reach(self._log, new)),
                tables=tuple(differences),
            )

        found: Comparison = self._change(look())
        return found

    # --- building

    def begin(
        self, projection: str, *, copied: bool = False, partitions: int | None = None, actor: str = "", reason: str = ""
    ) -> Build:
        """Make a build beside the live one, or find the one that was begun and not finished; it is not built yet.

        `copied`: it begins with what the live one holds, and where that is, instead of with nothing: for keys of it to
        be repaired, or for a change that leaves right what is there. Raises `UnknownName`; `DeclarationError` if tables
        cannot be made; `ProjectionError` if nothing is live yet, and for a copy that cannot be right: if tables,
        columns or events have no counterpart. A new one is written to the
        audit if there is an `actor`.
        """
        declared = self._projection(projection)

        def make() -> Work[Build]:
            there = yield all_builds(self._log, projection)
            live = next((each for each in there if each.state == "live"), None)
            if live is None:
                raise ProjectionError(f"projection {projection!r} has never been built: ensue migrate makes its tables")
            begun: list[Build] = [
                each for each in there if each.state == "building" and each.version == declared.version
            ]
            if begun:
                return begun[-1]
            build = yield from create_build(self._log, declared, by_hand=True, copied=copied)
            cursor = self._declarations.cursor(self._log, build, partitions=partitions)
            yield register(self._log, (yield self._only(cursor)))
            if copied:
                yield copy(self._log, live, build)
            else:
                yield self._begun(build)
            if actor:
                yield _audit(self._log, build.cursor, "replay into a shadow", actor, reason)
            return build

        return carried(carrier_of(self._log, declared), make)

    def _begun(self, build: Build) -> Steps[None]:
        """Put the cursor of a new build where its events begin."""
        yield from ()

    def _only(self, cursor: Subscription) -> Steps[Cursors]:
        """Return a cursor as all that this process works on; what else there is stays with others."""
        rows = yield self._log.dialect.sql["progress"]()
        return Cursors({cursor.name: cursor}, frozenset(row[0] for row in rows) - {cursor.name})

    async def build(self, build: Build, *, progress: Progress | None = None, lease: float = 5.0) -> Reach:
        """Apply events to a build until it is where the log was complete when this began; return how far it is.

        Keys that have failed and are tried again soon are waited for. It may be broken off and begun again at any time,
        and run in several processes at once: they share its
        partitions. Raises `ProjectionError` if the build is dropped meanwhile.
        """
        cursor = self._declarations.cursor(self._log, build)
        goal: int = await self._log.own.run_async(self._log.horizon())

        async def looked() -> bool:
            found = await self._log.own.run_async(reach(self._log, build))
            if found is None:
                raise ProjectionError(f"build {build.number} of projection {build.projection!r} has been dropped")
            if progress is not None:
                progress(min(found.slowest, goal), goal)
            return bool(found.slowest >= goal and not found.soon)

        await self._work(cursor, looked, lease)
        found: Reach | None = await self._log.own.run_async(reach(self._log, build))
        return found or Reach(0, 0, 0, 0)

    async def _work(self, cursor: Subscription, done: Callable[[], Any], lease: float) -> None:
        """Run a worker for one cursor until something is done."""

        def find(*, create: bool) -> Steps[Cursors]:  # noqa: ARG001 it is there
            return self._only(cursor)

        worker = Worker(self._log, find, lease=lease, grace=5.0)
        task = asyncio.ensure_future(worker.run())
        try:
            while not await done():
                await asyncio.wait([task], timeout=_LOOK_EVERY)
                if task.done():
                    task.result()
        finally:
            task.cancel()
            await asyncio.wait([task])

    # --- repairing

    def touched(self, projection: str, *, since: int, until: int | None = None, types: Sequence[str] = ()) -> list[str]:
        """Return the keys of which the projection got events behind a position, in their order."""
        wanted = self._declarations.cursor(self._log, self.mine(projection)).types
        if unknown := set(types).difference(wanted):
            raise UnknownName(f"projection {projection!r} gets no {', '.join(sorted(unknown))}")

        def look() -> Steps[list[str]]:
            end = yield from self._log.horizon()
            chosen = _json(sorted(types or wanted)).decode()
            return (yield from keys_of(self._log, chosen, since, end if until is None else min(until, end)))

        found: list[str] = self._read(look())
        return found

    def mine(self, projection: str) -> Build:
        """Return the build on which the code here works: the live one, or the newest, of its version.

        Raises `UnknownName`, and `ProjectionError` if there is none.
        """
        declared = self._projection(projection)
        found: list[Build] = self._read(all_builds(self._log, projection))
        fitting = sorted(
            (each for each in found if each.version == declared.version),
            key=lambda each: (each.state == "live", each.number),
        )
        if not fitting:
            raise ProjectionError(
                f"projection {projection!r} has no build of version {declared.version}: a worker or `ensue replay "
                f"{projection} --shadow` makes one"
            )
        return fitting[-1]

    async def repair(
        self,
        build: Build,
        keys: Sequence[str],
        *,
        actor: str = "",
        reason: str = "",
        progress: Progress | None = None,
    ) -> int:
        """Clear the rows of keys and apply all their events again, each key in a transaction; return how many events.

        While it goes on, others may apply events: they wait for each key. It may be broken off and begun again. Raises
        `DeclarationError` if the projection has no `clear`, `ProjectionError` if events of its types were pruned,
        and what its function raises, with the key it was about.
        """
        declared = self._projection(build.projection)
        if build.version != declared.version:
            raise DeclarationError(
                f"build {build.number} of projection {build.projection!r} is of version {build.version}, the code here "
                f"of version {declared.version}: repair one of this version, ensue replay {build.projection} --shadow"
            )
        await self._log.own.run_async(refuse_if_pruned(self._log, declared))
        repair = self._repair(declared, build)
        await self._audit(build.cursor, f"repair {len(keys)} keys", actor, reason)
        events = 0
        for number, key in enumerate(keys, 1):
            try:
                events += await repair.repair(key)
            except Exception as error:
                error.add_note(f"while key {key!r} was repaired; those before it are done")
                raise
            if progress is not None:
                progress(number, len(keys))
        return events

    def _repair(self, declared: Projection, build: Build) -> Repair:
        return Repair(self._log, declared, build, self._declarations.cursor(self._log, build).types)

    # --- switching

    def switch(
        self,
        projection: str,
        number: int | None = None,
        *,
        actor: str,
        reason: str,
        force: bool = False,
        timeout: float | timedelta | str = 30.0,
    ) -> Build:
        """Show readers the tables of a build, by its number or the newest that is built, at one moment.

        The build that was live is kept, and can be switched to again. Waits until the build has come as far as the live
        one; raises `ProjectionError` if it has not within so many seconds, or has keys set aside that the live one has
        not (with `force` both are let pass), `ProjectionInUse` if a view or a foreign key stands in the way.
        """
        deadline = time.monotonic() + seconds(timeout)
        while True:
            steps = switch(self._log, projection, number, actor=actor, reason=reason, force=force)
            try:
                was: Build = self._change(self._log.impatiently(steps))
            except NotThere:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return was

    async def follow_and_switch(
        self,
        build: Build,
        *,
        actor: str,
        reason: str,
        force: bool = False,
        timeout: float | timedelta | str = 60.0,  # noqa: ASYNC109 as of `switch`
    ) -> Build:
        """Keep a build up with the log, and switch to it as `switch` does: for builds that no worker works on."""
        switching = asyncio.ensure_future(
            asyncio.to_thread(
                self.switch,
                build.projection,
                build.number,
                actor=actor,
                reason=reason,
                force=force,
                timeout=timeout,
            )
        )

        async def switched() -> bool:
            return switching.done()

        await self._work(self._declarations.cursor(self._log, build), switched, 5.0)
        return await switching

    def drop(self, projection: str, number: int, *, actor: str, reason: str) -> None:
        """Remove a build that is not live, with its tables. Raises `ProjectionError` if there is none."""
        self._change(self._log.impatiently(drop(self._log, projection, number, actor=actor, reason=reason)))

    # --- reactions

    async def again(
        self,
        subscription: str,
        *,
        since: int,
        until: int | None = None,
        types: Collection[str] = (),
        keys: Collection[str] = (),
        actor: str,
        reason: str,
        progress: Progress | None = None,
    ) -> int:
        """Call a reaction, or publish by a relay, again for events behind a position: with all its effects.

        Each is called with the idempotency key that it had the first time. What fails is parked, as a dead letter of
        `<subscription>:again`; broken off and begun again with the same arguments, it goes on. Returns how many events
        were delivered by this process. Raises `UnknownName` if no such subscription is declared, and `DeclarationError`
        if one with other arguments is not done.
        """
        declared = self._declarations.current().get(subscription)
        if declared is None:
            known = ", ".join(self._declarations.subscriptions) or "none"
            raise UnknownName(f"no subscription {subscription!r} is declared here; there are: {known}")
        if unknown := set(types).difference(declared.types):
            raise UnknownName(f"{subscription!r} gets no {', '.join(sorted(unknown))}")
        return await call_again(
            self._log,
            declared,
            asking(since, until, types, keys),
            partial(self._work, lease=5.0),
            actor=actor,
            reason=reason,
            progress=progress,
        )

    async def _audit(self, name: str, action: str, actor: str, reason: str) -> None:
        await self._change_async(_audit(self._log, name, action, actor, reason))


def _audit(log: Log, name: str, action: str, actor: str, reason: str) -> Steps[None]:
    yield log.dialect.sql["insert_audit"](
        actor=actor, action=action, subscription=name, key=None, event_id=None, reason=reason, detail=None
    )
