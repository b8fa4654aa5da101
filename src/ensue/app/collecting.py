"""The collector inside an application: a chore of its workers."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ensue.app.declaring import Declares
from ensue.errors import DeclarationError, EnsueError, Overtaken
from ensue.subscriptions import Carry, Chore, seconds

if TYPE_CHECKING:
    from ensue.lake import Collector
    from ensue.log import Log

logger = logging.getLogger("ensue")

_LONGEST_PAUSE = 60.0


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
