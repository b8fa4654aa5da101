"""Repositories on connections of their own: caches, snapshots, conflicts, and what a declaration may not say."""

from __future__ import annotations

import asyncio
import warnings
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ensue import Aggregate, App, Decider, DomainEvent, Snapshots, SourcedEvent, errors, evolves
from ensue.aggregates import Repository
from ensue.testing import given


class Paid(SourcedEvent, name="test.aggregates.paid"):
    amount: Decimal


class Ended(SourcedEvent, name="test.aggregates.ended"):
    pass


class Purse(Aggregate, name="test.aggregates.purse", deleted_by=Ended):
    balance: Decimal = Decimal(0)
    notes: dict[str, list[int]] = {}  # noqa: RUF012 each has its own

    def pay(self, amount: int) -> None:
        self.apply(Paid(amount=Decimal(amount)))

    def end(self) -> None:
        self.apply(Ended())

    def check(self) -> None:
        if self.balance < 0:
            raise ValueError("below zero")

    @evolves
    def _(self, event: Paid) -> None:
        self.balance += event.amount
        self.notes.setdefault("paid", []).append(int(event.amount))


@pytest.fixture(params=["sqlite", "memory", "postgresql"])
def app(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> App:
    match request.param:
        case "sqlite":
            url = f"sqlite:///{tmp_path}/log.db"
        case "memory":
            url = f"memory://{schema}"
        case _:
            url = request.getfixturevalue("postgres_url")
    return App("aggregates", url, schema=schema, migrate=True)


def pay(purses: Repository[Purse], id: str, *amounts: int) -> None:
    for amount in amounts:
        with purses.edit(id, create=True) as purse:
            purse.pay(amount)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"cache": 2},
    {"snapshots": Snapshots(every=2)},
    {"snapshots": Snapshots(bytes=40), "cache": 1},
]


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "cached", "snapshots", "both"])
def test_it_is_the_same_however_it_is_loaded(app: App, options: dict[str, Any]) -> None:
    purses = app.repository(Purse, **options)
    for number in range(3):
        for id in ("a", "b", "c"):
            pay(purses, id, number)
    for id in ("a", "b", "c"):
        purse = purses.get(id)
        assert (purse.version, purse.balance, purse.notes) == (3, Decimal(3), {"paid": [0, 1, 2]})
        purse.notes["paid"].clear()
        assert purses.get(id).notes == {"paid": [0, 1, 2]}, "what is lent may be changed"
    assert Purse().notes == {}
    with purses.edit("a") as purse:
        purse.end()
    for _ in range(2):
        with pytest.raises(errors.AggregateDeleted):
            purses.get("a")


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "cached", "snapshots", "both"])
async def test_async_code_does_the_same_on_connections_of_its_own(app: App, options: dict[str, Any]) -> None:
    purses = app.repository(Purse, **options)

    async def pay_one(purse: Purse) -> Decimal:
        purse.pay(1)
        return purse.balance

    for number in range(4):
        async with purses.edit("a", create=True) as purse:
            purse.pay(number)
    assert await purses.edit("a", pay_one) == 7
    async with app.transaction() as connection:
        assert (await purses.get("a", via=connection)).version == 5


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "cached", "snapshots", "both"])
async def test_async_code_needs_no_connection_to_look_and_to_save(app: App, options: dict[str, Any]) -> None:
    purses = app.repository(Purse, **options)
    pots = app.repository(Decider(name="test.aggregates.jar", initial=0, decide=_decide, evolve=_evolve), **options)
    purse = Purse(id="a")
    assert await purses.save_async(purse) is None
    for amount in (1, 2, 3):
        purse.pay(amount)
        receipt = await purses.save_async(purse)
        assert receipt
        assert receipt.version == amount
        await pots.handle_async("a", amount)
    assert (await purses.get_async("a")).balance == 6
    assert (await purses.get_async("a", at_version=2)).balance == 3
    assert (await purses.get_async("a", as_of=datetime.now(UTC) + timedelta(days=1))).version == 3
    assert [each.after["balance"] for each in await purses.history_async("a")] == ["1", "3", "6"]
    assert (await pots.get_async("a"), await pots.get_async("a", at_version=1)) == (6, 1)
    assert [each.after for each in await pots.history_async("a")] == [{"state": 1}, {"state": 3}, {"state": 6}]
    stale = await purses.get_async("a")
    await purses.edit("a", _pay_later)
    stale.pay(1)
    with pytest.raises(errors.VersionConflict):
        await purses.save_async(stale)
    for look in (purses.get_async, purses.history_async, pots.get_async, pots.history_async):
        with pytest.raises(errors.AggregateNotFound):
            await look("nobody")


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "cached", "snapshots", "both"])
def test_whoever_is_slower_runs_again(app: App, options: dict[str, Any]) -> None:
    purses, others = app.repository(Purse, **options), app.repository(Purse)
    pay(purses, "a", 1)
    tries: list[Decimal] = []

    def block(purse: Purse) -> None:
        tries.append(purse.balance)
        if len(tries) == 1:
            pay(others, "a", 10)
        purse.pay(1)

    with pytest.raises(errors.VersionConflict, match="somebody else has recorded"):
        purses.edit("a", block)
    purses.edit("a", block, retry=1)
    assert tries == [1, 11]
    assert purses.get("a").balance == 12


class Dated(Aggregate, name="test.aggregates.dated"):
    versions: list[int] = []  # noqa: RUF012 copied

    @evolves
    def _(self, event: Paid) -> None:
        self.versions.append(self.version)
        if not event.amount:
            raise ValueError("nothing")


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "cached", "snapshots", "both"])
def test_the_version_is_the_same_in_every_life(app: App, options: dict[str, Any]) -> None:
    dates = app.repository(Dated, **options)
    for _ in range(3):
        with dates.edit("a", create=True) as dated:
            dated.apply(Paid(amount=Decimal(1)))
            dated.apply(Paid(amount=Decimal(1)))
        assert dated.versions == dates.get("a").versions == list(range(1, dated.version + 1))
    with pytest.raises(ValueError, match="nothing"):
        dated.apply(Paid(amount=Decimal(0)))
    assert dated.version == 6
    assert given(Dated, Paid(amount=Decimal(1))).when(lambda _: None).state.versions == [1]


async def test_the_colours_of_with_are_told_apart(app: App) -> None:
    purses = app.repository(Purse)
    async with app.transaction() as connection:
        edit: Any = purses.edit("a", create=True, via=connection)
        with pytest.raises(errors.DeclarationError, match="its connection is async: write async with"), edit:
            pass
        async with edit as purse:
            purse.pay(1)

    def work() -> Any:
        with app.transaction() as connection:
            edit: Any = purses.edit("a", via=connection)
            with pytest.raises(errors.DeclarationError, match="its connection is sync: write with, not"):
                asyncio.run(entered(edit))
            with edit as purse:
                purse.pay(1)

    async def entered(edit: Any) -> None:
        async with edit:
            pass

    await asyncio.to_thread(work)
    assert (await asyncio.to_thread(purses.get, "a")).balance == 2


async def test_what_cannot_be_asked_is_told(app: App) -> None:
    purses: Any = app.repository(Purse)
    pots: Any = app.repository(Decider(name="test.aggregates.jar", initial=0, decide=_decide, evolve=_evolve))
    await asyncio.to_thread(pay, purses, "a", 1)
    now = datetime.now(UTC)
    for repository in (purses, pots):
        for asked, told in (
            ({"as_of": "2020"}, "as_of='2020': it must be a datetime"),
            ({"as_of": now.date()}, r"as_of=.*: it must be a datetime"),
            ({"as_of": now.replace(tzinfo=None)}, r"as_of=.* has no time zone: make it aware"),
            ({"at_version": -1}, "at_version=-1: versions are 1, 2, …"),
            ({"at_version": 0}, "at_version=0: versions are 1, 2, …"),
            ({"at_version": "1"}, "at_version='1': versions are 1, 2, …"),
        ):
            with pytest.raises(errors.EnsueError, match=told):
                await asyncio.to_thread(repository.get, "a", **asked)
            async with app.transaction() as connection:
                with pytest.raises(errors.EnsueError, match=told):
                    await repository.get("a", **asked, via=connection)
        for id in ("a\0b", ""):
            for use in (repository.get, repository.history):
                with pytest.raises(errors.DeclarationError, match="is empty or holds a NUL"):
                    await asyncio.to_thread(use, id)
    with pytest.raises(errors.DeclarationError, match="is empty or holds a NUL"):
        await asyncio.to_thread(pay, purses, "a\0b", 1)
    with pytest.raises(errors.DeclarationError, match="is empty or holds a NUL"):
        await asyncio.to_thread(pots.handle, "a\0b", 1)
    for retry in (-1, "2", True):
        for block in (lambda purse: None, _pay_later):
            with pytest.raises(errors.DeclarationError, match=r"retry=.*: how often at most, 0 or more"):
                await asyncio.to_thread(lambda: asyncio.run(_awaited(purses.edit("a", block, retry=retry))))
        with pytest.raises(errors.DeclarationError, match="retry="):
            await asyncio.to_thread(pots.handle, "a", 1, retry=retry)
        with pytest.raises(errors.DeclarationError, match="retry="):
            await pots.handle_async("a", 1, retry=retry)


def _decide(command: int, state: int) -> list[Paid]:
    return [Paid(amount=Decimal(command))]


def _evolve(state: int, event: Paid) -> int:
    return state + int(event.amount)


async def _pay_later(purse: Purse) -> None:
    purse.pay(1)


async def _awaited(result: Any) -> Any:
    return await result


async def test_a_warning_names_the_line_that_it_is_about(app: App) -> None:
    careless = App("aggregates", app.log.place.url, schema=app.log.place.schema, migrate=True, aggregate_rule="warn")
    purses = careless.repository(Purse)
    here = Path(__file__).name
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", errors.AggregateRuleWarning)

        def work() -> None:
            with careless.transaction() as connection:
                for id in ("a", "b"):
                    with purses.edit(id, create=True, via=connection) as purse:
                        purse.pay(1)

        await asyncio.to_thread(work)
        async with careless.transaction() as connection:
            for id in ("c", "d"):
                await careless.record(Paid(amount=Decimal(1)), stream=f"test.aggregates.purse-{id}", via=connection)
    assert [Path(each.filename).name for each in told if each.category is errors.AggregateRuleWarning] == [here, here]


async def test_a_block_that_is_awaited_is_never_taken_for_one_that_is_not(app: App) -> None:
    purses = app.repository(Purse)

    async def pay_one(purse: Purse, amount: int = 1) -> Decimal:
        await asyncio.sleep(0)
        purse.pay(amount)
        return purse.balance

    class PayTwo:
        async def __call__(self, purse: Purse) -> Decimal:
            return await pay_one(purse, 2)

    assert await purses.edit("a", pay_one, create=True) == 1
    assert await purses.edit("a", PayTwo()) == 3
    assert await purses.edit("a", partial(PayTwo()), retry=1) == 5
    assert await purses.edit("a", partial(pay_one, amount=3), retry=1) == 8
    edit: Any = purses.edit
    for options in ({}, {"retry": 2}, {"dedupe": "one"}):
        with pytest.raises(errors.DeclarationError, match=r"awaitable, and nothing was recorded.* async def"):
            await asyncio.to_thread(edit, "a", lambda purse: pay_one(purse), **options)
    assert (await asyncio.to_thread(purses.get, "a")).version == 4


def test_what_is_cached_is_not_believed(app: App) -> None:
    """A log that was restored from a backup has another history under the same versions."""
    purses = app.repository(Purse, cache=5)
    pay(purses, "a", 1, 2)
    assert purses.get("a").balance == 3
    point = "." if app.log.place.url.startswith("postgresql") else "_"
    with app.transaction() as connection:
        connection.execute(f"delete from {app.log.place.schema}{point}events where version = 2")
    assert purses.get("a").balance == 1
    pay(app.repository(Purse), "a", 100)
    assert purses.get("a").balance == 101


def test_what_a_transaction_has_not_committed_is_not_cached(app: App) -> None:
    purses = app.repository(Purse, cache=5)
    pay(purses, "a", 1)
    with pytest.raises(LookupError), app.transaction() as connection:
        with purses.edit("a", via=connection) as purse:
            purse.pay(50)
        assert purses.get("a", via=connection).balance == 51
        raise LookupError
    pay(app.repository(Purse), "a", 2)
    assert purses.get("a").balance == 3


def test_a_command_that_fails_half_way_spoils_the_object_only(app: App) -> None:
    purses = app.repository(Purse)
    pay(purses, "a", 1)
    purse = purses.get("a")
    with pytest.raises(ValueError, match="below zero"):
        purse.pay(-5)
    with pytest.raises(errors.AggregateSpoiled, match="below zero"):
        purse.pay(1)
    with pytest.raises(errors.AggregateSpoiled):
        purses.save(purse)
    assert purses.get("a").balance == 1


def test_a_snapshot_of_other_code_is_not_read(app: App) -> None:
    def purse(factor: int) -> type[Aggregate]:
        if factor == 1:

            class Counted(Aggregate, name="test.aggregates.counted"):
                total: int = 0

                @evolves
                def _(self, event: Paid) -> None:
                    self.total += int(event.amount)

            return Counted

        class Doubled(Aggregate, name="test.aggregates.counted"):
            total: int = 0

            @evolves
            def _(self, event: Paid) -> None:
                self.total += int(event.amount) * 2

        return Doubled

    for factor in (1, 2):
        cls = purse(factor)
        again = App("aggregates", app.log.place.url, schema=app.log.place.schema, migrate=True)
        counted: Any = again.repository(cls, snapshots=Snapshots(every=1))
        with counted.edit("a", create=True) as made:
            made.apply(Paid(amount=Decimal(3)))
        assert counted.get("a").total == (3 if factor == 1 else 12)
    edition: Any = again.repository(cls, snapshots=Snapshots(every=1, edition=2))
    assert edition.get("a").total == 12


def test_guards_run_when_an_aggregate_is_saved(app: App) -> None:
    seen: list[Decimal] = []

    @app.within(Paid)
    def guard(event: Paid, connection: Any) -> None:
        connection.execute("select 1")
        if event.amount > 10:
            raise PermissionError
        seen.append(event.amount)

    for options in OPTIONS:
        purses, id = app.repository(Purse, **options), f"g{len(seen)}"
        pay(purses, id, 5)
        with pytest.raises(PermissionError):
            pay(purses, id, 50)
        assert purses.get(id).balance == 5
    assert seen == [5] * len(OPTIONS)


async def test_an_async_guard_runs_when_an_aggregate_is_saved(app: App) -> None:
    seen: list[Decimal] = []

    @app.within(Paid)
    async def guard(event: Paid) -> None:
        await asyncio.sleep(0)
        seen.append(event.amount)

    purses = app.repository(Purse)
    async with purses.edit("a", create=True) as purse:
        purse.pay(5)
    assert seen == [5]
    with pytest.raises(errors.DeclarationError, match="this connection is sync"):
        await asyncio.to_thread(pay, purses, "a", 1)
    assert (await asyncio.to_thread(purses.get, "a")).balance == 5


# ------------------------------------------------------------------------------------------------ what may not be said


class Noted(DomainEvent, name="test.aggregates.noted"):
    pass


def test_what_contradicts_itself_is_told_at_once(app: App) -> None:
    with pytest.raises(errors.DeclarationError, match="without '-'"):

        class Dashed(Aggregate, name="a-b"):
            pass

    with pytest.raises(errors.DeclarationError, match="two methods evolve Paid"):

        class Twice(Aggregate):
            @evolves
            def _(self, event: Paid) -> None: ...

            @evolves
            def _(self, event: Paid) -> None: ...

    with pytest.raises(errors.DeclarationError, match="is not an event-sourced event"):

        class Inner(Aggregate):
            @evolves  # type: ignore[type-var]
            def _(self, event: Noted) -> None: ...

    with pytest.raises(errors.DeclarationError, match="write it as"):

        class Bare(Aggregate):
            @evolves
            def _(self, event) -> None: ...  # type: ignore[no-untyped-def]

    class Other(Aggregate, name="test.aggregates.purse"):
        pass

    app.repository(Purse)
    with pytest.raises(errors.DuplicateName, match="their streams would mix"):
        app.repository(Other)
    wrong: Any
    for wrong in (Aggregate, int, "Purse"):
        with pytest.raises(errors.DeclarationError, match="derived from Aggregate"):
            app.repository(wrong)
    with pytest.raises(errors.DeclarationError, match="cache=0"):
        app.repository(Purse, cache=0)
    for options in ({}, {"every": 0}, {"bytes": -1}):
        with pytest.raises(errors.DeclarationError, match="Snapshots"):
            Snapshots(**options)
    with pytest.raises(errors.DeclarationError, match="give it as a function"):
        app.repository(Purse).edit("a", retry=3)  # type: ignore[call-overload]
    with pytest.raises(errors.DeclarationError, match="does not evolve Ended"):
        Other().apply(Ended())
    with pytest.raises(errors.DeclarationError, match="empty"):
        Purse(id="")


def test_a_snapshot_needs_types(app: App) -> None:
    class Loose(Aggregate, name="test.aggregates.loose"):
        def __init__(self, id: str | None = None) -> None:
            super().__init__(id)
            self.total = 0

        @evolves
        def _(self, event: Paid) -> None:
            self.total += 1

    with pytest.raises(errors.DeclarationError, match="needs to know its type"):
        app.repository(Loose, snapshots=Snapshots(every=1))
    app.repository(Loose)


def test_a_decider_says_what_it_evolves() -> None:
    def evolve(state: int, event: Paid | Ended) -> int:
        return state

    def decide(command: int, state: int) -> list[Paid]:
        return []

    assert Decider(name="d", initial=0, decide=decide, evolve=evolve).events() == (Paid, Ended)
    with pytest.raises(errors.DeclarationError, match="without '-'"):
        Decider(name="a-b", initial=0, decide=decide, evolve=evolve)


# ------------------------------------------------------------------------------------------------ once and for ever


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "cached", "snapshots", "both"])
def test_under_a_key_a_block_changes_it_once(app: App, options: dict[str, Any]) -> None:
    purses = app.repository(Purse, **options)
    calls: list[int] = []

    def block(purse: Purse) -> int:
        calls.append(1)
        purse.pay(5)
        return len(calls)

    assert purses.edit("a", block, create=True, dedupe="one") == 1
    assert purses.edit("a", block, dedupe="one") is None
    assert purses.edit("a", block, dedupe="other", retry=1) == 2
    assert purses.get("a").balance == 10

    def overtaken(purse: Purse) -> None:
        purses.edit("a", block, dedupe="third")
        purse.pay(100)

    purses.edit("a", overtaken, dedupe="third")
    assert (purses.get("a").balance, purses.get("a").version) == (Decimal(15), 3)
    with pytest.raises(errors.DeclarationError, match="give it as a function"):
        purses.edit("a", dedupe="fourth")  # type: ignore[call-overload]


async def test_under_a_key_an_async_block_changes_it_once(app: App) -> None:
    purses = app.repository(Purse)

    async def block(purse: Purse) -> str:
        purse.pay(5)
        return "done"

    found = [await purses.edit("a", block, create=True, dedupe="one", retry=1) for _ in range(2)]
    assert found == ["done", None]
    assert (await asyncio.to_thread(purses.get, "a")).balance == 5


async def test_under_a_key_a_command_is_decided_once(app: App) -> None:
    def evolve(state: int, event: Paid) -> int:
        return state + int(event.amount)

    def decide(command: int, state: int) -> list[Paid]:
        if command == 9:  # somebody else does it meanwhile
            pots.handle("a", 2, dedupe="four")
        return [Paid(amount=Decimal(command))]

    pots = app.repository(Decider(name="test.aggregates.pot", initial=0, decide=decide, evolve=evolve))
    assert [await asyncio.to_thread(pots.handle, "a", 3, dedupe="one") for _ in range(2)] == [3, 3]
    assert [await pots.handle_async("a", 4, dedupe=key) for key in ("one", "two", "two")] == [3, 7, 7]
    async with app.transaction() as connection:
        assert [await pots.handle("a", 1, dedupe="three", via=connection) for _ in range(2)] == [8, 8]
    assert await asyncio.to_thread(pots.handle, "a", 9, dedupe="four") == 10
