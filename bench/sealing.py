"""Seals: sealing beside recording, verifying beside hashing, and the memory that verifying takes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec
import psycopg

from bench.events import sign_ups
from bench.harness import Figure, Room, Side, Target, absolute, rate, ratio
from bench.reader import Found
from bench.sealer import Task
from bench.stores import files, fill, fill_file, open_file, pair
from ensue import App

RUNS = 3
TABLES = ("seal", "seal_tiles", "seal_checkpoints")


@dataclass
class Sealed:
    """A log that is sealed again and again."""

    url: str
    schema: str
    count: int
    growth: list[float] = field(default_factory=list[float])
    """Megabytes by which each process that verified has grown."""

    @property
    def app(self) -> App:
        return App("bench", self.url, schema=self.schema)

    def forget(self) -> None:
        """Make it a log that was never sealed."""
        app = self.app
        mark = "." if self.url.startswith("postgresql") else "_"
        with app.transaction() as connection:
            for table in TABLES:
                connection.execute(f"delete from {self.schema}{mark}{table}")
        if any(each.subscription == "seal" for each in app.operations.standings()):
            app.operations.retire("seal", actor="bench", reason="measured")

    def measure(self, what: Literal["work", "seal", "verify", "hash"]) -> float:
        """Return events per second, in a process of its own."""
        if what in ("work", "seal"):
            self.forget()
        done = subprocess.run(
            [sys.executable, "-m", "bench.sealer"],
            input=msgspec.json.encode(Task(self.url, self.schema, what, self.count)),
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            check=True,
        )
        found = msgspec.json.decode(done.stdout, type=Found)
        if what == "verify":
            self.growth.append(found.growth)
        return self.count / found.seconds


def figures(room: Room) -> Iterator[Figure]:
    """Compare with recording one event per transaction, and with reading and hashing alone."""
    count = room.sized(1_000_000, 2_000)
    with pair(room.postgres) as made, pair(room.postgres) as other:
        with room.steps("filling PostgreSQL", count) as step:
            fill(made, count, step)
        with closing(psycopg.connect(other.url)) as connection:
            recording: dict[str, Any] = {"recording, one event per commit": connection}
            yield from _of(room, "PostgreSQL", Sealed(made.url, made.schema, count), other.app(), recording)
    log, beside = files(room.folder), files(room.folder)
    with room.steps("filling SQLite", count) as step:
        fill_file(log.log, count, step)
    with closing(open_file(beside.log, "FULL")) as full, closing(open_file(beside.log, "NORMAL")) as normal:
        recording = {"recording, one event per commit": full, "the same, synchronous NORMAL": normal}
        yield from _of(room, "SQLite", Sealed(f"sqlite:///{log.log}", "ensue", count), beside.app(), recording)


def _of(room: Room, database: str, sealed: Sealed, other: App, recording: Mapping[str, Any]) -> Iterator[Figure]:
    several = room.sized(2000, 50)

    def record(connection: Any) -> float:
        events = sign_ups(several)

        def work() -> None:
            for event in events:
                other.record(event, via=connection)
                connection.commit()

        return rate(several, work)

    usual, *others = [Side(name, partial(record, connection)) for name, connection in recording.items()]
    yield room.compare(
        f"{database}, a worker that seals {sealed.count:,} events",
        "/s",
        Side("sealing", lambda: sealed.measure("work")),
        usual,
        *others,
        Side("ensue seal", lambda: sealed.measure("seal")),
        target=Target(10),
        note="one writer",
        runs=RUNS,
    )
    title = f"{database}, verifying {sealed.count:,} events"
    sides = (
        Side("verifying", lambda: sealed.measure("verify")),
        Side("reading and hashing", lambda: sealed.measure("hash")),
    )
    ours, base = room.interleave(title, sides, runs=RUNS)
    yield ratio(room.group, title, "/s", ours, base, target=Target(0.5), note="the start of the process counts")
    yield absolute(
        room.group,
        f"{database}, memory that verifying grows by at its peak",
        "MB",
        ours.also(sealed.growth),
        target=Target(60, most=True),
    )
