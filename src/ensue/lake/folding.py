"""Folding a lake's events into rows, one for each key: on one machine or spread over the workers of a Dask cluster.

A key's events are folded in their order, by one worker; keys are spread by their hash. What is folded is pure, so a
part may be folded twice, and a worker that dies costs nothing but time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import groupby
from typing import Any, TypeAlias

from ensue.errors import LakeError
from ensue.events import Event, Recorded, upcasters_to
from ensue.lake.lake import Lake
from ensue.lake.libraries import library
from ensue.lake.published import Overlap

FoldedRow: TypeAlias = dict[str, Any]
"""The row of a key: values by column."""
Fold = Callable[[FoldedRow | None, Any, Recorded[Any]], FoldedRow | None]
"""Returns a key's row after an event, given the row before it (None: there is none) and how the log holds the event."""


@dataclass(frozen=True)
class Part:
    """What a worker is given: it fetches the events itself."""

    lake: str
    source: str
    until: int
    stored: tuple[str, ...]
    """The wire types under which the events may be stored."""
    classes: tuple[type[Event], ...]
    modules: tuple[str, ...]
    """What has to be imported for events and upcasters to be known."""
    fold: Fold
    number: int = 0
    count: int = 1
    overlap: Overlap | None = None
    """With what the log of another service has received itself."""


@dataclass(frozen=True)
class Folded:
    """What a worker gives back."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    events: int


def fold_part(part: Part) -> Folded:
    """Fold the events of the keys that fall to a part."""
    for name in part.modules:
        import_module(name)
    events = Lake(part.lake).read(
        part.source, until=part.until, types=part.stored, part=(part.number, part.count), by_key=True
    )
    columns: tuple[str, ...] = ()
    rows: list[tuple[Any, ...]] = []
    count = 0
    for key, group in groupby(events, lambda each: each.key):
        row: FoldedRow | None = None
        try:
            for recorded in group:
                if part.overlap is not None and not part.overlap.gives(recorded):
                    continue
                count += 1
                for event in recorded.events:
                    if isinstance(event, part.classes):
                        row = part.fold(row, event, recorded)
        except Exception as error:
            error.add_note(f"while the events of key {key!r} were folded; nothing was written")
            raise
        if row is not None:
            columns = columns or tuple(row)
            if row.keys() != set(columns):
                raise LakeError(f"the fold returned columns {', '.join(row)} for key {key!r}, and {columns} before")
            rows.append(tuple(row[name] for name in columns))
    return Folded(columns, rows, count)


def parts_of(whole: Part, count: int) -> list[Part]:
    """Cut the work into so many parts."""
    return [replace(whole, number=number, count=count) for number in range(count)]


def modules_of(classes: Sequence[type[Event]], fold: Fold) -> tuple[str, ...]:
    """Return the modules that a worker has to import: those of the events, of their past structures, of the fold."""
    found = {each.__module__ for each in (*classes, getattr(fold, "func", fold))}
    for past, upcaster in upcasters_to(classes):
        found |= {past.__module__, upcaster.__module__}
    return tuple(sorted(found - {"__main__"}))


def write_rows(via: Any, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, copies: bool) -> None:
    """Write rows into a table on an open connection, in bulk; `copies`: it is one of psycopg."""
    if not rows:
        return
    named = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)
    if copies:
        with via.cursor() as cursor, cursor.copy(f"copy {table} ({named}) from stdin") as copy:
            for row in rows:
                copy.write_row(row)
    else:
        via.executemany(f"insert into {table} ({named}) values ({', '.join('?' * len(columns))})", rows)


@contextmanager
def engine(address: str) -> Generator[Callable[[Sequence[Part]], Iterator[Folded]]]:
    """Lend what folds parts on a cluster: `tcp://host:8786`, a Dask scheduler, or `3`, processes on this machine.

    Results come as they are ready. Raises `LakeError` if nothing answers there.
    """
    distributed = library("distributed", "spread")
    if address.isdecimal() and int(address) > 0:
        made = distributed.LocalCluster(
            n_workers=int(address),
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            silence_logs=40,
        )
    elif "://" in address:
        made = None
    else:
        raise LakeError(f"{address!r} is no engine: give the URL of a Dask scheduler, tcp://host:8786, or a number")
    try:
        client = distributed.Client(made or address, timeout=10)
    except OSError as error:
        raise LakeError(f"no Dask scheduler answers at {address}: {error}") from error

    def fold(parts: Sequence[Part]) -> Iterator[Folded]:
        client.wait_for_workers(1, timeout=60)
        futures = [client.submit(fold_part, each, pure=False) for each in parts]
        for future in distributed.as_completed(futures):
            yield future.result()
            future.release()

    try:
        with client:
            yield fold
    finally:
        if made is not None:
            made.close()
