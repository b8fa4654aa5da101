"""Replay of what another service has published: its events come from a lake, into projections of this service."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ensue.app.declarations import Declarations
from ensue.app.lakes import LakeReplays, claim
from ensue.app.replaying import Progress, Replays
from ensue.brokers.inbox import Inbox
from ensue.errors import LakeError, ProjectionError
from ensue.events import Recorded
from ensue.handlers.carrying import Work
from ensue.handlers.projections import Applying, Build, Projection, Reach, Repair
from ensue.lake import Fold, Overlap, Part, Published
from ensue.log import Log, Selection, Steps
from ensue.subscriptions import Failure, NotApplied

_BEFORE = -(2**62)
"""Added to a position of the other log while a build is among its events: so they come before all of this log."""


class Elsewhere(LakeReplays):
    """Replays that read what another service has published, as far as a lake has it.

    A build gets that first, in the order of that service's log, and then goes on with this service's own log, from its
    beginning. What an inbox has recorded there the lake does not give: for each key and type it gives what comes before
    the first one that this log has received, see `Overlap`. Each batch is applied in one transaction with the build's
    checkpoint. An event that cannot be applied breaks the build off; begun again, it goes on with that event.
    """

    def __init__(self, past: Published, log: Log, declarations: Declarations) -> None:
        super().__init__(past, declarations)
        self._theirs = past
        self._own = log
        self._here = Replays(log, declarations)
        self._overlaps: dict[str, Overlap] = {}

    def begin(
        self, projection: str, *, copied: bool = False, partitions: int | None = None, actor: str = "", reason: str = ""
    ) -> Build:
        """As of `Replays`; it has one partition.

        Raises `LakeError` if what the lake and this log have may leave something out, or count it twice, and
        `ProjectionError` for a build that workers have begun, from this log alone.
        """
        parts = partitions if copied else 1
        build = super().begin(projection, copied=copied, partitions=parts, actor=actor, reason=reason)
        if not build.by_hand and not copied:
            raise ProjectionError(
                f"build {build.number} of projection {projection!r} was begun by workers, from this service's log "
                f"alone: stop those of version {build.version}, drop it, ensue projection drop {projection} "
                f"{build.number}, and begin again before you start them"
            )
        return build

    async def build(self, build: Build, *, progress: Progress | None = None, lease: float = 5.0) -> Reach:
        """Apply what the lake gives, then what the log has; progress is told of the first.

        It may be broken off and begun again, and only one process can do it. Raises `ProjectionError` for an event
        that cannot be applied.
        """
        declared = self._projection(build.projection)
        applying, size = Applying(self._log, declared, build), declared.batch
        while (before := (await self._reach(build)).slowest) < 0:
            overlap = await asyncio.to_thread(self._overlap, build.projection)
            selection = Selection(after=before - _BEFORE, until=self.past.covered, types=declared.stored)
            rows = await self.past.own.run_async(self.past.read(selection, size))
            last = rows[-1].position if len(rows) == size else None
            await self._apply(applying, build, [each for each in rows if overlap.gives(each)], before, last)
            if progress is not None:
                progress(self.past.covered if last is None else last, self.past.covered)
        return await self._here.build(build, lease=lease)

    def outstanding(self, projection: str) -> list[str]:
        """Return the keys of which the lake has events that the log has not received, although it has later ones.

        They are on their way, were discarded, or were never received. A build leaves them to the log; `repair` takes
        them from the lake.
        """
        self._overlaps.pop(projection, None)  # more may have come
        return sorted(self._overlap(projection).outstanding)

    def touched(self, projection: str, *, since: int, until: int | None = None, types: Sequence[str] = ()) -> list[str]:
        """Return the keys of which the lake or the log has events of that service behind a position of its log.

        Without those that are outstanding.
        """
        overlap, wanted = self._overlap(projection), self._types(projection, types)
        newer = overlap.newer if until is None or until > self.past.covered else ()
        return sorted((self.past.keys(wanted, since, until) - overlap.outstanding).union(newer))

    def _confirm(self, projection: str) -> None:
        overlap, here, there = self._overlap(projection), self.past.place.app, self.past.lake.address
        types = ", ".join(self._types(projection))
        if not overlap.received and (inboxes := self._inboxes(projection)):
            raise LakeError(
                f"inbox {inboxes[0].name!r} records {types}, and the log of {here} has received none of "
                f"{self.past.source}: what is on its way to it {there} may have, too, and would count twice. Begin "
                "again when it has received one; if nothing comes from there any more, without the inbox declared"
            )
        if overlap.received and not overlap.starts:
            raise LakeError(
                f"{there} has none of the {overlap.received} events of {types} that the log of {here} has received of "
                f"{self.past.source}: what was published in between neither may have. Collect into the lake what that "
                "service has published since, and begin again"
            )
        gone = sum(each.events for each in self._theirs.pruned_here(self._types(projection)))
        if gone and overlap.others:
            raise LakeError(
                f"{gone} events of {types} have been pruned from the log of {here}, and of those that it still has "
                f"{overlap.others} are not of {self.past.source}: what is gone may not be in {there}. A projection of "
                "that service's events alone, or a log that has not been pruned, can be built"
            )

    def _inboxes(self, projection: str) -> list[Inbox]:
        """Return the inboxes that record events of a projection."""
        recording, types = self._declarations.names_of("inbox"), set(self._types(projection))
        receivers = [each for each in self._declarations.receivers if each.subscription.name in recording]
        return [each.inbox for each in receivers if types & each.source.wanted]

    def _overlap(self, projection: str) -> Overlap:
        if projection not in self._overlaps:
            kept = [each.type for each in self._inboxes(projection)]
            self._overlaps[projection] = self._theirs.overlap(self._types(projection), kept)
        return self._overlaps[projection]

    def _whole(self, build: Build, fold: Fold) -> Part:
        return replace(super()._whole(build, fold), overlap=self._overlap(build.projection))

    def _repair(self, declared: Projection, build: Build) -> Repair:
        return _Repair(self._theirs, self._own, self._overlap(build.projection), declared, build)

    def _begun(self, build: Build) -> Steps[None]:
        yield from claim(self._log, build, 0, _BEFORE)

    def _span(self) -> tuple[int, int]:
        return _BEFORE, 0

    async def _apply(
        self, applying: Applying, build: Build, rows: Sequence[Recorded[Any]], before: int, last: int | None
    ) -> None:
        """Apply events, and move the checkpoint behind a position, or, if there are no more, into this log."""

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
    """Repairs keys from what the lake gives, and from what the log has itself."""

    def __init__(self, past: Published, log: Log, overlap: Overlap, declared: Projection, build: Build) -> None:
        super().__init__(past, declared, build, declared.stored)
        self._past = past
        self._own = log
        self._given = partial(overlap.gives, outstanding=True)

    def _apply(self, key: str, upto: int) -> Work[int]:
        covered = self._past.covered if upto >= 0 else upto - _BEFORE  # it is among the lake's events yet
        given = yield from self._apply_all(self._past, key, covered, self._given)
        return given + (yield from self._apply_all(self._own, key, upto))
