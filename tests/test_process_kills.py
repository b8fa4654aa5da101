"""Workers are killed at every commit on the way of a process: before it, in the midst of it, and after it."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import pytest

from ensue import App, Delivery, DomainEvent
from tests.fulfilment import Charge, Charged, Expired, Fulfilling, Placed, Refund, Release, Reminded, Reserve, Reserved
from tests.fulfilment import check as check_storm
from tests.managing import idle, record
from tests.patience import until
from tests.placing import Commits, KillingProxy, Kind, Where, die_at
from tests.processes import Crew, crew

NEVER_PAID, PATIENT = 4, 3
"""An order of each kind is `step * 20` and this."""
LEAST = {Kind.STEP: 3, Kind.FIRED: 1, Kind.ANSWER: 3, Kind.UNDONE: 2, Kind.CHECKPOINTS: 1}
"""Commits that a worker makes at least, unless it is so slow that several become one."""
TIMERS = (Reminded.__type__, Expired.__type__)


@dataclass(frozen=True)
class Calm(Fulfilling):
    """Nothing happens by chance: a handler answers once, and the bank does."""

    lease: float = 0.5

    def answer(self, app: App, event: DomainEvent, delivery: Delivery) -> None:
        with app.transaction() as connection:
            app.record(event, via=connection, dedupe=delivery.idempotency_key)

    def pay_back(self) -> None: ...

    def work_until(self, kind: Kind, number: int, where: Where, file: Path) -> None:
        """Run the worker in this process, which dies at its so manyth commit of a kind."""
        die_at(kind, number, where, file, self.schema)
        self.work()


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_worker_dies_at_every_commit(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, schema: str
) -> None:
    server = request.getfixturevalue("postgres_url") if kind == "postgresql" else None
    with crew() as hired:
        lanes = [Lane(hired, where, server, tmp_path, f"{schema}_{where}") for where in get_args(Where)]
        async with asyncio.TaskGroup() as tasks:
            for lane in lanes:
                tasks.create_task(lane.kill_at_every_commit())
    for lane in lanes:
        lane.check()


class Lane:
    """One log, in which a worker is killed at its first commit of a kind, the next one at its second, and so on."""

    def __init__(self, hired: Crew, where: Where, server: str | None, folder: Path, schema: str) -> None:
        self._hired = hired
        self._where = where
        self._server = server
        self._file = folder / f"{where}.db"
        self._calm = Calm(server or f"sqlite:///{self._file}", schema, folder / f"{where}.journal")
        self._app = self._calm.app()
        self._orders: list[int] = []
        self._is_torn = where == "during" and server is None
        """The commit does not come about."""
        self._undone: list[tuple[int, str]] = []
        """Of which order, and what, when the commit says that it is undone."""
        self.killed: Counter[Kind] = Counter()
        """At how many commits of each kind."""

    async def kill_at_every_commit(self) -> None:
        self._app.migrate()
        for kind in Kind:
            tries = 2
            while tries:
                if await self._is_killed_at(kind, self.killed[kind] + 1):
                    self.killed[kind] += 1
                else:
                    tries = tries - 1 if self.killed[kind] < LEAST[kind] else 0

    async def _is_killed_at(self, kind: Kind, number: int) -> bool:
        """Let two orders be worked on; tell whether the worker got as far as its so manyth commit of a kind."""
        what = f"{self._where} the {number}. commit: {kind.value}"
        following = len(self._orders) // 2 * 20
        orders = [following + NEVER_PAID, following + PATIENT]
        self._orders += orders
        record(self._app, *[Placed(order=order) for order in orders])
        async with self._first_worker(kind, number) as worker:
            await until(lambda: worker.exitcode is not None or self._is_done(worker), what)
            code = await self._stop(worker, what)
        if code != 0:
            assert -code == (signal.SIGXFSZ if self._is_torn else signal.SIGKILL), what
            second = self._hired.start(self._calm.work)
            await until(lambda: self._is_done(second), f"{what}; the second worker")
            assert await self._stop(second, what) == 0, what
            if kind is Kind.UNDONE:
                self._undone.append((orders[0], "refund" if number == 1 else "release"))
        self._app.log.own.close()  # the last one: the write-ahead log goes, and grows anew
        return code != 0

    async def _stop(self, worker: BaseProcess, what: str) -> int:
        worker.terminate()
        await until(lambda: worker.exitcode is not None, f"{what}: it stops")
        assert worker.exitcode is not None
        return worker.exitcode

    @asynccontextmanager
    async def _first_worker(self, kind: Kind, number: int) -> AsyncIterator[BaseProcess]:
        calm = self._calm
        if self._server is None:
            yield self._hired.start(calm.work_until, kind, number, self._where, self._file)
            return
        there = urlsplit(self._server)
        proxy = KillingProxy(there.port or 5432, Commits(calm.schema, kind, number), self._where)
        async with proxy:
            netloc = f"{there.username}@127.0.0.1:{proxy.port}"
            url = there._replace(netloc=netloc, query="sslmode=disable&gssencmode=disable").geturl()
            worker = self._hired.start(replace(calm, url=url).work)
            assert worker.pid is not None
            proxy.victim = worker.pid
            yield worker

    def _is_done(self, worker: BaseProcess) -> bool:
        """Every process has ended, nothing is left to do, and all is in the hands of this worker."""
        processes = self._app.processes
        if len(processes.list(limit=1000)) < len(self._orders):
            return False
        if any(processes.list(status=status) for status in ("running", "compensating")) or not idle(self._app):
            return False
        owners = [str(part.owner) for each in self._app.operations.standings() for part in each.partitions]
        return all(f":{worker.pid}:" in owner for owner in owners)

    def check(self) -> None:
        """Every effect came once, and the workers were killed at commits of every kind."""
        check_storm(self._app, self._calm)
        log: dict[int, list[str]] = {}
        for each in self._app.read():
            log.setdefault(each.event.order, []).append(each.type)
        for order in self._orders:
            counts = Counter(log[order])
            seen = self._app.processes.show("fulfilment", str(order)).process
            once = [Placed, Reserve, Reserved, Charge]
            if order % 20 == PATIENT:  # a timer that fires just when the process ends moves it no more
                assert seen.status == "done"
                once += [Charged, *[Reminded] * counts[Reminded.__type__]]
            else:
                moving = [each for each in log[order] if each in (Placed.__type__, Reserved.__type__, *TIMERS)]
                assert (seen.status, seen.steps) == ("compensated", moving.index(Expired.__type__) + 1)
                assert json.loads(seen.state)["reminders"] == 1
                once += [Reminded, Expired, Refund, Release]
            assert counts == Counter(each.__type__ for each in once)
        noted = self._calm.noted()
        calls = 2 if self._where == "before" or self._is_torn else 1
        for order, what in self._undone:
            assert noted[order].count(f"{what} begins") == calls, f"{self._where} it was known to be done"
        killed = self.killed
        print(self._where, {kind.name: number for kind, number in killed.items()})
        assert all(killed[kind] >= least for kind, least in LEAST.items())
