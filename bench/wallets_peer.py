"""The wallet in the eventsourcing library, in the fastest of the styles that its documentation shows.

That is its example of immutable aggregates with msgspec: events are structs, a mapper of a few lines has msgspec write
and read them as JSON, a function evolves the state. Its default, dataclasses and its own JSON transcoder, is slower.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from functools import singledispatch
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
from eventsourcing.application import Application
from eventsourcing.domain import datetime_now_with_tzinfo
from eventsourcing.persistence import Mapper, StoredEvent
from eventsourcing.utils import get_topic, resolve_topic
from psycopg.conninfo import conninfo_to_dict

from bench.events import MOMENT
from bench.stores import Pair
from bench.wallets import AMOUNT, CARD, EVENTS_PER_WITHDRAWAL, OWNER, REFERENCE

PEER = "eventsourcing, msgspec"


class PeerEvent(msgspec.Struct, frozen=True, kw_only=True):
    originator_id: UUID
    originator_version: int
    timestamp: datetime = msgspec.field(default_factory=datetime_now_with_tzinfo)


class PeerOpened(PeerEvent, frozen=True, kw_only=True):
    owner: UUID
    currency: str
    opened_at: datetime


class PeerDeposited(PeerEvent, frozen=True, kw_only=True):
    amount: Decimal
    card: UUID
    reference: str
    booked_at: datetime


class PeerWithdrawn(PeerEvent, frozen=True, kw_only=True):
    amount: Decimal
    card: UUID
    reference: str
    booked_at: datetime


class PeerWallet(msgspec.Struct, frozen=True):
    id: UUID
    version: int
    modified_on: datetime
    owner: UUID
    currency: str
    balance: Decimal
    bookings: int


@singledispatch
def evolve(event: PeerEvent, _: PeerWallet | None) -> PeerWallet:
    """Return the wallet after an event."""
    raise TypeError(type(event))


@evolve.register
def _(event: PeerOpened, _: None) -> PeerWallet:
    return PeerWallet(
        event.originator_id, event.originator_version, event.timestamp, event.owner, event.currency, Decimal(0), 0
    )


@evolve.register
def _(event: PeerDeposited, wallet: PeerWallet) -> PeerWallet:
    return _booked(wallet, event, wallet.balance + event.amount)


@evolve.register
def _(event: PeerWithdrawn, wallet: PeerWallet) -> PeerWallet:
    return _booked(wallet, event, wallet.balance - event.amount)


def _booked(wallet: PeerWallet, event: PeerEvent, balance: Decimal) -> PeerWallet:
    return PeerWallet(
        wallet.id,
        event.originator_version,
        event.timestamp,
        wallet.owner,
        wallet.currency,
        balance,
        wallet.bookings + 1,
    )


def project(wallet: PeerWallet | None, events: Iterable[PeerEvent]) -> PeerWallet | None:
    """Return the wallet after events."""
    for event in events:
        wallet = evolve(event, wallet)
    return wallet


class StructMapper(Mapper[UUID]):
    """Has msgspec write and read the whole event."""

    def to_stored_event(self, domain_event: Any) -> StoredEvent:
        return StoredEvent(
            originator_id=domain_event.originator_id,
            originator_version=domain_event.originator_version,
            topic=get_topic(type(domain_event)),
            state=msgspec.json.encode(domain_event),
        )

    def to_domain_event(self, stored_event: StoredEvent) -> Any:
        return msgspec.json.decode(stored_event.state, type=resolve_topic(stored_event.topic))


class PeerWallets(Application[UUID]):
    """Its application; commands take and return a wallet, so that it is not loaded again for each."""

    def open(self) -> PeerWallet:
        event = PeerOpened(originator_id=uuid4(), originator_version=1, owner=OWNER, currency="EUR", opened_at=MOMENT)
        self.save(event)
        return evolve(event, None)

    def load(self, id: UUID) -> PeerWallet:
        wallet: PeerWallet = self.repository.get(id, projector_func=project)
        return wallet

    def book(self, wallet: PeerWallet, count: int) -> PeerWallet:
        """Deposit and withdraw, so that this many events are new; save them in one commit."""
        events: list[PeerEvent] = []
        for _ in range(count):
            withdraws = wallet.bookings % EVENTS_PER_WITHDRAWAL == EVENTS_PER_WITHDRAWAL - 1
            event = (PeerWithdrawn if withdraws else PeerDeposited)(
                originator_id=wallet.id,
                originator_version=wallet.version + 1,
                amount=AMOUNT,
                card=CARD,
                reference=REFERENCE,
                booked_at=MOMENT,
            )
            wallet = evolve(event, wallet)
            events.append(event)
        self.save(*events)
        return wallet


def settings_of(made: Pair, schema: str) -> dict[str, str]:
    """Return its settings for a schema of its own, all else as it comes."""
    about = conninfo_to_dict(made.url)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": str(about.get("dbname", "postgres")),
        "POSTGRES_HOST": str(about.get("host", "localhost")),
        "POSTGRES_PORT": str(about.get("port", "5432")),
        "POSTGRES_USER": str(about.get("user", "postgres")),
        "POSTGRES_PASSWORD": str(about.get("password", "")),
        "POSTGRES_SCHEMA": schema,
    }


def settings_for(file: Path) -> dict[str, str]:
    """Return its settings for a new file; it opens it in WAL mode with SQLite's default, synchronous FULL."""
    return {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(file)}


def with_msgspec(settings: dict[str, str]) -> PeerWallets:
    """Return the application with its mapper, and with its database functions, which spare it round trips."""
    fastest = {"MAPPER_TOPIC": get_topic(StructMapper), "POSTGRES_ENABLE_DB_FUNCTIONS": "yes"}
    return PeerWallets(env={**settings, **fastest})
