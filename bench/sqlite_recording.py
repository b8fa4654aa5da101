"""Recording in SQLite: one event per commit, a thousand per commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

from bench.events import rows, sign_ups
from bench.harness import Figure, Room, Side, Target, rate
from bench.stores import Files, files, open_file


def figures(room: Room) -> Iterator[Figure]:
    """Compare with the bare driver's `execute` and `executemany`, in WAL mode."""
    for synchronous in ("FULL", "NORMAL"):
        for size, count, target in ((1, room.sized(1000, 50), 0.6), (1000, room.sized(10, 1), 0.4)):
            yield _figure(room, files(room.folder), synchronous, size, count, Target(target))


def _figure(room: Room, made: Files, synchronous: str, size: int, count: int, target: Target) -> Figure:
    app = made.app()
    with closing(open_file(made.log, synchronous)) as ours, closing(open_file(made.twin, synchronous)) as bare:

        def record() -> float:
            batches = [sign_ups(size) for _ in range(count)]

            def work() -> None:
                for batch in batches:
                    app.record(*batch, via=ours)
                    ours.commit()

            return rate(count * size, work)

        def execute() -> float:
            moment = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            batches = [[(*row, moment) for row in rows(size)] for _ in range(count)]

            def work() -> None:
                for batch in batches:
                    if size == 1:
                        bare.execute(Files.INSERT, batch[0])
                    else:
                        bare.executemany(Files.INSERT, batch)
                    bare.commit()

            return rate(count * size, work)

        many = "one event" if size == 1 else f"{size:,} events"
        return room.compare(
            f"SQLite, {many} per commit, synchronous {synchronous}",
            "/s",
            Side("record", record),
            Side("bare sqlite3", execute),
            target=target,
        )
