"""Schedules: one event for each tick, however many workers there are."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from ensue import App, DomainEvent
from ensue.errors import DeclarationError, DuplicateName
from tests.patience import until


class Ticked(DomainEvent, name="test.schedules.ticked"):
    at: datetime
    by: str


def ticks(app: App) -> list[datetime]:
    return [each.event.at for each in app.read(types=[Ticked])]


async def test_every_tick_comes_once_with_three_workers(url: str, schema: str) -> None:
    apps = [App("schedules", url, schema=schema, migrate=True) for _ in range(3)]
    for number, app in enumerate(apps):

        @app.schedule("* * * * * *", name="each second")
        def tick(at: datetime, number: int = number) -> Ticked:
            return Ticked(at=at, by=str(number))

    apps[0].migrate()
    async with apps[0].running(), apps[1].running(), apps[2].running():
        await until(lambda: len(ticks(apps[0])) >= 4)
    found = ticks(apps[0])
    assert found == [found[0] + timedelta(seconds=number) for number in range(len(found))]
    assert all(each.microsecond == 0 for each in found)


async def test_of_missed_ticks_the_last_one_is_made_up_for(url: str, schema: str) -> None:
    app = App("schedules", url, schema=schema, migrate=True)

    @app.schedule("0 3 * * *", "Europe/Berlin")
    async def nightly(at: datetime) -> list[Ticked]:
        return [Ticked(at=at, by="one"), Ticked(at=at, by="two")]

    async with app.running():
        await until(lambda: schedules(app, "select name from {}"))
    schedules(app, f"update {{}} set reached = '{datetime.now(UTC) - timedelta(days=10):%Y-%m-%dT%H:%M:%SZ}'")
    async with app.running():  # after ten days without a worker
        await until(lambda: len(ticks(app)) == 2)
    (at, again) = ticks(app)
    local = at.astimezone(ZoneInfo("Europe/Berlin"))
    assert at == again
    assert (local.hour, local.minute) == (3, 0)
    assert timedelta() <= datetime.now(UTC) - at < timedelta(days=1, hours=1)


def schedules(app: App, sql: str) -> list[object]:
    dot = "." if app.log.dialect.label == "PostgreSQL" else "_"
    with app.transaction() as connection:
        done = connection.execute(sql.format(f"{app.log.place.schema}{dot}schedules"))
        return list(done.fetchall()) if done.description else []


async def test_a_tick_whose_function_fails_is_tried_again(
    url: str, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = App("schedules", url, schema=schema, migrate=True)
    failures = [ValueError("not now")]
    calls: list[datetime] = []

    @app.schedule("* * * * * *")
    def tick(at: datetime) -> Ticked | None:
        calls.append(at)
        if failures:
            raise failures.pop()
        return Ticked(at=at, by="one") if len(calls) % 2 else None

    with caplog.at_level(logging.ERROR, "ensue"):
        async with app.running():
            await until(lambda: ticks(app))
    assert "schedule tick failed at its tick" in caplog.text


def test_what_no_schedule_can_be() -> None:
    app = App("schedules", "memory://schedules")
    for cron, timezone, problem in (
        ("whenever", "UTC", "no cron expression"),
        ("61 * * * *", "UTC", "no cron expression"),
        ("0 3 * * *", "Mars/Olympus", "none that this machine knows"),
    ):
        with pytest.raises(DeclarationError, match=problem):
            app.schedule(cron, timezone)(nothing)
    with pytest.raises(DeclarationError, match="moment of the tick"):
        app.schedule("0 3 * * *")(lambda at, more: None)  # type: ignore[type-var]
    app.schedule("0 3 * * *")(nothing)
    with pytest.raises(DuplicateName, match="'nothing'"):
        app.schedule("0 4 * * *")(nothing)


def nothing(at: datetime) -> None: ...
