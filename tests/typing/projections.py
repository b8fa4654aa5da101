"""What type checkers must see of projections and tables. It is checked, never run: mypy and pyright must accept it.

A line that must be an error says so to both; each of them complains if it finds none.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import assert_type

import msgspec
from psycopg import AsyncConnection

from ensue import App, DomainEvent, Projection, Recorded, applies
from ensue.tables import Table

app = App("typing", "memory://typing-projections")


class Paid(DomainEvent, key="owner", name="test.typing.projections.paid"):
    owner: str
    cents: int


@dataclass
class Balance:
    owner: str
    cents: int = 0


class Member(msgspec.Struct):
    group: str
    number: int


balances = Table("balances", Balance, key=lambda row: row.owner)
members = Table("members", Member, key=lambda row: (row.group, row.number))


def a_table_knows_its_rows_and_its_key(via: sqlite3.Connection) -> None:
    assert_type(balances, Table[Balance, str])
    assert_type(members, Table[Member, tuple[str, int]])
    assert_type(balances.get("ada", via=via), Balance | None)
    assert_type(balances.put(Balance("ada", 1), via=via), None)
    members.remove(("a", 1), via=via)
    balances.put(Member("a", 1), via=via)  # type: ignore[call-overload]
    balances.get(1, via=via)  # type: ignore[call-overload]
    members.remove("a", via=via)  # type: ignore[call-overload]
    Table("wrong", Balance, key=lambda row: row.nothing)  # type: ignore[attr-defined]


async def on_an_async_connection_a_verb_is_awaited(via: AsyncConnection) -> None:
    await assert_type(balances.add(Balance("ada", 1), via=via), Awaitable[None])
    assert_type(await balances.get("ada", via=via), Balance | None)


@app.projection
class Shown(Projection):
    tables = balances
    version = 2

    @applies
    def _(self, event: Paid, connection: sqlite3.Connection) -> None:
        balances.add(Balance(event.owner, event.cents), via=connection)


assert_type(Shown, type[Shown])


class Positions(Projection):
    tables = ("positions", members)
    partitions = 4

    @applies
    async def _(self, event: Paid, connection: AsyncConnection, recorded: Recorded[Paid]) -> None:
        await members.include(Member(event.owner, recorded.position), via=connection)


class Wrong(Projection):
    tables = balances
    version = "2"  # type: ignore[assignment]

    @applies  # type: ignore[type-var]
    def _(self, event: Balance, connection: sqlite3.Connection) -> None: ...
