"""Writing down how far the runners of a worker are, and what they have parked."""

from __future__ import annotations

import logging

from ensue.errors import DatabaseUnavailable
from ensue.log import Log
from ensue.subscriptions.crew import Crew
from ensue.subscriptions.parking import Checkpoint, Parked, Unparked, save
from ensue.subscriptions.stations import Station
from ensue.subscriptions.working import Works

logger = logging.getLogger("ensue")


class Saver:
    """Saves for all runners together, over one connection; when that was lost, they read again from what was saved."""

    def __init__(self, log: Log, crew: Crew, station: Station) -> None:
        self._log = log
        self._crew = crew
        self._station = station
        self._generation = 0
        """Of the connection for which is collected what is saved."""

    async def save(self) -> None:
        """Write what has changed; if the database refuses that, once more with less about what failed."""
        try:
            await self._write()
        except DatabaseUnavailable:
            raise
        except Exception as error:
            if not [runner for runner in self._crew.runners.values() if runner.say_less(error)]:
                raise
            logger.exception("what failed could not be saved as it is, and is saved without its reasons")
            await self._write()

    async def _reconnect(self) -> None:
        await self._station.connect()
        if self._generation not in (0, self._station.generation):
            self._crew.rewind()
        self._generation = self._station.generation

    async def _write(self) -> None:
        """Write the checkpoints of all runners, and what they have parked, together.

        Over the connection for which they were collected: over a new one only after reading again.
        """
        await self._reconnect()
        crew, taken = self._crew, dict[Works, tuple[Checkpoint, dict[str, Parked | Unparked]]]()
        for runner in crew.runners.values():
            checkpoint, parks = runner.collect()
            if checkpoint is not None:
                taken[runner] = checkpoint, parks
        if not taken:
            return
        changes = [each for _, parks in taken.values() for each in parks.values()]
        parked = [each for each in changes if isinstance(each, Parked)]
        unparked = [each for each in changes if isinstance(each, Unparked)]
        checkpoints = [checkpoint for checkpoint, _ in taken.values()]
        try:
            ours = await self._station.do(save(self._log, parked, unparked, checkpoints), self._generation)
        except BaseException:
            for runner, (_, parks) in taken.items():
                runner.keep(parks)
            raise
        for runner, (checkpoint, _) in taken.items():
            if runner.lease.place in ours:
                runner.saved(checkpoint.checkpoint)
            elif crew.runners.get(runner.lease) is runner:
                crew.lose(runner.lease)
        for delay in {round(each.delay, 2) for each in parked if each.delay is not None}:
            crew.due_in(delay)
