# pyright: basic
"""Reading: by position, time, stream, type, key, correlation id and id; on a connection of its own or the user's."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import Any
from uuid import uuid4

import pytest

from ensue.errors import EnsueError
from ensue.events import context
from ensue.testing.suite.case import Case
from ensue.testing.suite.events import Announced, Counted, Deposited, Noted


async def a_selection_is_read_in_the_order_of_positions(case: Case) -> None:
    async with case.transaction() as connection:
        receipt = await case.record(connection, *(Noted(text=str(number)) for number in range(6)))
    positions = receipt.positions

    def texts(**conditions: Any) -> str:
        return "".join(each.event.text for each in case.recorded(**conditions))

    assert texts() == "012345"
    assert texts(after=positions[2]) == "345"
    assert texts(until=positions[2]) == "012"
    assert texts(after=positions[1], until=positions[4]) == "234"
    assert texts(after=positions[4], until=positions[1]) == ""
    assert texts(limit=2) == "01"
    assert texts(limit=6) == "012345"
    assert texts(limit=0) == ""
    assert texts(after=positions[3], limit=1) == "4"
    assert texts(after=positions[5]) == ""
    assert texts(until=positions[5] + 1_000_000) == "012345"


async def a_moment_selects_what_was_recorded_from_then_on_or_before(case: Case) -> None:
    async with case.connect() as connection:
        receipts = []
        for number in range(3):
            await connection.begin()
            receipts.append(await case.record(connection, Noted(text=str(number))))
            await connection.commit()
    moment = receipts[1].recorded_at

    def texts(**conditions: Any) -> list[str]:
        return [each.event.text for each in case.recorded(**conditions)]

    assert receipts[0].recorded_at < moment < receipts[2].recorded_at, "a clock that stands still tests nothing"
    assert texts(since=moment) == ["1", "2"]
    assert texts(before=moment) == ["0"]
    assert texts(since=moment + timedelta(microseconds=1)) == ["2"]
    assert texts(before=moment + timedelta(microseconds=1)) == ["0", "1"]
    assert texts(since=moment.astimezone(timezone(timedelta(hours=-9, minutes=-30)))) == ["1", "2"]
    assert texts(since=moment, before=receipts[2].recorded_at) == ["1"]
    assert texts(since=moment + timedelta(days=1)) == []
    for condition in ("since", "before"):
        with pytest.raises(EnsueError, match="time zone"):
            texts(**{condition: moment.replace(tzinfo=None)})


async def names_select_what_bears_them(case: Case) -> None:
    stream, other, place = case.name("stream"), case.name("other"), case.name("place")
    async with case.transaction() as connection, case.several():
        await case.record(connection, Deposited(amount=0), stream=stream)
        await case.record(connection, Deposited(amount=1), stream=other)
        await case.record(connection, Counted(place=place, number=2), stream=stream)
        await case.record(connection, Counted(place=stream, number=3))
        await case.record(connection, Announced(place=place))

    def types(**conditions: Any) -> list[tuple[str, int | None]]:
        return [(type(each.event).__name__, each.version) for each in case.recorded(**conditions)]

    assert types(stream=stream) == [("Deposited", 1), ("Counted", 2)]
    assert types(stream=case.name("nobody's")) == []
    assert types(types=(Deposited,)) == [("Deposited", 1), ("Deposited", 1)]
    assert types(types=(Deposited, "ensue.suite.announced.v1")) == [
        ("Deposited", 1),
        ("Deposited", 1),
        ("Announced", None),
    ]
    assert types(types=("ensue.suite.announced",)) == []
    assert types(key=place) == [("Counted", 2), ("Announced", None)], "what has a key of its own goes by it"
    assert types(key=stream) == [("Deposited", 1), ("Counted", None)], "what has none goes by its stream"
    assert types(key=stream, types=(Counted,)) == [("Counted", None)]
    assert types(stream=stream, types=(Counted,), limit=1) == [("Counted", 2)]
    assert types(stream=stream, key=stream) == [("Deposited", 1)]


async def a_correlation_id_selects_a_whole_request_with_the_event_that_began_it(case: Case) -> None:
    request = case.name("request")
    async with case.transaction() as connection:
        root = await case.record(connection, Noted(text="root"))
        with context(correlation_id=str(root.id), causation_id=str(root.id)):
            child = await case.record(connection, Noted(text="child"))
        with context(correlation_id=request):
            await case.record(connection, Noted(text="request"))
        await case.record(connection, Noted(text="other"))

    def texts(**conditions: Any) -> list[str]:
        return [each.event.text for each in case.recorded(**conditions)]

    assert texts(correlation_id=str(root.id)) == ["root", "child"]
    assert texts(correlation_id=request) == ["request"]
    assert texts(correlation_id=case.name("nobody's")) == []
    assert texts(correlation_id=str(uuid4())) == []
    assert texts(id=str(child.id)) == ["child"]
    assert texts(id=str(uuid4())) == []
    assert texts(id=str(child.id), types=(Counted,)) == []


async def the_users_own_connection_can_read(case: Case) -> None:
    stream = case.name("stream")
    async with case.transaction() as connection:
        await case.record(connection, Deposited(amount=1), Deposited(amount=2), stream=stream)
    async with case.connect() as connection:
        await connection.begin()
        found = await case.read(connection, stream=stream)
        await case.write(connection, "the transaction goes on")
        await connection.rollback()
    assert found[0].id == case.recorded()[0].id
    assert [(each.version, each.event, each.stream) for each in found] == [
        (1, Deposited(amount=1), stream),
        (2, Deposited(amount=2), stream),
    ]
    assert case.written() == []


async def reading_goes_on_beyond_one_batch(case: Case) -> None:
    async with case.transaction() as connection:
        await case.record(connection, *(Counted(place="a", number=number) for number in range(1_100)))
    async with case.connect() as connection:
        assert [each.event.number for each in await case.read(connection)] == [*range(1_100)]
        await connection.rollback()
        assert len(await case.read(connection, limit=1_050)) == 1_050
        await connection.rollback()


async def where_nothing_is_nothing_is_read(case: Case) -> None:
    assert case.recorded() == []
    async with case.connect() as connection:
        await connection.begin()
        assert await case.read(connection) == []
        assert await case.read(connection, stream=case.name("stream"), limit=5) == []
        await connection.rollback()
