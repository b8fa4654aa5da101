"""Repairing some keys of a build: the rows of each are cleared and its events applied again, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any

from ensue.errors import DeclarationError, ProjectionError
from ensue.events import Recorded
from ensue.handlers.carrying import Carrier, Do, Work
from ensue.handlers.projections.builds import Build
from ensue.handlers.projections.projection import Projection
from ensue.handlers.projections.quiet import quiet
from ensue.handlers.projections.tables import tables_of
from ensue.log import Log, Selection, Steps
from ensue.subscriptions import GOES_ON, slot_of

_BATCH = 500


class Repair:
    """Repairs keys of one build, while others are applied."""

    def __init__(self, log: Log, projection: Projection, build: Build, types: tuple[str, ...]) -> None:
        if projection.clear is None:
            raise DeclarationError(
                f"projection {projection.name!r} does not say how the rows of a key are removed: give it clear=…, a "
                "function of the key and the connection; or build all of it anew with --shadow alone"
            )
        self._log = log
        self._projection = projection
        self._build = build
        self._types = types
        self._tables = tables_of(log)
        self._carrier = Carrier(
            log,
            projection.name,
            asynchronous=projection.function.is_async,
            transaction=projection.transaction,
            timeout=projection.timeout,
        )

    async def repair(self, key: str) -> int:
        """Clear the rows of a key and apply its events again; return how many there were.

        Up to where the build has come with it: what is behind that comes by itself.
        """
        return await self._carrier.carry(lambda: self._work(key))

    def _work(self, key: str) -> Work[int]:
        projection, build = self._projection, self._build
        state, upto = yield self._stop(key)
        if state != "live":
            yield self._tables.enter(build)
        yield self._do(partial(projection.clear or _nothing, key))
        count = yield from self._apply(key, upto)
        if state != "live":
            yield self._tables.leave(build)
        return count

    def _apply(self, key: str, upto: int) -> Work[int]:
        """Apply the events of a key, up to where the build stands; return how many there were."""
        return (yield from self._apply_all(self._log, key, upto))

    def _apply_all(
        self, log: Log, key: str, upto: int, wanted: Callable[[Recorded[Any]], bool] | None = None
    ) -> Work[int]:
        """Apply the events of a key that a log has up to a position, those that are wanted; all without `wanted`."""
        projection = self._projection
        position, count = 0, 0
        while position < upto:
            rows = yield log.read(Selection(after=position, until=upto, types=self._types, key=key), _BATCH)
            for row in rows if wanted is None else filter(wanted, rows):
                for event in row.events:
                    if isinstance(event, projection.types):
                        yield self._do(partial(projection.call, (event, row)))
                count += 1
            position = rows[-1].position if len(rows) == _BATCH else upto
        return count

    def _do(self, call: Any) -> Do:
        return Do(call, partial(quiet, self._projection.name), self._projection.name)

    def _stop(self, key: str) -> Generator[Any, Any, tuple[str, int]]:
        """Keep everybody else from applying until the transaction ends; return where the build stands, and how far."""
        yield from self._log.begin()
        sql, build = self._log.dialect.sql, self._build
        yield sql["switch_projection"](projection=build.projection)
        rows = yield sql["build_state"](projection=build.projection, number=build.number)
        if not rows:
            raise ProjectionError(f"build {build.number} of projection {build.projection!r} is no more")
        found = yield sql["slot_at"](subscription=build.cursor, key=key, slot=slot_of(key))
        reached, failed, step, reason, _ = found[0] if found else (0, None, None, None, None)
        if failed is not None:
            handled = step == "skip" and reason == GOES_ON  # those behind it are next
            reached = min(reached, failed if handled else failed - 1)
        return rows[0][0], reached


def _nothing(key: str, via: object) -> None: ...


def keys_of(log: Log, types: str, after: int, until: int) -> Steps[list[str]]:
    """Return the keys of which there are events of these types (a JSON array) between two positions."""
    return [key for (key,) in (yield log.dialect.sql["keys_of"](types=types, after=after, until=until))]
