"""The contract of the log, on PostgreSQL: every behaviour over every kind of connection."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from ensue.errors import VersionConflict
from ensue.testing.suite import Ability, Behaviour, Case
from ensue.testing.suite.events import Deposited
from tests.connections import POSTGRES, Kind
from tests.contract import Setting, pairs, prepared
from tests.servers import fresh_database


async def a_version_that_the_snapshot_does_not_show_is_a_conflict(case: Case) -> None:
    stream = case.name("it's a % stream")
    async with case.transaction() as connection:
        await case.record(connection, Deposited(amount=1), stream=stream)
    with pytest.raises(VersionConflict) as caught:
        async with case.transaction() as connection:
            await connection.execute("set transaction isolation level repeatable read")
            await connection.execute("select 1")  # takes the snapshot
            async with case.transaction() as other:
                await case.record(other, Deposited(amount=2), stream=stream)
            await case.record(connection, Deposited(amount=3), stream=stream, expected=1)
    assert (caught.value.stream, caught.value.expected) == (stream, 1)
    assert [each.event.amount for each in case.recorded()] == [1, 2]


SNAPSHOT = Behaviour(
    "a_version_that_the_snapshot_does_not_show_is_a_conflict",
    a_version_that_the_snapshot_does_not_show_is_a_conflict,
)


@pytest.fixture(scope="module")
def setting(installed_postgres_url: str) -> Iterator[Setting]:
    with (
        fresh_database(installed_postgres_url) as here,
        fresh_database(installed_postgres_url) as elsewhere,
        psycopg.connect(here, autocommit=True) as observer,
    ):
        yield Setting(prepared(here), prepared(elsewhere), observer)


@pytest.mark.parametrize(("kind", "behaviour"), pairs(POSTGRES, Ability.READS_BESIDE | Ability.OWNER_KNOWN, SNAPSHOT))
def test_postgres(kind: Kind, behaviour: Behaviour, setting: Setting) -> None:
    behaviour.check(setting.case(kind))
