"""The applier alone, against a log and tables that are plain Python: any schedule, any failures, answers that are lost.

A transaction is what it is in a database: what a function does, and how far it has come, are there together or not at
all, and whoever is cancelled or loses the connection does not know which. The rules for parked keys are those of
park.sql and unpark.sql.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ensue.errors import DatabaseUnavailable, Permanent
from ensue.events import Recorded
from ensue.log import Selection, Steps
from ensue.subscriptions import Backoff, Failure, NotApplied, Park, Retry, Subscription, repartition
from ensue.subscriptions.applying import Applier, Place, Surroundings, partition_at
from ensue.subscriptions.declared import slot_of
from ensue.subscriptions.leasing import Claimed, Lease
from ensue.subscriptions.parking import GOES_ON, Due, NextStep, Parked, Unparked
from tests.patience import until

TYPE = "Applied"
NAME = "s"
EXAMPLES = int(os.environ.get("ENSUE_TEST_EXAMPLES", "100"))
_parked = msgspec.json.Decoder(list[Parked]).decode
_unparked = msgspec.json.Decoder(list[Unparked]).decode


@dataclass(frozen=True)
class Planned:
    """An event that is going to be recorded, and what becomes of the attempts to apply it."""

    key: str | None
    answers: tuple[str, ...]
    """One per attempt, then it succeeds."""
    turns: int
    """How often its function waits."""


@dataclass
class Part:
    """A partition of the one subscription."""

    first_slot: int
    last_slot: int
    checkpoint: int
    ahead: list[tuple[int, int, int]]
    epoch: int

    def reached(self, slot: int) -> int:
        return max([self.checkpoint, *(to for low, high, to in self.ahead if low <= slot <= high)])


@dataclass
class Row:
    """A parked key."""

    position: int
    id: str
    next_step: NextStep
    attempt: int
    revision: int
    reason: str
    until: int | None = None

    @property
    def on_its_way(self) -> bool:
        """It has been handled, and those behind it are next: nobody decides on it."""
        return (self.next_step, self.reason) == ("skip", GOES_ON)

    def keeps(self, position: int) -> bool:
        """Tell whether an event of the key still waits."""
        return position > self.position or (position == self.position and not self.on_its_way)


@dataclass
class State:
    """What has been committed."""

    parts: list[Part] = field(default_factory=lambda: [Part(0, 65535, 0, [], 0)])
    parked: dict[str, Row] = field(default_factory=dict)
    table: dict[str, list[int]] = field(default_factory=dict)
    """The positions that were applied of each key, in their order."""

    def part(self, slot: int) -> Part:
        return next(each for each in self.parts if each.first_slot <= slot <= each.last_slot)


@dataclass(frozen=True)
class Asked:
    """A statement."""

    name: str
    values: dict[str, Any]


class Sql:
    """Makes statements by their name."""

    def __getitem__(self, name: str) -> Callable[..., Asked]:
        return lambda **values: Asked(name, values)


class Database:
    """Carries operations of the log out on plain Python."""

    def __init__(self) -> None:
        self.state = State()
        self.log: Any = SimpleNamespace(dialect=SimpleNamespace(sql=Sql()), observer=None)

    def commit(self, steps: Steps[Any], applied: Sequence[Recorded[Any]] = ()) -> Any:
        """Carry an operation out with what has been applied, or, if it raises, nothing of both."""
        before = copy.deepcopy(self.state)
        try:
            for row in applied:
                self.state.table.setdefault(row.key, []).append(row.position)
            asked = next(steps)
            while True:
                assert isinstance(asked, Asked)
                asked = steps.send(getattr(self, asked.name)(**asked.values))
        except StopIteration as done:
            return done.value
        except BaseException:
            self.state = before
            raise

    def hold_parked(self, subscription: str, key: str) -> list[Any]:
        row = self.state.parked.get(key)
        return [] if row is None else [(row.revision, row.position)]

    def parked_of(self, subscription: str, first_slot: int, last_slot: int) -> list[Any]:
        return [
            (key, row.position, row.revision)
            for key, row in self.state.parked.items()
            if first_slot <= slot_of(key) <= last_slot
        ]

    def settle(self, rows: str, goes_on: str) -> list[Any]:
        """Keep no book of what is done: nothing here reads it."""
        return []

    def park(self, rows: str) -> list[Any]:
        for each in _parked(rows):
            if not self.fits(each.slot, each.epoch):
                continue
            there = self.state.parked.get(each.key)
            passed = (
                there is not None
                and each.position > max(there.position, there.until or 0)
                and (each.handled or there.next_step != "retry")
            )
            if there is None or there.revision == each.revision or passed:
                revision = each.revision if there is None else there.revision
                self.state.parked[each.key] = Row(
                    each.position, each.id, each.next_step, each.attempt, revision, each.reason
                )
        return []

    def unpark(self, rows: str) -> list[Any]:
        for each in _unparked(rows):
            there = self.state.parked.get(each.key)
            if there is None or not self.fits(slot_of(each.key), each.epoch):
                continue
            passed = there.position <= each.position and (each.handled or there.next_step != "retry")
            if there.revision == each.revision or passed:
                del self.state.parked[each.key]
        return []

    def fits(self, slot: int, epoch: int) -> bool:
        return self.state.part(slot).epoch == epoch

    def advance(self, subscription: str, first_slot: int, epoch: int, before: int, after: int) -> list[Any]:
        for part in self.state.parts:
            if (part.first_slot, part.epoch, part.checkpoint) == (first_slot, epoch, before):
                part.checkpoint = after
                return [(after,)]
        return []

    def partition_at(self, subscription: str, first_slot: int) -> list[Any]:
        return [(part.epoch, part.checkpoint) for part in self.state.parts if part.first_slot == first_slot]

    def partitions_of(self, name: str = "", subscription: str = "") -> list[Any]:
        return [
            (part.first_slot, part.last_slot, part.checkpoint, json.dumps(part.ahead), None, part.epoch)
            for part in self.state.parts
        ]

    def delete_partitions(self, subscription: str) -> list[Any]:
        self.state.parts = []
        return []

    def insert_partition(
        self, subscription: str, first_slot: int, last_slot: int, checkpoint: int, ahead: str, epoch: int
    ) -> list[Any]:
        segments = [(low, high, to) for low, high, to in json.loads(ahead)]
        self.state.parts.append(Part(first_slot, last_slot, checkpoint, segments, epoch))
        return []

    def insert_audit(self, **values: Any) -> list[Any]:
        return []


class Hasty(asyncio.SelectorEventLoop):
    """An event loop in which no time is lost by waiting for a timer."""

    _skipped = 0.0

    def time(self) -> float:
        return super().time() + self._skipped

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._skipped += max(0.0, self._scheduled[0].when() - self.time())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


class Trial:
    """A database, what is recorded in it, and the appliers that work on it: one for each part, and those overtaken."""

    def __init__(self, planned: list[Planned], seed: int) -> None:
        self.random = random.Random(seed)
        self.planned = planned
        self.rows: list[Recorded[Any]] = []
        self.plans: dict[int, Planned] = {}
        self.sequence = 0
        self.attempts: dict[int, int] = {}
        self.dropped: set[int] = set()
        self.trouble: list[str] = []
        """What becomes of the next commits."""
        self.database = Database()
        self.appliers: list[Applier] = []
        self.overtaken: list[Applier] = []
        self.repartition()

    # --- what stands around an applier

    def take_over(self) -> None:
        """Take all leases anew; those who held them go on until they find out."""
        self.overtaken += self.appliers
        self.appliers = []
        around = Surroundings(self.database.log, "w", self.read, self.look, lambda _: None, lambda _: None)
        subscription = Subscription(
            name=NAME,
            types=(TYPE,),
            applies=lambda: self,
            batch=self.random.choice((1, 3, 5)),
            retry=Backoff(first=0.01, attempts=3),
        )
        for part in self.database.state.parts:
            part.epoch += 1
            parked = {
                key: (row.position, row.revision)
                for key, row in self.database.state.parked.items()
                if part.first_slot <= slot_of(key) <= part.last_slot
            }
            claimed = Claimed(
                Lease(NAME, part.first_slot, part.last_slot, part.epoch), part.checkpoint, tuple(part.ahead), parked
            )
            self.appliers.append(Applier(subscription, claimed, self, around))

    async def read(self, selection: Selection, limit: int) -> list[Recorded[Any]]:
        await self.turn(self.random.randrange(3))
        assert selection.until is not None
        assert selection.until <= self.sequence
        return [
            copy.copy(row)
            for row in self.rows
            if selection.after < row.position <= selection.until and selection.key in (None, row.key)
        ][:limit]

    async def look(self, lease: Lease) -> Place | None:
        await self.turn(self.random.randrange(3))
        found: Place | None = self.database.commit(partition_at(self.database.log, lease))
        return found

    async def apply(self, rows: Sequence[Recorded[Any]], progress: Callable[[], Steps[None]], *, careful: bool) -> None:
        late: NotApplied | None = None
        for index, row in enumerate(rows):
            await self.turn(self.plans[row.position].turns)
            refused = self.answer(row.position)
            if isinstance(refused, str) and not careful:  # it is said later, and not of which it was
                late = late or NotApplied(None, Failure(ValueError(refused)))
            elif refused is not None:
                found = Failure(ValueError(refused)) if isinstance(refused, str) else refused
                raise NotApplied(index, found)
        await self.turn(self.random.randrange(2))
        if late is not None:
            raise late
        trouble = self.trouble.pop() if self.trouble else ""
        if trouble == "before":
            raise DatabaseUnavailable("the connection was lost")
        self.database.commit(progress(), list(rows))
        await self.turn(self.random.randrange(2))  # the answer is on its way: who is cancelled here does not know
        if trouble == "behind":
            raise DatabaseUnavailable("the connection was lost, and the answer with it")

    def answer(self, position: int) -> str | Failure | Park | Retry | None:
        plan = self.plans[position]
        attempt = self.attempts[position] = self.attempts.get(position, 0) + 1
        match plan.answers[attempt - 1] if attempt <= len(plan.answers) else "":
            case "raise":
                return Failure(ValueError("not now"))
            case "permanent":
                return Failure(Permanent("never"), final=True)
            case "park":
                return Park("no")
            case "retry":
                return Retry(0)
            case "refused":
                return "the statement"
        return None

    # --- what happens

    def record(self, some: int) -> None:
        for plan in self.planned[len(self.rows) : len(self.rows) + some]:
            self.sequence += self.random.choice([1, 1, 1, 4])
            self.plans[self.sequence] = plan
            about = (TYPE, "domain", None, None, plan.key, "{}", None, None, None, "")
            self.rows.append(Recorded(self.sequence, f"id{len(self.rows)}", *about))
        self.sequence += self.random.choice([0, 0, 3])  # rolled back

    def feed(self) -> None:
        """Let one of them take in some of what there is, as the tail and who reads for it would."""
        applier = self.random.choice(self.appliers)
        self.feed_to(applier, self.random.randint(0, self.sequence))

    def feed_to(self, applier: Applier, upto: int) -> None:
        if applier.roomy.is_set():
            after = applier.read_to
            applier.take([copy.copy(row) for row in self.rows if after < row.position <= upto], upto)

    async def turn(self, times: int) -> None:
        for _ in range(times):
            await asyncio.sleep(0)

    async def find_due(self) -> None:
        """As the worker looks for what is due: read, and pass on what has not moved meanwhile."""
        for applier in self.appliers:
            applier.moved.clear()
        found = [
            Due(
                NAME,
                key,
                slot_of(key),
                row.position,
                row.id,
                TYPE,
                row.next_step,
                row.attempt,
                None,
                row.revision,
                0,
                row.until,
            )
            for key, row in self.database.state.parked.items()
            if row.next_step != "wait"
        ]
        await self.turn(self.random.randrange(6))
        for due in found:
            for applier in self.appliers:
                if applier.lease.covers(NAME, due.slot) and not applier.paused:
                    applier.resume(due)

    def decide(self) -> None:
        """A person says what happens with parked keys, and may say something else before that has been carried out."""
        for key, row in self.database.state.parked.items():
            step: NextStep = self.random.choice(("retry", "skip", "discard"))
            if self.random.random() < 0.3 or row.on_its_way:
                continue
            positions = {each.position for each in self.rows if each.key == key and each.position >= row.position}
            self.dropped -= positions
            row.until = None
            if step == "discard":
                row.until = until = self.database.state.part(slot_of(key)).reached(slot_of(key))
                self.dropped |= {each for each in positions if each <= until}
            if step != "retry":
                self.dropped.add(row.position)
            row.next_step, row.attempt, row.revision = step, 0, row.revision + 1

    def drift(self) -> None:
        """Save where events of others have brought one of them, or fail to."""
        applier = self.random.choice(self.appliers)
        checkpoint, _ = applier.collect()
        if checkpoint is None:
            return
        part = next((each for each in self.database.state.parts if each.first_slot == checkpoint.first_slot), None)
        taken = part is not None and part.epoch == checkpoint.epoch
        if taken and part is not None and self.random.random() < 0.8:
            part.checkpoint = max(part.checkpoint, checkpoint.checkpoint)
        if taken and self.random.random() < 0.7 and part is not None and part.checkpoint >= checkpoint.checkpoint:
            applier.saved(checkpoint.checkpoint)
        else:
            applier.keep({})

    def pause(self) -> None:
        applier = self.random.choice(self.appliers)
        applier.pause(not applier.paused)

    def abandon(self) -> None:
        """Break all off in the middle of what they do; who takes over begins where the database says."""
        for applier in self.appliers:
            applier.abandon()
        self.take_over()

    async def restart(self) -> None:
        for applier in self.appliers:
            await applier.stop(self.random.choice([0.0, 5.0]))
        self.take_over()

    def repartition(self) -> None:
        parts = self.random.randint(1, 4)
        self.database.commit(repartition(self.database.log, NAME, parts, actor="me", reason="so"))
        self.take_over()

    def copy(self) -> None:
        """A build begins with what the live one holds and goes on from there, repartitioned perhaps: it is this one."""
        self.database.state = copy.deepcopy(self.database.state)
        for part in self.database.state.parts:
            part.epoch += 1  # nobody has worked on it yet
        self.take_over()

    def check(self) -> None:
        for applier in self.appliers:
            assert applier.broken is None, applier.broken
        for key in {row.key for row in self.rows}:
            reached = self.database.state.part(slot_of(key)).reached(slot_of(key))
            waits = self.database.state.parked.get(key)
            expected = [
                row.position
                for row in self.rows
                if row.key == key
                and row.position <= reached
                and not (waits and waits.keeps(row.position))
                and row.position not in self.dropped
            ]
            applied = self.database.state.table.get(key, [])
            assert applied == expected, f"{key}: {applied} are applied of {expected}; it has reached {reached}, {waits}"

    async def drain(self) -> None:
        """Go on until all is done; whoever waits for a person gets a retry, and is not asked again."""
        self.record(len(self.planned))
        for _ in range(2000):
            for applier in self.appliers:
                applier.pause(False)
                self.feed_to(applier, self.sequence)
            await self.turn(5)
            await self.find_due()
            await asyncio.sleep(0.01)
            self.check()
            for row in self.database.state.parked.values():
                if row.next_step == "wait":
                    row.next_step, row.attempt, row.revision = "retry", 0, row.revision + 1
            if all(applier.stopping for applier in self.appliers):
                self.take_over()
            todo = [
                e
                for e in self.rows
                if e.position not in self.dropped and e.position not in self.database.state.table.get(e.key, ())
            ]
            if not todo and not self.database.state.parked:
                return
        raise AssertionError(f"not settled: {self.database.state}")

    async def end(self) -> None:
        for applier in (*self.appliers, *self.overtaken):
            applier.abandon()
        await asyncio.sleep(0.01)


answers = st.lists(st.sampled_from(["raise", "retry", "park", "permanent", "refused"]), max_size=4).map(tuple)
plans = st.builds(
    Planned,
    key=st.sampled_from(["a", "b", "c", "d", "e", "f", None]),
    answers=st.one_of(st.just(()), st.just(()), answers),
    turns=st.integers(0, 3),
)
ACTS = [
    "record",
    "feed",
    "feed",
    "turn",
    "turn",
    "find due",
    "find due",
    "decide",
    "drift",
    "pause",
    "trouble",
    "rewind",
    "abandon",
    "restart",
    "overtake",
    "repartition",
    "repartition",
    "copy",
]


async def play(planned: list[Planned], steps: list[str], seed: int) -> None:
    trial = Trial(planned, seed)
    acts: dict[str, Callable[[], Any]] = {
        "record": lambda: trial.record(trial.random.randrange(1, 9)),
        "feed": trial.feed,
        "turn": lambda: trial.turn(trial.random.randrange(1, 12)),
        "find due": trial.find_due,
        "decide": trial.decide,
        "drift": trial.drift,
        "pause": trial.pause,
        "trouble": lambda: trial.trouble.append(trial.random.choice(["before", "behind"])),
        "rewind": lambda: trial.random.choice(trial.appliers).rewind(),
        "abandon": trial.abandon,
        "restart": trial.restart,
        "overtake": trial.take_over,
        "repartition": trial.repartition,
        "copy": trial.copy,
    }
    try:
        for step in steps:
            answer = acts[step]()
            if answer is not None:
                await answer
            trial.check()
        await trial.drain()
    finally:
        await trial.end()


def hastily(work: Any) -> None:
    with asyncio.Runner(loop_factory=Hasty) as runner:
        runner.run(work)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    planned=st.lists(plans, min_size=5, max_size=30),
    steps=st.lists(st.sampled_from(ACTS), min_size=5, max_size=50),
    seed=st.integers(0, 2**32),
)
def test_what_is_applied_is_what_the_progress_says(planned: list[Planned], steps: list[str], seed: int) -> None:
    hastily(play(planned, steps, seed))


def test_what_queues_behind_a_key_is_applied_though_its_part_was_cut_anew() -> None:
    """The new part begins where the slowest of the old ones was; the one with the key was further."""

    async def work() -> None:
        trial = Trial([Planned("a", (), 0), Planned("a", (), 0)], 1)
        trial.record(2)
        first, last = (row.position for row in trial.rows)
        trial.database.state = State(
            [Part(0, 65535, 0, [(0, 65535, last)], 0)], {"a": Row(first, "id0", "retry", 1, 0, "it failed")}
        )
        trial.take_over()
        try:
            await trial.find_due()
            await until(lambda: not trial.database.state.parked)
            assert trial.database.state.table == {"a": [first, last]}
        finally:
            await trial.end()

    hastily(work())
