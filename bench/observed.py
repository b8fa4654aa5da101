"""A process that records and handles, seen by nobody or by somebody; the task comes in as JSON, the cost goes out.

Processor time is what counts: the log is in memory, and nothing waits for a disk.
"""

from __future__ import annotations

import asyncio
import sys
import time
from statistics import median
from typing import Literal

import msgspec

from bench.delivering import deliver
from bench.events import sign_ups
from ensue import App

BATCH, TURNS = 100, 3
Seen = Literal["", "imported", "metrics", "traces"]


class Task(msgspec.Struct, frozen=True):
    """How much to do, and who sees it: nobody, nobody though the integrations are there, metrics, traces."""

    count: int
    seen: Seen


class Cost(msgspec.Struct, frozen=True):
    """Microseconds of the processor for each event."""

    recording: float
    handling: float


def observe(app: App, seen: Seen) -> None:
    """Let somebody see it."""
    if seen:
        from opentelemetry.sdk.trace import TracerProvider

        from ensue.integrations.opentelemetry import trace_with
        from ensue.integrations.prometheus import Metrics

        if seen == "metrics":
            Metrics(app)
        elif seen == "traces":
            trace_with(app, TracerProvider(shutdown_on_exit=False))


def measure(task: Task) -> Cost:
    """Record so many events, a hundred per commit, and hand them all to an empty handler, three times over.

    Others disturb some batches and some turns: the median of the ones and the best of the others count.
    """
    app = App("bench", "memory://bench", migrate=True)
    observe(app, task.seen)
    app.migrate()
    batches: list[float] = []
    for _ in range(task.count // BATCH):
        batch = sign_ups(BATCH)
        began = time.process_time()
        with app.transaction() as connection:
            for event in batch:
                app.record(event, via=connection)
        batches.append(time.process_time() - began)
    turns: list[float] = []
    for turn in range(TURNS):
        began = time.process_time()
        asyncio.run(deliver(app, task.count, name=f"handles-{turn}", start=0))
        turns.append(time.process_time() - began)
    return Cost(median(batches) / BATCH * 1e6, min(turns) / task.count * 1e6)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(measure(msgspec.json.decode(sys.stdin.buffer.read(), type=Task))))
