"""Waiting for something to become true, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE = 20.0
"""Seconds after which what should have happened counts as not happening; a slow machine needs some."""

BOUND = 3 * PATIENCE
"""Seconds after which a condition counts as never to hold, where nothing depends on how soon it does."""


async def until(condition: Callable[[], object], what: str = "", *, seconds: float = BOUND) -> float:
    """Wait until the condition holds; return after how many seconds it did.

    While it is looked at, the event loop stands still: for as long it then runs, or what is waited for would starve
    where one look takes long.
    """
    began = looked = time.monotonic()
    while not condition():
        if time.monotonic() > began + seconds:
            raise AssertionError(f"not within {seconds:g} s: {what or condition}")
        await asyncio.sleep(max(0.002, time.monotonic() - looked))
        looked = time.monotonic()
    return time.monotonic() - began


def until_sync(condition: Callable[[], object], what: str = "", *, seconds: float = BOUND) -> float:
    """As `until`, where there is no event loop: others get the processor for as long as one look takes."""
    began = looked = time.monotonic()
    while not condition():
        if time.monotonic() > began + seconds:
            raise AssertionError(f"not within {seconds:g} s: {what or condition}")
        time.sleep(max(0.002, time.monotonic() - looked))
        looked = time.monotonic()
    return time.monotonic() - began
