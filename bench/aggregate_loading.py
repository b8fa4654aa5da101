"""Loading an aggregate of 10, 100 and 1,000 events, beside the eventsourcing library and beside a loop by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from bench.aggregate_places import Place, in_file, in_server
from bench.harness import Figure, Room, Side, Target, rate, ratio
from bench.wallets import Wallet, fold
from bench.wallets_peer import PEER
from bench.wallets_peer_default import PEER_DEFAULT

SIZES = ((10, 3.0), (100, 5.0), (1000, 6.0))
"""How many events, and how many times as fast as the peer as its tutorial shows it."""
LIMIT = 0.5
"""What is asked of the fastest that Python can do."""


def figures(room: Room) -> Iterator[Figure]:
    """Compare `get` with the peer's `repository.get`, and with the bare driver, msgspec and a loop of if and elif."""
    for make in (in_file, in_server):
        with make(room) as place:
            for size, target in SIZES:
                yield from _figures(room, place, size, Target(target))


def _figures(room: Room, place: Place, size: int, target: Target) -> Iterator[Figure]:
    wallet = Wallet()
    wallet.open()
    wallet.book(size - 1)
    place.wallets.save(wallet)
    stream = f"{Wallet.__aggregate__}-{wallet.id}"
    peer = place.peer.open()
    peer = place.peer.book(peer, size - 1)
    count = room.sized(max(100, 100_000 // (size + 20)), 5)

    tutorial = place.tutorial.open()
    place.tutorial.book(tutorial, size - 1)
    loads: tuple[Callable[[], Any], ...] = (
        lambda: place.wallets.get(wallet.id),
        lambda: place.peer.load(peer.id),
        lambda: place.tutorial.load(tutorial.id),
        lambda: fold(place.read(stream)),
    )
    if {(each.version, each.balance, each.owner) for each in (load() for load in loads)} != {
        (size, wallet.balance, wallet.owner)
    }:
        raise RuntimeError(f"{place.database}: the sides load different wallets")

    def side(name: str, load: Callable[[], Any]) -> Side:
        return Side(name, lambda: rate(count, lambda: [load() for _ in range(count)]))

    title = f"{place.database}, loading an aggregate of {size:,} events"
    sides = [side(name, load) for name, load in zip(("get", PEER, PEER_DEFAULT, "by hand"), loads, strict=True)]
    ours, fastest, default, limit = room.interleave(title, sides)
    yield ratio(room.group, title, "/s", ours, default, [fastest], target=target)
    yield ratio(room.group, f"{title}, beside the limit", "/s", ours, limit, target=Target(LIMIT))
