"""What a type checker says about modules."""

from __future__ import annotations

from typing import assert_type

from ensue import Aggregate, App, DomainEvent, IntegrationEvent, SourcedEvent
from ensue.aggregates import Repository
from ensue.app import Module


class Deposited(SourcedEvent):
    pass


class Noted(DomainEvent):
    text: str


class Wallet(Aggregate):
    pass


def a_module_declares_as_an_application_does(app: App) -> None:
    billing = app.module("billing", package="shop.billing")
    assert_type(billing, Module)
    assert_type(billing.repository(Wallet), Repository[Wallet])

    @billing.on(Noted)
    def note(event: Noted) -> None: ...

    @billing.on(Noted)  # type: ignore[arg-type]
    def other(event: Deposited) -> None: ...


def what_is_owned_is_given_back(billing: Module) -> None:
    assert_type(billing.owns(Wallet), type[Wallet])
    billing.owns(Wallet, Deposited, Noted)
    billing.owns(int)  # type: ignore[type-var]
    billing.owns("Wallet")  # type: ignore[call-overload]

    @billing.owns
    class Paid(IntegrationEvent, version=1):
        amount: int

    assert_type(Paid(amount=1).amount, int)
