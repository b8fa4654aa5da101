"""The database's clock is set back and forth while timers and schedules run: nothing is lost, nothing comes twice."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ensue import App, DomainEvent
from tests.patience import until

TIMERS = 60
HOUR = 3600.0
STEPS = (-HOUR, 0.0, 24 * HOUR, -0.5, 2 * HOUR, -24 * HOUR, 0.2, 48 * HOUR, 47 * HOUR)
"""By how much the clock is ahead, one after the other; more than any timer is set for at last."""


class Rang(DomainEvent, key="who", name="test.clock-steps.rang"):
    who: str


class Ticked(DomainEvent, name="test.clock-steps.ticked"):
    tick: datetime


Clock = Callable[[float], None]


@pytest.fixture(params=["sqlite", "postgresql"])
def clocked(request: pytest.FixtureRequest) -> tuple[str, Clock]:
    """Return a database, and what sets its clock: so many seconds ahead of the real one."""
    found: tuple[str, Clock] = request.getfixturevalue(f"clocked_{request.param}")
    return found


@pytest.fixture
def clocked_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Clock]:
    """SQLite's functions of time are replaced on every connection that is opened."""
    ahead = [0.0]

    def strftime(format: str, moment: str, *modifiers: str) -> Any:
        return _real("strftime", format, moment, *modifiers)

    def julianday(moment: str, *modifiers: str) -> Any:
        return _real("julianday", moment, *modifiers)

    def _real(function: str, *arguments: str) -> Any:
        shifted = [*arguments, f"{ahead[0]} seconds"] if "now" in arguments else arguments
        with closing(real(":memory:")) as connection:
            return connection.execute(f"select {function}({', '.join('?' * len(shifted))})", shifted).fetchone()[0]

    real = sqlite3.connect

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = real(*arguments, **options)
        connection.create_function("strftime", -1, strftime)
        connection.create_function("julianday", -1, julianday)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect)

    def set_clock(seconds: float) -> None:
        ahead[0] = seconds

    return f"sqlite:///{tmp_path / 'log.db'}", set_clock


@pytest.fixture
def clocked_postgresql(postgres_url: str, schema: str) -> Iterator[tuple[str, Clock]]:
    """A schema that comes before PostgreSQL's own in the search path has a clock of its own."""
    joint = "&" if "?" in postgres_url else "?"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"create schema {schema}_clock")
        connection.execute(f"create sequence {schema}_clock.ahead as bigint minvalue -1000000000")
        connection.execute(f"select setval('{schema}_clock.ahead', 0)")
        for name in ("clock_timestamp", "statement_timestamp"):
            connection.execute(
                f"create function {schema}_clock.{name}() returns timestamptz language sql volatile as "
                f"'select pg_catalog.{name}() + (select last_value from {schema}_clock.ahead) * interval ''1 ms'''"
            )

        def set_clock(seconds: float) -> None:
            connection.execute(f"select setval('{schema}_clock.ahead', {int(seconds * 1000)})")

        yield f"{postgres_url}{joint}options=-csearch_path%3D{schema}_clock,pg_catalog", set_clock
        connection.execute(f"drop schema {schema}_clock cascade")


async def test_timers_ring_once_whatever_the_clock_does(clocked: tuple[str, Clock], schema: str) -> None:
    url, set_clock = clocked
    app, rng = App("clocks", url, schema=schema), random.Random(7)
    app.migrate()
    names = [f"t{number}" for number in range(TIMERS)]
    async with app.running(lease=600.0), app.running(lease=600.0):
        for step, ahead in enumerate(STEPS):
            set_clock(ahead)
            with app.transaction() as connection:
                for name in names[step :: len(STEPS)]:
                    app.after(rng.choice((0.0, 0.05, 1.0, HOUR, 3 * HOUR)), Rang(who=name), via=connection, name=name)
            await looked(app, f"step {step}")
        set_clock(100 * HOUR)
        await until(lambda: set(names) <= set(rung(app)))
        set_clock(200 * HOUR)
        await looked(app, "the end")
    assert Counter(each for each in rung(app) if each in names) == Counter(names)


async def test_a_tick_comes_once_whatever_the_clock_does(clocked: tuple[str, Clock], schema: str) -> None:
    url, set_clock = clocked
    apps = [App("clocks", url, schema=schema) for _ in range(2)]
    for app in apps:

        @app.schedule("* * * * * *", name="every second")
        def tick(moment: datetime) -> Ticked:
            return Ticked(tick=moment)

    apps[0].migrate()
    async with apps[0].running(lease=600.0), apps[1].running(lease=600.0):
        seen = 0
        for ahead in (0.0, HOUR, -HOUR, 2 * HOUR, 2 * HOUR - 1, 3 * HOUR):
            set_clock(ahead)
            if ahead >= HOUR and ahead != 2 * HOUR - 1:  # the clock is where it has not been before
                await until(lambda: len(ticks(apps[0])) > seen)
            seen = len(ticks(apps[0]))
    found = ticks(apps[0])
    assert len(found) == len(set(found))
    assert found == sorted(found)
    assert found[-1] - found[0] > timedelta(hours=1)


async def looked(app: App, probe: str) -> None:
    """Let a worker look for timers by the clock as it is now."""
    with app.transaction() as connection:
        app.after(0.0, Rang(who=probe), via=connection)
    await until(lambda: probe in rung(app))


def rung(app: App) -> list[str]:
    return [each.event.who for each in app.read(types=[Rang])]


def ticks(app: App) -> list[datetime]:
    return [each.event.tick for each in app.read(types=[Ticked])]
