"""One transaction changes one aggregate."""

from __future__ import annotations

import warnings

import pytest

from ensue.errors import AggregateRuleWarning, DeclarationError, SecondAggregate
from ensue.testing.suite.case import Case, Connection
from ensue.testing.suite.events import Announced, Deposited, Noted


async def _deposit(case: Case, connection: Connection, stream: str) -> None:
    await case.record(connection, Deposited(amount=1), stream=stream)


async def a_second_aggregate_in_one_transaction_is_refused(case: Case) -> None:
    one, other = case.name("it's one"), case.name("other\nof two lines")
    with pytest.raises(SecondAggregate, match="one transaction, one aggregate") as caught:
        async with case.transaction() as connection:
            await case.write(connection, "row")
            await _deposit(case, connection, one)
            await _deposit(case, connection, one)
            await _deposit(case, connection, other)
    assert (caught.value.first, caught.value.second) == (one, other)
    assert repr(one) in str(caught.value)
    assert repr(other) in str(caught.value)
    assert "@app.on" in str(caught.value)
    assert case.recorded() == []
    assert case.written() == []


async def every_transaction_of_a_connection_may_change_another(case: Case) -> None:
    async with case.connect() as connection:
        for number in range(3):
            await connection.begin()
            await case.write(connection, str(number))
            await _deposit(case, connection, case.name(f"stream {number}"))
            await (connection.rollback() if number == 1 else connection.commit())
    assert [each.stream for each in case.recorded()] == [case.name("stream 0"), case.name("stream 2")]


async def a_savepoint_that_was_rolled_back_has_changed_none(case: Case) -> None:
    async with case.transaction() as connection:
        await case.write(connection, "row")
        with pytest.raises(LookupError):
            async with connection.savepoint():
                await _deposit(case, connection, case.name("undone"))
                raise LookupError
        await _deposit(case, connection, case.name("done"))
    assert [each.stream for each in case.recorded()] == [case.name("done")]


async def what_belongs_to_no_stream_may_share_the_transaction(case: Case) -> None:
    async with case.transaction() as connection:
        await case.record(connection, Noted(text="before"))
        await _deposit(case, connection, case.name("stream"))
        await case.record(connection, Announced(place=case.name("place")))
    assert [each.stream for each in case.recorded()] == [None, case.name("stream"), None]


async def several_may_be_changed_by_whoever_says_why(case: Case) -> None:
    async with case.transaction() as connection:
        await _deposit(case, connection, case.name("one"))
        with case.app.several_aggregates("both halves of a merger"):
            await _deposit(case, connection, case.name("other"))
    assert [each.stream for each in case.recorded()] == [case.name("one"), case.name("other")]
    with pytest.raises(DeclarationError, match="say why"), case.app.several_aggregates(" "):
        pass


async def the_rule_goes_by_what_was_changed_first(case: Case) -> None:
    one, other, third = case.name("one"), case.name("other"), case.name("third")
    with pytest.raises(SecondAggregate) as caught:
        async with case.transaction() as connection:
            await _deposit(case, connection, one)
            with case.app.several_aggregates("both halves of a merger"):
                await _deposit(case, connection, other)
            await _deposit(case, connection, one)
            await _deposit(case, connection, other)
    assert (caught.value.first, caught.value.second) == (one, other)
    async with case.transaction() as connection:
        with case.app.several_aggregates("the first one may be changed in here, too"):
            await _deposit(case, connection, one)
            await _deposit(case, connection, other)
            await _deposit(case, connection, third)
        await _deposit(case, connection, one)
    assert [each.stream for each in case.recorded()] == [one, other, third, one]


async def an_application_may_ask_only_to_be_told(case: Case) -> None:
    app = case.same_app(aggregate_rule="warn")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        async with case.transaction() as connection:
            for name in ("one", "one", "other"):
                await case.record(connection, Deposited(amount=1), app=app, stream=case.name(name))
    assert [each.category for each in told if each.category is not ResourceWarning] == [AggregateRuleWarning]
    assert len(case.recorded()) == 3


async def an_application_may_do_without_the_rule(case: Case) -> None:
    app = case.same_app(aggregate_rule="off")
    async with case.transaction() as connection:
        for name in ("one", "other"):
            await case.record(connection, Deposited(amount=1), app=app, stream=case.name(name))
    assert len(case.recorded()) == 2
