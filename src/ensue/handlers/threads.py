"""Threads for sync handlers: as many as are busy at once, and one that hangs takes no other's place."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any

_IDLE_SECONDS = 10.0

_Job = Callable[[], None]
_jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
_lock = threading.Lock()
_idle = 0


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a thread, with the current context; return or raise what it does.

    If the caller is cancelled the thread goes on to its end: Python cannot stop it. The threads are daemons, so that
    one that hangs does not keep the process from stopping.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_result((result, error))

    def job() -> None:
        result, problem = None, None
        try:
            result = context.run(function, *arguments)
        except BaseException as error:  # noqa: BLE001 handed to the caller
            problem = RuntimeError("the handler raised StopIteration") if isinstance(error, StopIteration) else error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, problem)

    _submit(job)
    result, error = await future
    if error is not None:  # not by the future: a GeneratorExit from there would close the callers, whatever they catch
        raise error
    return result


def _submit(job: _Job) -> None:
    global _idle
    with _lock:
        waiting = _idle > 0
        if waiting:
            _idle -= 1
    _jobs.put(job)
    if not waiting:
        threading.Thread(target=_work, name="ensue-handler", daemon=True).start()


def _work() -> None:
    global _idle
    while True:
        try:
            job = _jobs.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            with _lock:
                if _idle > 0:  # nobody counts on this thread
                    _idle -= 1
                    return
            continue  # a job is on its way
        job()
        with _lock:
            _idle += 1
