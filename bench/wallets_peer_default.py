"""The wallet in the eventsourcing library as in its tutorial: decorated commands, dataclasses, its transcoder."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event

from bench.events import MOMENT
from bench.wallets import AMOUNT, CARD, EVENTS_PER_WITHDRAWAL, OWNER, REFERENCE

PEER_DEFAULT = "eventsourcing, default"


class TutorialWallet(Aggregate):
    @event("Opened")
    def __init__(self, owner: UUID, currency: str, opened_at: datetime) -> None:
        self.owner = owner
        self.currency = currency
        self.balance = Decimal(0)
        self.bookings = 0

    @event("Deposited")
    def deposit(self, amount: Decimal, card: UUID, reference: str, booked_at: datetime) -> None:
        self.balance += amount
        self.bookings += 1

    @event("Withdrawn")
    def withdraw(self, amount: Decimal, card: UUID, reference: str, booked_at: datetime) -> None:
        self.balance -= amount
        self.bookings += 1


class TutorialWallets(Application[UUID]):
    """Its application."""

    def open(self) -> TutorialWallet:
        wallet = TutorialWallet(owner=OWNER, currency="EUR", opened_at=MOMENT)
        self.save(wallet)
        return wallet

    def load(self, id: UUID) -> TutorialWallet:
        wallet: TutorialWallet = self.repository.get(id)
        return wallet

    def book(self, wallet: TutorialWallet, count: int) -> TutorialWallet:
        """Deposit and withdraw, so that this many events are new; save them in one commit."""
        for _ in range(count):
            withdraws = wallet.bookings % EVENTS_PER_WITHDRAWAL == EVENTS_PER_WITHDRAWAL - 1
            book = wallet.withdraw if withdraws else wallet.deposit
            book(amount=AMOUNT, card=CARD, reference=REFERENCE, booked_at=MOMENT)
        self.save(wallet)
        return wallet
