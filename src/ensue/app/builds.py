"""Builds of projections: how far each is, how two compare, which one readers see."""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

import msgspec

from ensue.app.declarations import Declarations
from ensue.errors import ProjectionError, UnknownName
from ensue.handlers.projections import (
    Build,
    NotThere,
    Projection,
    Reach,
    TableDifference,
    all_builds,
    compare,
    drop,
    pick,
    reach,
    switch,
)
from ensue.log import Log, Steps
from ensue.subscriptions import seconds


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


class Builds:
    """The builds that there are.

    Its methods are sync and open connections of their own. What changes which tables readers see is written to the
    audit.
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

    def _types(self, projection: str, chosen: Collection[str] = ()) -> tuple[str, ...]:
        """Return the wire types under which a projection's events may be stored, or those of them that are chosen."""
        wanted = self._projection(projection).stored
        if unknown := set(chosen).difference(wanted):
            raise UnknownName(f"projection {projection!r} gets no {', '.join(sorted(unknown))}")
        return tuple(chosen) or wanted

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

    def drop(self, projection: str, number: int, *, actor: str, reason: str) -> None:
        """Remove a build that is not live, with its tables. Raises `ProjectionError` if there is none."""
        self._change(self._log.impatiently(drop(self._log, projection, number, actor=actor, reason=reason)))
