"""What type checkers must see of handlers and upcasters. It is checked, never run: mypy and pyright must accept it.

A line that must be an error says so to both; each of them complains if it finds none.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, assert_type

from ensue import App, Delivery, DomainEvent, IntegrationEvent, PastEvent, SourcedEvent, upcast


class Deposited(SourcedEvent, name="test.typing.handlers.deposited"):
    cents: int


class Noted(DomainEvent, name="test.typing.handlers.noted"):
    text: str


class Paid(IntegrationEvent, version=1, name="test.typing.handlers.paid"):
    cents: int


class Refunded(IntegrationEvent, version=1, name="test.typing.handlers.refunded"):
    cents: int


class DepositedInEuros(PastEvent, name="test.typing.handlers.deposited"):
    euros: int


class DepositedInPounds(PastEvent, name="test.typing.handlers.deposited"):
    pounds: int


# --- upcasters


def an_upcaster_makes_events_of_a_past_one() -> None:
    @upcast
    def to_one(old: DepositedInEuros) -> Deposited:
        return Deposited(cents=old.euros * 100)

    assert_type(to_one, Callable[[DepositedInEuros], Deposited])

    @upcast
    def to_past(old: DepositedInPounds) -> DepositedInEuros:
        return DepositedInEuros(euros=old.pounds)

    @upcast
    def to_several(old: DepositedInEuros) -> tuple[Deposited, Noted]:
        return Deposited(cents=old.euros), Noted(text="a")

    @upcast
    def to_many(old: DepositedInEuros) -> list[Deposited | Noted]:
        return []

    to_one(DepositedInPounds(pounds=1))  # type: ignore[arg-type]


def what_is_no_upcaster() -> None:
    @upcast  # type: ignore[type-var]
    def of_an_event(old: Deposited) -> Deposited:
        return old

    @upcast  # type: ignore[type-var]
    def to_text(old: DepositedInEuros) -> str:
        return ""

    @upcast  # type: ignore[type-var]
    def to_nothing(old: DepositedInEuros) -> None: ...

    @upcast  # type: ignore[type-var]
    async def later(old: DepositedInEuros) -> Deposited:
        return Deposited(cents=old.euros)

    @upcast  # type: ignore[arg-type]
    def of_two(old: DepositedInEuros, other: int) -> Deposited:
        return Deposited(cents=old.euros)


# --- translations


def a_translation_returns_integration_events(app: App) -> None:
    @app.translate(Deposited)
    def one(event: Deposited) -> Paid:
        return Paid(cents=event.cents)

    assert_type(one, Callable[[Deposited], Paid])

    @app.translate(Deposited, name="perhaps", start="beginning")
    def perhaps(event: Deposited) -> Paid | None: ...

    @app.translate(Deposited)
    def several(event: Deposited, delivery: Delivery) -> list[Paid | Refunded]:
        return []

    @app.translate(Deposited)
    def yielding(event: Deposited) -> Iterator[Paid]:
        yield Paid(cents=event.cents)

    @app.translate(Deposited)
    async def later(event: Deposited) -> Paid:
        return Paid(cents=event.cents)

    _: Callable[[Deposited], Coroutine[Any, Any, Paid]] = later

    @app.translate(Deposited, Noted)
    def of_either(event: Deposited | Noted) -> Paid | None: ...


def what_is_no_translation(app: App) -> None:
    @app.translate(Deposited)  # type: ignore[type-var]
    def to_an_inner_event(event: Deposited) -> Noted:
        return Noted(text="a")

    @app.translate(Deposited)  # type: ignore[type-var]
    def to_text(event: Deposited) -> str:
        return ""

    @app.translate(Deposited)  # type: ignore[type-var]
    async def to_text_later(event: Deposited) -> str:
        return ""

    @app.translate(Deposited)  # type: ignore[type-var]
    async def yielding_later(event: Deposited) -> AsyncIterator[Paid]:
        yield Paid(cents=event.cents)

    @app.translate(Deposited)  # type: ignore[arg-type]
    def of_another(event: Noted) -> Paid:
        return Paid(cents=1)

    @app.translate(Deposited)  # type: ignore[arg-type]
    def with_a_connection(event: Deposited, connection: int) -> Paid:
        return Paid(cents=1)

    app.translate(Deposited, concurrent=1)  # type: ignore[call-overload]


# --- handlers within recording


def a_handler_within_takes_the_event_and_perhaps_the_connection(app: App) -> None:
    @app.within(Deposited)
    def alone(event: Deposited) -> None: ...

    assert_type(alone, Callable[[Deposited], None])

    @app.within(Deposited)
    def both(event: Deposited, connection: Any) -> None: ...

    @app.within(Deposited)
    async def later(event: Deposited, connection: Any) -> None: ...

    @app.within(Deposited, Noted)
    def either(event: Deposited | Noted) -> None: ...

    @app.within(Deposited, Noted, Paid)
    def any_of_them(event: DomainEvent | SourcedEvent | IntegrationEvent) -> None: ...


def what_cannot_be_within(app: App) -> None:
    @app.within(Deposited)  # type: ignore[arg-type]
    def of_another(event: Noted) -> None: ...

    @app.within(Deposited, Noted)  # type: ignore[arg-type]
    def of_one_of_two(event: Noted) -> None: ...

    @app.within(Deposited)  # type: ignore[arg-type]
    def of_three(event: Deposited, connection: Any, more: int) -> None: ...

    @app.within(Deposited)  # type: ignore[type-var]
    def returning(event: Deposited) -> Paid:
        return Paid(cents=event.cents)

    app.within(int)  # type: ignore[type-var]
