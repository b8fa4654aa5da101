"""The tail alone: whoever joins it, whenever, gets every event of its types once and in order."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensue.events import Recorded
from ensue.log import Selection
from ensue.log.statements import Query
from ensue.subscriptions import tail as tail_module
from ensue.subscriptions.tail import Look, Tail
from ensue.subscriptions.wakers import PostgresWaker

EXAMPLES = int(os.environ.get("ENSUE_TEST_EXAMPLES", "100"))
TYPES = ("A", "B", "C")
BATCH = 3


class Log:
    """Rows in a list, read as the log is read."""

    def __init__(self) -> None:
        self.dialect = SimpleNamespace(sql={"head": Query("head")})
        self.rows: list[Recorded[Any]] = []
        self.last = 0

    def record(self, type: str, gap: int) -> None:
        self.last += 1 + gap
        self.rows.append(
            Recorded(self.last, f"id{self.last}", type, "domain", None, None, None, "{}", None, None, None, "")
        )

    def find(self, selection: Selection, limit: int) -> list[Recorded[Any]]:
        assert selection.until is not None
        return [
            row
            for row in self.rows
            if selection.after < row.position <= selection.until and row.type in selection.types
        ][:limit]

    def read(self, selection: Selection, limit: int) -> Generator[Any, Any, list[Recorded[Any]]]:
        rows = self.find(selection, limit)
        yield "read"
        return rows


class Station:
    """Answers after some turns of the loop."""

    def __init__(self, log: Log, rng: random.Random) -> None:
        self.log = log
        self.random = rng

    async def do(self, steps: Generator[Any, Any, Any]) -> Any:
        try:
            step = next(steps)
            while True:
                answer = [(self.log.last, False)] if step != "read" else []
                for _ in range(self.random.randrange(3)):
                    await asyncio.sleep(0)
                step = steps.send(answer)
        except StopIteration as done:
            return done.value


class Runner:
    """Takes what it is given and complains about gaps."""

    def __init__(self, types: frozenset[str], read_to: int) -> None:
        self.types = types
        self.start = self.read_to = read_to
        self.alone = asyncio.Event()
        self.alone.set()
        self.roomy = asyncio.Event()
        self.roomy.set()
        self.taken: list[int] = []

    @property
    def attached(self) -> bool:
        return not self.alone.is_set()

    def take(self, rows: list[Recorded[Any]], upto: int) -> None:
        if upto <= self.read_to:
            return
        assert all(row.type in self.types for row in rows)
        self.taken += [row.position for row in rows if row.position > self.read_to]
        self.read_to = upto


STEPS = ["record", "record", "step", "step", "join", "catch up", "attach", "attach", "full", "room", "leave", "reset"]


async def play(steps: list[str], seed: int) -> None:
    rng = random.Random(seed)
    log = Log()
    tail = Tail(log, Station(log, rng), None)  # type: ignore[arg-type]
    runners = [Runner(frozenset(rng.sample(TYPES, rng.randrange(1, 4))), 0)]
    stepping: set[asyncio.Task[Look]] = set()

    def catch_up(runner: Runner, limit: int) -> None:
        if not runner.attached and runner.roomy.is_set() and runner.read_to <= tail.position:
            if tail.attach(runner):  # type: ignore[arg-type]
                return
            until = tail.position
            rows = log.find(Selection(after=runner.read_to, until=until, types=tuple(runner.types)), limit)
            runner.take(rows, rows[-1].position if len(rows) == limit else until)

    for name in steps:
        runner = rng.choice(runners)
        match name:
            case "record":
                for _ in range(rng.randrange(1, 5)):
                    log.record(rng.choice(TYPES), rng.choice([0, 0, 2]))
            case "step" if not stepping:  # one at a time, as its loop does
                task = asyncio.create_task(tail.step())
                stepping.add(task)
                task.add_done_callback(stepping.discard)
            case "join":
                runners.append(Runner(frozenset(rng.sample(TYPES, rng.randrange(1, 4))), rng.randrange(log.last + 1)))
            case "catch up":
                for each in runners:
                    catch_up(each, BATCH)
            case "attach" if not runner.attached and 0 <= runner.read_to <= tail.position:
                tail.attach(runner)  # type: ignore[arg-type]
            case "full":
                runner.roomy.clear()
            case "room":
                runner.roomy.set()
            case "leave" if len(runners) > 1:
                tail.detach(runner)  # type: ignore[arg-type]
                runners.remove(runner)
            case "reset" if not stepping and rng.random() < 0.2:
                tail.reset()
            case _:
                pass
        await asyncio.sleep(0)
    for runner in runners:
        runner.roomy.set()
    for _ in range(100 + len(log.rows)):
        await asyncio.gather(*stepping)
        for runner in runners:
            catch_up(runner, BATCH)
        await tail.step()
    for runner in runners:
        expected = [row.position for row in log.rows if row.position > runner.start and row.type in runner.types]
        assert runner.taken == expected
        assert runner.attached


@given(steps=st.lists(st.sampled_from(STEPS), min_size=80, max_size=160), seed=st.integers(0, 2**32))
@settings(max_examples=EXAMPLES, deadline=None)
def test_whoever_joins_gets_each_event_once(steps: list[str], seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail_module, "BATCH", BATCH)
        asyncio.run(play(steps, seed))


class Asleep(Exception):
    """Ends a run at the first look without news."""


class Waker:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[bool] = []

    async def busy(self, *, wanted: bool) -> None:
        self.told.append(wanted)

    async def idle(self, *, writers: bool) -> None:
        raise Asleep

    async def close(self) -> None:
        """Nothing to close."""


async def test_the_waker_is_told_whether_somebody_wants_the_news() -> None:
    log, waker = Log(), Waker()
    tail = Tail(log, Station(log, random.Random(1)), waker)  # type: ignore[arg-type]
    runner = Runner(frozenset({"A"}), 0)
    await tail.step()
    assert tail.attach(runner)  # type: ignore[arg-type]
    for type in ("B", "A", "C"):
        log.record(type, 0)
        with pytest.raises(Asleep):
            await tail.run()
    assert waker.told == [False, True, False]
    assert runner.read_to == log.last


async def test_a_busy_log_is_looked_at_less_often_while_nobody_here_wants_its_news(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("ensue.subscriptions.wakers.asyncio.sleep", sleep)
    waker = PostgresWaker(None, None)  # type: ignore[arg-type]
    for wanted in (False, True):
        for _ in range(3):
            await waker.busy(wanted=wanted)
        await waker.idle(writers=False)
    others, ours = pauses
    assert others > 3 * ours
