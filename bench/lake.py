"""The lake: collecting beside pyarrow that is handed the rows, its memory, and a replay on one worker and on two."""

from __future__ import annotations

import itertools
import logging
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
from pyarrow import compute
from pyarrow import dataset as datasets

from bench.events import SignedUp
from bench.harness import Figure, Room, Series, Side, Target, rate, ratio
from bench.lake_collecting import Growth
from bench.stores import COLUMNS, files, fill, fill_file, pair
from ensue import App, Recorded
from ensue.lake import Collector, Lake, Part, engine, parts_of, source_of
from ensue.log import Selection

USERS = 10_000
RUNS = 5
PARTS = 4
NOTE = "pyarrow: tuples in memory become a table of the log's columns and Parquet files of the same partitions"
_CHUNK = 5000
_MOMENT = pa.timestamp("us", tz="UTC")
_NUMBERS = ("position", "version")


def figures(room: Room) -> Iterator[Figure]:
    """Collect from both databases into Delta Lake, and replay what was collected."""
    count = room.sized(200_000, 2_000)
    logging.getLogger("distributed").setLevel(logging.ERROR)
    with pair(room.postgres) as made:
        with room.steps("filling PostgreSQL", count) as step:
            fill(made, count, step, users=USERS)
        yield _beside_pyarrow(room, "PostgreSQL", made.app(), count)
        yield _memory(room, made.url, made.schema, count)
    made_files = files(room.folder)
    with room.steps("filling SQLite", count) as step:
        fill_file(made_files.log, count, step, users=USERS)
    app = App("bench", f"sqlite:///{made_files.log}")
    yield _beside_pyarrow(room, "SQLite", app, count)
    yield _on_two_workers(room, app, count)


def _beside_pyarrow(room: Room, database: str, app: App, count: int) -> Figure:
    rows = list(_rows(app))
    numbers = itertools.count()

    def bare() -> float:
        with _place(room, next(numbers)) as place:
            return rate(count, lambda: _write(rows, place))

    def ours(types: bool) -> Callable[[], float]:
        def collect() -> float:
            with _place(room, next(numbers)) as place:
                return rate(count, lambda: Collector(app.log, Lake(place), types=types).collect())

        return collect

    return room.compare(
        f"{database}, {count:,} events from the log into Delta Lake, exactly once",
        "/s",
        Side("collector", ours(False)),
        Side("pyarrow, of rows in memory", bare),
        Side("collector, with a table for the type too", ours(True)),
        target=Target(0.5),
        note=NOTE,
        runs=RUNS,
    )


@contextmanager
def _place(room: Room, number: int) -> Generator[Path]:
    place = room.folder / f"lake-{number}"
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _rows(app: App) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the log as its driver returns them."""
    after = 0
    while found := app.log.own.run(app.log.read(Selection(after=after), _CHUNK)):
        for each in found:
            yield (
                each.position, each.id_text, each.type, each.kind_text, each.stream, each.version, each.own_key,
                each.data, each.extra, each.own_correlation_id, each.causation_id, each.recorded_at_text.strip('"'),
            )  # fmt: skip
        after = found[-1].position


def _write(rows: Sequence[tuple[Any, ...]], place: Path) -> None:
    columns: dict[str, Any] = {
        name: pa.array(values, pa.int64() if name in _NUMBERS else pa.string())
        for name, values in zip(COLUMNS.split(", "), zip(*rows, strict=True), strict=True)
    }
    columns["recorded_at"] = compute.cast(columns["recorded_at"], _MOMENT)
    columns["date"] = compute.cast(columns["recorded_at"], pa.date32())
    partitions = pa.schema([("date", pa.date32()), ("type", pa.string())])
    datasets.write_dataset(
        pa.table(columns), place, format="parquet", partitioning=datasets.partitioning(partitions, flavor="hive")
    )


def _memory(room: Room, url: str, schema: str, count: int) -> Figure:
    grown: list[Growth] = []
    for number in range(1 if room.quick else 3):
        with _place(room, 1000 + number) as place:
            done = subprocess.run(
                [sys.executable, "-m", "bench.lake_collecting", url, schema, str(place)],
                cwd=Path(__file__).parents[1],
                stdout=subprocess.PIPE,
                check=True,
            )
            grown.append(msgspec.json.decode(done.stdout, type=Growth))
    return ratio(
        room.group,
        f"PostgreSQL, memory that the collector has grown by at its peak, after {count:,} events and after a quarter",
        "MB",
        Series.of("after all", [each.late for each in grown]),
        Series.of("after a quarter", [each.early for each in grown]),
        target=None if room.quick else Target(1.25, most=True),
        note="commits of 50,000 events",
    )


def last_plan(row: dict[str, Any] | None, event: SignedUp, recorded: Recorded[SignedUp]) -> dict[str, Any]:
    """Fold: how often a user has signed up, and the plan of the last time."""
    changes = row["changes"] if row else 0
    return {"user_id": recorded.key, "plan": event.plan, "changes": changes + 1, "at": event.signed_up_at.isoformat()}


def _on_two_workers(room: Room, app: App, count: int) -> Figure:
    with _place(room, 2000) as place:
        Collector(app.log, Lake(place), types=False).collect()
        whole = Part(
            lake=str(place),
            source=source_of(app.name),
            until=Lake(place).sources()[0].position,
            stored=(SignedUp.__type__,),
            classes=(SignedUp,),
            modules=(__name__, SignedUp.__module__),
            fold=last_plan,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the cluster, about its own ports
            with engine("1") as one, engine("2") as two:

                def seconds(fold: Callable[[Sequence[Part]], Iterator[Any]]) -> float:
                    def work() -> None:
                        if sum(each.events for each in fold(parts_of(whole, PARTS))) != count:
                            raise AssertionError("not all events were folded")

                    return 1 / rate(1, work)

                seconds(two)  # for warmth: the workers import
                seconds(one)
                return room.compare(
                    f"A replay of {count:,} events from Delta Lake on a Dask cluster, folded by key",
                    "s",
                    Side("two workers", lambda: seconds(two)),
                    Side("one worker", lambda: seconds(one)),
                    target=Target(0.65, most=True),
                    note=f"{PARTS} parts; two workers share all the cores of a machine that has two",
                    runs=RUNS,
                )
