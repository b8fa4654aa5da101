"""What type checkers must see of contracts. It is checked, never run: mypy and pyright must accept it.

A line that must be an error says so to both; each of them complains if it finds none.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type

from ensue import App, Delivery, IntegrationEvent
from ensue.contracts import Service


class PaidOld(IntegrationEvent, version=1, name="test.typing.contracts.Paid", changes="additive"):
    cents: int


class Paid(IntegrationEvent, version=2, name="test.typing.contracts.Paid", service="shop"):
    amount: str


def a_downcast_goes_from_the_newer_to_the_older_version(app: App) -> None:
    @app.downcast(Paid, PaidOld)
    def in_cents(new: Paid) -> PaidOld:
        return PaidOld(cents=int(new.amount))

    @app.module("billing").downcast(Paid, PaidOld, name="other", concurrency=2)
    async def perhaps(new: Paid, delivery: Delivery) -> PaidOld | None:
        return None

    @app.downcast(Paid, PaidOld)  # type: ignore[arg-type]
    def from_the_older(old: PaidOld) -> PaidOld:
        return old

    @app.downcast(Paid, PaidOld)  # type: ignore[arg-type]
    def to_the_newer(new: Paid) -> Paid:
        return new

    app.downcast(int, PaidOld)  # type: ignore[type-var]
    assert_type(in_cents(Paid(amount="1")), PaidOld | None)


def a_service_is_described(app: App) -> None:
    assert_type(app.service(), Service)
    app.check()
    kept: Callable[[], None] = app.check
    kept()
