# pyright: basic
"""Recording is part of the user's transaction, and of nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import RFC_4122

from ensue.testing.suite.case import Ability, Case, needs
from ensue.testing.suite.events import Announced, Counted, Deposited, Noted


class _Mishap(Exception):
    """What goes wrong in the user's own code."""


async def an_event_is_committed_with_the_users_data(case: Case) -> None:
    async with case.transaction() as connection:
        await case.write(connection, "before")
        await case.record(connection, Noted(text="one"))
        await case.write(connection, "after")
    assert case.written() == ["after", "before"]
    assert [each.event for each in case.recorded()] == [Noted(text="one")]


async def an_event_is_rolled_back_with_the_users_data(case: Case) -> None:
    async with case.connect() as connection:
        await connection.begin()
        await case.write(connection, "before")
        await case.record(connection, Noted(text="one"))
        await case.write(connection, "after")
        await connection.rollback()
        assert case.written() == []
        assert case.recorded() == []
        await connection.begin()
        await case.record(connection, Noted(text="two"))
        await connection.commit()
    assert [each.event for each in case.recorded()] == [Noted(text="two")]


async def an_event_that_comes_first_waits_for_the_users_commit(case: Case) -> None:
    async with case.connect() as connection:
        await connection.begin()
        await case.record(connection, Noted(text="one"))
        await connection.rollback()
        assert case.recorded() == []
        await connection.begin()
        await case.record(connection, Noted(text="two"))
        await connection.commit()
        assert [each.event for each in case.recorded()] == [Noted(text="two")]


async def an_event_is_lost_with_a_connection_that_is_lost(case: Case) -> None:
    async with case.connect() as connection:
        await connection.begin()
        await case.write(connection, "row")
        await case.record(connection, Noted(text="one"))
        await connection.close()
    assert case.written() == []
    assert case.recorded() == []


@needs(Ability.READS_BESIDE)
async def nobody_else_sees_an_event_before_the_commit(case: Case) -> None:
    async with case.transaction() as connection:
        await case.record(connection, Noted(text="one"))
        assert case.recorded() == []
    assert len(case.recorded()) == 1


async def a_savepoint_that_is_rolled_back_takes_its_event_with_it(case: Case) -> None:
    async with case.transaction() as connection:
        await case.record(connection, Noted(text="kept"))
        try:
            async with connection.savepoint():
                await case.write(connection, "row")
                await case.record(connection, Noted(text="dropped"))
                raise _Mishap
        except _Mishap:
            pass
        await case.record(connection, Noted(text="later"))
    assert case.written() == []
    assert [each.event.text for each in case.recorded()] == ["kept", "later"]


async def a_savepoint_that_is_released_leaves_its_event(case: Case) -> None:
    async with case.transaction() as connection:
        await case.write(connection, "row")
        async with connection.savepoint():
            await case.record(connection, Noted(text="inside"))
        await case.record(connection, Noted(text="outside"))
    assert [each.event.text for each in case.recorded()] == ["inside", "outside"]


async def the_first_event_may_be_rolled_back_with_its_savepoint(case: Case) -> None:
    async with case.transaction() as connection:
        await case.write(connection, "row")
        try:
            async with connection.savepoint():
                await case.record(connection, Noted(text="dropped"))
                raise _Mishap
        except _Mishap:
            pass
        await case.record(connection, Noted(text="kept"))
    assert case.written() == ["row"]
    assert [each.event.text for each in case.recorded()] == ["kept"]


async def several_events_are_recorded_in_the_order_in_which_they_are_given(case: Case) -> None:
    async with case.transaction() as connection:
        first = await case.record(connection, Noted(text="1"), Counted(place="a", number=2), Announced(place="b"))
        second = await case.record(connection, Noted(text="4"))
    found = case.recorded()
    assert [each.event for each in found] == [
        Noted(text="1"),
        Counted(place="a", number=2),
        Announced(place="b"),
        Noted(text="4"),
    ]
    assert (*first.positions, *second.positions) == tuple(each.position for each in found)
    assert (*first.ids, *second.ids) == tuple(each.id for each in found)


async def a_thousand_events_are_recorded_at_once(case: Case) -> None:
    events = [Counted(place="x" * 20, number=number) for number in range(1_000)]
    async with case.transaction() as connection:
        receipt = await case.record(connection, *events, stream=case.name("stream"))
    assert receipt.version == 1_000
    assert len(set(receipt.ids)) == 1_000
    found = case.recorded()
    assert [each.event for each in found] == events
    assert [each.version for each in found] == list(range(1, 1_001))
    assert [each.position for each in found] == list(receipt.positions)


async def a_receipt_says_what_was_recorded(case: Case) -> None:
    began = datetime.now(UTC)
    async with case.transaction() as connection:
        receipt = await case.record(connection, Noted(text="1"), Noted(text="2"))
    assert len(receipt.ids) == len(receipt.positions) == 2
    assert [(each.version, each.variant) for each in receipt.ids] == [(7, RFC_4122)] * 2
    assert receipt.ids[0] < receipt.ids[1]
    assert receipt.positions[0] < receipt.positions[1] == receipt.position
    assert receipt.id == receipt.ids[1]
    assert (receipt.stream, receipt.version, receipt.duplicate) == (None, None, False)
    assert receipt.recorded_at.utcoffset() == timedelta(0)
    assert abs(receipt.recorded_at - began) < timedelta(minutes=1)


async def what_is_read_agrees_with_the_receipt(case: Case) -> None:
    stream = case.name("stream")
    async with case.transaction() as connection:
        receipt = await case.record(connection, Deposited(amount=1), Announced(place="x"), stream=stream)
    first, second = case.recorded()
    assert (first.id, second.id) == receipt.ids
    assert (first.position, second.position) == receipt.positions
    assert (first.version, second.version) == (1, 2)
    assert first.recorded_at == second.recorded_at == receipt.recorded_at
    assert first.recorded_at.utcoffset() == timedelta(0)
    assert first.stream == second.stream == receipt.stream == stream
    assert (first.type, second.type) == ("ensue.suite.deposited", "ensue.suite.announced.v1")
    assert (first.kind, second.kind) == ("sourced", "integration")
    assert (first.key, second.key) == (stream, "x")
    assert (first.data, second.data) == ('{"amount":1}', '{"place":"x"}')


async def text_survives_whatever_it_holds(case: Case) -> None:
    awkward = "100 % of 'it' \"is\" :odd, ?1 $1 %s {} \\u0041 \\ \t\n é 漢 🐘 \u2028"
    async with case.transaction() as connection:
        receipt = await case.record(
            connection,
            Counted(place=case.name(awkward), number=1),
            stream=case.name(awkward),
            dedupe=case.name(awkward),
        )
    (found,) = case.recorded(stream=case.name(awkward))
    assert found.event == Counted(place=case.name(awkward), number=1)
    assert found.key == found.stream == receipt.stream == case.name(awkward)
    assert case.recorded(key=case.name(awkward)) != []


async def an_event_may_be_large(case: Case) -> None:
    async with case.transaction() as connection:
        await case.record(connection, Noted(text="é" * 500_000))
    (found,) = case.recorded()
    assert found.event.text == "é" * 500_000


async def positions_grow(case: Case) -> None:
    async with case.connect() as connection:
        receipts = []
        for number in range(3):
            await connection.begin()
            receipts.append(await case.record(connection, Noted(text=str(number))))
            await connection.commit()
    assert all(one.position < other.position for one, other in pairwise(receipts))
    assert receipts[0].position > case.start


async def a_position_is_not_used_again_after_a_rollback_or_pruning(case: Case) -> None:
    async with case.connect() as connection:
        await connection.begin()
        before = await case.record(connection, Noted(text="before"))
        await connection.commit()
        await connection.begin()
        await case.record(connection, Noted(text="rolled back"))
        await connection.rollback()
        await connection.begin()
        later = await case.record(connection, Noted(text="later"))
        await connection.commit()
        await connection.begin()
        await connection.execute(f"delete from {case.table('events')} where position > {case.start}")
        await connection.commit()
        await connection.begin()
        last = await case.record(connection, Noted(text="last"))
        await connection.commit()
    assert before.position < later.position < last.position
    assert [each.event.text for each in case.recorded()] == ["last"]


@needs(Ability.DICT_ROWS)
async def the_rows_that_the_user_prefers_change_nothing(case: Case) -> None:
    stream = case.name("stream")
    async with case.connect(dict_rows=True) as connection:
        await connection.begin()
        first = await case.record(connection, Deposited(amount=1), stream=stream, dedupe=case.name("once"))
        again = await case.record(connection, Deposited(amount=1), stream=stream, dedupe=case.name("once"))
        second = await case.record(connection, Deposited(amount=2), Deposited(amount=3), stream=stream, expected=1)
        (row,) = await connection.execute("select 'mine' as word")
        assert row["word"] == "mine"
        await connection.commit()
        found = await case.read(connection, stream=stream)
        await connection.rollback()
    assert [each.event.amount for each in found] == [1, 2, 3]
    assert again.ids == first.ids
    assert again.duplicate
    assert second.version == 3
