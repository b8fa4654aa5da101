"""What a class of aggregates may hold, and what it is refused for: no database is asked."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any, ClassVar, NamedTuple

import msgspec
import pytest

from ensue import Aggregate, App, Decider, Snapshots, SourcedEvent, errors, evolves
from ensue.testing import given
from tests.naming import named


@pytest.fixture
def app(schema: str) -> App:
    return App("classes", f"memory://{schema}", migrate=True)


class Paid(SourcedEvent, name="test.classes.paid"):
    amount: int


# ------------------------------------------------------------------------------------------------ defaults


class Totals(msgspec.Struct):
    paid: int = 0


class Frozen(msgspec.Struct, frozen=True):
    paid: int = 0
    amounts: tuple[int, ...] = ()


class FrozenAround(msgspec.Struct, frozen=True):
    """It cannot be changed, and what it holds can."""

    amounts: list[int] = []


@dataclass
class Address:
    lines: list[str] = field(default_factory=list[str])


class Pair(NamedTuple):
    amounts: list[int]
    name: str


class Colour(Enum):
    RED = 1


class Tagged:
    """A mixin that knows nothing of aggregates."""

    tags: list[str] = []  # noqa: RUF012 copied, as those of the aggregate are


class Household(Tagged, Aggregate, name="test.classes.household"):
    prices: ClassVar[dict[str, int]] = {}
    totals: Totals = Totals()
    address: Address = Address()
    recent: deque[int] = deque(maxlen=2)  # noqa: RUF012 copied
    around: FrozenAround = FrozenAround()
    pair: Pair = Pair([], "pair")
    nested: tuple[list[int], ...] = ([],)
    frozen: Frozen = Frozen()
    colour: Colour = Colour.RED
    balance: Decimal = Decimal(0)

    @evolves
    def _(self, event: Paid) -> None:
        self.totals.paid += event.amount
        self.address.lines.append(str(event.amount))
        self.recent.append(event.amount)
        self.around.amounts.append(event.amount)
        self.pair.amounts.append(event.amount)
        self.nested[0].append(event.amount)
        self.tags.append("paid")


class Palace(Household, name="test.classes.palace"):
    rooms: set[str] = set()  # noqa: RUF012 copied
    totals: Totals = Totals(paid=100)


def test_a_default_that_can_change_belongs_to_one_aggregate_alone() -> None:
    first, palace = Household(), Palace()
    for each in (first, palace):
        each.apply(Paid(amount=5))
    palace.rooms.add("hall")
    assert (first.totals.paid, palace.totals.paid) == (5, 105)
    for second in (Household(), Palace()):
        assert second.totals.paid == (100 if isinstance(second, Palace) else 0)
        assert (second.address.lines, list(second.recent), second.tags) == ([], [], [])
        assert (second.around.amounts, second.pair, second.nested) == ([], Pair([], "pair"), ([],))
    assert Palace().rooms == set()
    assert first.recent.maxlen == 2


def test_what_cannot_change_is_not_copied() -> None:
    first, second = Household(), Household()
    assert first.frozen is second.frozen
    assert first.balance is second.balance
    assert first.prices is Household.prices, "a class variable is shared, as it says"
    assert {"frozen", "colour", "balance", "prices"}.isdisjoint(vars(first))


def test_a_mixins_fields_are_state() -> None:
    assert Household()._ensue_state()["tags"] == []
    assert "prices" not in Household()._ensue_state()


def test_a_default_that_cannot_be_copied_is_refused() -> None:
    class Lock:
        def __deepcopy__(self, memo: object) -> Lock:
            raise TypeError("there is one of me")

    with pytest.raises(errors.DeclarationError, match=r"Locked\.lock: .*there is one of me.*ClassVar"):

        class Locked(Aggregate, name="test.classes.locked"):
            lock: Lock = Lock()


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    "members",
    [
        {"_ensue_size": 3},
        {"__annotations__": {"_ensue_snapshot": int}},
        {"pending": []},
        {"__annotations__": {"version": int}},
        {"id": ""},
        {"apply": lambda self, event: None},
    ],
    ids=named,
)
def test_names_of_its_own_are_refused(members: dict[str, Any]) -> None:
    (name,) = members.get("__annotations__", members)
    for bases in ((Aggregate,), (type("Mixin", (), dict(members)), Aggregate)):
        with pytest.raises(errors.DeclarationError, match=rf"Taken\.{name}: .*another name"):
            type("Taken", bases, dict(members) if len(bases) == 1 else {})


def test_what_looks_private_is_the_users() -> None:
    class Parcel(Aggregate, name="test.classes.parcel"):
        _size: int = 1
        _state: str = "packed"

        @evolves
        def _(self, event: Paid) -> None:
            self._size += event.amount

    parcel = given(Parcel, Paid(amount=2)).when(lambda parcel: parcel.apply(Paid(amount=3))).state
    assert (parcel._size, parcel._state, parcel.version) == (6, "packed", 2)


def test_a_class_that_does_not_begin_as_an_aggregate_does(app: App) -> None:
    @dataclass
    class Drawn(Aggregate, name="test.classes.drawn"):
        owner: str = ""

    class Silent(Aggregate, name="test.classes.silent"):
        def __init__(self, id: str | None = None) -> None:
            self.owner = "nobody"

        @evolves
        def _(self, event: Paid) -> None: ...

    class Owned(Aggregate, name="test.classes.owned"):
        def __init__(self, owner: str) -> None:
            super().__init__()
            self.owner = owner

    for use in (app.repository, given):
        with pytest.raises(errors.DeclarationError, match=r"Drawn is a dataclass.* leave @dataclass out"):
            use(Drawn)
        with pytest.raises(errors.DeclarationError, match=r"Owned\.__init__.*'owner'.*def __init__\(self, id"):
            use(Owned)
    for silent in (
        lambda: Silent().apply(Paid(amount=1)),
        lambda: given(Silent),
        lambda: app.repository(Silent).edit("1", create=True).__enter__(),
    ):
        with pytest.raises(errors.DeclarationError, match=r"Silent.* super\(\)\.__init__\(id\)"):
            silent()
    with pytest.raises(errors.DeclarationError, match=r"super\(\)\.__init__\(id\)"):
        app.repository(Household).save(Drawn())  # type: ignore[call-overload]
    assert not hasattr(Household(), "owner")


def test_what_evolves_is_a_plain_method() -> None:
    async def later(self: Any, event: Paid) -> None: ...

    def yielding(self: Any, event: Paid) -> Any:
        yield

    function: Any
    for function in (later, yielding):
        function.__qualname__ = "Late._"
        with pytest.raises(errors.DeclarationError, match=r"@evolves Late\._: .*plain def"):
            evolves(function)


class Adding:
    """A callable object."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, state: int, event: Paid) -> int:
        return state + event.amount * self.factor


def adding(factor: int, state: int, event: Paid) -> int:
    return state + event.amount * factor


@pytest.mark.parametrize("evolve", [Adding(2), partial(adding, 2), partial(Adding(2)), Adding(2).__call__], ids=named)
def test_a_decider_evolves_by_whatever_can_be_called(app: App, evolve: Any) -> None:
    def decide(command: int, state: int) -> list[Paid]:
        return [Paid(amount=command)]

    decider = Decider(name="test.classes.adder", initial=0, decide=decide, evolve=evolve)
    assert decider.events() == (Paid,)
    for snapshots in (None, Snapshots(every=1)):
        adders = app.repository(decider, snapshots=snapshots)
        adders.handle("1", 5)
        assert adders.get("1") == 10 * len(adders.history("1"))
    app.module("adding").owns(decider)
    assert app.map().parts


def test_what_evolves_must_take_a_state_and_an_event() -> None:
    def decide(command: int, state: int) -> list[Paid]:
        return []

    wrong: Any
    for wrong in (lambda state: state, "evolve", partial(adding, 1, 2)):
        with pytest.raises(errors.DeclarationError, match=r"decider 'd': evolve.* takes a state and an event"):
            Decider(name="d", initial=0, decide=decide, evolve=wrong)
