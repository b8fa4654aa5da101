"""What type checkers must see of personal fields. It is checked, never run: mypy and pyright must accept it."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import Annotated, assert_type
from uuid import UUID

from ensue import App, DomainEvent, Personal, Process, personal
from ensue.history import Appearances, Forgotten
from ensue.keys import LocalKeys, MasterKeys


class Address(DomainEvent, subject="user", name="test.typing.address"):
    user: UUID
    street: Personal[str]
    lines: Personal[tuple[str, ...]] = ()
    phone: Personal[str | None] = None
    neighbour: Annotated[str, personal(subject="user", mask="somebody")] = ""


class Moving(Process, subject="of", name="typing-moving"):
    of: str = ""
    street: Personal[str] = ""


class Service:
    current = "1"

    def wrap(self, key: bytes) -> bytes:
        return key

    def unwrap(self, wrapped: bytes, name: str) -> bytes:
        return wrapped


class Wrong:
    def wrap(self, key: bytes) -> bytes:
        return key


def fields(event: Address, process: Moving) -> None:
    assert_type(event.street, str)
    assert_type(event.lines, tuple[str, ...])
    assert_type(event.phone, str | None)
    assert_type(event.neighbour, str)
    assert_type(process.street, str)


def made(user: UUID) -> None:
    Address(user=user, street="here")
    Address(user=user, street=7)  # type: ignore[arg-type]
    Address(user=user)  # type: ignore[call-arg]


def keys() -> None:
    local: MasterKeys = LocalKeys(b"")
    App("typing", "memory://typing", master_keys=local)
    App("typing", "memory://typing", master_keys=Service())
    App("typing", "memory://typing", master_keys=Wrong())  # type: ignore[arg-type]


async def forgotten(app: App) -> None:
    assert_type(app.forget("u7"), Forgotten)
    assert_type(await app.forget_async("u7", actor="me", reason="asked"), Forgotten)
    assert_type(app.appearances("u7"), Appearances)
    assert_type(app.keys.rotate().keys, int)
