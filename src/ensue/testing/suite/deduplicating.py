"""Recording twice under one key records once, and returns the first receipt."""

from __future__ import annotations

from ensue.events import Receipt
from ensue.log import NO_STREAM
from ensue.testing.suite.case import Case
from ensue.testing.suite.events import Deposited, Noted


def _agree(first: Receipt, again: Receipt) -> bool:
    """Tell whether both are of one recording, the later one being the duplicate."""
    assert not first.duplicate
    assert again.duplicate
    return (first.ids, first.positions, first.stream, first.version, first.recorded_at) == (
        again.ids,
        again.positions,
        again.stream,
        again.version,
        again.recorded_at,
    )


async def one_key_records_once_in_one_transaction(case: Case) -> None:
    async with case.transaction() as connection:
        first = await case.record(connection, Noted(text="1"), Noted(text="2"), dedupe=case.name("key"))
        again = await case.record(connection, Noted(text="3"), dedupe=case.name("key"))
    assert _agree(first, again)
    assert [each.event.text for each in case.recorded()] == ["1", "2"]


async def one_key_records_once_in_two_transactions(case: Case) -> None:
    async with case.transaction() as connection:
        first = await case.record(connection, Noted(text="1"), dedupe=case.name("key"))
    async with case.transaction() as connection:
        again = await case.record(connection, Noted(text="1"), dedupe=case.name("key"))
        third = await case.record(connection, Noted(text="1"), dedupe=case.name("key"))
    assert _agree(first, again)
    assert again == third
    assert len(case.recorded()) == 1


async def a_key_that_was_rolled_back_records_anew(case: Case) -> None:
    async with case.connect() as connection:
        await connection.begin()
        lost = await case.record(connection, Noted(text="lost"), dedupe=case.name("key"))
        await connection.rollback()
        await connection.begin()
        kept = await case.record(connection, Noted(text="kept"), dedupe=case.name("key"))
        await connection.commit()
    assert not kept.duplicate
    assert kept.id != lost.id
    assert [(each.event.text, each.id) for each in case.recorded()] == [("kept", kept.id)]


async def a_key_of_a_savepoint_that_was_rolled_back_records_anew(case: Case) -> None:
    async with case.transaction() as connection:
        await case.write(connection, "row")
        try:
            async with connection.savepoint():
                await case.record(connection, Noted(text="lost"), dedupe=case.name("key"))
                raise LookupError
        except LookupError:
            pass
        kept = await case.record(connection, Noted(text="kept"), dedupe=case.name("key"))
    assert not kept.duplicate
    assert [each.event.text for each in case.recorded()] == ["kept"]


async def keys_are_independent(case: Case) -> None:
    async with case.transaction() as connection:
        for key in ("a", "A", "a ", "b"):
            receipt = await case.record(connection, Noted(text=key), dedupe=case.name(key))
            assert not receipt.duplicate
        assert not (await case.record(connection, Noted(text="none"))).duplicate
    assert [each.event.text for each in case.recorded()] == ["a", "A", "a ", "b", "none"]


async def a_repeated_command_is_a_duplicate_before_it_is_a_conflict(case: Case) -> None:
    stream, key = case.name("stream"), case.name("key")
    async with case.transaction() as connection:
        first = await case.record(connection, Deposited(amount=1), stream=stream, expected=NO_STREAM, dedupe=key)
        await case.record(connection, Deposited(amount=2), stream=stream)
    async with case.transaction() as connection:
        again = await case.record(connection, Deposited(amount=1), stream=stream, expected=NO_STREAM, dedupe=key)
    assert first.version == 1
    assert _agree(first, again)
    assert len(case.recorded(stream=stream)) == 2


async def the_first_receipt_tells_the_first_stream(case: Case) -> None:
    async with case.transaction() as connection:
        first = await case.record(connection, Deposited(amount=1), stream=case.name("one"), dedupe=case.name("key"))
        again = await case.record(connection, Deposited(amount=1), stream=case.name("other"), dedupe=case.name("key"))
    assert _agree(first, again)
    assert case.recorded(stream=case.name("other")) == []
