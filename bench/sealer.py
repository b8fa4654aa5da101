"""A process that seals or verifies a log: its task comes in as JSON, what it took goes out as JSON."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Literal

import msgspec

from bench.reader import Found, peak
from ensue import App
from ensue.log import Log
from ensue.seals import SigningKey
from ensue.seals.leaves import leaf_of, read_fields
from ensue.seals.tree import grow

KEY = SigningKey("bench.example/log", bytes(range(32)))
LEASE = 3.0
_BATCH = 4096


class Task(msgspec.Struct, frozen=True):
    """What to do with which log."""

    url: str
    schema: str
    what: Literal["work", "seal", "verify", "hash"]
    """Seal in a worker, seal at once, verify, or only read and hash."""
    count: int


def do(task: Task) -> None:
    """Do it once."""
    app = App("bench", task.url, schema=task.schema)
    match task.what:
        case "work":
            asyncio.run(_work(app, task.count))
        case "seal":
            if app.seals.seal(KEY).size != task.count:
                raise AssertionError("not all was sealed")
        case "verify":
            told = app.seals.verify(keys=[KEY.public])
            if not told.holds or told.checked != task.count:
                raise AssertionError(told)
        case "hash":
            if hash_all(app.log) != task.count:
                raise AssertionError("not all was hashed")


def hash_all(log: Log) -> int:
    """Read all events, hash them, and make the tree; compare nothing and keep nothing. Return how many there were."""
    size, position = 0, 0
    edge: dict[int, bytes] = {}
    while rows := log.own.run(read_fields(log.dialect, position, 1 << 60, _BATCH)):
        grow(size, edge, [leaf_of(row) for row in rows])
        size, position = size + len(rows), rows[-1][0]
    return size


async def _work(app: App, count: int) -> None:
    """Let a worker turn everything into leaves."""
    app.seal(KEY, every="1h", events=1_000_000_000)
    await asyncio.to_thread(app.migrate)
    head = await asyncio.to_thread(app.operations.horizon)
    async with app.running(lease=LEASE):
        while min(each.checkpoint for each in await asyncio.to_thread(app.operations.standings)) < head:  # noqa: ASYNC110 the database tells
            await asyncio.sleep(0.01)
    if app.seals.seal(KEY).size != count:
        raise AssertionError("not all was sealed")


def main() -> None:
    """Do what is asked for."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    before, start = peak(), time.perf_counter()
    do(task)
    found = Found(time.perf_counter() - start, peak() - before)
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
