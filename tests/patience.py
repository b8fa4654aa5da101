"""Waiting for something to become true, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE = 20.0
"""Seconds after which what should have happened counts as not happening; a slow machine needs some."""


async def until(
    condition: Callable[[], object], what: str = "", *, seconds: float = PATIENCE, every: float = 0.002
) -> float:
    """Wait until the condition holds, which is asked for every so many seconds; return after how many it did."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() > began + seconds:
            raise AssertionError(f"not within {seconds:g} s: {what or condition}")
        await asyncio.sleep(every)
    return time.monotonic() - began


def until_sync(condition: Callable[[], object], what: str = "", *, seconds: float = PATIENCE) -> float:
    """As `until`, where there is no event loop."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() > began + seconds:
            raise AssertionError(f"not within {seconds:g} s: {what or condition}")
        time.sleep(0.002)
    return time.monotonic() - began
