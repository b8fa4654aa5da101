"""The event that everything is measured with, about 250 bytes of JSON, and the rows that bare drivers insert."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import TypedDict
from uuid import UUID, uuid4

import msgspec

from ensue import IntegrationEvent


class SignedUp(IntegrationEvent, version=1, key="user_id", name="bench.signed-up"):
    user_id: UUID
    email: str
    name: str
    plan: str
    referrer: str
    signed_up_at: datetime


WIRE_TYPE = "bench.signed-up.v1"
KIND = "integration"
MOMENT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)

Row = tuple[str, str, str, str, str]
"""id, type, kind, key, data: what differs between rows or is given by the caller."""


class About(TypedDict):
    """What the event says."""

    user_id: UUID
    email: str
    name: str
    plan: str
    referrer: str
    signed_up_at: datetime


def about(user_id: UUID) -> About:
    """Return what the event of a user says."""
    return {
        "user_id": user_id,
        "email": "maria.magdalena.example@mail.example.com",
        "name": "Maria Example",
        "plan": "professional",
        "referrer": "https://www.example.com/spring?source=letter",
        "signed_up_at": MOMENT,
    }


def any_user(users: int) -> UUID:
    """Return any of so many users; 0: a new one."""
    return UUID(int=random.randrange(users)) if users else uuid4()


def sign_ups(count: int, *, users: int = 0) -> list[SignedUp]:
    """Return events, each of a key of its own, or of any of so many."""
    return [SignedUp(**about(any_user(users))) for _ in range(count)]


def rows(count: int, *, users: int = 0) -> list[Row]:
    """Return the same events as ready rows: the bare driver neither encodes nor makes ids."""
    return [
        (str(uuid4()), WIRE_TYPE, KIND, str(event.user_id), msgspec.json.encode(event).decode())
        for event in sign_ups(count, users=users)
    ]


def json_in_sql(user_id: str) -> str:
    """Return an SQL expression for the JSON of such an event, given one for the user's id as text."""
    (row,) = rows(1)
    before, after = row[4].split(row[3])
    return f"'{before}' || {user_id} || '{after}'"
