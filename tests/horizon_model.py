"""A model of the horizon protocol, small enough to walk through every order in which its steps can happen.

The real thing is in `ensue.record` and `ensue.horizon` (PostgreSQL). Here a writer is a script of small steps
that change one shared state, a reader another, and `explore` takes them in every possible order, breadth
first, so that the trace of the first failure found is a shortest one. What is checked:

- nothing is skipped: no event that is or becomes visible lies at or below the checkpoint without being read;
- nothing is read twice, and everything is read in the order of positions;
- the horizon is as high as it can be: min(S, the smallest L that was held when the locks were read).

A `Protocol` says how the steps are done. Its default is ours; the mutants in test_horizon_model.py each
change one thing.

    python -m tests.horizon_model        prints how each mutant fails
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

# What a transaction can do. `end` is a commit or, in another branch, a rollback.
Script = tuple[str, ...]
RECORD = "record"
SAVEPOINT = "savepoint"
BACK = "roll back to savepoint"
END = "end"


@dataclass(frozen=True)
class Protocol:
    """How writers record, how a reader reads."""

    # The writer, in the first recording of a transaction. Later ones only take a position.
    first_record: tuple[str, ...] = ("read L", "lock", "take position")
    commit: tuple[str, ...] = ("become visible", "release")
    # That the lock is held is remembered exactly as long as it is held.
    forgets_on_rollback_to_savepoint: bool = True
    forgets_at_the_end: bool = True

    # The reader, in each round.
    round: tuple[str, ...] = ("read S", "read locks", "take snapshot", "read events")
    heeds_locks: bool = True
    never_goes_back: bool = True  # the checkpoint stays when the horizon is below it

    # A lock's key has room for L modulo this; None for all of L.
    modulus: int | None = None
    resolve: str = "nearest to S"  # as a signed number, above S too


@dataclass(frozen=True)
class Scenario:
    writers: tuple[Script, ...]
    rounds: int
    first: int = 0  # the sequence's last value at the start


class Writer(NamedTuple):
    at: int = 0  # the step of the script
    within: int = 0  # the step within that one
    low: int = 0  # L, as last read
    locks: tuple[int, ...] = ()
    remembers: bool = False  # that it holds a lock
    positions: tuple[int, ...] = ()
    savepoint: tuple[int, int, bool] | None = None  # how many locks, how many positions, remembers
    committing: bool = False


class Reader(NamedTuple):
    at: int = 0
    within: int = 0
    last: int = 0  # S
    last_again: int = 0  # S'
    keys: frozenset[int] = frozenset()  # of the locks, as read
    lowest: int | None = None  # L of those locks: what the keys stand for
    snapshot: frozenset[int] = frozenset()
    checkpoint: int = 0
    read: tuple[int, ...] = ()


class State(NamedTuple):
    last: int  # the sequence's last value
    visible: frozenset[int]
    writers: tuple[Writer, ...]
    reader: Reader


class Step(NamedTuple):
    says: str
    state: State
    wrong: str = ""


@dataclass(frozen=True)
class Result:
    states: int
    failure: str = ""
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.failure:
            return f"holds in {self.states} states"
        title = f"{self.failure}, after {len(self.trace)} steps:"
        return "\n    ".join([title, *self.trace])


def explore(protocol: Protocol, scenario: Scenario) -> Result:
    """Take the steps in every order; return the first failure, with a shortest trace to it."""
    start = State(
        last=scenario.first,
        visible=frozenset(),
        writers=tuple(Writer() for _ in scenario.writers),
        reader=Reader(checkpoint=scenario.first),
    )
    alike = len(set(scenario.writers)) == 1
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    seen = {start}
    wave = [start]
    while wave:
        following = []
        for state in wave:
            for step in steps(protocol, scenario, state):
                if step.wrong:
                    return Result(len(seen), step.wrong, (*_trace(came_from, state), step.says))
                same = _sorted(step.state) if alike else step.state
                if same not in seen:
                    seen.add(same)
                    came_from[step.state] = (state, step.says)
                    following.append(step.state)
        wave = following
    return Result(len(seen))


def _sorted(state: State) -> State:
    """Return one state for all that differ only in which of several equal writers is where."""
    return state._replace(writers=tuple(sorted(state.writers, key=hash)))


def steps(protocol: Protocol, scenario: Scenario, state: State) -> Iterator[Step]:
    """Yield every step that can be the next one."""
    for number, script in enumerate(scenario.writers):
        if state.writers[number].at < len(script):
            for step in write(protocol, script, state, number):
                yield step._replace(says=f"writer {'ABC'[number]}: {step.says}")
    if state.reader.at < scenario.rounds:
        step = read(protocol, state)
        yield step._replace(says=f"reader: {step.says}")


# ---------------------------------------------------------------------------------------------------- writers


def write(protocol: Protocol, script: Script, state: State, number: int) -> Iterator[Step]:
    writer = state.writers[number]
    match script[writer.at]:
        case "record":
            doing = ("take position",) if writer.remembers and not writer.within else protocol.first_record
            yield _record(doing, protocol, state, number)
        case "savepoint":
            point = (len(writer.locks), len(writer.positions), writer.remembers)
            yield _done(state, number, "savepoint", writer._replace(savepoint=point))
        case "roll back to savepoint":
            assert writer.savepoint is not None
            locks, positions, remembered = writer.savepoint
            kept = remembered if protocol.forgets_on_rollback_to_savepoint else writer.remembers
            writer = writer._replace(locks=writer.locks[:locks], positions=writer.positions[:positions])
            writer = writer._replace(remembers=kept, savepoint=None)
            yield _done(state, number, "rolls back to the savepoint", writer)
        case "end":
            yield _commit(protocol, state, number)
            if not writer.committing:
                yield _done(state, number, "rolls back", _ended(protocol, writer))
        case other:
            raise ValueError(other)


def _record(doing: tuple[str, ...], protocol: Protocol, state: State, number: int) -> Step:
    writer = state.writers[number]
    step = doing[writer.within]
    if step == "read L":
        says, writer = f"reads L = {state.last}", writer._replace(low=state.last)
    elif step == "lock":
        says = f"takes the lock (log, {writer.low})"
        writer = writer._replace(locks=(*writer.locks, writer.low), remembers=True)
    else:
        state = state._replace(last=state.last + 1)
        says = f"takes position {state.last}"
        writer = writer._replace(positions=(*writer.positions, state.last))
    if writer.within + 1 == len(doing):
        return _done(state, number, says, writer._replace(within=0))
    return Step(says, _with(state, number, writer._replace(within=writer.within + 1)))


def _commit(protocol: Protocol, state: State, number: int) -> Step:
    writer = state.writers[number]
    wrong = ""
    if protocol.commit[writer.within] == "become visible":
        says = f"its commit of {_list(writer.positions)} becomes visible"
        state = state._replace(visible=state.visible | frozenset(writer.positions))
        skipped = [p for p in writer.positions if p <= state.reader.checkpoint]
        if skipped:
            wrong = f"SKIPPED {_list(skipped)}: the checkpoint is at {state.reader.checkpoint} already"
    else:
        says, writer = "its lock is released", writer._replace(locks=())
    if writer.within + 1 == len(protocol.commit):
        return _done(state, number, says, _ended(protocol, writer))._replace(wrong=wrong)
    going = writer._replace(within=writer.within + 1, committing=True)
    return Step(says, _with(state, number, going), wrong)


def _ended(protocol: Protocol, writer: Writer) -> Writer:
    return Writer(at=writer.at, remembers=writer.remembers and not protocol.forgets_at_the_end)


def _done(state: State, number: int, says: str, writer: Writer) -> Step:
    return Step(says, _with(state, number, writer._replace(at=writer.at + 1, within=0)))


def _with(state: State, number: int, writer: Writer) -> State:
    return state._replace(writers=(*state.writers[:number], writer, *state.writers[number + 1 :]))


# ----------------------------------------------------------------------------------------------------- reader


def read(protocol: Protocol, state: State) -> Step:
    reader = state.reader
    wrong = ""
    step = protocol.round[reader.within]
    if step == "read S":
        says, reader = f"reads S = {state.last}", reader._replace(last=state.last)
    elif step == "read S again":
        says, reader = f"reads S' = {state.last}", reader._replace(last_again=state.last)
    elif step == "read locks":
        held = {low for writer in state.writers for low in writer.locks}
        keys = frozenset(low % protocol.modulus if protocol.modulus else low for low in held)
        says = f"reads the locks: {_list(keys)}"
        reader = reader._replace(keys=keys, lowest=min(held, default=None))
    elif step == "take snapshot":
        says, reader = "takes its snapshot", reader._replace(snapshot=state.visible)
    else:
        says, wrong, reader = _read_events(protocol, state)
    if reader.within + 1 == len(protocol.round):
        reader = Reader(at=reader.at + 1, checkpoint=reader.checkpoint, read=reader.read)
    else:
        reader = reader._replace(within=reader.within + 1)
    return Step(says, state._replace(reader=reader), wrong)


def _read_events(protocol: Protocol, state: State) -> tuple[str, str, Reader]:
    reader = state.reader
    horizon = reader.last
    if protocol.heeds_locks:
        horizon = min([horizon, *(resolved(protocol, key, reader) for key in reader.keys)])
    events = sorted(p for p in reader.snapshot if reader.checkpoint < p <= horizon)
    checkpoint = max(reader.checkpoint, horizon) if protocol.never_goes_back else horizon
    after = reader._replace(checkpoint=checkpoint, read=(*reader.read, *events))
    says = f"reads events {_list(events)} up to H = {horizon}; its checkpoint is {checkpoint}"

    needed = reader.last if reader.lowest is None else min(reader.last, reader.lowest)
    skipped = [p for p in state.visible if p <= checkpoint and p not in after.read]
    if skipped:
        return says, f"SKIPPED {_list(skipped)}", after
    if len(set(after.read)) < len(after.read):
        return says, f"READ TWICE {_list(p for p in events if p in reader.read)}", after
    if list(after.read) != sorted(after.read):
        return says, f"OUT OF ORDER {after.read}", after
    if horizon < needed:
        return says, f"HELD BACK at {horizon}, could be at {needed}", after
    return says, "", after


def resolved(protocol: Protocol, key: int, reader: Reader) -> int:
    """Return the L that a lock's key stands for."""
    modulus = protocol.modulus
    if modulus is None or protocol.resolve == "not at all":
        return key
    if protocol.resolve == "behind S":
        return reader.last - (reader.last - key) % modulus
    if protocol.resolve == "behind S'":
        return reader.last_again - (reader.last_again - key) % modulus
    assert protocol.resolve == "nearest to S"
    distance = (key - reader.last + modulus // 2) % modulus - modulus // 2
    return reader.last + distance


# ----------------------------------------------------------------------------------------------------- traces


def _trace(came_from: dict[State, tuple[State, str] | None], state: State) -> list[str]:
    says = []
    while origin := came_from[state]:
        state, line = origin
        says.append(line)
    return says[::-1]


def _list(positions: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(positions))) or "none"


if __name__ == "__main__":
    from tests.test_horizon_model import MUTANTS

    for name, mutant in MUTANTS.items():
        print(f"\n{name}: {explore(mutant.protocol, mutant.scenario)}")
