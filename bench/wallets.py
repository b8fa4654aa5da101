"""The aggregate that is loaded and saved, a wallet, and the same wallet by hand, over the bare driver's rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from bench.events import MOMENT
from ensue import Aggregate, SourcedEvent, evolves

AMOUNT = Decimal("12.50")
OWNER = UUID("0195f3a0-5c1e-7b1e-9d6c-2f1a4be0c001")
CARD = UUID("0195f3a0-5c1e-7b1e-9d6c-2f1a4be0c002")
REFERENCE = "Salary for March, Example Trading and Shipping Company"
EVENTS_PER_WITHDRAWAL = 4
"""Every fourth event takes money out."""


class Opened(SourcedEvent, name="bench.wallet-opened"):
    owner: UUID
    currency: str
    opened_at: datetime


class Deposited(SourcedEvent, name="bench.wallet-deposited"):
    amount: Decimal
    card: UUID
    reference: str
    booked_at: datetime


class Withdrawn(SourcedEvent, name="bench.wallet-withdrawn"):
    amount: Decimal
    card: UUID
    reference: str
    booked_at: datetime


class Wallet(Aggregate, name="BenchWallet"):
    owner: UUID | None = None
    currency: str = ""
    balance: Decimal = Decimal(0)
    bookings: int = 0

    def open(self) -> None:
        self.apply(Opened(owner=OWNER, currency="EUR", opened_at=MOMENT))

    def deposit(self, amount: Decimal) -> None:
        self.apply(Deposited(amount=amount, card=CARD, reference=REFERENCE, booked_at=MOMENT))

    def withdraw(self, amount: Decimal) -> None:
        if amount > self.balance:
            raise ValueError(f"{amount} is more than the {self.balance} in wallet {self.id}")
        self.apply(Withdrawn(amount=amount, card=CARD, reference=REFERENCE, booked_at=MOMENT))

    def book(self, events: int) -> None:
        """Deposit and withdraw, so that this many events are new."""
        for _ in range(events):
            if self.bookings % EVENTS_PER_WITHDRAWAL == EVENTS_PER_WITHDRAWAL - 1:
                self.withdraw(AMOUNT)
            else:
                self.deposit(AMOUNT)

    @evolves
    def _(self, event: Opened) -> None:
        self.owner = event.owner
        self.currency = event.currency

    @evolves
    def _(self, event: Deposited) -> None:
        self.balance += event.amount
        self.bookings += 1

    @evolves
    def _(self, event: Withdrawn) -> None:
        self.balance -= event.amount
        self.bookings += 1


# --- by hand


class Opening(msgspec.Struct, frozen=True):
    owner: UUID
    currency: str
    opened_at: datetime


class Booking(msgspec.Struct, frozen=True):
    amount: Decimal
    card: UUID
    reference: str
    booked_at: datetime


class Folded:
    """A wallet by hand: what the shortest code that still decodes every event into a typed object leads to."""

    __slots__ = ("balance", "bookings", "currency", "owner", "version")

    def __init__(self) -> None:
        self.owner: UUID | None = None
        self.currency = ""
        self.balance = Decimal(0)
        self.bookings = 0
        self.version = 0


_opening: Callable[[str], Opening] = msgspec.json.Decoder(Opening).decode
_booking: Callable[[str], Booking] = msgspec.json.Decoder(Booking).decode
_encode = msgspec.json.Encoder().encode

OPENED, DEPOSITED, WITHDRAWN = (each.__type__ for each in (Opened, Deposited, Withdrawn))


def fold(rows: Iterable[tuple[Any, ...]]) -> Folded:
    """Return the wallet after rows of version, type and data."""
    wallet = Folded()
    for version, type, data in rows:
        if type == DEPOSITED:
            wallet.balance += _booking(data).amount
            wallet.bookings += 1
        elif type == WITHDRAWN:
            wallet.balance -= _booking(data).amount
            wallet.bookings += 1
        elif type == OPENED:
            opening = _opening(data)
            wallet.owner, wallet.currency = opening.owner, opening.currency
        wallet.version = version
    return wallet


def deposit_by_hand(wallet: Folded) -> tuple[str, str]:
    """Take a deposit in; return its wire type and JSON."""
    booking = Booking(AMOUNT, CARD, REFERENCE, MOMENT)
    wallet.balance += booking.amount
    wallet.bookings += 1
    wallet.version += 1
    return DEPOSITED, _encode(booking).decode()
