"""`given(…).when(…).then(…)`: what it accepts, and what it says about the rest."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from ensue import Aggregate, App, Backoff, Decider, DomainEvent, IntegrationEvent, SourcedEvent, errors, evolves
from ensue.testing import given


class Opened(SourcedEvent, name="test.given.opened"):
    owner: str


class Deposited(SourcedEvent, name="test.given.deposited"):
    amount: Decimal


class Withdrawn(SourcedEvent, name="test.given.withdrawn"):
    amount: Decimal


class Closed(SourcedEvent, name="test.given.closed"):
    pass


class Unknown(SourcedEvent, name="test.given.unknown"):
    pass


class InsufficientFunds(Exception):
    pass


class Wallet(Aggregate, name="test.given.wallet", deleted_by=Closed):
    owner: str = ""
    balance: Decimal = Decimal(0)
    commands: int = 0

    def withdraw(self, amount: Any) -> None:
        self.commands += 1  # no event says so
        if amount > self.balance:
            raise InsufficientFunds(f"{self.balance} is less than {amount}")
        self.apply(Withdrawn(amount=amount))

    def close(self) -> None:
        if self.balance:
            self.apply(Withdrawn(amount=self.balance))
        self.apply(Closed())

    def overdraw(self) -> None:
        self.apply(Withdrawn(amount=self.balance + 1))

    def overdraw_in_silence(self) -> None:
        with suppress(ValueError):
            self.overdraw()

    def rename(self, owner: Any) -> None:
        self.apply(Opened(owner=owner))

    async def wait(self) -> None:
        self.apply(Opened(owner="later"))

    def check(self) -> None:
        if self.balance < 0:
            raise ValueError("below zero")

    @evolves
    def _(self, event: Opened) -> None:
        self.owner = event.owner

    @evolves
    def _(self, event: Deposited | Withdrawn) -> None:
        self.balance += event.amount if isinstance(event, Deposited) else -event.amount


RICH = (Opened(owner="Ada"), Deposited(amount=Decimal(50)))


def says(*lines: str) -> str:
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------ aggregates


def test_a_command_makes_events() -> None:
    given(Wallet, *RICH).when(lambda wallet: wallet.withdraw(20)).then(Withdrawn(amount=Decimal(20)))


def test_events_are_compared_as_the_log_gives_them_back() -> None:
    """An int is a Decimal when it is read."""
    given(Wallet, *RICH).when(lambda wallet: wallet.withdraw(20)).then(Withdrawn(amount=20))  # type: ignore[arg-type]


def test_another_event_fails_and_both_are_shown() -> None:
    decided = given(Wallet, *RICH).when(Wallet.close)
    with pytest.raises(AssertionError) as caught:
        decided.then(Withdrawn(amount=Decimal(49)), Closed())
    assert str(caught.value) == says(
        "other events came of the command",
        "expected:",
        "  - Withdrawn(amount=Decimal('49'))",
        "    Closed()",
        "got:",
        "  + Withdrawn(amount=Decimal('50'))",
        "    Closed()",
    )


def test_the_order_counts() -> None:
    decided = given(Wallet, *RICH).when(Wallet.close).then(Withdrawn(amount=Decimal(50)), Closed())
    with pytest.raises(AssertionError, match="other events"):
        decided.then(Closed(), Withdrawn(amount=Decimal(50)))


def test_a_missing_event_fails() -> None:
    decided = given(Wallet, *RICH).when(Wallet.close)
    with pytest.raises(AssertionError, match=r"got:\n    Withdrawn.*\n  \+ Closed\(\)"):
        decided.then(Withdrawn(amount=Decimal(50)))


def test_nothing() -> None:
    given(Wallet, *RICH).when(lambda wallet: None).then()
    with pytest.raises(AssertionError, match=r"expected:\n    nothing\ngot:\n  \+ Withdrawn"):
        given(Wallet, *RICH).when(lambda wallet: wallet.withdraw(20)).then()
    with pytest.raises(AssertionError, match=r"expected:\n  - Closed\(\)\ngot:\n    nothing"):
        given(Wallet, *RICH).when(lambda wallet: None).then(Closed())


def test_a_refusal() -> None:
    decided = given(Wallet, *RICH).when(lambda wallet: wallet.withdraw(60)).then(InsufficientFunds).then(Exception)
    with pytest.raises(AssertionError) as caught:
        decided.then(KeyError)
    assert str(caught.value) == says(
        "the command was refused by another exception",
        "expected:",
        "  - refused by KeyError",
        "got:",
        "  + refused by InsufficientFunds: 50 is less than 60",
    )
    assert isinstance(caught.value.__cause__, InsufficientFunds)


def test_no_refusal() -> None:
    with pytest.raises(AssertionError) as caught:
        given(Wallet, *RICH).when(lambda wallet: wallet.withdraw(20)).then(InsufficientFunds)
    assert str(caught.value) == says(
        "the command was not refused",
        "expected:",
        "  - refused by InsufficientFunds",
        "got:",
        "  + Withdrawn(amount=Decimal('20'))",
    )


@pytest.mark.parametrize("expected", [(), (Withdrawn(amount=Decimal(60)),)])
def test_a_refusal_that_nobody_expected(expected: tuple[SourcedEvent, ...]) -> None:
    with pytest.raises(AssertionError, match="50 is less than 60") as caught:
        given(Wallet, *RICH).when(lambda wallet: wallet.withdraw(60)).then(*expected)
    assert isinstance(caught.value.__cause__, InsufficientFunds)


def test_the_state_afterwards_is_what_would_be_loaded() -> None:
    wallet = given(Wallet, *RICH, id="w-1").when(lambda wallet: wallet.withdraw(20)).state
    assert (wallet.id, wallet.version, wallet.owner, wallet.balance) == ("w-1", 3, "Ada", Decimal(30))
    assert (wallet.commands, wallet.pending) == (0, [])


def test_the_state_after_a_refusal_is_that_before() -> None:
    decided = given(Wallet, *RICH).when(lambda wallet: wallet.withdraw(60))
    with pytest.raises(InsufficientFunds):
        _ = decided.state
    with pytest.raises(AssertionError):
        decided.then()
    with pytest.raises(InsufficientFunds):
        _ = decided.state
    assert decided.then(InsufficientFunds).state.balance == 50


def test_an_aggregate_has_an_id_of_its_own() -> None:
    assert UUID(given(Wallet).when(lambda wallet: wallet.rename("Ada")).state.id).version == 7


def test_an_aggregate_that_is_gone_takes_no_command() -> None:
    given(Wallet, *RICH, Closed()).when(lambda wallet: None).then(errors.AggregateDeleted)
    given(Wallet).when(Wallet.close).then(Closed())


def test_what_a_repository_would_not_save_is_refused() -> None:
    given(Wallet).when(Wallet.overdraw).then(ValueError)
    given(Wallet).when(Wallet.overdraw_in_silence).then(errors.AggregateSpoiled)
    given(Wallet).when(lambda wallet: wallet.rename(7)).then(errors.EventValueError)
    given(Wallet).when(lambda wallet: wallet.wait()).then(errors.DeclarationError)


def test_a_history_that_cannot_be_is_an_error_at_once() -> None:
    with pytest.raises(errors.DeclarationError, match="does not evolve"):
        given(Wallet, Unknown())
    with pytest.raises(errors.EventValueError, match="no event-sourced event"):
        given(Wallet, Placed(order=1))  # type: ignore[call-overload]
    with pytest.raises(errors.DeclarationError, match="give it a class derived from Aggregate"):
        given(Aggregate())  # type: ignore[call-overload]


def test_what_is_neither_event_nor_exception_cannot_be_expected() -> None:
    decided = given(Wallet, *RICH).when(Wallet.close)
    for wrong in [(Closed,), ("Closed",), (InsufficientFunds, Closed()), (InsufficientFunds("none"),)]:
        with pytest.raises(errors.DeclarationError, match="give it events, or for an aggregate the class of one exc"):
            decided.then(*wrong)  # type: ignore[call-overload]


# -------------------------------------------------------------------------------------------------- deciders


class Pay(msgspec.Struct, frozen=True):
    amount: int


class Close(msgspec.Struct, frozen=True):
    twice: bool = False


def decide(command: Pay | Close, balance: Decimal) -> Iterable[Withdrawn | Closed]:
    if isinstance(command, Close):
        yield from [Closed(), Closed()] if command.twice else [Closed()]
    elif command.amount > balance:
        raise InsufficientFunds(f"{balance} is less than {command.amount}")
    elif command.amount:
        yield Withdrawn(amount=Decimal(command.amount))


def evolve(balance: Decimal, event: Deposited | Withdrawn | Closed) -> Decimal:
    match event:
        case Deposited(amount=amount):
            return balance + amount
        case Withdrawn(amount=amount):
            return balance - amount
        case _:
            return balance


PURSE: Decider[Pay | Close, Deposited | Withdrawn | Closed, Decimal] = Decider(
    name="test.given.purse", initial=Decimal(0), decide=decide, evolve=evolve, deleted_by=(Closed,)
)
FULL = given(PURSE, Deposited(amount=Decimal(50)))


def test_a_decider_decides() -> None:
    assert FULL.when(Pay(20)).then(Withdrawn(amount=Decimal(20))).state == 30
    assert FULL.when(Pay(0)).then().state == 50
    assert FULL.when(Pay(60)).then(InsufficientFunds).state == 50


def test_a_decider_fails() -> None:
    with pytest.raises(AssertionError, match="other events"):
        FULL.when(Pay(20)).then(Withdrawn(amount=Decimal(21)))
    with pytest.raises(AssertionError, match="other events"):
        FULL.when(Pay(20)).then()
    with pytest.raises(AssertionError, match="not refused"):
        FULL.when(Pay(20)).then(InsufficientFunds)
    with pytest.raises(AssertionError, match="was refused"):
        FULL.when(Pay(60)).then()


def test_a_decider_that_is_gone() -> None:
    given(PURSE, Closed()).when(Pay(0)).then(errors.AggregateDeleted)
    given(PURSE).when(Close(twice=True)).then(errors.AggregateDeleted)
    given(PURSE).when(Close()).then(Closed())


# -------------------------------------------------------------------------------------------------- handlers


class Placed(DomainEvent, name="test.given.placed", key="order"):
    order: int
    articles: tuple[str, ...] = ()


class Accepted(DomainEvent, name="test.given.accepted"):
    order: int


class Reserved(DomainEvent, name="test.given.reserved"):
    article: str


class Announced(IntegrationEvent, name="test.given.announced", version=1):
    order: int


class Noted(DomainEvent, name="test.given.noted"):
    order: int


class Nobody(DomainEvent, name="test.given.nobody"):
    """Nothing handles it."""


@pytest.fixture(params=["sqlite", "memory", "postgresql"])
def app(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> App:
    match request.param:
        case "sqlite":
            url = f"sqlite:///{tmp_path / 'log.db'}"
        case "memory":
            url = f"memory://{schema}"
        case _:
            url = request.getfixturevalue("postgres_url")
    app = App("given", url, schema=schema)
    app.migrate()
    tries: list[int] = []

    @app.on(Placed, retry=Backoff(first=0.01, most=0.02))
    def accept(event: Placed) -> None:
        if event.order < 0:
            raise errors.Permanent(f"no such order: {event.order}")
        tries.append(event.order)
        if event.order == 99 or (event.order == 2 and tries.count(2) < 3):
            raise ConnectionError("the stock is away")
        with app.transaction() as connection:
            app.record(Accepted(order=event.order), via=connection)

    @app.on(Placed)
    async def reserve(event: Placed) -> None:
        def record() -> None:
            with app.transaction() as connection:
                app.record(*(Reserved(article=article) for article in event.articles), via=connection)

        if event.articles:
            await asyncio.to_thread(record)

    @app.translate(Accepted)
    def announce(event: Accepted) -> Announced:
        return Announced(order=event.order)

    @app.translate(Withdrawn)
    def tell(event: Withdrawn) -> Announced:
        return Announced(order=int(event.amount))

    return app


def test_a_read_model_can_be_looked_at(app: App, schema: str) -> None:
    table = f"orders_of_{schema}"
    with app.transaction() as connection:
        connection.execute(f"create table {table} (article text primary key, orders integer)")

    @app.within(Placed)
    def count(event: Placed, connection: Any) -> None:
        for article in event.articles:
            connection.execute(
                f"insert into {table} values ('{article}', 1) "
                f"on conflict (article) do update set orders = {table}.orders + 1"
            )
        if len(event.articles) > 2:
            raise OverflowError(event.order)

    reserved = [Reserved(article="pen"), Reserved(article="ink")]
    handled = given(app, Placed(order=1, articles=("pen",))).when(Placed(order=3, articles=("pen", "ink")))
    handled.then(Accepted(order=3), Announced(order=3), *reserved)
    assert handled.rows(f"select article, orders from {table} order by article") == [("ink", 1), ("pen", 2)]
    with pytest.raises(OverflowError):
        given(app).when(Placed(order=4, articles=("a", "b", "c")))
    assert handled.rows(f"select count(*) from {table}") == [(2,)]


async def test_a_read_model_can_be_looked_at_in_an_event_loop(app: App) -> None:
    handled = await given(app).when_async(Noted(order=1))
    assert handled.then().rows("select 1, 'a'") == [(1, "a")]


def test_what_follows_follows_to_the_end(app: App) -> None:
    handled = given(app).when(Placed(order=1, articles=("pen", "ink")))
    handled.then(Announced(order=1), Accepted(order=1), Reserved(article="ink"), Reserved(article="pen"))
    with pytest.raises(AssertionError) as caught:
        handled.then(Announced(order=1), Accepted(order=2), Reserved(article="ink"), Reserved(article="pen"))
    lines = str(caught.value).splitlines()
    assert lines[:6] == [
        "other events were recorded",
        "expected:",
        "    Announced(order=1)",
        "  - Accepted(order=2)",
        "    Reserved(article='ink')",
        "    Reserved(article='pen')",
    ]
    assert lines[6] == "got:"
    assert [line for line in lines[7:] if line.startswith("  +")] == ["  + Accepted(order=1)"]


def test_what_is_recorded_twice_is_expected_twice(app: App) -> None:
    handled = given(app).when(Placed(order=1, articles=("pen", "pen")))
    handled.then(Announced(order=1), Accepted(order=1), Reserved(article="pen"), Reserved(article="pen"))
    with pytest.raises(AssertionError, match=r"\+ Reserved"):
        handled.then(Announced(order=1), Accepted(order=1), Reserved(article="pen"))
    with pytest.raises(AssertionError, match="- Accepted"):
        handled.then(
            *(Announced(order=1), Accepted(order=1), Accepted(order=1)),
            *(Reserved(article="pen"), Reserved(article="pen")),
        )


def test_nothing_follows(app: App) -> None:
    handled = given(app).when(Nobody()).then()
    with pytest.raises(errors.DeclarationError, match="give it events"):
        handled.then(Accepted)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=r"- Accepted\(order=1\)\ngot:\n    nothing"):
        handled.then(Accepted(order=1))
    with pytest.raises(AssertionError, match=r"expected:\n    nothing\ngot:\n  \+ Accepted"):
        given(app).when(Placed(order=1)).then()


def test_what_follows_from_the_given_events_is_given_too(app: App) -> None:
    given(app, Placed(order=7), Withdrawn(amount=Decimal(3))).when(Placed(order=8)).then(
        Accepted(order=8), Announced(order=8)
    )
    found = [each.event for each in app.read(types=[Placed, Accepted])]
    assert found == [Placed(order=7), Accepted(order=7), Placed(order=8), Accepted(order=8)]


def test_event_sourced_events_are_recorded_in_a_stream(app: App) -> None:
    given(app, Opened(owner="Ada"), stream="wallet-1").when(Withdrawn(amount=Decimal(3))).then(Announced(order=3))
    assert [each.version for each in app.read(stream="wallet-1")] == [1, 2]
    given(app).when(Withdrawn(amount=Decimal(4))).then(Announced(order=4))
    (last,) = app.read(types=[Withdrawn], after=app.operations.horizon() - 2)
    assert (last.stream or "").startswith("given-")


def test_what_is_tried_again_may_do_well_in_the_end(app: App) -> None:
    given(app).when(Placed(order=2)).then(Accepted(order=2), Announced(order=2))


def test_a_dead_letter_fails_with_its_reason(app: App) -> None:
    handled = given(app).when(Placed(order=-1))
    with pytest.raises(AssertionError) as caught:
        handled.then()
    lines = str(caught.value).splitlines()
    assert lines[:5] == [
        "there are dead letters",
        "expected:",
        "    nothing",
        "got:",
        "  + parked: Permanent: no such order: -1 (test.given.placed for accept)",
    ]
    assert any('raise errors.Permanent(f"no such order' in line for line in lines[5:])


def test_a_dead_letter_may_be_what_is_expected(app: App) -> None:
    handled = given(app).when(Placed(order=-1, articles=("pen",))).then(Reserved(article="pen"), parked="no such order")
    with pytest.raises(AssertionError, match="other dead letters\nexpected:\n  - parked: too late\ngot:\n  \\+ parked"):
        handled.then(Reserved(article="pen"), parked="too late")
    with pytest.raises(AssertionError, match=r"\+ Reserved"):
        handled.then(parked="no such order")


def test_there_is_no_dead_letter(app: App) -> None:
    handled = given(app).when(Nobody())
    with pytest.raises(AssertionError, match="no dead letter\nexpected:\n  - parked: no such order\ngot:\n    nothing"):
        handled.then(parked="no such order")


def test_a_dead_letter_of_the_given_events_counts(app: App) -> None:
    with pytest.raises(AssertionError, match="no such order: -1"):
        given(app, Placed(order=-1)).when(Nobody()).then()


def test_older_dead_letters_do_not_count_unless_they_are_in_the_way(app: App) -> None:
    given(app).when(Placed(order=-1)).then(parked="no such order")
    given(app).when(Placed(order=-2)).then(parked="no such order: -2")
    given(app).when(Placed(order=1)).then(Accepted(order=1), Announced(order=1))
    with pytest.raises(AssertionError, match="queues behind a dead letter of its key: Permanent: no such order: -1"):
        given(app).when(Placed(order=-1)).then()


def test_what_is_never_done_fails_with_what_failed_last(app: App) -> None:
    with pytest.raises(AssertionError) as caught:
        given(app).when(Placed(order=99), seconds=4)
    head, *lines = str(caught.value).splitlines()
    assert head == "not everything was handled within 4 s"
    assert "  accept: 0 behind, 1 retrying; last failure: ConnectionError: the stock is away" in lines


def test_a_handler_that_never_ends_does_not_keep_the_test(app: App) -> None:
    @app.on(Noted)
    async def hang(event: Noted) -> None:
        await asyncio.Event().wait()

    began = time.monotonic()
    with pytest.raises(AssertionError, match="hang: 1 behind, 0 retrying"):
        given(app).when(Noted(order=1), seconds=0.1)
    assert time.monotonic() - began < 20  # a worker gives its handlers thirty


def test_a_paused_subscription_is_named(app: App) -> None:
    given(app).when(Nobody()).then()
    app.operations.pause("reserve", actor="test", reason="test")
    with pytest.raises(AssertionError, match="reserve: 1 behind, 0 retrying, paused"):
        given(app).when(Placed(order=1), seconds=1.5)


async def test_in_an_event_loop(app: App) -> None:
    with pytest.raises(errors.DeclarationError, match="when_async"):
        given(app).when(Placed(order=1))
    handled = await given(app, Placed(order=1)).when_async(Placed(order=3))
    handled.then(Accepted(order=3), Announced(order=3))
    with pytest.raises(AssertionError, match="other events"):
        handled.then()


def test_handlers_within_recording_are_called(app: App) -> None:
    seen: list[str] = []

    @app.within(Noted)
    async def note(event: Noted, connection: Any) -> None:
        answer: Awaitable[Any] = connection.execute("select 1")
        await answer
        seen.append("async")

    @app.within(Placed)
    def check(event: Placed, connection: Any) -> None:
        seen.append("sync")
        if event.order == 13:
            raise ValueError("not thirteen")
        connection.execute("select 1")

    given(app, Noted(order=1), Noted(order=2)).when(Placed(order=1)).then(Accepted(order=1), Announced(order=1))
    assert seen == ["async", "async", "sync"]
    with pytest.raises(ValueError, match="thirteen"):
        given(app).when(Placed(order=13))
