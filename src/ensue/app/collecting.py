"""The collector inside an application: a chore of its workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ensue.app.declaring import Declares
from ensue.errors import DeclarationError, EnsueError, Overtaken
from ensue.subscriptions import Carry, Chore, seconds

if TYPE_CHECKING:
    from ensue.lake import Collector
    from ensue.log import Log

logger = logging.getLogger("ensue")

_LONGEST_PAUSE = 60.0

F = TypeVar("F", bound=Callable[..., Any])


class Collecting(Declares):
    """What an `App` and a module declare about lakes."""

    def collect(
        self, lake: str | Path, *, every: float | timedelta | str = 10.0, everything: bool = False, types: bool = True
    ) -> None:
        """Let the workers collect the log into a lake, at this address: history first, then what comes, each `every`.

        Only what the service publishes, its integration events, unless `everything` is asked for, and with `types` a
        table for each type. However many workers do it, every event comes once. Raises `DeclarationError` for the
        address of another lake that is declared already, and `LakeError` for one that cannot be used.
        """
        from ensue.lake import Lake

        address = str(Lake(lake).address)
        if any(each.what == _what(address) for each in self.declarations.chores):
            raise DeclarationError(f"lake {address} is collected already: declare it once")
        pause = seconds(every)
        self.declarations.chores.append(_chore(self._log, address, pause, everything=everything, types=types))

    def fold(self, projection: str) -> Callable[[F], F]:
        """Say what row a projection has for a key, as a pure function: then workers of a cluster can build it.

        It is called with the row so far (a dict, None at first), the event, and how the log holds the event, and
        returns the row after it. It makes what the projection's function makes of the same events: one row for each
        key, in one table. Raises `DeclarationError` for a projection that is not declared yet, has several tables, or
        has a fold.
        """
        declared = self.declarations.projections.get(projection)
        if declared is None:
            raise DeclarationError(f"fold({projection!r}): declare the projection first, above it")
        if len(declared.tables) != 1:
            raise DeclarationError(
                f"fold({projection!r}): it has {len(declared.tables)} tables; a fold makes rows of one"
            )
        if projection in self.declarations.folds:
            raise DeclarationError(f"projection {projection!r} has a fold already")

        def declare(function: F) -> F:
            self.declarations.folds[projection] = function
            return function

        return declare


def _what(address: str) -> str:
    return f"collecting into {address}"


def _chore(log: Log, address: str, every: float, *, everything: bool, types: bool) -> Chore:
    async def work(_: Carry) -> None:
        from ensue.lake import Collector, Lake

        def begin() -> Collector:
            return Collector(log, Lake(address), everything=everything, types=types)

        failures, collector = 0, begin()
        while True:
            try:
                while await asyncio.to_thread(collector.step):
                    pass
                failures = 0
            except Overtaken:  # by another worker: the next look begins where that one has come to
                collector = begin()
            except Exception as error:  # noqa: BLE001 said, and tried again: the checkpoint is in the lake
                failures += 1
                what = str(error) if isinstance(error, EnsueError) else f"{type(error).__name__}: {error}"
                logger.warning("%s: %s", _what(address), what)
                collector = begin()
            await asyncio.sleep(min(_LONGEST_PAUSE, every * 2**failures) if failures else every)

    return Chore(_what(address), work)
