"""Reading and decoding a million events, each run in a process of its own whose memory is watched."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench.harness import Figure, Room, Side, Target, absolute, ratio
from bench.reader import Found, Task
from bench.stores import COLUMNS, files, fill, fill_file, pair

NOTE = "bare: a cursor over the same columns, UUID, JSON and time as text, the payload decoded into the class"


def figures(room: Room) -> Iterator[Figure]:
    """Compare `for recorded in app.read(): recorded.event` with the bare driver's cursor and msgspec."""
    count = room.sized(1_000_000, 5_000)
    with pair(room.postgres) as made:
        with room.steps("filling PostgreSQL", count) as step:
            fill(made, count, step)
        texts = COLUMNS.replace("id,", "id::text,", 1).replace("data, metadata", "data::text, metadata::text")
        select = (
            f"select {texts.replace('recorded_at', 'recorded_at::text')} from {made.schema}.events order by position"
        )
        yield from _figures(room, "PostgreSQL", Task(made.url, made.schema, "", count), select)
    made_files = files(room.folder)
    with room.steps("filling SQLite", count) as step:
        fill_file(made_files.log, count, step)
    select = f"select {COLUMNS} from ensue_events order by position"
    yield from _figures(room, "SQLite", Task(f"sqlite:///{made_files.log}", "ensue", "", count), select)


def _figures(room: Room, database: str, task: Task, select: str) -> Iterator[Figure]:
    growth: dict[str, list[float]] = {"app.read": [], "bare cursor": []}

    def side(name: str, query: str) -> Side:
        def measure() -> float:
            found = _in_a_process(msgspec.structs.replace(task, select=query))
            growth[name].append(found.growth)
            return task.count / found.seconds

        return Side(name, measure)

    title = f"{database}, reading and decoding {task.count:,} events"
    ours, base = room.interleave(title, (side("app.read", ""), side("bare cursor", select)))
    yield ratio(room.group, title, "/s", ours, base, target=Target(0.6), note=NOTE)
    yield absolute(
        room.group,
        f"{database}, memory that the reading process grows by at its peak",
        "MB",
        ours.also(growth[ours.name]),
        base.also(growth[base.name]),
        target=Target(150, most=True),
    )


def _in_a_process(task: Task) -> Found:
    done = subprocess.run(
        [sys.executable, "-m", "bench.reader"],
        input=msgspec.json.encode(task),
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=Found)
