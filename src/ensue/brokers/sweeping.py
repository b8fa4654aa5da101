"""Sweeping: what a worker does for receivers to which messages are sent, since it fetches none."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from ensue.brokers.inbox import Inbox, forget_all
from ensue.brokers.receiving import FORGET_EVERY, WELL
from ensue.log import Log
from ensue.subscriptions import Condition

logger = logging.getLogger("ensue")


class Sweeping:
    """Works beside a receiver to which messages are sent: forgets what was taken in long ago."""

    condition: Condition | None = WELL
    """There is nothing that it waits for."""

    def __init__(self, inbox: Inbox, log: Log, keep: float) -> None:
        self._inbox = inbox
        self._log = log
        self._keep = keep
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def work(self) -> None:
        """Look once in a while, until it is stopped."""
        self._task = asyncio.current_task()
        while not await self._told_to_stop():
            try:
                await forget_all(self._log, self._inbox.name, self._keep, self._stopping.is_set)
            except Exception as error:  # noqa: BLE001 the database is away: there is a next time
                logger.warning("%s: forgetting what was taken in long ago: %s", self._inbox.name, error)

    async def _told_to_stop(self) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(FORGET_EVERY):
                await self._stopping.wait()
        return self._stopping.is_set()

    def pause(self, paused: bool) -> None:
        """Do nothing: what is sent meanwhile is kept, and handled later."""

    async def stop(self, grace: float) -> None:
        """Let go."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=grace)
