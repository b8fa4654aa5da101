"""Aggregates in the user's own transaction, in both styles."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import msgspec
import pytest

from ensue.aggregates import Aggregate, Decider, Edit, Repository, Snapshots, evolves
from ensue.errors import (
    AggregateDeleted,
    AggregateNotFound,
    DeclarationError,
    SecondAggregate,
    UnknownName,
    VersionConflict,
)
from ensue.events import SourcedEvent, context
from ensue.testing.suite.case import Case, Connection
from ensue.testing.suite.events import Noted


class Opened(SourcedEvent, name="ensue.suite.opened"):
    owner: str


class PaidIn(SourcedEvent, name="ensue.suite.paid-in"):
    amount: Decimal


class PaidOut(SourcedEvent, name="ensue.suite.paid-out"):
    amount: Decimal


class Closed(SourcedEvent, name="ensue.suite.closed"):
    pass


class Wallet(Aggregate, name="ensue.suite.wallet", deleted_by=Closed):
    owner: str = ""
    balance: Decimal = Decimal(0)
    amounts: list[Decimal] = []  # noqa: RUF012 every wallet has a list of its own

    def open(self, owner: str) -> None:
        self.apply(Opened(owner=owner))

    def pay_in(self, amount: int) -> None:
        self.apply(PaidIn(amount=Decimal(amount)))

    def pay_out(self, amount: int) -> None:
        if amount > self.balance:
            raise ValueError(f"{self.id} holds {self.balance}")
        self.apply(PaidOut(amount=Decimal(amount)))

    def close(self) -> None:
        self.apply(Closed())

    @evolves
    def _(self, event: Opened) -> None:
        self.owner = event.owner

    @evolves
    def _(self, event: PaidIn | PaidOut) -> None:
        amount = event.amount if isinstance(event, PaidIn) else -event.amount
        self.balance += amount
        self.amounts.append(amount)


class PayIn(msgspec.Struct, frozen=True):
    amount: int


class Close(msgspec.Struct, frozen=True):
    pass


class Purse(msgspec.Struct, frozen=True):
    balance: Decimal = Decimal(0)


def _decide(command: PayIn | Close, purse: Purse) -> list[PaidIn | Closed]:
    if isinstance(command, Close):
        if purse.balance:
            raise ValueError(f"there is {purse.balance} left")
        return [Closed()]
    return [PaidIn(amount=Decimal(command.amount))] if command.amount else []


def _evolve(purse: Purse, event: PaidIn | Closed) -> Purse:
    return Purse(balance=purse.balance + event.amount) if isinstance(event, PaidIn) else purse


PURSE = Decider(name="ensue.suite.purse", initial=Purse(), decide=_decide, evolve=_evolve, deleted_by=(Closed,))


@asynccontextmanager
async def _edit(
    case: Case, wallets: Repository[Wallet], id: str, connection: Connection, **options: Any
) -> AsyncGenerator[Wallet]:
    edit = cast("Edit[Wallet]", wallets.edit(id, via=connection.via, **options))
    if case.asynchronous:
        async with edit as wallet:
            yield wallet
    else:
        with edit as wallet:
            yield wallet


async def _opened(case: Case, wallets: Repository[Wallet], *amounts: int) -> str:
    """Save a new wallet in a transaction of its own."""
    wallet = Wallet(id=case.name("w"))
    wallet.open("Ada")
    for amount in amounts:
        wallet.pay_in(amount)
    async with case.transaction() as connection:
        await case.outcome(wallets.save(wallet, via=connection.via))
    return wallet.id


async def an_aggregate_is_what_its_events_have_made_it(case: Case) -> None:
    wallets = case.app.repository(Wallet)
    id = await _opened(case, wallets, 10, 5)
    async with case.transaction() as connection:
        wallet = await case.outcome(wallets.get(id, via=connection.via))
    assert (wallet.id, wallet.version, wallet.pending) == (id, 3, [])
    assert (wallet.owner, wallet.balance, wallet.amounts) == ("Ada", 15, [10, 5])
    assert [each.version for each in case.recorded(stream=f"ensue.suite.wallet-{id}")] == [1, 2, 3]


async def an_edit_is_part_of_the_users_transaction(case: Case) -> None:
    wallets = case.app.repository(Wallet)
    id = await _opened(case, wallets, 10)
    async with case.transaction() as connection:
        await case.write(connection, "kept")
        async with _edit(case, wallets, id, connection) as wallet:
            wallet.pay_out(4)
        async with _edit(case, wallets, id, connection) as wallet:
            assert (wallet.balance, wallet.version) == (Decimal(6), 3)
            wallet.pay_out(1)
    with pytest.raises(LookupError):
        async with case.transaction() as connection:
            await case.write(connection, "lost")
            async with _edit(case, wallets, id, connection) as wallet:
                wallet.pay_out(5)
            raise LookupError
    with pytest.raises(ValueError, match="holds 4"):
        async with case.transaction() as connection, _edit(case, wallets, id, connection) as wallet:
            wallet.pay_out(1)
            wallet.pay_out(100)
    async with case.transaction() as connection:
        assert (await case.outcome(wallets.get(id, via=connection.via))).balance == 5
    assert case.written() == ["kept"]


async def an_aggregate_begins_where_it_is_wanted(case: Case) -> None:
    wallets, id = case.app.repository(Wallet), case.name("new")
    async with case.transaction() as connection:
        with pytest.raises(AggregateNotFound, match=r"there is no ensue\.suite\.wallet"):
            await case.outcome(wallets.get(id, via=connection.via))
        async with _edit(case, wallets, id, connection, create=True) as wallet:
            wallet.open("Grace")
        async with _edit(case, wallets, id, connection, create=True) as wallet:
            assert wallet.owner == "Grace"
        unchanged = await case.outcome(wallets.save(wallet, via=connection.via))
    assert unchanged is None
    assert len(case.recorded()) == 1


async def who_is_slower_must_look_again(case: Case) -> None:
    wallets = case.app.repository(Wallet)
    id = await _opened(case, wallets, 10)
    async with case.transaction() as connection:
        slow = await case.outcome(wallets.get(id, via=connection.via))
    async with case.transaction() as connection, _edit(case, wallets, id, connection) as wallet:
        wallet.pay_out(10)
    slow.pay_out(10)
    with pytest.raises(VersionConflict):
        async with case.transaction() as connection:
            await case.write(connection, "lost")
            await case.outcome(wallets.save(slow, via=connection.via))
    assert len(case.recorded()) == 3
    assert case.written() == []


async def two_aggregates_are_not_changed_together(case: Case) -> None:
    wallets = case.app.repository(Wallet)
    one, other = Wallet(id=case.name("one")), Wallet(id=case.name("other"))
    one.open("Ada")
    other.open("Grace")
    with pytest.raises(SecondAggregate):
        async with case.transaction() as connection:
            await case.outcome(wallets.save(one, via=connection.via))
            await case.outcome(wallets.save(other, via=connection.via))
    assert case.recorded() == []


async def its_past_can_be_looked_at(case: Case) -> None:
    wallets = case.app.repository(Wallet)
    id = await _opened(case, wallets, 10)
    between = case.recorded()[-1].recorded_at
    with context(actor="Ada", correlation_id=case.name("request")):
        async with case.transaction() as connection, _edit(case, wallets, id, connection) as wallet:
            wallet.pay_out(4)
    async with case.transaction() as connection:
        assert (await case.outcome(wallets.get(id, at_version=1, via=connection.via))).amounts == []
        assert (await case.outcome(wallets.get(id, as_of=between, via=connection.via))).balance == 10
        later = datetime.now(UTC) + timedelta(days=1)
        assert (await case.outcome(wallets.get(id, as_of=later, via=connection.via))).balance == 6
        with pytest.raises(AggregateNotFound):
            await case.outcome(wallets.get(id, as_of=between - timedelta(days=1), via=connection.via))
        with pytest.raises(UnknownName, match="is at version 3"):
            await case.outcome(wallets.get(id, at_version=4, via=connection.via))
        history = await case.outcome(wallets.history(id, via=connection.via))
        with pytest.raises(AggregateNotFound):
            await case.outcome(wallets.history(case.name("nobody"), via=connection.via))
    assert [change.version for change in history] == [1, 2, 3]
    assert history[0].diff == {"owner": ("", "Ada")}
    assert history[2].diff == {"balance": ("10", "6"), "amounts": (["10"], ["10", "-4"])}
    assert (history[2].event, history[2].actor) == (PaidOut(amount=Decimal(4)), "Ada")
    assert history[2].correlation_id == case.name("request")


async def what_is_deleted_says_so(case: Case) -> None:
    for snapshots in (None, Snapshots(every=1)):
        wallets = case.app.repository(Wallet, snapshots=snapshots)
        wallet = Wallet(id=case.name(f"w{snapshots is None}"))
        wallet.open("Ada")
        wallet.close()
        with pytest.raises(AggregateDeleted):
            wallet.pay_in(1)
        async with case.transaction() as connection:
            await case.outcome(wallets.save(wallet, via=connection.via))
        async with case.transaction() as connection:
            with pytest.raises(AggregateDeleted, match="ended it at version 2") as caught:
                await case.outcome(wallets.get(wallet.id, via=connection.via))
            with pytest.raises(AggregateDeleted):
                async with _edit(case, wallets, wallet.id, connection, create=True):
                    pass
            before = await case.outcome(wallets.get(wallet.id, at_version=caught.value.version - 1, via=connection.via))
        assert before.owner == "Ada"


async def a_snapshot_shortens_loading_and_changes_nothing(case: Case) -> None:
    snapshots = case.table("snapshots")
    wallets, plain = case.app.repository(Wallet, snapshots=Snapshots(every=3)), case.app.repository(Wallet)
    id = await _opened(case, wallets, 1, 2)
    for amount in range(3, 9):
        async with case.transaction() as connection, _edit(case, wallets, id, connection) as wallet:
            wallet.pay_in(amount)
    async with case.transaction() as connection:
        rows = await connection.execute(f"select version from {snapshots} where stream like '%{id}'")
        assert [tuple(row) for row in rows] == [(9,)]
        kept = await case.outcome(wallets.get(id, via=connection.via))
        folded = await case.outcome(plain.get(id, via=connection.via))
        assert (await case.outcome(wallets.get(id, at_version=4, via=connection.via))).amounts == [1, 2, 3]
        await connection.execute(f"update {snapshots} set structure = 'of another release' where stream like '%{id}'")
    assert vars(kept) | {"_ensue_snapshot": 0, "_ensue_size": 0} == vars(folded) | {
        "_ensue_snapshot": 0,
        "_ensue_size": 0,
    }
    async with case.transaction() as connection:
        assert (await case.outcome(wallets.get(id, via=connection.via))).amounts == [*range(1, 9)]


async def what_is_decided_is_a_tuple_or_list_of_sourced_events(case: Case) -> None:
    answers: dict[str, Any] = {
        "PaidIn": PaidIn(amount=Decimal(1)),
        "None": None,
        "Noted": [Noted(text="a")],
        "class": [PaidIn],
        "text": "a text",
    }

    def decide(command: str, purse: Purse) -> Any:
        return answers[command]

    purses = case.same_app().repository(
        Decider(name="ensue.suite.careless", initial=Purse(), decide=decide, evolve=_evolve)
    )
    for word in answers:
        with pytest.raises(DeclarationError, match=rf"decider 'ensue\.suite\.careless': decide returned .*{word}"):
            async with case.transaction() as connection:
                await case.outcome(purses.handle(case.name("p"), word, via=connection.via))
    assert case.recorded() == []


async def functions_decide_as_well_as_classes(case: Case) -> None:
    for snapshots in (None, Snapshots(bytes=30)):
        purses, id = case.app.repository(PURSE, snapshots=snapshots), case.name(f"p{snapshots is None}")
        for amount in (5, 0, -2):
            async with case.transaction() as connection:
                await case.write(connection, "row")
                purse = await case.outcome(purses.handle(id, PayIn(amount), via=connection.via))
        assert purse == Purse(balance=Decimal(3))
        with pytest.raises(ValueError, match="there is 3 left"):
            async with case.transaction() as connection:
                await case.outcome(purses.handle(id, Close(), via=connection.via))
        async with case.transaction() as connection:
            assert await case.outcome(purses.get(id, via=connection.via)) == purse
            assert (await case.outcome(purses.get(id, at_version=1, via=connection.via))).balance == 5
            assert [each.diff for each in await case.outcome(purses.history(id, via=connection.via))] == [
                {"balance": ("0", "5")},
                {"balance": ("5", "3")},
            ]
        for command in (PayIn(-3), Close()):
            async with case.transaction() as connection:
                await case.outcome(purses.handle(id, command, via=connection.via))
        async with case.transaction() as connection:
            with pytest.raises(AggregateDeleted):
                await case.outcome(purses.handle(id, PayIn(1), via=connection.via))
