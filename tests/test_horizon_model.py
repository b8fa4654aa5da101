"""The horizon protocol loses nothing, in whatever order its steps happen; without any one of them it does."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.horizon_model import BACK, END, RECORD, SAVEPOINT, Protocol, Scenario, explore

OURS = Protocol()
ONE_EVENT = (RECORD, END)
TWO_EVENTS = (RECORD, RECORD, END)
THREE_EVENTS = (RECORD, RECORD, RECORD, END)
TWO_TRANSACTIONS = (RECORD, END, RECORD, END)
SAVEPOINT_BEFORE_THE_LOCK = (SAVEPOINT, RECORD, BACK, RECORD, END)
SAVEPOINT_AFTER_THE_LOCK = (RECORD, SAVEPOINT, RECORD, BACK, RECORD, END)

SCENARIOS = {
    "two writers of two events": Scenario((TWO_EVENTS, TWO_EVENTS), rounds=3),
    "three writers": Scenario((ONE_EVENT, ONE_EVENT, ONE_EVENT), rounds=2),
    "one transaction after the other": Scenario((TWO_TRANSACTIONS, ONE_EVENT), rounds=2),
    "a savepoint rolled back with the lock": Scenario((SAVEPOINT_BEFORE_THE_LOCK, ONE_EVENT), rounds=2),
    "a savepoint rolled back behind the lock": Scenario((SAVEPOINT_AFTER_THE_LOCK, ONE_EVENT), rounds=2),
}


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_the_protocol_holds(scenario: Scenario) -> None:
    assert not explore(OURS, scenario).failure


class Mutant(NamedTuple):
    protocol: Protocol
    scenario: Scenario
    failure: str


PLAIN = Scenario((TWO_EVENTS, ONE_EVENT), rounds=2)
LATE = Scenario((ONE_EVENT, ONE_EVENT), rounds=1, first=8)

MUTANTS = {
    "the writer takes no lock": Mutant(Protocol(first_record=("take position",)), PLAIN, "SKIPPED 1"),
    "the lock comes after the position": Mutant(
        Protocol(first_record=("read L", "take position", "lock")), PLAIN, "SKIPPED 1"
    ),
    "L is read after the position is taken": Mutant(
        Protocol(first_record=("take position", "read L", "lock")), PLAIN, "SKIPPED 1"
    ),
    "the lock goes before the commit is visible": Mutant(
        Protocol(commit=("release", "become visible")), PLAIN, "SKIPPED 1"
    ),
    "a savepoint's rollback drops the lock, and the writer believes that it has it": Mutant(
        Protocol(forgets_on_rollback_to_savepoint=False),
        Scenario((SAVEPOINT_BEFORE_THE_LOCK, ONE_EVENT), rounds=1),
        "SKIPPED 2",
    ),
    "the next transaction believes that it has the last one's lock": Mutant(
        Protocol(forgets_at_the_end=False), Scenario((TWO_TRANSACTIONS, ONE_EVENT), rounds=1), "SKIPPED 2"
    ),
    "the reader reads the locks before S": Mutant(
        Protocol(round=("read locks", "read S", "take snapshot", "read events")), PLAIN, "SKIPPED 1"
    ),
    "the snapshot is older than the look at the locks": Mutant(
        Protocol(round=("read S", "take snapshot", "read locks", "read events")), PLAIN, "SKIPPED 1"
    ),
    "everything happens in one old snapshot": Mutant(
        Protocol(round=("take snapshot", "read S", "read locks", "read events")), PLAIN, "SKIPPED 1"
    ),
    "the horizon is S": Mutant(Protocol(heeds_locks=False), PLAIN, "SKIPPED 1"),
    "the checkpoint follows a horizon that lies below it": Mutant(
        Protocol(never_goes_back=False), Scenario((ONE_EVENT, ONE_EVENT), rounds=3), "READ TWICE 1"
    ),
    "a key's L is never resolved": Mutant(Protocol(modulus=8, resolve="not at all"), LATE, "HELD BACK at 0"),
    "a lock from after S is taken for a very old one": Mutant(
        Protocol(modulus=8, resolve="behind S"), LATE, "HELD BACK at 1"
    ),
    "a lock lies further behind S than half the range of its key": Mutant(
        Protocol(modulus=7), Scenario((THREE_EVENTS, ONE_EVENT), rounds=1), "SKIPPED"
    ),
    "a lock lies the whole range of its key behind S'": Mutant(
        Protocol(
            modulus=4,
            round=("read S", "read locks", "read S again", "take snapshot", "read events"),
            resolve="behind S'",
        ),
        Scenario((THREE_EVENTS, ONE_EVENT), rounds=1),
        "SKIPPED",
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_every_step_is_needed(mutant: Mutant) -> None:
    result = explore(mutant.protocol, mutant.scenario)
    print(result)
    assert result.failure.startswith(mutant.failure), result
    assert len(result.trace) <= 21, result


@pytest.mark.parametrize("first", range(6))
def test_a_short_key_is_enough_within_half_its_range(first: int) -> None:
    """With 32 bits: no transaction may stay open while more than 2^31 positions are taken."""
    scenario = Scenario((TWO_EVENTS, ONE_EVENT), rounds=2, first=first)  # at most 3 behind, half of 6
    assert not explore(Protocol(modulus=6), scenario).failure


@pytest.mark.parametrize("first", [0, 3])
def test_a_second_look_at_the_sequence_would_allow_the_whole_range(first: int) -> None:
    """No lock can have an L above an S' read after the locks, so that every distance is one backwards."""
    protocol = Protocol(
        modulus=5,
        round=("read S", "read locks", "read S again", "take snapshot", "read events"),
        resolve="behind S'",
    )
    assert not explore(protocol, Scenario((THREE_EVENTS, ONE_EVENT), rounds=1, first=first)).failure


def test_the_trace_is_a_shortest_one() -> None:
    result = explore(Protocol(heeds_locks=False), Scenario((ONE_EVENT,), rounds=1))
    assert result.trace == (
        "writer A: reads L = 0",
        "writer A: takes the lock (log, 0)",
        "writer A: takes position 1",
        "reader: reads S = 1",
        "reader: reads the locks: 0",
        "reader: takes its snapshot",
        "writer A: its commit of 1 becomes visible",
        "reader: reads events none up to H = 1; its checkpoint is 1",
    )
