"""A process that reads a log from beginning to end: its task comes in as JSON, what it took goes out as JSON."""

from __future__ import annotations

import resource
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import psycopg

from bench.events import SignedUp
from ensue import App


class Task(msgspec.Struct, frozen=True):
    """What to read."""

    url: str
    schema: str
    select: str
    """Read with this statement on the bare driver; empty: with ensue."""
    count: int


class Found(msgspec.Struct, frozen=True):
    """What it took: seconds, and megabytes of memory more at the peak than before."""

    seconds: float
    growth: float


def read_with_ensue(task: Task) -> int:
    """Return how many events were read and decoded."""
    count = 0
    for recorded in App("bench", task.url, schema=task.schema).read():
        count += isinstance(recorded.event, SignedUp)
    return count


def read_bare(task: Task) -> int:
    """As `read_with_ensue`, with the driver's own cursor."""
    decode = msgspec.json.Decoder(SignedUp).decode
    read = _sqlite if task.url.startswith("sqlite") else _postgres
    return sum(isinstance(decode(data), SignedUp) for data in read(task))


def _postgres(task: Task) -> Iterator[str]:
    with closing(psycopg.connect(task.url)) as connection:
        cursor = connection.cursor(name="bench")
        cursor.itersize = 1000
        for row in cursor.execute(task.select.encode()):
            yield row[7]


def _sqlite(task: Task) -> Iterator[str]:
    with closing(sqlite3.connect(task.url.removeprefix("sqlite:///"))) as connection:
        for row in connection.execute(task.select):
            yield row[7]


def peak() -> float:
    """Return the most memory that this process has held, in megabytes.

    Linux's own mark is read where there is one: the other counts what the parent held when it started us.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


def main(task: Task) -> Found:
    """Read, and check that all were there."""
    read: Callable[[Task], int] = read_bare if task.select else read_with_ensue
    before, start = peak(), time.perf_counter()
    count = read(task)
    seconds = time.perf_counter() - start
    if count != task.count:
        raise AssertionError(f"{count} events were read, {task.count} were written")
    return Found(seconds, peak() - before)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(main(msgspec.json.decode(sys.stdin.buffer.read(), type=Task))))
