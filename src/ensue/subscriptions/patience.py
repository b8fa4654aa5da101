"""Loops of a worker: they outlive outages of the database, and end when they are told to."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from ensue.errors import DatabaseUnavailable

logger = logging.getLogger("ensue")

LONGEST_PAUSE = 5.0
"""Seconds between two tries at most while the database is away."""

T = TypeVar("T")


async def patiently(what: str, work: Callable[[], Awaitable[T]]) -> T:
    """Do something, again and again while the database cannot be reached; return what comes of it."""
    pause = 0.05
    while True:
        try:
            return await work()
        except DatabaseUnavailable as error:
            logger.warning("%s: %s; again in %.1f s", what, error, pause)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(LONGEST_PAUSE, pause * 2)


async def forever(what: str, work: Callable[[], Awaitable[None]]) -> None:
    """Do something for ever; what it raises ends that, unless it is an outage."""
    while True:
        await patiently(what, work)


def is_cancelled() -> bool:
    """Tell whether the current task is to end."""
    task = asyncio.current_task()  # in no frame that its own cancellation keeps alive: that would be a cycle
    return task is not None and task.cancelling() > 0


async def end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: in Python 3.11 `asyncio.wait_for`, which drivers use, may swallow one."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=1.0)
    await asyncio.gather(*tasks, return_exceptions=True)
