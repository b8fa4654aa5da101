"""Leases on partitions: how any number of processes share the work, and take over from a dead one."""

from __future__ import annotations

import math
import os
import socket
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from ensue.log import Log, Steps

_json = msgspec.json.Encoder().encode
_names = msgspec.json.Decoder(frozenset[str]).decode
_segments = msgspec.json.Decoder(list[tuple[int, int, int]]).decode


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on a partition. `epoch` is the fence: it grows with every owner."""

    subscription: str
    first_slot: int
    last_slot: int
    epoch: int

    @property
    def place(self) -> tuple[str, int]:
        return self.subscription, self.first_slot

    def covers(self, subscription: str, slot: int) -> bool:
        """Tell whether the keys of a slot belong to the partition."""
        return subscription == self.subscription and self.first_slot <= slot <= self.last_slot


@dataclass(frozen=True, slots=True)
class Claimed:
    """A partition just taken: where to go on, and what is parked."""

    lease: Lease
    checkpoint: int
    ahead: tuple[tuple[int, int, int], ...]
    parked: Mapping[str, tuple[int, int]]
    """Position and revision by key."""


@dataclass(frozen=True, slots=True)
class Round:
    """The result of a round: what is still held, what was taken, what others should have, what is paused."""

    asked: float
    """By the monotonic clock, just before the leases were renewed: from then on they last at least."""
    held: Collection[Lease]
    claimed: Sequence[Claimed]
    surplus: Sequence[Lease]
    paused: Collection[str]
    overdue: Collection[tuple[str, int]]
    """Partitions that were free and were left to others; if they still are next time, they are taken."""


def worker_id() -> str:
    """Return a name for this worker: who it is for people, unique for the log."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def lease_round(
    log: Log, worker: str, declared: Collection[str], seconds: float, overdue: Collection[tuple[str, int]]
) -> Steps[Round]:
    """Renew what is held, take a fair share of what is free, and find what is more than a fair share.

    A partition is shared among the live workers that declare its subscription. Those that the fewest can work are
    taken first; one that was left to others and is still free a round later is taken whatever the share.
    """
    sql = log.dialect.sql
    host, pid, _ = worker.split(":")
    yield sql["greet"](worker=worker, host=host, pid=int(pid), subscriptions=_json(sorted(declared)).decode())
    yield sql["forget_workers"](seconds=max(60.0, 10 * seconds))
    asked, held = yield from renew(log, worker, seconds)
    peers = {name: _names(names) for name, names in (yield sql["live_workers"](seconds=seconds))}
    peers[worker] = frozenset(declared)
    table = yield sql["lease_table"]()

    able = {name: sum(name in names for names in peers.values()) for name in declared}
    rows = [row for row in table if row[0] in able]
    target = math.ceil(sum(1 / able[row[0]] for row in rows) - 1e-9)
    free = sorted((row for row in rows if row[4]), key=lambda row: able[row[0]])
    claimed: list[Claimed] = []
    left: set[tuple[str, int]] = set()
    for name, first, *_ in free:
        if len(held) + len(claimed) < target or (name, first) in overdue:
            for taken in (yield sql["claim"](worker=worker, seconds=seconds, subscription=name, first_slot=first)):
                claimed.append((yield from _look(log, name, first, taken)))  # noqa: PERF401 yields
        else:
            left.add((name, first))
    excess = len(held) + len(claimed) - target
    surplus = sorted(
        (lease for lease in held if able.get(lease.subscription, 0) > 1), key=lambda x: -able[x.subscription]
    )
    return Round(
        asked=asked,
        held=held,
        claimed=claimed,
        surplus=surplus[: max(0, excess)],
        paused=frozenset(row[0] for row in rows if row[5]),
        overdue=left,
    )


def renew(log: Log, worker: str, seconds: float) -> Steps[tuple[float, list[Lease]]]:
    """Renew all leases of a worker; return when that was asked for, and those that are still its own."""
    asked = time.monotonic()
    return asked, [Lease(*row) for row in (yield log.dialect.sql["renew"](worker=worker, seconds=seconds))]


def _look(log: Log, name: str, first: int, taken: Sequence[object]) -> Steps[Claimed]:
    last, epoch, checkpoint, ahead = taken
    lease = Lease(name, first, int(str(last)), int(str(epoch)))
    parked = yield log.dialect.sql["parked_of"](subscription=name, first_slot=first, last_slot=lease.last_slot)
    return Claimed(
        lease,
        int(str(checkpoint)),
        tuple(_segments(str(ahead))),
        {key: (position, revision) for key, position, revision in parked},
    )


def release(log: Log, worker: str, lease: Lease) -> Steps[None]:
    """Give one lease back."""
    yield log.dialect.sql["release"](worker=worker, subscription=lease.subscription, first_slot=lease.first_slot)


def leave(log: Log, worker: str) -> Steps[None]:
    """Give everything back: the worker stops."""
    yield log.dialect.sql["release_all"](worker=worker)
    yield log.dialect.sql["delete_worker"](worker=worker)
