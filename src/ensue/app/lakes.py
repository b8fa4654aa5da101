"""Replay from a lake: all that a replay does, with the past of the log read from there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ensue.app.declarations import Declarations
from ensue.app.replaying import Progress, Replays
from ensue.errors import DeclarationError, ProjectionError
from ensue.handlers.projections import Build, Reach, reach, tables_of
from ensue.lake import Fold, Folded, LakeLog, Part, engine, modules_of, parts_of, write_rows
from ensue.log import Log, Postgres, Steps, Transaction

_PARTS = 4
"""Into how many parts the keys are cut at least: a worker that is done early helps with what is left."""


class LakeReplays(Replays):
    """Replays that read from a lake up to where it has collected the log, and from the log from there on.

    A build that was begun from the log may be gone on with from the lake, and the other way round. Events that were
    pruned from the log are there again, those that were erased in the lake are not.
    """

    def __init__(self, past: LakeLog, declarations: Declarations) -> None:
        super().__init__(past, declarations)
        self.past = past
        """The log, with its past from the lake."""

    def begin(
        self, projection: str, *, copied: bool = False, partitions: int | None = None, actor: str = "", reason: str = ""
    ) -> Build:
        """As of `Replays`. Raises `LakeError` if the lake lacks events of which the projection is made."""
        self._confirm(projection)
        return super().begin(projection, copied=copied, partitions=partitions, actor=actor, reason=reason)

    def touched(self, projection: str, *, since: int, until: int | None = None, types: Sequence[str] = ()) -> list[str]:
        """Return the keys of which the projection got events behind a position, in their order."""
        in_log = super().touched(projection, since=since, until=until, types=types)
        return sorted(self.past.keys(self._types(projection, types), since, until).union(in_log))

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
        self._confirm(build.projection)
        self.past.expect(keys, self._types(build.projection))
        return await super().repair(build, sorted(keys), actor=actor, reason=reason, progress=progress)

    def outstanding(self, projection: str) -> list[str]:
        """Return the keys of which a build leaves events to the log that the lake has, too: there are none."""
        return []

    def spread(self, build: Build, engine_at: str, *, progress: Progress | None = None) -> int:
        """Build what the lake covers on a cluster, and write it in one transaction; return how many events were read.

        The rows of all keys pass through this process's memory. `engine_at` is the URL of a Dask scheduler, or how many
        processes of this machine. The projection needs a fold, see `App.fold`. What comes behind it `build` applies.
        Broken off, it has written nothing. Raises `DeclarationError` without a fold, `ProjectionError` for a build that
        has been begun otherwise.
        """
        fold = self._declarations.folds.get(build.projection)
        if fold is None:
            raise DeclarationError(
                f"projection {build.projection!r} does not say what row it has for a key: give it a pure function, "
                f"under @app.fold({build.projection!r})"
            )
        whole = self._whole(build, fold)
        parts = parts_of(whole, max(_PARTS, 2 * int(engine_at)) if engine_at.isdecimal() else _PARTS * 4)
        found: list[Folded] = []
        with engine(engine_at) as folding:
            for each in folding(parts):
                found.append(each)
                if progress is not None:
                    progress(len(found), len(parts))
        with Transaction(self._log) as via:  # short: others record meanwhile
            self._log.run(claim(self._log, build, *self._span()), via)
            table = tables_of(self._log).name(build, build.tables[0], live=False)
            for each in found:
                write_rows(via, table, each.columns, each.rows, copies=isinstance(self._log.dialect, Postgres))
        return sum(each.events for each in found)

    def _whole(self, build: Build, fold: Fold) -> Part:
        """Return all that is to be folded."""
        declared = self._projection(build.projection)
        return Part(
            lake=str(self.past.lake.address),
            source=self.past.source,
            until=self.past.covered,
            stored=declared.stored,
            classes=declared.types,
            modules=modules_of(declared.types, fold),
            fold=fold,
        )

    def untouched(self, build: Build) -> bool:
        """Tell whether nothing has been applied to a build yet."""
        found: Reach | None = self._read(reach(self._log, build))
        return found is not None and found.fastest <= self._span()[0]

    def _span(self) -> tuple[int, int]:
        """Return where the cursor of a new build is, and where it is when all has been applied that the lake has."""
        return 0, self.past.covered

    def position_at(self, moment: datetime) -> int:
        """Return the first position of what was recorded at a moment or later, pruned or not."""
        return self.past.position_of(moment)

    def _confirm(self, projection: str) -> None:
        """Raise `LakeError` unless the lake and the log together have all of which a projection is made."""
        self.past.confirm(self._types(projection))


def claim(log: Log, build: Build, before: int, after: int) -> Steps[None]:
    """Move an untouched build's checkpoint to where the lake ends, in the transaction that writes its rows."""
    sql = log.dialect.sql
    if build.state != "building":
        raise ProjectionError(f"build {build.number} of projection {build.projection!r} is {build.state}: begin one")
    rows = yield sql["partition_at"](subscription=build.cursor, first_slot=0)
    (epoch, checkpoint) = rows[0] if rows else (0, -1)
    moved = yield sql["advance"](subscription=build.cursor, first_slot=0, epoch=epoch, before=before, after=after)
    if not moved:
        raise ProjectionError(
            f"build {build.number} of projection {build.projection!r} has come to position {checkpoint} otherwise: "
            f"drop it, ensue projection drop {build.projection} {build.number}, and begin again"
        )
