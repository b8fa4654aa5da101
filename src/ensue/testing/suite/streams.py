"""Streams: the events of one aggregate, numbered 1, 2, 3 …, with optimistic concurrency."""

from __future__ import annotations

import pytest

from ensue.errors import VersionConflict
from ensue.log import ANY, NO_STREAM
from ensue.testing.suite.case import Case
from ensue.testing.suite.events import Deposited, Noted


async def versions_count_from_one_through_calls_and_transactions(case: Case) -> None:
    stream = case.name("stream")
    async with case.connect() as connection:
        await connection.begin()
        first = await case.record(connection, Deposited(amount=1), stream=stream)
        more = await case.record(connection, Deposited(amount=2), Deposited(amount=3), stream=stream)
        await connection.commit()
        await connection.begin()
        last = await case.record(connection, Deposited(amount=4), stream=stream)
        await connection.commit()
    assert (first.version, more.version, last.version) == (1, 3, 4)
    assert first.stream == more.stream == last.stream == stream
    assert [(each.version, each.event.amount) for each in case.recorded(stream=stream)] == [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 4),
    ]


async def streams_are_numbered_each_for_itself(case: Case) -> None:
    one, other = case.name("stream"), case.name("Stream")
    async with case.transaction() as connection, case.several():
        versions = [
            (await case.record(connection, Deposited(amount=1), stream=stream)).version
            for stream in (one, other, one, one, other)
        ]
        alone = await case.record(connection, Noted(text="in no stream"))
    assert versions == [1, 1, 2, 3, 2]
    assert alone.version is None
    assert [each.version for each in case.recorded()] == [1, 1, 2, 3, 2, None]


async def a_version_that_was_rolled_back_is_given_again(case: Case) -> None:
    stream = case.name("stream")
    async with case.connect() as connection:
        await connection.begin()
        await case.record(connection, Deposited(amount=1), stream=stream)
        await connection.rollback()
        await connection.begin()
        receipt = await case.record(connection, Deposited(amount=2), stream=stream, expected=NO_STREAM)
        await connection.commit()
    assert receipt.version == 1
    assert [(each.version, each.event.amount) for each in case.recorded(stream=stream)] == [(1, 2)]


async def what_is_expected_is_recorded(case: Case) -> None:
    stream = case.name("stream")
    async with case.transaction() as connection:
        new = await case.record(connection, Deposited(amount=1), Deposited(amount=2), stream=stream, expected=NO_STREAM)
        next = await case.record(connection, Deposited(amount=3), stream=stream, expected=2)
        whatever = await case.record(connection, Deposited(amount=4), stream=stream, expected=ANY)
        last = await case.record(connection, Deposited(amount=5), stream=stream, expected=whatever.version)
    assert (new.version, next.version, whatever.version, last.version) == (2, 3, 4, 5)


async def another_version_than_expected_is_a_conflict(case: Case) -> None:
    stream = case.name("stream")
    async with case.transaction() as connection:
        await case.record(connection, Deposited(amount=1), Deposited(amount=2), stream=stream)
    for expected in (NO_STREAM, 1, 3):
        with pytest.raises(VersionConflict, match="somebody else has recorded") as caught:
            async with case.transaction() as connection:
                await case.write(connection, "row")
                await case.record(connection, Deposited(amount=9), stream=stream, expected=expected)
        conflict = caught.value
        assert (conflict.stream, conflict.expected, conflict.actual) == (stream, expected, 2)
    assert [each.event.amount for each in case.recorded()] == [1, 2]
    assert case.written() == []


async def a_stream_that_is_expected_must_exist(case: Case) -> None:
    stream = case.name("it's a % stream\nof two lines")
    with pytest.raises(VersionConflict) as caught:
        async with case.transaction() as connection:
            await case.record(connection, Deposited(amount=1), stream=stream, expected=3)
    assert (caught.value.stream, caught.value.expected, caught.value.actual) == (stream, 3, 0)
    assert case.recorded() == []


async def the_transaction_survives_a_conflict_in_a_savepoint(case: Case) -> None:
    stream = case.name("stream")
    async with case.transaction() as connection:
        await case.record(connection, Deposited(amount=1), stream=stream)
        with pytest.raises(VersionConflict):
            async with connection.savepoint():
                await case.record(connection, Deposited(amount=2), stream=stream, expected=NO_STREAM)
        await case.record(connection, Deposited(amount=3), stream=stream, expected=1)
    assert [(each.version, each.event.amount) for each in case.recorded()] == [(1, 1), (2, 3)]
