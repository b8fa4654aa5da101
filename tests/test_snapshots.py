"""Snapshots are never read wrongly: what one would not give back is not kept, and what no longer fits is not read."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from functools import partial, wraps
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
import pydantic
import pytest

from ensue import Aggregate, App, Decider, PastEvent, Snapshots, SourcedEvent, errors, evolves, upcast
from ensue.events import upcasting
from tests.naming import named

EVERY = Snapshots(every=1)


class Paid(SourcedEvent, name="test.snapshots.paid"):
    amount: Decimal


class Shape(msgspec.Struct, frozen=True):
    name: str = ""


class Circle(Shape, frozen=True):
    radius: int = 1


class Level(IntEnum):
    LOW = 1


class Model(pydantic.BaseModel):
    lines: list[int] = []


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> App:
    url = f"sqlite:///{tmp_path}/log.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    return App("snapshots", url, schema=schema, migrate=True)


def table(app: App) -> str:
    place = app.log.place
    return f"{place.schema}{'.' if place.url.startswith('postgresql') else '_'}snapshots"


def kept(app: App) -> list[tuple[Any, ...]]:
    """Return version and structure of every snapshot that is there."""
    with app.transaction() as connection:
        return [tuple(row) for row in connection.execute(f"select version, structure from {table(app)}")]


def setting(value: object, hint: Any, **members: Any) -> type[Aggregate]:
    """Make a class whose state becomes this value with every event."""

    def evolve(self: Any, event: Paid) -> None:
        self.value = value

    made: Any = type(
        "Setting", (Aggregate,), {"__annotations__": {"value": hint}, "value": None, **members}, name="setting"
    )
    made.__evolvers__ = {Paid: evolve}
    cls: type[Aggregate] = made
    return cls


def pay(app: App, cls: type[Aggregate], amount: int = 1, snapshots: Snapshots | None = EVERY) -> Any:
    repository: Any = app.repository(cls, snapshots=snapshots)
    with repository.edit("1", create=True) as made:
        made.apply(Paid(amount=Decimal(amount)))
    return repository.get("1")


# ------------------------------------------------------------------------------------------------ what is kept


LIST: list[int] = [1]


OPAQUE = object()


@pytest.mark.parametrize(
    "value, hint",
    [
        (Decimal("1.5"), int | None),
        (float("inf"), float | None),
        (float("nan"), float | None),
        ([Decimal(1)], list | None),
        ({"a": Decimal(1)}, dict[str, Any] | None),
        ((Decimal(1),), tuple | None),
        ((1, 2), Any),
        (datetime(2020, 1, 1, tzinfo=UTC), Any),
        (Circle(radius=2), Shape | None),
        ([Circle(radius=2)], list[Shape] | None),
        (1, float | None),
        (Level.LOW, int | None),
        (Counter("a"), dict[str, int] | None),
        (OrderedDict(a=1), dict[str, int] | None),
        ({1: "a"}, dict[Any, Any] | None),
        ({(1, 2)}, set[Any] | None),
        ([LIST, LIST], list[list[int]] | None),
        (OPAQUE, Any),
        (Model(lines=[1]), Any),
    ],
    ids=lambda value: "an object" if value is OPAQUE else repr(value),
)
def test_a_snapshot_that_would_not_give_the_state_back_is_not_kept(
    app: App, value: object, hint: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cls = setting(value, hint)
    with caplog.at_level(logging.WARNING, "ensue"):
        found = pay(app, cls).value
        pay(app, cls)
    assert found is value
    assert kept(app) == []
    told = [each.getMessage() for each in caplog.records if "no snapshot of 'setting-1'" in each.getMessage()]
    assert ["at version 1: " in each for each in told] == [True, False], "each repository says it once"
    assert any(word in told[0].partition("version 1: ")[2] for word in ("value", "could not be read"))


@pytest.mark.parametrize(
    "value, hint",
    [
        (Decimal("1.50"), Decimal | None),
        ({"a": [Circle(radius=2)]}, dict[str, list[Circle]] | None),
        ({1, 2}, set[int] | None),
        (frozenset({"a"}), frozenset[str] | None),
        ((1, "a"), tuple[int, str] | None),
        (datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=2))), datetime | None),
        (datetime(2020, 1, 1), datetime | None),  # noqa: DTZ001 it has no zone when it is read either
        (Level.LOW, Level | None),
        (Model(lines=[1]), Model | None),
        ({3: "a"}, dict[int, str] | None),
        ([(), ()], list[tuple[()]] | None),
    ],
    ids=named,
)
def test_a_snapshot_gives_back_what_it_was_taken_of(app: App, value: object, hint: Any) -> None:
    found = pay(app, setting(value, hint)).value
    assert len(kept(app)) == 1
    assert (found, type(found)) == (value, type(value))


def test_a_state_that_cannot_be_written_stops_no_save(app: App, caplog: pytest.LogCaptureFixture) -> None:
    cls = setting({1, 2}, Any)
    cls.__evolvers__ = {Paid: lambda self, event: setattr(self, "late", object())}
    with caplog.at_level(logging.WARNING, "ensue"):
        for number in range(1, 4):
            assert pay(app, cls).version == number
    assert kept(app) == []
    assert "late" in caplog.text
    assert "annotate" in caplog.text


async def test_async_code_is_not_stopped_either(app: App) -> None:
    for cls in (setting(object(), Any), setting(Decimal(1), int | None)):
        repository: Any = app.repository(cls, snapshots=EVERY) if cls.__qualname__ else None
        async with repository.edit(str(id(cls)), create=True) as made:
            made.apply(Paid(amount=Decimal(1)))
        app.declarations.repositories.clear()
        async with app.transaction() as connection:
            assert (await repository.get(str(id(cls)), via=connection)).version == 1
    assert kept(app) == []


def test_a_decider_is_as_careful(app: App) -> None:
    def decide(command: int, state: Shape) -> list[Paid]:
        return [Paid(amount=Decimal(command))]

    def evolve(state: Shape, event: Paid) -> Shape:
        return Circle(name="c", radius=int(event.amount)) if event.amount > 1 else Shape(name="s")

    shapes = app.repository(Decider(name="shape", initial=Shape(), decide=decide, evolve=evolve), snapshots=EVERY)
    assert shapes.handle("1", 1) == Shape(name="s")
    assert [version for version, _ in kept(app)] == [1]
    assert shapes.handle("1", 3) == Circle(name="c", radius=3)
    assert shapes.get("1") == Circle(name="c", radius=3)
    assert [version for version, _ in kept(app)] == [1], "it would come back as a Shape"


# ------------------------------------------------------------------------------------------------ what is read


@pytest.mark.parametrize("state", ['{"value": "much"}', "null", "[]"])
def test_a_snapshot_that_does_not_decode_is_not_believed(app: App, state: str) -> None:
    cls = setting(7, int | None)
    assert pay(app, cls).value == 7
    with app.transaction() as connection:
        connection.execute(f"update {table(app)} set state = '{state}'")
    repository: Any = app.repository(cls, snapshots=EVERY)
    assert (repository.get("1").value, repository.get("1").version) == (7, 1)
    assert pay(app, cls).version == 2, "and the next one replaces it"
    assert [version for version, _ in kept(app)] == [2]


# ------------------------------------------------------------------------------------------------ what is declared


class Left(msgspec.Struct):
    number: int


class Right(msgspec.Struct):
    number: int


class Strange:
    pass


@pytest.mark.parametrize(
    "hint", [Left | Right, list[Left | Right], Strange, dict[str, Strange], Callable[[], None]], ids=named
)
def test_a_type_that_no_snapshot_can_hold_is_told_at_once(app: App, hint: Any) -> None:
    cls = setting(None, hint)
    with pytest.raises(errors.DeclarationError, match=r"aggregate 'setting', field 'value': .*"):
        app.repository(cls, snapshots=EVERY)
    app.repository(cls)


def test_what_is_not_annotated_is_told_at_once(app: App) -> None:
    class Loose(Aggregate, name="loose"):
        def __init__(self, id: str | None = None) -> None:
            super().__init__(id)
            self.total = 0

    with pytest.raises(errors.DeclarationError, match=r"aggregate 'loose', field 'total': .*annotate it"):
        app.repository(Loose, snapshots=EVERY)


def test_a_deciders_state_is_told_at_once(app: App) -> None:
    def decide(command: int, state: Strange) -> list[Paid]:
        return []

    def evolve(state: Strange, event: Paid) -> Strange:
        return state

    decider = Decider(name="strange", initial=Strange(), decide=decide, evolve=evolve)
    with pytest.raises(errors.DeclarationError, match=r"decider 'strange', its state: .*Strange"):
        app.repository(decider, snapshots=EVERY)
    app.repository(decider)


def test_what_all_share_or_never_changes_is_no_hindrance(app: App) -> None:
    class Fine(Aggregate, name="fine"):
        shared: ClassVar[Strange] = Strange()
        limit: Final[int] = 5
        total: int = 0

        @evolves
        def _(self, event: Paid) -> None:
            self.total += int(event.amount)

    assert pay(app, Fine).total == 1
    assert len(kept(app)) == 1


# ------------------------------------------------------------------------------------------------ what it must fit


def structure(subject: Any, edition: int = 1) -> str:
    """Return what a snapshot of an aggregate must fit."""
    found = (
        App("snapshots", "memory://snapshots")
        .repository(subject, snapshots=Snapshots(every=1, edition=edition))
        ._store._loader.structure
    )
    assert isinstance(found, str)
    return found


def wrapped(factor: int) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        @wraps(function)
        def inner(*arguments: Any) -> Any:
            return function(*arguments)

        return inner

    return decorate


def counted(default: int, factor: int, body: str = "closure", **more: Any) -> type[Aggregate]:
    def by_closure(self: Any, event: Paid) -> None:
        self.total += int(event.amount) * factor

    def once(self: Any, event: Paid) -> None:
        self.total += int(event.amount)

    def twice(self: Any, event: Paid) -> None:
        self.total += int(event.amount) * 2

    def by_default(self: Any, event: Paid, factor: int = factor) -> None:
        self.total += int(event.amount) * factor

    evolver = {
        "closure": by_closure,
        "wrapped": wrapped(1)(once if factor == 1 else twice),
        "default": by_default,
        "partial": partial(by_default, factor=factor),
    }[body]
    made: Any = type(
        "Counted", (Aggregate,), {"__annotations__": {"total": int}, "total": default, **more}, name="counted"
    )
    made.__evolvers__ = {Paid: evolver}
    cls: type[Aggregate] = made
    return cls


def test_a_snapshot_fits_only_what_would_have_led_to_it() -> None:
    same = structure(counted(0, 1))
    assert structure(counted(0, 1)) == same
    assert structure(counted(0, 1), edition=2) != same
    assert structure(counted(1, 1)) != same, "another default"
    for body in ("closure", "wrapped", "default", "partial"):
        assert structure(counted(0, 1, body)) == structure(counted(0, 1, body))
        assert structure(counted(0, 1, body)) != structure(counted(0, 2, body)), body


def test_a_default_that_has_changed_is_seen(app: App) -> None:
    assert pay(app, counted(0, 1)).total == 1
    app.declarations.repositories.clear()
    assert app.repository(counted(100, 1), snapshots=EVERY).get("1").total == 101  # type: ignore[attr-defined]


def test_a_decider_fits_by_what_it_begins_with_and_what_it_closes_over() -> None:
    def made(initial: int, factor: int) -> Decider[int, Paid, int]:
        def decide(command: int, state: int) -> list[Paid]:
            return []

        def evolve(state: int, event: Paid) -> int:
            return state + int(event.amount) * factor

        return Decider(name="counter", initial=initial, decide=decide, evolve=evolve)

    same = structure(made(0, 1))
    assert structure(made(0, 1)) == same
    assert structure(made(1, 1)) != same
    assert structure(made(0, 2)) != same


def test_an_upcaster_that_was_mended_is_seen() -> None:
    class Account(Aggregate, name="account"):
        total: int = 0

        @evolves
        def _(self, event: Paid) -> None:
            self.total += int(event.amount)

    before = structure(Account)

    class PaidInCents(PastEvent, name="test.snapshots.paid"):
        cents: int

    def release(factor: int) -> str:
        upcasting._upcasters.pop((PaidInCents.__module__, PaidInCents.__qualname__), None)  # of another process
        if factor == 1:

            @upcast
            def first(old: PaidInCents) -> Paid:
                return Paid(amount=Decimal(old.cents))

        else:

            @upcast
            def mended(old: PaidInCents) -> Paid:
                return Paid(amount=Decimal(old.cents) / 100)

        return structure(Account)

    found = [before, release(1), release(100)]
    assert len(set(found)) == 3


def test_it_is_the_same_in_every_process(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    told = {subprocess.run([sys.executable, program], check=True, capture_output=True).stdout for _ in range(3)}
    assert len(told) == 1
    assert len(told.pop()) > 20


PROGRAM = """
from ensue import Aggregate, App, Snapshots, SourcedEvent, evolves


class Noted(SourcedEvent):
    words: frozenset[str] = frozenset({"a", "b", "c"})

class Notes(Aggregate):
    words: set[str] = {"x", "y", "z"}
    best: frozenset[str] = frozenset({"x", "y", "z"})

    @evolves
    def _(self, event: Noted) -> None:
        if event.words & {"a", "b", "c", "d"}:
            self.words |= event.words

print(App("a", "memory://a").repository(Notes, snapshots=Snapshots(every=1))._store._loader.structure)
"""
