"""Replay: projections are built anew beside the live ones, repaired key by key, compared and switched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec

from ensue.app.building import carried, carrier_of
from ensue.app.builds import Builds
from ensue.app.calling_again import asking, call_again
from ensue.errors import DeclarationError, ProjectionError, UnknownName
from ensue.handlers.carrying import Work
from ensue.handlers.projections import (
    Build,
    Projection,
    Reach,
    Repair,
    all_builds,
    copy,
    create_build,
    keys_of,
    reach,
    refuse_if_pruned,
)
from ensue.log import Log, Steps
from ensue.subscriptions import Cursors, Subscription, Worker, register

Progress = Callable[[int, int], None]
"""Is told how much is done, and of how much."""

_LOOK_EVERY = 0.1
_json = msgspec.json.Encoder().encode


class Replays(Builds):
    """What is done to read the log again: `app.replays`.

    Its methods are sync, but for those that say otherwise; they open connections of their own. Nothing but tables is
    written by replaying a projection: no mail goes out, nothing is published. What changes which tables readers see is
    written to the audit.
    """

    # --- building

    def begin(
        self, projection: str, *, copied: bool = False, partitions: int | None = None, actor: str = "", reason: str = ""
    ) -> Build:
        """Make a build beside the live one, or find the one that was begun and not finished; it is not built yet.

        `copied`: it begins with what the live one holds, and where that is, instead of with nothing: for keys of it to
        be repaired, or for a change that leaves right what is there. Raises `UnknownName`; `DeclarationError` if tables
        cannot be made; `ProjectionError` if nothing is live yet, and for a copy that cannot be right: if tables,
        columns or events have no counterpart. A new one is written to the audit if there is an `actor`.
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
        and run in several processes at once: they share its partitions. Raises `ProjectionError` if the build is
        dropped meanwhile, or has begun with events of another service and is not through with them.
        """
        cursor = await self._cursor(build)
        goal: int = await self._log.own.run_async(self._log.horizon())

        async def looked() -> bool:
            found = await self._reach(build)
            if progress is not None:
                progress(min(found.slowest, goal), goal)
            return bool(found.slowest >= goal and not found.soon)

        await self._work(cursor, looked, lease)
        return await self._reach(build)

    async def _cursor(self, build: Build) -> Subscription:
        """Return the cursor of a build that goes on with this log."""
        if (await self._reach(build)).slowest < 0:
            raise ProjectionError(
                f"build {build.number} of projection {build.projection!r} is among the events of another service, from "
                "a lake: go on with the same --from-lake and --source"
            )
        return self._declarations.cursor(self._log, build)

    async def _reach(self, build: Build) -> Reach:
        found: Reach | None = await self._log.own.run_async(reach(self._log, build))
        if found is None:
            raise ProjectionError(f"build {build.number} of projection {build.projection!r} has been dropped")
        return found

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
        chosen = _json(sorted(self._types(projection, types))).decode()

        def look() -> Steps[list[str]]:
            end = yield from self._log.horizon()
            return (yield from keys_of(self._log, chosen, since, end if until is None else min(until, end)))

        found: list[str] = self._read(look())
        return found

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
        return Repair(self._log, declared, build, self._types(build.projection))

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
        cursor = await self._cursor(build)
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

        await self._work(cursor, switched, 5.0)
        return await switching

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
