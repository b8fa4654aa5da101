"""A worker beside other work in an event loop, and until the process is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from ensue.subscriptions import Worker


@asynccontextmanager
async def at_work(worker: Worker) -> AsyncGenerator[None]:
    """Let a worker work as long as the block lasts; what stops it before is raised in the block's task."""
    ready = asyncio.Event()
    owner = asyncio.current_task()
    task = asyncio.ensure_future(worker.run(ready.set))

    def tell(done: asyncio.Task[None]) -> None:
        if not done.cancelled() and done.exception() is not None and owner is not None and not leaving:
            owner.cancel("the ensue worker has failed")

    leaving = False
    task.add_done_callback(tell)
    waiting = asyncio.ensure_future(ready.wait())
    try:
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            leaving = True
            task.result()
        yield
    except asyncio.CancelledError:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            if owner is not None:
                owner.uncancel()
            raise error from None
        raise
    finally:
        leaving = True
        waiting.cancel()
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()


def in_loop() -> bool:
    """Tell whether an event loop runs here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def until_told(work: Callable[[], Awaitable[None]]) -> None:
    """Run something in an event loop of its own until SIGTERM or SIGINT, which cancel it."""
    if in_loop():
        raise RuntimeError("app.run() has an event loop of its own, and one runs here: async with app.running(): …")
    told = False

    async def watched() -> None:
        loop, me = asyncio.get_running_loop(), asyncio.current_task()

        def stop() -> None:
            nonlocal told
            if not told and me is not None:  # also while it still waits for the database
                told = True
                me.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        await work()

    try:
        asyncio.run(watched())
    except asyncio.CancelledError:
        if not told:
            raise
