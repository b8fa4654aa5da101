"""Strategies made of types, and machines made of aggregates: each finds what it is there to find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from ensue import Aggregate, App, Decider, DomainEvent, SourcedEvent, evolves
from ensue.testing.machines import machine_of
from ensue.testing.strategies import arguments, events, values


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Part(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=3)]
    parts: list[Part] = []


@dataclass(frozen=True)
class Place:
    x: float
    y: float


class Spot(NamedTuple):
    x: float
    label: str


class Everything(DomainEvent, name="test.strategies.everything"):
    text: str
    whole: int
    real: float
    exact: Decimal
    yes: bool
    id: UUID
    at: datetime
    day: date
    hour: time
    span: timedelta
    raw: bytes
    colour: Colour
    word: Literal["a", "b"]
    maybe: str | int | None
    part: Part
    place: Place
    several: list[Place]
    spot: Spot
    pairs: dict[str, tuple[int, str]]
    unique: frozenset[str]
    percent: Annotated[int, msgspec.Meta(ge=0, lt=100, multiple_of=5)]
    share: Annotated[float, msgspec.Meta(gt=0, le=1)]
    code: Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}$")]
    few: Annotated[list[int], msgspec.Meta(min_length=1, max_length=2)]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(events=st.lists(events(Everything), min_size=1, max_size=5))
def test_whatever_is_made_is_recorded_and_read_back(events: list[Everything], record: Callable[..., Any]) -> None:
    assert record(*events) == events


@pytest.fixture(params=["memory", "postgresql"], scope="module")
def record(request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    url = "memory://strategies" if request.param == "memory" else request.getfixturevalue("postgres_url")
    app = App("strategies", url, schema="test_strategies", migrate=True)

    def keep(*events: Any) -> list[Any]:
        with app.transaction() as connection:
            positions = app.record(*events, via=connection).positions
        return [each.event for each in app.read(after=positions[0] - 1)]

    return keep


@given(values(Spot))
def test_a_named_tuple_holds_what_events_can_hold(spot: Spot) -> None:
    assert isfinite(spot.x)
    assert "\0" not in spot.label


def test_single_fields_can_be_replaced() -> None:
    found = find(events(Everything, whole=st.just(7)), lambda event: True)
    assert found.whole == 7
    with pytest.raises(TypeError, match="has no field size"):
        events(Everything, size=st.just(7))


def test_parameters_are_tried_by_their_types() -> None:
    def command(amount: Decimal, note: str = "") -> None: ...

    def bare(amount, note: str) -> None: ...  # type: ignore[no-untyped-def]

    assert set(arguments(command)) == {"amount", "note"}
    with pytest.raises(TypeError, match="annotate amount"):
        arguments(bare)
    assert set(arguments(bare, amount=st.just(1))) == {"amount", "note"}
    assert find(values(Literal["b"]), lambda value: True) == "b"


# ---------------------------------------------------------------------------------------------------------- machines


class Deposited(SourcedEvent, name="test.machines.deposited"):
    amount: int


class Withdrawn(SourcedEvent, name="test.machines.withdrawn"):
    amount: int


class Refused(Exception):
    pass


class Wallet(Aggregate, name="test.machines.wallet"):
    balance: int = 0

    def deposit(self, amount: Annotated[int, msgspec.Meta(gt=0, le=1000)]) -> None:
        self.apply(Deposited(amount=amount))

    def withdraw(self, amount: Annotated[int, msgspec.Meta(gt=0, le=1000)]) -> None:
        if amount > self.balance:
            raise Refused
        self.apply(Withdrawn(amount=amount))

    @evolves
    def _(self, event: Deposited) -> None:
        self.balance += event.amount

    @evolves
    def _(self, event: Withdrawn) -> None:
        self.balance -= event.amount


class Generous(Wallet, name="test.machines.generous"):
    def withdraw(self, amount: Annotated[int, msgspec.Meta(gt=0, le=1000)]) -> None:
        self.apply(Withdrawn(amount=amount))


class Forgetful(Wallet, name="test.machines.forgetful"):
    def deposit(self, amount: Annotated[int, msgspec.Meta(gt=0, le=1000)]) -> None:
        super().deposit(amount)
        self.balance += 1  # no event says so


QUICK = settings(max_examples=50, stateful_step_count=10, deadline=None, print_blob=False)


def test_a_sound_aggregate_passes() -> None:
    machine = machine_of(Wallet, refusals=(Refused,), invariants=[lambda wallet: wallet.balance >= 0])
    run_state_machine_as_test(machine, settings=QUICK)


def shortest(machine: Any, error: type[Exception] = AssertionError) -> str:
    """Return the failure, with the steps that lead to it."""
    with pytest.raises(error) as caught:
        run_state_machine_as_test(machine, settings=QUICK)
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])


def test_an_invariant_that_can_be_broken_is_broken_by_the_shortest_history() -> None:
    told = shortest(machine_of(Generous, invariants=[lambda wallet: wallet.balance >= 0]))
    assert "wallet.balance >= 0" in told
    assert "state.withdraw(amount=1)" in told
    assert "state.deposit" not in told
    assert "history 1: Withdrawn(amount=1)" in told


def test_state_that_no_event_explains_is_found() -> None:
    told = shortest(machine_of(Forgetful, refusals=(Refused,)))
    assert "and loaded as" in told
    assert told.count("state.deposit(") == 1


def test_a_refusal_that_was_not_announced_is_a_failure() -> None:
    assert "state.withdraw(amount=1)" in shortest(machine_of(Wallet), Refused)


def test_a_decider_is_driven_too() -> None:
    def decide(command: int, state: int) -> list[Deposited]:
        if command < 0:
            raise Refused
        return [Deposited(amount=command)]

    def evolve(state: int, event: Deposited) -> int:
        return state + event.amount

    decider = Decider(name="test.machines.purse", initial=0, decide=decide, evolve=evolve)
    run_state_machine_as_test(
        machine_of(decider, refusals=(Refused,), commands=st.integers(-5, 5), invariants=[lambda state: state >= 0]),
        settings=QUICK,
    )
    told = shortest(machine_of(decider, commands=st.integers(0, 5), invariants=[lambda state: state < 9]))
    assert "state.handle(command=5)" in told


def test_what_is_no_command_is_told() -> None:
    class Silent(Aggregate, name="test.machines.silent"):
        pass

    with pytest.raises(TypeError, match="has no commands"):
        machine_of(Silent)
    with pytest.raises(TypeError, match="has no command spend"):
        machine_of(Wallet, commands={"spend": {}})
