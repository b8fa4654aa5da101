"""Projections that catch up with a log: beside the bare driver, beside a peer, and in two processes.

The bare driver makes the same upserts into the same table, of rows that lie in memory, in transactions of the same size
and durability, one by one as a handler does that is given one event at a time (psycopg: in a pipeline). It
reads nothing, decodes nothing, and keeps no checkpoint. Measured in the same runs: the driver's `executemany`, which
wants all rows of a batch at once, and a loop by hand that reads, decodes, and keeps a checkpoint.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psycopg

from bench.events import any_user, sign_ups
from bench.harness import Figure, Room, Side, Target, absolute, ratio
from bench.projecting_by_hand import BATCH, Connection, project, upsert, upsert_many
from bench.projector import Task, declare
from bench.reader import Found
from bench.stores import Pair, files, fill, fill_file, open_file, pair
from ensue import App, Receipt

USERS = 10_000
RUNS = 3
NOTE = (
    f"all: batches of {BATCH}, {USERS:,} keys; bare: only the upserts, of rows in memory, one by one (psycopg: in a "
    "pipeline): it reads and decodes nothing; by hand: reads, decodes, upserts one by one, moves a checkpoint"
)
FEW_CORES = "two workers and the server have 2 cores or fewer here, and the upserts are most of the work: no verdict"
TOIL = 300
"""Microseconds of its own that the function of the parallel rebuild takes, as one does that renders or reckons."""


@dataclass
class Backlog:
    """A log with events, and how often a projection has caught up with them."""

    url: str
    schema: str
    count: int
    last: Receipt
    toil: int = 0
    """Microseconds that the projection's function takes beside its upsert."""
    growth: list[float] = field(default_factory=list[float])
    """Megabytes by which the process of each run has grown."""
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    def closed(cls, url: str, schema: str, count: int) -> Backlog:
        """Record the last event of a log that has been filled."""
        app = App("bench", url, schema=schema)
        with app.transaction() as connection:
            receipt = app.record(*sign_ups(1, users=USERS), via=connection)
        return cls(url, schema, count, receipt)

    def catch_up(self, *, processes: int = 1) -> float:
        """Return events per second: from the start of the worker, or of the last one, until all have been applied."""
        task = Task(self.url, self.schema, f"plans_{next(self.numbers)}", processes, self.last, self.toil)
        app = declare(task)
        app.migrate()
        with ThreadPoolExecutor(processes) as pool:
            found = list(pool.map(_in_a_process, [task] * processes))
        self.growth.append(max(each.growth for each in found))
        self._check(app, task.name)
        app.operations.retire(task.name, actor="bench", reason="measured")
        return self.count / max(each.seconds for each in found)

    def _check(self, app: App, table: str) -> None:
        with app.transaction() as connection:
            (changes,) = connection.execute(f"select sum(changes) from {table}").fetchone()
            connection.execute(f"drop table {table}")
        if changes != self.count + 1:
            raise AssertionError(f"{changes} events were applied, {self.count + 1} were recorded")


def _in_a_process(task: Task) -> Found:
    done = subprocess.run(
        [sys.executable, "-m", "bench.projector"],
        input=msgspec.json.encode(task),
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=Found)


def figures(room: Room) -> Iterator[Figure]:
    """Compare with bare upserts in batches of the same size, with a peer, and two processes with one."""
    count = room.sized(1_000_000, 2_000)
    with pair(room.postgres) as made:
        with room.steps("filling PostgreSQL", count) as step:
            fill(made, count, step, users=USERS)
        joint = "&" if "?" in made.url else "?"
        url = f"{made.url}{joint}options=-csearch_path%3D{made.twin}"
        backlog = Backlog.closed(url, made.schema, count)
        with closing(psycopg.connect(url)) as connection, closing(psycopg.connect(url)) as log:
            bare = Bare(connection, log, f"{made.schema}.events")
            yield from _beside_the_driver(room, "PostgreSQL", backlog, bare)
        yield _beside_the_peer(room, made, backlog)
        yield _in_two_processes(room, backlog)
    yield _rebuilt_by_two(room)
    made_files = files(room.folder)
    with room.steps("filling SQLite", count) as step:
        fill_file(made_files.log, count, step, users=USERS)
    backlog = Backlog.closed(f"sqlite:///{made_files.log}", "ensue", count)
    with closing(open_file(made_files.twin, "full")) as file, closing(open_file(made_files.log, "full")) as log_file:
        yield from _beside_the_driver(room, "SQLite", backlog, Bare(file, log_file, "ensue_events"))


@dataclass(frozen=True)
class Bare:
    """What the bare driver works with: where it writes, and for the loop by hand what it reads."""

    connection: Connection
    log: Connection
    events: str
    """The log's table."""


def _beside_the_driver(room: Room, database: str, backlog: Backlog, bare: Bare) -> Iterator[Figure]:
    rows = [(str(event.user_id), event.plan) for event in sign_ups(backlog.count, users=USERS)]

    def by_hand() -> float:
        return project(bare.connection, bare.log, bare.events, backlog.count)

    title = f"{database}, a projection that catches up with {backlog.count:,} events, one upsert for each"
    name = "psycopg" if database == "PostgreSQL" else "sqlite3"
    ours, base, *others = room.interleave(
        title,
        (
            Side("projection", backlog.catch_up),
            Side(f"bare {name}", lambda: upsert(bare.connection, rows)),
            Side(f"bare {name}, executemany", lambda: upsert_many(bare.connection, rows)),
            Side(f"{name} by hand", by_hand),
        ),
        runs=RUNS,
    )
    yield ratio(room.group, title, "/s", ours, base, others, target=Target(0.6), note=NOTE)
    yield absolute(
        room.group,
        f"{database}, memory that the worker grows by at its peak while it catches up",
        "MB",
        ours.also(backlog.growth),
        target=Target(60, most=True),
    )


def _beside_the_peer(room: Room, made: Pair, backlog: Backlog) -> Figure:
    from bench.projecting_peer import PEER, PeerBacklog

    count = room.sized(10_000, 50)
    peer = PeerBacklog(made, [any_user(USERS) for _ in range(count)])
    return room.compare(
        "PostgreSQL, a projection that catches up, one upsert for each event",
        "/s",
        Side("projection", backlog.catch_up),
        Side(PEER, peer.catch_up),
        target=Target(10),
        note=f"{backlog.count:,} events, the peer {count:,}: it commits each by itself",
        runs=RUNS,
    )


def _in_two_processes(room: Room, backlog: Backlog) -> Figure:
    return room.compare(
        f"PostgreSQL, a projection in two partitions that catches up with {backlog.count:,} events",
        "/s",
        Side("two processes", lambda: backlog.catch_up(processes=2)),
        Side("one process", backlog.catch_up),
        target=Target(1.6) if _cores() > 2 else None,
        note="" if _cores() > 2 else FEW_CORES,
        runs=RUNS,
    )


def _rebuilt_by_two(room: Room) -> Figure:
    """Let two processes build what one builds, where the function itself is most of the work."""
    count = room.sized(100_000, 500)
    with pair(room.postgres) as made:
        with room.steps("filling PostgreSQL", count) as step:
            fill(made, count, step, users=USERS)
        joint = "&" if "?" in made.url else "?"
        backlog = Backlog.closed(f"{made.url}{joint}options=-csearch_path%3D{made.twin}", made.schema, count)
        backlog.toil = TOIL
        return room.compare(
            f"PostgreSQL, a rebuild in two partitions, {count:,} events that take {TOIL} µs each besides one upsert",
            "/s",
            Side("two processes", lambda: backlog.catch_up(processes=2)),
            Side("one process", backlog.catch_up),
            target=Target(1.6) if _cores() > 1 else None,
            note=f"wall time, on {_cores()} cores that others may use, too",
            runs=RUNS,
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
