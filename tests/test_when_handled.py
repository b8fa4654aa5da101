"""When an event was handled, by whom and with what outcome, as far as that is known: within bounds, and no further."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ensue import App, Backoff, DomainEvent, Park
from ensue.events import Recorded
from ensue.subscriptions import marking
from ensue.subscriptions.inspecting import Known, Passage
from ensue.subscriptions.operating import Filter
from tests.patience import until

SOON = Backoff(first=0.01, most=0.02)


class Called(DomainEvent, key="who", name="test.when-handled.called"):
    who: str
    number: int = 0


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request: pytest.FixtureRequest, tmp_path: Path, schema: str) -> App:
    url = f"sqlite:///{tmp_path}/log.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    return App("when", url, schema=schema, migrate=True)


def record(app: App, *events: DomainEvent) -> list[Recorded[Any]]:
    with app.transaction() as connection:
        receipts = [app.record(each, via=connection) for each in events]
    return [next(iter(app.read(id=each.id_texts[0]))) for each in receipts]


def passage(app: App, event: Recorded[Any]) -> Passage:
    (found,) = app.operations.passages(event)
    return found


def known(app: App, event: Recorded[Any]) -> Known:
    found = passage(app, event)
    assert found.state == "passed"
    assert found.known is not None
    assert found.known.by >= event.recorded_at - timedelta(milliseconds=1)
    return found.known


async def settled(app: App, events: Iterable[Recorded[Any]]) -> None:
    for each in events:
        await until(lambda each=each: passage(app, each).state == "passed")  # type: ignore[misc]


def rows(app: App, sql: str) -> list[Any]:
    separator = "_" if app.log.place.url.startswith("sqlite") else "."
    with app.transaction() as connection:
        found = connection.execute(sql.replace("ensue.", app.log.place.schema + separator))
        return list(found.fetchall()) if found.description else []


async def test_the_first_checkpoint_behind_it_bounds_it_from_above(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marking, "EVERY", 0.0)
    monkeypatch.setattr(marking, "RINGS", "[[1, 360], [300, 288]]")

    @app.on(Called, name="call")
    async def call(_: Called) -> None: ...

    app.migrate()
    async with app.running(lease=0.3) as worker:
        (first,) = await asyncio.to_thread(record, app, Called(who="ada"))
        await settled(app, [first])
        found = known(app, first)
        assert (found.worker, found.failures, found.given_up, found.parked_at) == (worker.id, 0, False, None)
        assert found.checkpoint is not None
        assert found.checkpoint >= first.position
        assert found.by <= datetime.now(UTC) + timedelta(seconds=1)
        marked = "select 1 from ensue.marks where checkpoint >= "
        await until(lambda: rows(app, f"{marked}{first.position}"))
        found = known(app, first)

        (second,) = await asyncio.to_thread(record, app, Called(who="ada"))
        await settled(app, [second])
        await until(lambda: rows(app, f"{marked}{second.position}"))
        assert known(app, first) == found, "what comes later changes nothing"
        assert known(app, second).by > found.by
        assert (known(app, second).checkpoint or 0) >= second.position
    assert known(app, first) == found, "nor does the end of the worker"


async def test_of_what_had_failed_it_is_known_by_itself(app: App) -> None:
    tries: list[int] = []

    @app.on(Called, name="call", retry=SOON, start="beginning")
    async def call(event: Called) -> None:
        tries.append(event.number)
        if event.number == 1 and tries.count(1) < 3:
            raise ValueError("not yet")

    app.migrate()
    failed, behind, other = record(
        app, Called(who="ada", number=1), Called(who="ada", number=2), Called(who="bert", number=3)
    )
    async with app.running() as worker:
        await settled(app, [failed, behind, other])
    found = known(app, failed)
    assert (found.checkpoint, found.worker, found.failures, found.given_up) == (None, worker.id, 2, False)
    assert found.parked_at is not None
    assert found.parked_at < found.by
    assert known(app, behind).checkpoint is None, "it queued"
    assert known(app, behind).by >= found.by
    assert known(app, other).checkpoint is not None, "of another key nothing had failed"


@pytest.mark.parametrize("decision", ["skip", "discard"])
async def test_what_was_given_up_is_told_from_what_went_on(app: App, decision: Any) -> None:
    @app.on(Called, name="call", start="beginning")
    async def call(event: Called) -> Park | None:
        return Park("no") if event.number == 1 else None

    app.migrate()
    bad, behind = record(app, Called(who="ada", number=1), Called(who="ada", number=2))
    async with app.running():
        await until(lambda: app.operations.dead_letters())
        found = passage(app, bad)
        assert (found.state, found.attempt, found.known) == ("parked", 1, None)
        assert found.failed_at is not None
        assert (passage(app, behind).state, passage(app, behind).worker) == ("queued", found.worker)
        await until(lambda: passage(app, behind).checkpoint >= behind.position)
        await asyncio.to_thread(app.operations.decide, Filter(), decision, actor="ann", reason="it is bad")
        await settled(app, [bad, behind])
        (later,) = await asyncio.to_thread(record, app, Called(who="ada", number=3))
        await settled(app, [later])
    assert known(app, bad).given_up
    assert known(app, behind).given_up is (decision == "discard")
    assert not known(app, later).given_up
    assert known(app, bad).parked_at is not None


async def test_of_a_projection_it_is_known_likewise(app: App, schema: str) -> None:
    table, mark, bad = f"called_{schema}", "?" if app.log.place.url.startswith("sqlite") else "%s", [True]

    @app.projection(Called, tables=table, set_up=f"create table {table} (who text)", name="called", retry=SOON)
    def called(event: Called, connection: Any) -> Park | None:
        if event.number == 1 and bad:
            return Park("no")
        connection.execute(f"insert into {table} values ({mark})", (event.who,))
        return None

    app.migrate()
    first, failed, behind = record(app, Called(who="bert"), Called(who="ada", number=1), Called(who="ada", number=2))
    async with app.running() as worker:
        await until(lambda: app.operations.dead_letters())
        await settled(app, [first])
        assert (known(app, first).checkpoint or 0) >= first.position
        bad.clear()
        await asyncio.to_thread(app.operations.decide, Filter(), "retry", actor="ann", reason="mended")
        await settled(app, [failed, behind])
    found = known(app, failed)
    assert (found.checkpoint, found.worker, found.given_up) == (None, worker.id, False)
    assert known(app, behind).by == found.by, "both were committed in one transaction"


async def test_the_marks_stay_few_and_what_is_a_month_old_is_forgotten(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marking, "EVERY", 0.0)
    monkeypatch.setattr(marking, "RINGS", "[[1, 360], [300, 288]]")

    tries: list[int] = []

    @app.on(Called, name="call", retry=SOON, start="beginning")
    async def call(event: Called) -> None:
        tries.append(event.number)
        if tries == [1]:
            raise ValueError("not yet")

    app.migrate()
    (failed,) = record(app, Called(who="ada", number=1))
    async with app.running(lease=0.15):
        await settled(app, [failed])
        for number in range(2, 12):
            (event,) = await asyncio.to_thread(record, app, Called(who="ada", number=number))
            await settled(app, [event])
        assert len(rows(app, "select 1 from ensue.marks where seconds = 300")) <= 2, "one for each place of a ring"
        assert known(app, failed).failures == 1
        rows(app, "update ensue.settled set settled_at = '2020-01-01T00:00:00.000Z'")
        await until(lambda: not rows(app, "select 1 from ensue.settled"))
    assert known(app, failed).checkpoint is not None, "then the checkpoint is what is left"
    app.operations.retire("call", actor="ann", reason="gone")
    assert rows(app, "select 1 from ensue.marks") == []
