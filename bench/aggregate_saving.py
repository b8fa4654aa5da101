"""Saving 1 event and 100 events of an aggregate per commit, beside the eventsourcing library and the bare insert."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

from bench.aggregate_places import Place, in_file, in_server
from bench.harness import Figure, Room, Side, Target, rate
from bench.wallets import Folded, Wallet, deposit_by_hand
from bench.wallets_peer import PEER, PeerWallets
from bench.wallets_peer_default import PEER_DEFAULT, TutorialWallets

SIZES = ((1, 500, 2.0), (100, 40, 4.0))
"""Events per commit, commits per run, and how many times as fast as the peer as its tutorial shows it."""


def figures(room: Room) -> Iterator[Figure]:
    """Compare commands and `save` with the peer's, and with structs, msgspec and the bare driver's insert."""
    for make in (in_file, in_server):
        with make(room) as place:
            for size, commits, target in SIZES:
                yield _figure(room, place, size, room.sized(commits, 3), Target(target))


def _figure(room: Room, place: Place, size: int, commits: int, target: Target) -> Figure:
    def save() -> float:
        wallet = Wallet()
        wallet.open()
        place.wallets.save(wallet)

        def work() -> None:
            for _ in range(commits):
                wallet.book(size)
                place.wallets.save(wallet)

        return rate(commits * size, work)

    def side(name: str, wallets: PeerWallets | TutorialWallets) -> Side:
        def measure() -> float:
            opened: Any = wallets.open()

            def work() -> None:
                wallet = opened
                for _ in range(commits):
                    wallet = wallets.book(wallet, size)

            return rate(commits * size, work)

        return Side(name, measure)

    return room.compare(
        f"{place.database}, saving {'1 event' if size == 1 else f'{size} events'} of an aggregate per commit",
        "/s",
        Side("save", save),
        side(PEER_DEFAULT, place.tutorial),
        side(PEER, place.peer),
        _by_hand("by hand", place.insert, size, commits),
        _by_hand("by hand, into a table without an index", place.insert_bare, size, commits),
        target=target,
    )


def _by_hand(name: str, insert: Callable[[list[tuple[Any, ...]]], None], size: int, commits: int) -> Side:
    def measure() -> float:
        wallet, stream = Folded(), f"{Wallet.__aggregate__}-{uuid4()}"

        def work() -> None:
            for _ in range(commits):
                rows: list[tuple[Any, ...]] = []
                for _ in range(size):
                    type, data = deposit_by_hand(wallet)
                    rows.append((str(uuid4()), type, stream, wallet.version, data))
                insert(rows)

        return rate(commits * size, work)

    return Side(name, measure)
