"""`App(…, migrate=True)`: the schema is made on first use, in the user's own transaction."""

from __future__ import annotations

from ensue.app import App
from ensue.testing.suite.case import Case
from ensue.testing.suite.events import Deposited, Noted


async def the_first_record_makes_the_schema(case: Case) -> None:
    app = case.new_app(migrate=True)
    async with case.connect() as connection:
        await connection.begin()
        await case.write(connection, "row")
        receipt = await case.record(connection, Deposited(amount=1), app=app, stream="s")
        await case.record(connection, Deposited(amount=2), app=app, stream="s")
        await connection.commit()
        await connection.begin()
        await case.record(connection, Deposited(amount=3), app=app, stream="s", expected=2)
        await connection.commit()
    assert receipt.position == 1
    assert [each.event.amount for each in case.recorded(app)] == [1, 2, 3]
    assert case.written() == ["row"]
    assert app.operations.pending_migrations() == []
    assert app.operations.owner() == app.name


async def a_schema_that_was_rolled_back_is_made_again(case: Case) -> None:
    app = case.new_app(migrate=True)
    async with case.connect() as connection:
        await connection.begin()
        await case.record(connection, Noted(text="lost"), app=app)
        await case.record(connection, Noted(text="lost, too"), app=app)
        await connection.rollback()
        assert app.operations.pending_migrations() != []
        await connection.begin()
        await case.record(connection, Noted(text="kept"), app=app)
        await connection.commit()
    assert [each.event.text for each in case.recorded(app)] == ["kept"]


async def a_schema_that_is_there_is_left_as_it_is(case: Case) -> None:
    place = case.app.log.place
    app = App(place.app, place.url, schema=place.schema, migrate=True)
    async with case.transaction() as connection:
        await case.record(connection, Noted(text="one"), app=app)
    async with case.transaction() as connection:
        await case.record(connection, Noted(text="two"), app=app)
    assert [each.event.text for each in case.recorded()] == ["one", "two"]
    assert app.migrate() == []


async def several_logs_share_a_database(case: Case) -> None:
    stream, other = case.name("stream"), case.new_app()
    assert other.migrate() != []
    async with case.transaction() as connection:
        for app, text, key in ((case.app, "1", "a"), (other, "2", "a"), (case.app, "3", "b")):
            receipt = await case.record(connection, Noted(text=text), app=app, stream=stream, dedupe=case.name(key))
            assert not receipt.duplicate
    assert [(each.event.text, each.version) for each in case.recorded()] == [("1", 1), ("3", 2)]
    assert [(each.event.text, each.version) for each in case.recorded(other)] == [("2", 1)]
