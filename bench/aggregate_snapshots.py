"""Loading an aggregate of 10,000 events that has a snapshot, beside one of 10 events without."""

from __future__ import annotations

from collections.abc import Iterator

from bench.harness import Figure, Room, Side, Target, rate, ratio
from bench.stores import files, pair
from bench.wallets import Wallet
from ensue import App, Snapshots

INTERVALS = ((20, Target(2.0, most=True)), (100, None))
"""Every how many events a snapshot is taken, and what is asked; half as many lie behind the newest, as on average."""


def figures(room: Room) -> Iterator[Figure]:
    """Compare the time that the two loads take."""
    for every, target in INTERVALS:
        yield _figure(room, "SQLite", files(room.folder).app(), every, target)
        with pair(room.postgres) as made:
            yield _figure(room, "PostgreSQL", made.app(), every, target)


def _figure(room: Room, database: str, app: App, every: int, target: Target | None) -> Figure:
    size, count = room.sized(10_000, 1_000), room.sized(1000, 5)
    plain = app.repository(Wallet)
    short = Wallet()
    short.open()
    short.book(9)
    plain.save(short)

    busy = app.repository(Wallet, snapshots=Snapshots(every=every))
    long = Wallet()
    long.open()
    long.book(every // 2 - 1)
    busy.save(long)
    while long.version < size:
        long.book(min(every, size - long.version))
        busy.save(long)
    if busy.get(long.id).balance != plain.get(long.id).balance:
        raise RuntimeError("the snapshot leads to another balance than the events")

    def load_long() -> float:
        return 1e6 / rate(count, lambda: [busy.get(long.id) for _ in range(count)])

    def load_short() -> float:
        return 1e6 / rate(count, lambda: [plain.get(short.id) for _ in range(count)])

    title = f"{database}, loading an aggregate of {size:,} events with Snapshots(every={every})"
    ours, base = room.interleave(title, (Side(f"{every // 2} behind it", load_long), Side("10 events", load_short)))
    return ratio(room.group, title, "µs", ours, base, target=target)
