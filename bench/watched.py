"""A process of the application that is watched: its worker, or its console; the task comes in as JSON.

A worker says what it has sent to the database whenever it gets a line.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Literal

import msgspec

from bench.events import SignedUp
from ensue import App

SUBSCRIPTIONS = 5


class Task(msgspec.Struct, frozen=True):
    """What to be."""

    url: str
    schema: str
    role: Literal["worker", "console"]


class Sent(msgspec.Struct, frozen=True):
    """What a worker has sent."""

    statements: int


def declare(task: Task) -> App:
    """Return the application: a few subscriptions with empty handlers."""
    app = App("bench", task.url, schema=task.schema)

    async def handle(_: SignedUp) -> None: ...

    for number in range(SUBSCRIPTIONS):
        app.on(SignedUp, name=f"subscription-{number}", start="now")(handle)
    return app


async def work(app: App) -> None:
    """Work until the input ends."""
    async with app.running() as worker:
        _say(b"ready")
        while await asyncio.to_thread(sys.stdin.readline):
            _say(msgspec.json.encode(Sent(worker.statements)))


def _say(what: bytes) -> None:
    sys.stdout.buffer.write(what + b"\n")
    sys.stdout.buffer.flush()


def main(task: Task) -> None:
    """Be what is asked for."""
    app = declare(task)
    if task.role == "worker":
        asyncio.run(work(app))
        return
    from ensue.console import Console
    from ensue.console.serving import serve

    serve(Console(app), "127.0.0.1", 0, listening=lambda url: _say(url.encode()))


if __name__ == "__main__":
    main(msgspec.json.decode(sys.stdin.buffer.readline(), type=Task))
