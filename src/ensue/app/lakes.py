"""Replay from a lake: all that a replay does, with the past of the log read from there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ensue.app.declaring import Declarations
from ensue.app.replaying import Progress, Replays
from ensue.events import stored_types
from ensue.handlers.projections import Build
from ensue.lake import Lake, LakeLog
from ensue.log import Log


class LakeReplays(Replays):
    """Replays that read from a lake up to where it has collected the log, and from the log from there on.

    A build that was begun from the log may be gone on with from the lake, and the other way round. Events that were
    pruned from the log are there again, those that were erased in the lake are not.
    """

    def __init__(self, log: Log, declarations: Declarations, lake: Lake) -> None:
        self.past = LakeLog(log, lake)
        """The log, with its past from the lake."""
        super().__init__(self.past, declarations)

    def begin(self, projection: str, *, copied: bool = False, partitions: int | None = None) -> Build:
        """As of `Replays`. Raises `LakeError` if the lake lacks events of which the projection is made."""
        self.past.confirm([name for each in self._projection(projection).types for name in stored_types(each)])
        return super().begin(projection, copied=copied, partitions=partitions)

    def touched(self, projection: str, *, since: int, until: int | None = None, types: Sequence[str] = ()) -> list[str]:
        """Return the keys of which the projection got events behind a position, in their order."""
        in_log = super().touched(projection, since=since, until=until, types=types)
        wanted = types or self._types(projection)
        return sorted(self.past.keys(wanted, since, until).union(in_log))

    async def repair(
        self,
        build: Build,
        keys: Sequence[str],
        *,
        actor: str = "",
        reason: str = "",
        progress: Progress | None = None,
    ) -> int:
        """As of `Replays`; the lake is read once for all keys. Raises `LakeError` if the lake lacks events."""
        types = self._types(build.projection)
        self.past.confirm(types)
        self.past.expect(keys, types)
        return await super().repair(build, sorted(keys), actor=actor, reason=reason, progress=progress)

    def position_at(self, moment: datetime) -> int:
        """Return the first position of what was recorded at a moment or later, pruned or not."""
        return self.past.position_of(moment)

    def _types(self, projection: str) -> tuple[str, ...]:
        return self._declarations.cursor(self._log, self.mine(projection)).types
