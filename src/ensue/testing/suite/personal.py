"""Personal fields are encrypted on the way in and readable on the way out, until their person is forgotten."""

from __future__ import annotations

import pytest

from ensue.app import App
from ensue.errors import MasterKeyMissing, SubjectForgotten
from ensue.keys import LocalKeys
from ensue.testing.suite.case import Case
from ensue.testing.suite.events import Joined, Noted

_EMAIL = "ada@example.org"


def _app(case: Case, secret: bytes = b"k") -> App:
    return case.same_app(master_keys=LocalKeys(secret * 32))


def _joined(case: Case, word: str = "ada", email: str = _EMAIL) -> Joined:
    return Joined(person=case.name(word), email=email)


async def what_is_personal_is_stored_encrypted_and_read_as_it_was(case: Case) -> None:
    app, events = _app(case), (_joined(case), Noted(text="between"), _joined(case, "bob"), _joined(case, email="new"))
    async with case.transaction() as connection:
        receipt = await case.record(connection, *events, app=app)
    async with case.transaction() as connection:
        assert tuple(each.event for each in await case.read(connection, app=app)) == events
    found = case.recorded(app, after=case.start)
    assert tuple(each.id for each in found) == receipt.ids
    assert _EMAIL not in "".join(each.data for each in found)
    assert '"place":"here"' in found[0].data
    assert _EMAIL in found[0].plain


async def a_key_that_was_rolled_back_is_not_used_again(case: Case) -> None:
    app = _app(case)
    async with case.connect() as connection:
        await connection.begin()
        await case.record(connection, _joined(case), app=app)
        await connection.rollback()
        await connection.begin()
        await case.write(connection, "row")
        try:
            async with connection.savepoint():
                await case.record(connection, _joined(case), app=app)
                raise LookupError
        except LookupError:
            pass
        await case.record(connection, _joined(case), app=app)
        await connection.commit()
    assert [each.event for each in case.recorded(app, after=case.start)] == [_joined(case)]


async def who_is_forgotten_is_masked_and_nothing_is_recorded_about_them(case: Case) -> None:
    app = _app(case)
    async with case.transaction() as connection:
        await case.record(connection, _joined(case), _joined(case, "bob"), app=app)
    before = [each.data for each in case.recorded(app, after=case.start)]
    app.forget(case.name("ada"))
    async with case.transaction() as connection:
        with pytest.raises(SubjectForgotten, match=case.name("ada")):
            await case.record(connection, _joined(case), app=app)
    async with case.transaction() as connection:
        await case.record(connection, _joined(case, email=""), app=app)
    found = case.recorded(app, after=case.start)
    assert [each.event.email for each in found] == ["", _EMAIL, ""]
    assert [each.masked for each in found] == [{"email"}, frozenset(), {"email"}]
    assert [each.data for each in found][:2] == before


async def without_the_master_key_nothing_personal_is_recorded(case: Case) -> None:
    app = case.same_app()
    app.log.personal.vault.__dict__["masters"] = None  # whatever the environment holds
    async with case.transaction() as connection:
        await case.write(connection, "row")
        with pytest.raises(MasterKeyMissing, match="ENSUE_MASTER_KEY"):
            await case.record(connection, _joined(case), app=app)
        await case.write(connection, "the transaction goes on")
    assert case.recorded() == []
    assert case.written() == ["row", "the transaction goes on"]
