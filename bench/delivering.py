"""A worker that empties a backlog into an empty handler."""

from __future__ import annotations

import asyncio
import time

from bench.events import SignedUp
from ensue import App

PATIENCE = 600.0
"""Seconds after which something is broken."""


async def deliver(app: App, count: int, *, name: str, start: int) -> float:
    """Return events per second, from the start of a worker until a new subscription has been given `count`."""
    handled = 0
    done = asyncio.Event()

    @app.on(SignedUp, name=name, start=start)
    async def handle(_: SignedUp) -> None:
        nonlocal handled
        handled += 1
        if handled == count:
            done.set()

    begin = time.perf_counter()
    async with app.running(), asyncio.timeout(PATIENCE):
        await done.wait()
        taken = time.perf_counter() - begin
    app.operations.retire(name, actor="bench", reason="the next run uses a new one")
    return count / taken
