"""Tables with typed rows: each verb is a statement of the open transaction, whatever connection carries it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import msgspec
import pytest

from ensue.errors import DeclarationError
from ensue.log import Postgres
from ensue.tables import Table
from ensue.testing.suite.case import Case


@dataclass
class Score:
    """What is counted."""

    user: str
    points: int = 0
    weight: float = 0.0


class Member(msgspec.Struct):
    """What is in a set."""

    group: str
    user: str


@dataclass
class Profile:
    """Everything that a column may hold, the words of SQL as names too."""

    select: str
    order: str | None
    ratio: float
    active: bool
    photo: bytes
    number: UUID
    born: date
    seen: datetime
    since: datetime | None = None


def _make(case: Case, table: Table[Any, Any]) -> None:
    case.execute(table.ddl(postgres=isinstance(case.app.log.dialect, Postgres)))


async def numbers_are_added_to_those_that_are_there(case: Case) -> None:
    scores = Table(f"scores_{case.mark}", Score, key=lambda row: row.user)
    _make(case, scores)
    async with case.transaction() as connection:
        await case.outcome(scores.add(Score("ada", points=3), via=connection.via))
        await case.outcome(scores.add(Score("ada", points=-1, weight=0.5), via=connection.via))
        await case.outcome(scores.add(Score("bob"), via=connection.via))
        assert await case.outcome(scores.get("ada", via=connection.via)) == Score("ada", 2, 0.5)
        await case.outcome(scores.put(Score("bob", points=7), via=connection.via))
    assert case.seen(f"select * from {scores.name} order by 1") == [("ada", 2, 0.5), ("bob", 7, 0.0)]


async def a_member_is_in_a_set_once(case: Case) -> None:
    members = Table(f"members_{case.mark}", Member, key=lambda row: (row.group, row.user))
    _make(case, members)
    async with case.transaction() as connection:
        for user in ("ada", "bob", "ada"):
            await case.outcome(members.include(Member("g", user), via=connection.via))
        await case.outcome(members.put(Member("g", "ada"), via=connection.via))
        await case.outcome(members.remove(("g", "bob"), via=connection.via))
        await case.outcome(members.remove(("g", "nobody"), via=connection.via))
        assert await case.outcome(members.get(("g", "bob"), via=connection.via)) is None
    assert case.seen(f"select * from {members.name}") == [("g", "ada")]


async def what_is_put_into_a_table_comes_back(case: Case) -> None:
    profiles = Table(f"profiles_{case.mark}", Profile, key=lambda row: row.select)
    _make(case, profiles)
    moment = datetime(2026, 3, 29, 1, 59, 59, 123456, timezone(timedelta(hours=-3)))
    full = Profile("a'; drop --", "%s ? :v1", 0.1, True, b"\x00\xff", UUID(int=7), date(2026, 2, 28), moment, moment)
    bare = Profile("", None, -1.5, False, b"", UUID(int=0), date(1, 1, 1), moment.astimezone(UTC))
    async with case.transaction() as connection:
        for row in (full, bare):
            await case.outcome(profiles.put(row, via=connection.via))
            assert await case.outcome(profiles.get(row.select, via=connection.via)) == row


async def a_row_goes_with_the_transaction(case: Case) -> None:
    scores = Table(f"scores_{case.mark}", Score, key=lambda row: row.user)
    _make(case, scores)
    async with case.connect() as connection:
        await connection.begin()
        await case.outcome(scores.add(Score("ada", points=3), via=connection.via))
        await connection.rollback()
    assert case.seen(f"select * from {scores.name}") == []


async def a_table_takes_its_rows_and_no_others(case: Case) -> None:
    scores: Table[Any, Any] = Table(f"scores_{case.mark}", Score, key=lambda row: row.user)
    profiles = Table("profiles", Profile, key=lambda row: row.select)
    async with case.transaction() as connection:
        with pytest.raises(DeclarationError, match="takes a Score"):
            scores.put(Member("g", "u"), via=connection.via)
        with pytest.raises(DeclarationError, match="its key is"):
            scores.get(("a", "b"), via=connection.via)
        with pytest.raises(DeclarationError, match="only numbers that are never None"):
            profiles.add(
                Profile("", None, 0, False, b"", UUID(int=0), date(1, 1, 1), datetime.now(UTC)), via=connection.via
            )
