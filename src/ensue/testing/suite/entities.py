"""Entities of an ORM, in the user's own transaction: aggregates whose state is a row."""

from __future__ import annotations

import pytest

from ensue.errors import SecondAggregate
from ensue.events import Event, context
from ensue.testing.suite.case import Ability, Case, Connection, needs
from ensue.testing.suite.events import Announced, Counted


def _counted(case: Case, number: int) -> Counted:
    return Counted(place=case.name("place"), number=number)


def _streams(case: Case) -> list[tuple[str | None, int | None, Event]]:
    return [(each.stream, each.version, each.event) for each in case.recorded()]


def _rows(case: Case) -> list[tuple[str, int]]:
    """Return what others see of the entities' rows."""
    return case.seen(f"select id, number from ensue_suite_orders where id like '%{case.mark}' order by id")


async def _kept(case: Case, word: str, number: int) -> str:
    """Keep a new entity in a transaction of its own."""
    id = case.name(word)
    async with case.transaction() as connection:
        keeper = case.keeper(connection)
        order = keeper.new(id, number)
        order.raise_event(_counted(case, number))
        await keeper.keep(order)
    return id


@needs(Ability.ENTITIES)
async def what_an_entity_raises_is_recorded_with_its_row(case: Case) -> None:
    id = await _kept(case, "order", 1)
    async with case.transaction() as connection:
        await case.write(connection, "beside")
        keeper = case.keeper(connection)
        order = await keeper.find(id)
        order.number = 2
        order.raise_event(_counted(case, 2))
        await keeper.keep(order)
        order.raise_event(Announced(place=case.name("place")))  # it may change nothing
        await keeper.keep(order)
        await keeper.keep(order)
    stream = f"ensue.suite.order-{id}"
    assert _streams(case) == [
        (stream, 1, _counted(case, 1)),
        (stream, 2, _counted(case, 2)),
        (stream, 3, Announced(place=case.name("place"))),
    ]
    assert (_rows(case), case.written()) == ([(id, 2)], ["beside"])


@needs(Ability.ENTITIES)
async def what_is_rolled_back_takes_the_events_of_its_entities_along(case: Case) -> None:
    id = await _kept(case, "order", 1)
    with pytest.raises(LookupError):
        async with case.transaction() as connection:
            keeper = case.keeper(connection)
            order = await keeper.find(id)
            order.number = 2
            order.raise_event(_counted(case, 2))
            await keeper.keep(order)
            raise LookupError
    assert len(case.recorded()) == 1
    assert _rows(case) == [(id, 1)]


async def _change(case: Case, connection: Connection, id: str, number: int) -> None:
    keeper = case.keeper(connection)
    order = await keeper.find(id)
    order.number = number
    order.raise_event(_counted(case, number))
    await keeper.keep(order)


@needs(Ability.ENTITIES)
async def a_savepoint_takes_back_what_its_entities_have_raised(case: Case) -> None:
    id = await _kept(case, "order", 1)
    async with case.transaction() as connection:
        await _change(case, connection, id, 2)
        with pytest.raises(LookupError):
            async with connection.savepoint():
                await _change(case, connection, id, 3)
                raise LookupError
    assert [event for _, _, event in _streams(case)] == [_counted(case, 1), _counted(case, 2)]
    assert _rows(case) == [(id, 2)]


@needs(Ability.ENTITIES)
async def two_entities_are_not_changed_together(case: Case) -> None:
    one, other = await _kept(case, "one", 1), await _kept(case, "other", 1)
    with pytest.raises(SecondAggregate) as caught:
        async with case.transaction() as connection:
            await _change(case, connection, one, 2)
            await _change(case, connection, other, 2)
    assert (caught.value.first, caught.value.second) == (f"ensue.suite.order-{one}", f"ensue.suite.order-{other}")
    assert (len(case.recorded()), _rows(case)) == (2, [(one, 1), (other, 1)])
    async with case.transaction() as connection:
        with case.app.several_aggregates("the suite looks at both"):
            await _change(case, connection, one, 2)
            await _change(case, connection, other, 2)
    assert _rows(case) == [(one, 2), (other, 2)]


@needs(Ability.ENTITIES)
async def the_last_word_of_an_entity_is_recorded_with_its_removal(case: Case) -> None:
    id = await _kept(case, "order", 1)
    async with case.transaction() as connection:
        keeper = case.keeper(connection)
        order = await keeper.find(id)
        order.raise_event(_counted(case, 0))
        await keeper.remove(order)
    assert [(stream, version) for stream, version, _ in _streams(case)] == [
        (f"ensue.suite.order-{id}", 1),
        (f"ensue.suite.order-{id}", 2),
    ]
    assert _rows(case) == []


@needs(Ability.ENTITIES)
async def a_guard_refuses_the_row_of_an_entity_with_its_event(case: Case) -> None:
    id = await _kept(case, "order", 1)

    @case.app.within(Counted)
    def guard(event: Counted) -> None:
        if event.number > 10:
            raise PermissionError(event.number)

    with pytest.raises(PermissionError):
        async with case.transaction() as connection:
            await _change(case, connection, id, 11)
    async with case.transaction() as connection:
        await _change(case, connection, id, 10)
    assert [event for _, _, event in _streams(case)] == [_counted(case, 1), _counted(case, 10)]
    assert _rows(case) == [(id, 10)]


@needs(Ability.ENTITIES)
async def an_entitys_event_has_the_metadata_of_where_it_was_raised(case: Case) -> None:
    async with case.transaction() as connection:
        keeper = case.keeper(connection)
        order = keeper.new(case.name("order"), 1)
        with context(actor="Ada", correlation_id=case.name("request")):
            order.raise_event(_counted(case, 1))
        order.raise_event(_counted(case, 2))
        await keeper.keep(order)
    first, second = case.recorded()
    assert (first.metadata.actor, first.correlation_id) == ("Ada", case.name("request"))
    assert (second.metadata.actor, second.correlation_id) == (None, second.id_text)
