"""The runner alone, against a log and a table of parked keys that are plain Python: any schedule, any failures."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ensue.errors import Permanent
from ensue.events import Recorded
from ensue.log import Selection
from ensue.subscriptions import Backoff, Delivery, Done, Outcome, Park, Retry, Subscription
from ensue.subscriptions.declared import SLOTS
from ensue.subscriptions.leasing import Claimed, Lease
from ensue.subscriptions.operating import Decision
from ensue.subscriptions.parking import Due, Parked, Unparked
from ensue.subscriptions.runner import Runner

TYPE = "Seen"
EXAMPLES = int(os.environ.get("ENSUE_TEST_EXAMPLES", "100"))


@dataclass(frozen=True)
class Planned:
    """An event that is going to be recorded, and what its handler will do with it."""

    key: str | None
    answers: tuple[str, ...]
    """One per attempt, then it succeeds."""
    turns: int
    """How often the handler waits."""
    stubborn: bool = False
    """It does not let itself be cancelled."""


@dataclass
class State:
    """What the database holds of one subscription with one partition, under the rules of the SQL files."""

    checkpoint: int = 0
    epoch: int = 0
    parked: dict[str, Parked] = field(default_factory=dict)
    until: dict[str, int] = field(default_factory=dict)

    def yields_to(self, each: Parked | Unparked) -> bool:
        """Tell whether a parked key's row takes what the runner says of it, in spite of what a person has said since.

        As park.sql and unpark.sql have it; nobody edits here.
        """
        there = self.parked.get(each.key)
        if there is None or there.revision == each.revision:
            return True
        further = each.position > there.position
        if isinstance(each, Parked):
            passed = further and each.position > self.until.get(each.key, 0)
        else:
            passed = further or each.position == there.position
        return passed and (each.handled or there.next_step != "retry")


class Trial:
    """A log, the saved state, one runner at a time, and the book of what handlers did."""

    def __init__(self, planned: list[Planned], seed: int) -> None:
        self.random = random.Random(seed)
        self.planned = planned
        self.rows: list[Recorded[Any]] = []
        self.plans: dict[int, Planned] = {}
        self.sequence = 0
        self.state = State()
        self.done: dict[int, int] = {}
        """By position, how often the handler has succeeded."""
        self.skipped: set[int] = set()
        self.attempts: dict[int, int] = {}
        self.busy_keys: set[str] = set()
        self.violations: list[str] = []
        self.runner = self.claim()

    # --- what stands around a runner

    def claim(self) -> Runner:
        self.state.epoch += 1
        claimed = Claimed(
            Lease("s", 0, SLOTS - 1, self.state.epoch),
            self.state.checkpoint,
            (),
            {key: (row.position, row.revision) for key, row in self.state.parked.items()},
        )
        subscription = Subscription(
            name="s", types=(TYPE,), handle=self.handle, concurrency=3, timeout=None, retry=Backoff(attempts=3)
        )
        return Runner(subscription, claimed, "w", self.read, lambda: None)

    async def read(self, selection: Selection, limit: int) -> list[Recorded[Any]]:
        await asyncio.sleep(0)
        assert selection.until is not None
        return [
            row
            for row in self.rows
            if selection.after < row.position <= selection.until and selection.key in (None, row.key)
        ][:limit]

    async def handle(self, delivery: Delivery) -> Outcome | None:
        row = delivery.recorded
        self.watch(row)
        self.busy_keys.add(row.key)
        try:
            plan = self.plans[row.position]
            for _ in range(plan.turns):
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    if not plan.stubborn:
                        raise
            attempt = self.attempts[row.position] = self.attempts.get(row.position, 0) + 1
            answer = plan.answers[attempt - 1] if attempt <= len(plan.answers) else "done"
            match answer:
                case "raise":
                    raise ValueError("not now")
                case "cancelled":
                    raise asyncio.CancelledError
                case "permanent":
                    raise Permanent("never")
                case "park":
                    return Park("no")
                case "retry":
                    return Retry(0)
                case _:
                    self.done[row.position] = self.done.get(row.position, 0) + 1
                    return None if attempt % 2 else Done()
        finally:
            self.busy_keys.discard(row.key)

    def watch(self, row: Recorded[Any]) -> None:
        """Note what must not be: an error raised here would only be one more failure of a handler."""
        if self.runner.paused:
            self.violations.append(f"{row.position} is picked up while it is paused")
        if row.key in self.busy_keys:
            self.violations.append(f"{row.position} is not the only one of its key")
        for earlier in self.rows:
            known = earlier.position in self.done or earlier.position in self.skipped
            if earlier.key == row.key and earlier.position < row.position and not known:
                self.violations.append(f"{row.position} comes before {earlier.position}, of the same key")

    # --- what happens

    def feed(self, some: int) -> None:
        """Record some more events, let the runner take in all of them, as its tail would."""
        for plan in self.planned[len(self.rows) : len(self.rows) + some]:
            self.sequence += self.random.choice([1, 1, 1, 4])
            self.plans[self.sequence] = plan
            self.rows.append(
                Recorded(
                    self.sequence,
                    f"id{len(self.rows)}",
                    TYPE,
                    "domain",
                    None,
                    None,
                    plan.key,
                    "{}",
                    None,
                    None,
                    None,
                    "",
                )
            )
        self.sequence += self.random.choice([0, 0, 3])  # rolled back
        if self.runner.roomy.is_set():
            after = self.runner.read_to
            self.runner.take([row for row in self.rows if after < row.position <= self.sequence], self.sequence)

    async def turn(self, times: int) -> None:
        for _ in range(times):
            await asyncio.sleep(0)

    def save(self) -> None:
        checkpoint, parks = self.runner.collect()
        if checkpoint is None:
            return
        assert checkpoint.epoch == self.state.epoch
        for key, each in parks.items():
            if not self.state.yields_to(each):
                continue
            there = self.state.parked.pop(key, None)
            self.state.until.pop(key, None)
            if isinstance(each, Parked):
                revision = each.revision if there is None else there.revision
                self.state.parked[key] = msgspec.structs.replace(each, revision=revision)
        self.state.checkpoint = max(self.state.checkpoint, checkpoint.checkpoint)
        self.check_saved()
        if self.random.random() < 0.1:  # the answer is lost
            self.runner.keep(parks)
        else:
            self.runner.saved(checkpoint.checkpoint)

    def check_saved(self) -> None:
        """Whatever crashes now: what is behind the checkpoint is done, or found by its parked key."""
        for row in self.rows:
            if row.position <= self.state.checkpoint and row.position not in self.done | dict.fromkeys(self.skipped):
                parked = self.state.parked.get(row.key)
                assert parked, f"{row.position} is behind the checkpoint, neither done nor parked"
                first = parked.position + (parked.next_step == "skip")
                assert first <= row.position, f"{row.position} is passed over by {parked}"

    async def save_in_vain(self) -> None:
        _, parks = self.runner.collect()
        await self.turn(self.random.randrange(3))
        self.runner.keep(parks)

    async def look(self) -> None:
        """As the worker looks for what is due: save, read, and pass on what has not moved meanwhile."""
        self.runner.moved.clear()
        self.save()
        found = [
            Due(
                "s",
                key,
                row.slot,
                row.position,
                row.id,
                row.type,
                row.next_step,
                row.attempt,
                None,
                row.revision,
                0,
                self.state.until.get(key),
            )
            for key, row in self.state.parked.items()
            if row.next_step != "wait"
        ]
        await self.turn(self.random.randrange(4))
        for due in found:
            if not self.runner.paused:
                self.runner.resume(due)

    def decide(self) -> None:
        """A person says retry or skip for some of the keys that wait for one."""
        for key, row in self.state.parked.items():
            if row.next_step == "wait" and self.random.random() < 0.7:
                self.decide_on(key, self.random.choice(["retry", "skip"]))

    def cross(self) -> None:
        """A person says something about keys that the runner may have in its hands at the moment."""
        for key, row in self.state.parked.items():
            if self.random.random() < 0.7:
                step: Decision = self.random.choice(("retry", "skip", "discard"))
                if step != "retry" or row.position not in self.skipped:  # who wants it back gets those behind it again
                    self.decide_on(key, step)

    def decide_on(self, key: str, step: Decision) -> None:
        row = self.state.parked[key]
        self.state.until.pop(key, None)
        if step == "discard":
            self.state.until[key] = self.state.checkpoint
            self.skipped |= {
                each.position
                for each in self.rows
                if each.key == key and row.position <= each.position <= self.state.checkpoint
            }
        if step != "retry":
            self.skipped.add(row.position)
        self.state.parked[key] = msgspec.structs.replace(row, next_step=step, revision=row.revision + 1, attempt=0)

    def outage(self) -> None:
        """The database crashes: positions that nobody has committed are given out again."""
        last = self.rows[-1].position if self.rows else 0
        self.sequence = max(last, self.state.checkpoint)
        self.runner.rewind()

    async def restart(self) -> None:
        await self.runner.stop(self.random.choice([0.0, 5.0]))
        self.save()
        self.busy_keys.clear()
        self.runner = self.claim()

    def crash(self) -> None:
        self.runner.abandon()
        self.busy_keys.clear()
        self.runner = self.claim()

    def pause(self) -> None:
        self.runner.pause(not self.runner.paused)

    async def drain(self) -> None:
        """Go on until all is done; whoever waits for a person gets a retry."""
        self.runner.pause(False)
        for _ in range(3000):
            self.feed(len(self.planned))
            await self.turn(3)
            self.decide()
            await self.look()
            assert getattr(self.runner, "broken", None) is None, self.runner.broken
            if self.settled():
                self.save()
                if not self.state.parked and self.state.checkpoint >= self.rows[-1].position:
                    return
        raise AssertionError(f"not settled: {self.state}, {set(self.plans) - set(self.done) - self.skipped}")

    def settled(self) -> bool:
        return len(self.rows) == len(self.planned) and all(
            row.position in self.done or row.position in self.skipped for row in self.rows
        )


answers = st.lists(st.sampled_from(["raise", "retry", "park", "permanent", "cancelled"]), max_size=4).map(tuple)
plans = st.builds(
    Planned,
    key=st.sampled_from(["a", "b", "c", "d", None]),
    answers=st.one_of(st.just(()), st.just(()), answers),
    turns=st.integers(0, 4),
    stubborn=st.booleans(),
)
PEACEFUL = ["feed", "feed", "turn", "turn", "save", "save in vain", "look", "decide", "cross", "pause"]


async def play(planned: list[Planned], steps: list[str], seed: int) -> Trial:
    trial = Trial(planned, seed)
    acts: dict[str, Callable[[], Any]] = {
        "feed": lambda: trial.feed(trial.random.randrange(1, 9)),
        "turn": lambda: trial.turn(trial.random.randrange(1, 6)),
        "save": trial.save,
        "save in vain": trial.save_in_vain,
        "look": trial.look,
        "decide": trial.decide,
        "cross": trial.cross,
        "pause": trial.pause,
        "outage": trial.outage,
        "restart": trial.restart,
        "crash": trial.crash,
    }
    for step in steps:
        result = acts[step]()
        if result is not None:
            await result
        await trial.turn(1)
    await trial.drain()
    await trial.runner.stop(5.0)
    assert not trial.violations
    return trial


def check_once(trial: Trial) -> None:
    """What was given up while it was in hand may have succeeded all the same."""
    once = dict.fromkeys(trial.plans, 1)
    assert dict.fromkeys(trial.skipped, 1) | trial.done == once


@given(
    planned=st.lists(plans, min_size=1, max_size=40),
    steps=st.lists(st.sampled_from([*PEACEFUL, "outage"]), max_size=60),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
def test_everything_is_done_exactly_once_and_in_order(planned: list[Planned], steps: list[str], seed: int) -> None:
    trial = asyncio.run(play(planned, steps, seed))
    check_once(trial)


@given(
    planned=st.lists(plans, min_size=1, max_size=40),
    steps=st.lists(st.sampled_from([*PEACEFUL, "restart"]), max_size=60),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
def test_a_graceful_stop_does_nothing_twice(planned: list[Planned], steps: list[str], seed: int) -> None:
    trial = asyncio.run(play(planned, steps, seed))
    check_once(trial)


@given(
    planned=st.lists(plans, min_size=1, max_size=40),
    steps=st.lists(st.sampled_from([*PEACEFUL, "outage", "restart", "crash"]), max_size=60),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
def test_a_crash_loses_nothing_and_keeps_the_order(planned: list[Planned], steps: list[str], seed: int) -> None:
    trial = asyncio.run(play(planned, steps, seed))
    assert trial.settled()


async def test_a_key_that_fails_again_before_its_release_was_saved() -> None:
    trial = Trial([Planned("a", ("park",), 0), Planned("a", ("raise",), 0)], 0)
    trial.feed(1)
    await trial.turn(9)
    trial.save()
    trial.decide_on("a", "retry")  # its row in the database has another revision from now on
    await trial.look()
    await trial.turn(9)
    trial.feed(1)
    await trial.turn(9)
    await trial.drain()
    assert list(trial.done.values()) == [1, 1]


async def test_what_queues_behind_a_key_is_handled_though_its_part_was_cut_anew() -> None:
    """The new part begins where the slowest of the old ones was; the one with the key was further."""
    trial = Trial([Planned("a", ("raise",), 0), Planned("a", (), 0), Planned("a", (), 0)], 0)
    trial.feed(2)
    await trial.turn(9)
    trial.save()
    reached = trial.sequence
    assert trial.state.parked["a"].position < trial.rows[1].position <= reached
    claimed = Claimed(
        Lease("s", 0, SLOTS - 1, trial.state.epoch),
        0,
        ((0, SLOTS - 1, reached),),
        {key: (row.position, row.revision) for key, row in trial.state.parked.items()},
    )
    trial.state.checkpoint = 0
    trial.runner.abandon()
    trial.runner = Runner(trial.runner.subscription, claimed, "w", trial.read, lambda: None)
    await trial.look()  # before it has taken anything in
    await trial.turn(30)
    trial.feed(1)
    await trial.turn(9)
    assert list(trial.done.values()) == [1, 1, 1]


async def test_a_call_that_takes_long_keeps_no_other_key_waiting() -> None:
    """As many keys are handled side by side as `concurrency` says, though each comes alone."""
    trial = Trial([Planned(key, (), 10**6) for key in "abc"], 0)
    for number in range(1, 4):
        trial.feed(1)
        await trial.turn(30)
        assert len(trial.runner._in_hand) == min(number, trial.runner.subscription.concurrency)
    trial.runner.abandon()
    await trial.turn(30)
