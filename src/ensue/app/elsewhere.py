"""Replay of what another service has published: its events come from a lake, into projections of this service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ensue.app.declarations import Declarations
from ensue.app.lakes import LakeReplays, claim
from ensue.app.replaying import Progress, Replays
from ensue.errors import ProjectionError
from ensue.events import Recorded, stored_types
from ensue.handlers.projections import Applying, Build, Projection, Reach, Repair
from ensue.lake import Lake, LakeLog
from ensue.log import Log, Selection, Steps
from ensue.subscriptions import Failure, NotApplied

_BEFORE = -(2**62)
"""Added to a position of the other log while a build is among its events: so they come before all of this log."""


class Elsewhere(LakeReplays):
    """Replays that read what another service has published, as far as a lake has it.

    A build gets all of that first, in the order of that service's log, and then goes on with this service's own log,
    which must have recorded no event of the projection's types. Each batch is applied in one transaction with the
    build's checkpoint. An event that cannot be applied breaks the build off; begun again, it goes on with that event.
    """

    def __init__(self, log: Log, declarations: Declarations, lake: Lake, source: str) -> None:
        super().__init__(log, declarations, lake, source)
        self._here = Replays(log, declarations)

    def begin(
        self, projection: str, *, copied: bool = False, partitions: int | None = None, actor: str = "", reason: str = ""
    ) -> Build:
        """As of `Replays`; it has one partition. Raises `LakeError` if this service's log has events of its types."""
        self.past.refuse_own([name for each in self._projection(projection).types for name in stored_types(each)])
        parts = partitions if copied else 1
        return Replays.begin(self, projection, copied=copied, partitions=parts, actor=actor, reason=reason)

    async def build(self, build: Build, *, progress: Progress | None = None, lease: float = 5.0) -> Reach:
        """Apply what the lake has, then what the log has; progress is told of the first.

        It may be broken off and begun again, and only one process can do it. Raises `ProjectionError` for an event
        that cannot be applied.
        """
        declared = self._projection(build.projection)
        applying, size = Applying(self._log, declared, build), declared.batch
        types = self._types(build.projection)
        while (before := await self._checkpoint(build)) < 0:
            selection = Selection(after=before - _BEFORE, until=self.past.covered, types=types)
            rows = await self.past.own.run_async(self.past.read(selection, size))
            last = rows[-1].position if len(rows) == size else None
            await self._apply(applying, build, rows, before, last)
            if progress is not None:
                progress(self.past.covered if last is None else last, self.past.covered)
        return await self._here.build(build, lease=lease)

    def touched(self, projection: str, *, since: int, until: int | None = None, types: Sequence[str] = ()) -> list[str]:
        """Return the keys of which the lake has events of the projection behind a position, in their order."""
        return sorted(self.past.keys(types or self._types(projection), since, until))

    async def repair(
        self,
        build: Build,
        keys: Sequence[str],
        *,
        actor: str = "",
        reason: str = "",
        progress: Progress | None = None,
    ) -> int:
        """As of `Replays`: all that the lake has of these keys is applied again."""
        types = self._types(build.projection)
        self.past.refuse_own(types)
        self.past.expect(keys, types)
        return await Replays.repair(self, build, sorted(keys), actor=actor, reason=reason, progress=progress)

    def _repair(self, declared: Projection, build: Build) -> Repair:
        return _Repair(self.past, declared, build, self._types(build.projection))

    def _begun(self, build: Build) -> Steps[None]:
        yield from claim(self._log, build, 0, _BEFORE)

    def _span(self) -> tuple[int, int]:
        return _BEFORE, 0

    async def _checkpoint(self, build: Build) -> int:
        sql = self._log.dialect.sql["partition_at"]
        rows = await self._log.own.run_async(_one(sql(subscription=build.cursor, first_slot=0)))
        if not rows:
            raise ProjectionError(f"build {build.number} of projection {build.projection!r} has been dropped")
        return int(rows[0][1])

    async def _apply(
        self, applying: Applying, build: Build, rows: Sequence[Recorded[Any]], before: int, last: int | None
    ) -> None:
        """Apply events, and move the checkpoint behind the last one, or, if there are no more, into this log."""

        def moved() -> Steps[None]:
            yield from claim(self._log, build, before, 0 if last is None else last + _BEFORE)

        for careful in (False, True):  # the second time, to know which of them it is
            try:
                await applying.apply(rows, moved, careful=careful)
            except NotApplied as failed:
                if careful:
                    raise self._failed(build, rows[failed.index or 0], failed) from failed.__cause__
            else:
                return

    def _failed(self, build: Build, event: Recorded[Any], failed: NotApplied) -> ProjectionError:
        outcome = failed.outcome
        why = outcome.reason if isinstance(outcome, Failure) else f"the function returned {outcome!r}"
        return ProjectionError(
            f"build {build.number} of projection {build.projection!r}: event {event.id} at position {event.position} "
            f"of {self.past.source} could not be applied: {why}. What came before is; mend the cause, and begin again"
        )


class _Repair(Repair):
    """Repairs keys from all that the lake has: their events come from nowhere else."""

    def __init__(self, past: LakeLog, declared: Projection, build: Build, types: tuple[str, ...]) -> None:
        super().__init__(past, declared, build, types)
        self._covered = past.covered

    def _stop(self, key: str) -> Steps[tuple[str, int]]:
        state, _ = yield from super()._stop(key)
        return state, self._covered


def _one(steps: Any) -> Steps[Any]:
    return (yield steps)
