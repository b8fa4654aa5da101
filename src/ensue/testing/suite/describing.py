"""Metadata: what is known beside the event."""

from __future__ import annotations

from ensue.events import Metadata, context
from ensue.testing.suite.case import Case
from ensue.testing.suite.events import Noted

_TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def what_the_context_says_is_recorded_and_read(case: Case) -> None:
    cause = case.name("cause")
    async with case.transaction() as connection:
        with context(
            correlation_id=case.name("request"),
            causation_id=cause,
            actor="Ada % 'Lovelace' 🐘",
            traceparent=_TRACE,
            headers={"tenant": "a", 'with "quotes" and :colons': "50 %"},
        ):
            await case.record(connection, Noted(text="1"), Noted(text="2"))
    for found in case.recorded():
        assert found.correlation_id == case.name("request")
        assert found.causation_id == cause
        assert found.metadata == Metadata(
            correlation_id=case.name("request"),
            causation_id=cause,
            actor="Ada % 'Lovelace' 🐘",
            traceparent=_TRACE,
            headers={"tenant": "a", 'with "quotes" and :colons': "50 %"},
        )


async def an_inner_context_adds_to_the_outer_one(case: Case) -> None:
    async with case.transaction() as connection:
        with context(correlation_id=case.name("request"), actor="outer", headers={"a": "1", "b": "2"}):
            with context(actor="inner", headers={"b": "3"}):
                await case.record(connection, Noted(text="inner"))
            await case.record(connection, Noted(text="outer"))
        await case.record(connection, Noted(text="outside"))
    inner, outer, outside = (each.metadata for each in case.recorded())
    assert (inner.actor, inner.correlation_id, inner.headers) == ("inner", case.name("request"), {"a": "1", "b": "3"})
    assert (outer.actor, outer.correlation_id, outer.headers) == ("outer", case.name("request"), {"a": "1", "b": "2"})
    assert (outside.actor, outside.headers) == (None, {})


async def without_a_context_an_event_belongs_to_itself(case: Case) -> None:
    async with case.transaction() as connection:
        receipt = await case.record(connection, Noted(text="alone"))
    (found,) = case.recorded()
    assert found.correlation_id == str(receipt.id)
    assert found.causation_id is None
    assert found.metadata == Metadata(correlation_id=str(receipt.id))
