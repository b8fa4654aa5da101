"""The tail: reads the head of the log once for all runners of a process that are up to date."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection
from typing import Any, NamedTuple

from ensue.events import Recorded
from ensue.log import Call, Log, Selection, Steps
from ensue.subscriptions.stations import Station
from ensue.subscriptions.wakers import Waker
from ensue.subscriptions.working import Fed

BATCH = 500
"""Events read at once."""
_RECENT = 8


class _Batch(NamedTuple):
    start: int
    """The position behind which it was read; it ends where the next begins."""
    types: frozenset[str] | None
    """None: all that there are."""
    rows: list[Recorded[Any]]


class Look(NamedTuple):
    """What a look at the log has found."""

    wanted: bool
    """Somebody who is fed wants some of what is new."""
    writers: bool
    """Somebody is recording what cannot be read yet."""


class Tail:
    """Feeds the attached runners; keeps its last batches so that one that has caught up can join without a gap."""

    def __init__(self, log: Log, station: Station, waker: Waker) -> None:
        self.position = -1
        """Everything up to here has been read; unknown below 0. Never above the horizon."""
        self.read_at = time.monotonic()
        """When it last asked the database, by the monotonic clock."""
        self._log = log
        self._station = station
        self._waker = waker
        self._runners: dict[Fed, None] = {}
        self._by_type: dict[str, list[Fed]] = {}
        self._for_all: list[Fed] = []
        """Those that want events of every type."""
        self._recent: deque[_Batch] = deque(maxlen=_RECENT)

    async def run(self) -> None:
        """Read and feed for ever; raises what the database raises."""
        while True:
            before = self.position
            look = await self.step()
            if self.position > before:
                await self._waker.busy(wanted=look.wanted)
            else:
                await self._waker.idle(writers=look.writers)

    async def step(self) -> Look:
        """Read and feed one batch."""
        types, before = self._wanted, self.position
        rows, upto, writers = await self._station.do(self._advance(types))
        self.read_at = time.monotonic()
        if self.position == before < upto and (types == self._wanted or before < 0):
            self._recent.append(_Batch(self.position, types, rows))
            self.position = upto
            self._feed(rows)
        return Look(wanted=bool(rows), writers=writers)

    @property
    def _wanted(self) -> frozenset[str] | None:
        return None if self._for_all else frozenset(self._by_type)

    def _advance(self, types: frozenset[str] | None) -> Steps[tuple[list[Recorded[Any]], int, bool]]:
        horizon, writers = (yield Call(self._log.dialect.sql["head"]))[0]
        if self.position < 0 or types == frozenset() or horizon <= self.position:
            return [], horizon, bool(writers)
        selection = Selection(after=self.position, until=horizon, types=tuple(types or ()))
        rows = yield from self._log.read(selection, BATCH)
        return rows, rows[-1].position if len(rows) == BATCH else horizon, bool(writers)

    def _feed(self, rows: list[Recorded[Any]]) -> None:
        shares: dict[Fed, list[Recorded[Any]]] = {runner: [] for runner in self._runners}
        for row in rows:
            for runner in self._by_type.get(row.type, ()):
                shares[runner].append(row)
        for runner in self._for_all:
            shares[runner] = rows
        for runner, share in shares.items():
            if runner.roomy.is_set():
                runner.take(share, self.position)
            else:  # it reads on its own when it has room again
                self.detach(runner)

    def attach(self, runner: Fed) -> bool:
        """Feed a runner from now on, if it stands where the tail does or where one of its last batches began."""
        missed = [batch for batch in self._recent if batch.start >= runner.read_to]
        if runner.read_to != self.position and (not missed or missed[0].start != runner.read_to):
            return False
        if not all(_covers(batch, runner) for batch in missed):
            return False
        runner.alone.clear()
        self._runners[runner] = None
        for type in runner.types:
            self._by_type.setdefault(type, []).append(runner)
        if not runner.types:
            self._for_all.append(runner)
        rows = [row for batch in missed for row in batch.rows if not runner.types or row.type in runner.types]
        runner.take(rows, self.position)
        return True

    def detach(self, runner: Fed) -> None:
        """Feed a runner no more."""
        runner.alone.set()
        if runner in self._runners:
            del self._runners[runner]
            if not runner.types:
                self._for_all.remove(runner)
            for type in runner.types:
                self._by_type[type].remove(runner)
                if not self._by_type[type]:
                    del self._by_type[type]

    def reset(self) -> None:
        """Forget where it was, and feed nobody: the runners have to catch up again."""
        for runner in tuple(self._runners):
            self.detach(runner)
        self._recent.clear()
        self.position = -1

    @property
    def attached(self) -> Collection[Fed]:
        """The runners that it feeds."""
        return self._runners.keys()


def _covers(batch: _Batch, runner: Fed) -> bool:
    """Tell whether a batch was read with all that a runner wants."""
    return batch.types is None or (bool(runner.types) and runner.types <= batch.types)
